//! Translates transactions into etcd's requests, and etcd's replies into outcomes.

use std::borrow::Cow;
use std::sync::Arc;

use etcd_client::{
    Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::base::key::Key;
use crate::store::{Found, Guard, LeaseId, On, Outcome, Step, Sweep, Transaction};

/// What a key on no lease is whose value is not text.
const NOT_TEXT: &str = "on no lease, with a value that is not UTF-8";

pub fn request(transaction: &Transaction) -> Txn {
    let mut compares = Vec::with_capacity(transaction.guards.len());
    for guard in &transaction.guards {
        add_compares(guard, &mut compares);
    }
    let steps: Vec<TxnOp> = transaction.steps.iter().map(operation).collect();
    Txn::new().when(compares).and_then(steps)
}

pub fn outcome(transaction: &Transaction, reply: &TxnResponse) -> Outcome {
    if !reply.succeeded() {
        return Outcome::GuardFailed;
    }
    let mut swept = Vec::new();
    for (step, response) in transaction.steps.iter().zip(reply.op_responses()) {
        if let (Step::Sweep(sweep), TxnOpResponse::Txn(nested)) = (step, response)
            && nested.succeeded()
        {
            swept.extend(sweep.keys.iter().map(|(key, _)| Arc::clone(key)));
        }
    }
    Outcome::Done { swept }
}

/// Adds as many as [`Guard::compares`] says.
fn add_compares(guard: &Guard, compares: &mut Vec<Compare>) {
    let key = guard.key().as_bytes();
    let on_lease = |lease| Compare::lease(key, CompareOp::Equal, lease);
    match guard {
        Guard::Missing(_) => compares.push(Compare::create_revision(key, CompareOp::Equal, 0)),
        Guard::OnLease(_, lease) => compares.push(on_lease(lease.0)),
        // A missing key has the lease 0 too, but no value is equal to its value.
        Guard::Loose(_, value) => compares.extend([
            on_lease(0),
            Compare::value(key, CompareOp::Equal, value.as_bytes()),
        ]),
    }
}

fn operation(step: &Step) -> TxnOp {
    match step {
        Step::Put(key, value, lease) => TxnOp::put(
            key.as_bytes(),
            value.as_bytes(),
            Some(PutOptions::new().with_lease(lease.0)),
        ),
        Step::Delete(key) => TxnOp::delete(key.as_bytes(), None),
        Step::Sweep(sweep) => TxnOp::txn(nested(sweep)),
    }
}

/// A sweep as a nested transaction. etcd compares it too with the store as it was before the outer transaction.
fn nested(sweep: &Sweep) -> Txn {
    let are_on_their_leases = sweep
        .keys
        .iter()
        .map(|(key, lease)| Compare::lease(key.as_bytes(), CompareOp::Equal, lease.0));
    let gaps = gaps(&sweep.directory, &sweep.expected).into_iter();
    let nothing_else = gaps.map(|(from, to)| {
        // On a range this must hold for each key in it, and no key has been created at revision 0: so there is no key.
        Compare::create_revision(from, CompareOp::Equal, 0).with_range(to)
    });
    let deletes = sweep
        .keys
        .iter()
        .map(|(key, _)| TxnOp::delete(key.as_bytes(), None));
    Txn::new()
        .when(are_on_their_leases.chain(nothing_else).collect::<Vec<_>>())
        .and_then(deletes.collect::<Vec<_>>())
}

/// The ranges between the expected keys of a directory. `expected` is sorted.
fn gaps(directory: &str, expected: &[Key]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut gaps = Vec::with_capacity(expected.len() + 1);
    // The empty key is not in any range: etcd reads it as "no key given".
    let mut from = if directory.is_empty() {
        vec![0]
    } else {
        directory.as_bytes().to_vec()
    };
    for key in expected {
        let key = key.as_bytes().to_vec();
        // The key after `key` in byte order is `key` with a zero byte.
        let after = [key.as_slice(), &[0]].concat();
        gaps.push((from, key));
        from = after;
    }
    // A directory ends with a slash, so its last key is below the same bytes with `0`, the character after `/`.
    let mut end = directory.as_bytes().to_vec();
    match end.last_mut() {
        Some(slash) => *slash += 1,
        // Without a directory the range has no end, which etcd writes as a zero byte.
        None => end.push(0),
    }
    gaps.push((from, end));
    gaps
}

/// A key that etcd returned. One that is not UTF-8 is left out, because no policy can want it.
pub fn found_of(kv: &KeyValue) -> Option<Found> {
    let value = String::from_utf8_lossy(kv.value());
    Some(Found {
        key: kv.key_str().ok()?.into(),
        on: match (kv.lease(), &value) {
            (0, Cow::Borrowed(_)) => On::Nothing,
            // No guard could name its value.
            (0, Cow::Owned(_)) => On::Stranger(NOT_TEXT.into()),
            (lease, _) => On::Lease(LeaseId(lease)),
        },
        value: value.into(),
        created: kv.create_revision(),
        revision: kv.mod_revision(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(range: (Vec<u8>, Vec<u8>)) -> (String, String) {
        (
            String::from_utf8(range.0).unwrap(),
            String::from_utf8(range.1).unwrap(),
        )
    }

    #[test]
    fn gaps_leave_out_only_the_expected_keys() {
        let keys: Vec<Key> = vec!["/b/1/a".into(), "/b/1/port".into()];
        let gaps: Vec<_> = gaps("/b/1/", &keys).into_iter().map(text).collect();
        let wanted = [
            ("/b/1/", "/b/1/a"),
            ("/b/1/a\0", "/b/1/port"),
            ("/b/1/port\0", "/b/10"),
        ];
        assert_eq!(
            gaps,
            wanted.map(|(from, to)| (from.to_owned(), to.to_owned()))
        );
    }

    #[test]
    fn a_key_without_a_directory_has_all_other_keys_beside_it() {
        let gaps: Vec<_> = gaps("", &["port".into()]).into_iter().map(text).collect();
        let wanted = [("\0", "port"), ("port\0", "\0")];
        assert_eq!(
            gaps,
            wanted.map(|(from, to)| (from.to_owned(), to.to_owned()))
        );
    }
}
