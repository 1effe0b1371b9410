//! Translates transactions into the arguments of `scripts/transact.lua`, and its answers into outcomes.

use anyhow::anyhow;
use redis::Value;

use super::script::Input;
use super::value::texts;
use crate::store::{Guard, LeaseId, Outcome, Step, StoreError, Sweep, Transaction};

pub fn input(transaction: &Transaction) -> Input {
    let mut input = Input::new();
    for lease in leases(transaction) {
        input.add_lease(lease);
    }
    for guard in &transaction.guards {
        let place = input.add_key(guard.key());
        match guard {
            Guard::Missing(_) => add(&mut input, "missing", place),
            Guard::OnLease(_, lease) => {
                add(&mut input, "on", place);
                input.add(lease);
            }
            Guard::Loose(_, value) => {
                add(&mut input, "loose", place);
                input.add(value);
            }
        }
    }
    for step in &transaction.steps {
        match step {
            Step::Put(key, value, lease) => {
                let place = input.add_key(key);
                add(&mut input, "put", place);
                input.add(value);
                input.add(lease);
            }
            Step::Delete(key) => {
                let place = input.add_key(key);
                add(&mut input, "delete", place);
            }
            Step::Sweep(sweep) => add_sweep(&mut input, sweep),
        }
    }
    input
}

pub fn outcome(answer: Value) -> Result<Outcome, StoreError> {
    let word = match &answer {
        Value::BulkString(word) => word.as_slice(),
        Value::SimpleString(word) => word.as_bytes(),
        _ => b"",
    };
    match word {
        b"guard" => Ok(Outcome::GuardFailed),
        b"lost" => Err(StoreError::LeaseLost),
        b"" => {
            let swept = texts(answer).ok_or_else(|| {
                StoreError::Failed(anyhow!("Redis did not answer a transaction as expected"))
            })?;
            let swept = swept.into_iter().map(Into::into).collect();
            Ok(Outcome::Done { swept })
        }
        _ => Err(StoreError::Failed(anyhow!(
            "Redis answered a transaction with another word than expected"
        ))),
    }
}

/// The bounds of the keys that begin with a prefix, for a command that asks for members in the order of their bytes.
pub fn bounds(prefix: &str) -> (String, Vec<u8>) {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // No byte of UTF-8 text is 255.
        Some(last) => *last += 1,
        None => return ("-".to_owned(), b"+".to_vec()),
    }
    (format!("[{prefix}"), [b"(", end.as_slice()].concat())
}

/// The leases whose records a transaction reads or changes.
fn leases(transaction: &Transaction) -> Vec<LeaseId> {
    let mut leases: Vec<LeaseId> = Vec::new();
    for guard in &transaction.guards {
        if let Guard::OnLease(_, lease) = guard {
            leases.push(*lease);
        }
    }
    for step in &transaction.steps {
        match step {
            Step::Put(_, _, lease) => leases.push(*lease),
            Step::Delete(_) => {}
            Step::Sweep(sweep) => leases.extend(sweep.keys.iter().map(|(_, lease)| *lease)),
        }
    }
    leases.sort_unstable();
    leases.dedup();
    leases
}

fn add(input: &mut Input, kind: &str, place: usize) {
    input.add(kind);
    input.add(place);
}

fn add_sweep(input: &mut Input, sweep: &Sweep) {
    let (low, high) = bounds(&sweep.directory);
    input.add("sweep");
    input.add(low);
    input.add_bytes(high);
    input.add(sweep.expected.len());
    for key in &sweep.expected {
        input.add(key);
    }
    input.add(sweep.keys.len());
    for (key, lease) in &sweep.keys {
        let place = input.add_key(key);
        input.add(place);
        input.add(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_all_keys_that_begin_with_a_prefix() {
        let text = |prefix| {
            let (low, high) = bounds(prefix);
            (low, String::from_utf8_lossy(&high).into_owned())
        };
        assert_eq!(text("/b/1/"), ("[/b/1/".to_owned(), "(/b/10".to_owned()));
        assert_eq!(text(""), ("-".to_owned(), "+".to_owned()));
        assert_eq!(bounds("ÿ").1, [b'(', 0xc3, 0xc0]);
    }

    #[test]
    fn an_answer_is_a_word_or_the_swept_keys() {
        let word = |word: &str| outcome(Value::BulkString(word.into()));
        assert_eq!(word("guard").expect("an answer"), Outcome::GuardFailed);
        assert!(matches!(word("lost"), Err(StoreError::LeaseLost)));
        assert!(matches!(word("other"), Err(StoreError::Failed(_))));
        let swept = Value::Array(vec![Value::BulkString("/b/1".into())]);
        let done = Outcome::Done {
            swept: vec!["/b/1".into()],
        };
        assert_eq!(outcome(swept).expect("an answer"), done);
        assert!(matches!(outcome(Value::Int(1)), Err(StoreError::Failed(_))));
    }
}
