//! Transactions: guards, steps, and their size.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Found, LeaseId, On};
use crate::base::key::Key;

/// Steps that are all carried out if every guard holds; else none is. No key is written twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    pub guards: Vec<Guard>,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Missing(Key),
    /// The key exists on this lease.
    OnLease(Key, LeaseId),
    /// The key exists on no lease, with this value.
    Loose(Key, Arc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Puts the key on the lease.
    Put(Key, Arc<str>, LeaseId),
    Delete(Key),
    /// Deletes the last keys of a directory.
    Sweep(Sweep),
}

/// Deletes its keys if each of them is on its lease and the directory holds only expected keys; else it deletes none.
/// The condition is about the store as it was before the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// The directory, with the slash at its end; empty for the whole store.
    pub directory: Arc<str>,
    /// All keys that may be in the directory, sorted: those to delete here, and those that other steps delete.
    pub expected: Vec<Key>,
    /// The keys to delete, which are in the directory, with their leases.
    pub keys: Vec<(Key, LeaseId)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done {
        /// The keys that its sweeps deleted.
        swept: Vec<Key>,
    },
    /// A guard did not hold.
    GuardFailed,
}

/// The size of a transaction, as etcd counts it (`checkTxnRequest` in its `v3rpc/key.go`). A type of its own, because
/// the plan computes it for every group of changes, before there is a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    guards: usize,
    steps: usize,
    /// The longest list in the transactions that etcd nests for sweeps.
    nested: usize,
    bytes: usize,
}

impl Transaction {
    /// The keys that it puts or deletes, without swept ones.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.steps.iter().filter_map(|step| match step {
            Step::Put(key, ..) | Step::Delete(key) => Some(key),
            Step::Sweep(_) => None,
        })
    }
}

#[cfg(test)]
impl Transaction {
    pub fn size(&self) -> Size {
        let mut size = Size::default();
        self.guards.iter().for_each(|guard| size.add_guard(guard));
        self.steps.iter().for_each(|step| size.add(step));
        size
    }
}

impl Size {
    pub fn add(&mut self, step: &Step) {
        self.steps += 1;
        self.bytes += step.bytes();
        if let Step::Sweep(sweep) = step {
            self.nest(sweep.keys.len(), sweep.expected.len());
        }
    }

    pub fn add_guard(&mut self, guard: &Guard) {
        self.guards += guard.compares();
        self.bytes += guard.bytes();
    }

    /// Adds guards of leases or of missing keys.
    pub fn add_guards(&mut self, guards: usize) {
        self.guards += guards;
    }

    /// Adds a sweep that deletes this number of keys, before its expected keys are known.
    pub fn add_sweep(&mut self, keys: usize) {
        self.steps += 1;
        self.nest(keys, 0);
    }

    /// Adds an expected key to a sweep, which then has these numbers of keys and of expected keys.
    pub fn add_expected(&mut self, key: &Key, keys: usize, expected: usize) {
        self.bytes += expected_bytes(key);
        self.nest(keys, expected);
    }

    /// Counts the nested guards of a sweep: the lease of each key that it deletes, and the gaps between the expected
    /// keys.
    fn nest(&mut self, keys: usize, expected: usize) {
        self.nested = self.nested.max(keys + expected + 1);
    }

    /// The number of operations: the length of the longer list, guards or steps, plus that of the largest nested
    /// transaction.
    pub fn operations(self) -> usize {
        self.guards.max(self.steps) + self.nested
    }

    /// The approximate bytes of its keys and values.
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

impl Guard {
    pub fn key(&self) -> &Key {
        match self {
            Self::Missing(key) | Self::OnLease(key, _) | Self::Loose(key, _) => key,
        }
    }

    /// The number of comparisons that etcd makes for it. Each compares one property of the key.
    pub fn compares(&self) -> usize {
        match self {
            Self::Missing(_) | Self::OnLease(..) => 1,
            Self::Loose(..) => 2,
        }
    }

    /// Whether it holds if the store has these keys.
    pub fn holds(&self, keys: &BTreeMap<Key, Found>) -> bool {
        let found = keys.get(self.key());
        match self {
            Self::Missing(_) => found.is_none(),
            Self::OnLease(_, lease) => found.is_some_and(|found| found.lease() == Some(*lease)),
            Self::Loose(_, value) => {
                found.is_some_and(|found| found.on == On::Nothing && found.value == *value)
            }
        }
    }

    /// The bytes of its value. Those of its key are counted with the step.
    fn bytes(&self) -> usize {
        match self {
            Self::Missing(_) | Self::OnLease(..) => 0,
            Self::Loose(_, value) => value.len(),
        }
    }
}

impl Step {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value, _) => 2 * key.len() + value.len(),
            Self::Delete(key) => 2 * key.len(),
            Self::Sweep(sweep) => sweep.expected.iter().map(expected_bytes).sum(),
        }
    }
}

fn expected_bytes(key: &Key) -> usize {
    5 * key.len()
}

impl Sweep {
    /// Whether it deletes its keys if the store has these keys.
    pub fn holds(&self, keys: &BTreeMap<Key, Found>) -> bool {
        let is_on_its_lease = |(key, lease): &(Key, LeaseId)| {
            keys.get(key)
                .is_some_and(|found| found.lease() == Some(*lease))
        };
        let from = (Bound::Included(&*self.directory), Bound::Unbounded);
        let mut inside = keys
            .range::<str, _>(from)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&*self.directory));
        self.keys.iter().all(is_on_its_lease)
            && inside.all(|key| self.expected.binary_search(key).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        if name.starts_with('/') {
            return name.into();
        }
        format!("/b/1/{name}").into()
    }

    fn store(keys: &[(&str, Option<LeaseId>)]) -> BTreeMap<Key, Found> {
        let found = |(name, lease): &(&str, Option<LeaseId>)| {
            let found = Found {
                key: key(name),
                value: "1".into(),
                on: (*lease).into(),
                created: 1,
                revision: 1,
            };
            (key(name), found)
        };
        keys.iter().map(found).collect()
    }

    fn sweep() -> Sweep {
        Sweep {
            directory: "/b/1/".into(),
            expected: vec![key("a"), key("port")],
            keys: vec![(key("port"), LeaseId(2))],
        }
    }

    #[test]
    fn a_sweep_holds_if_only_expected_keys_are_left() {
        let (ours, shared) = (Some(LeaseId(1)), Some(LeaseId(2)));
        let sweep = sweep();
        assert!(sweep.holds(&store(&[("a", ours), ("port", shared)])));
        assert!(sweep.holds(&store(&[("port", shared), ("/b/10/b", ours)])));
        for other in [
            &[("a", ours), ("b", None), ("port", shared)][..],
            &[("a", ours), ("c/d", ours), ("port", shared)],
            &[("a", ours), ("port", ours)],
            &[("a", ours)],
        ] {
            assert!(!sweep.holds(&store(other)), "{other:?}");
        }
    }

    #[test]
    fn a_size_is_that_of_the_longer_list_and_the_largest_sweep() {
        let put = |name: &str| Step::Put(key(name), "value".into(), LeaseId(1));
        let mut transaction = Transaction {
            guards: vec![Guard::Missing(key("a"))],
            steps: vec![put("a"), Step::Delete(key("bb"))],
        };
        assert_eq!(transaction.size().operations(), 2);
        assert_eq!(transaction.size().bytes(), 2 * 6 + 5 + 2 * 7);
        transaction.steps.push(Step::Sweep(sweep()));
        assert_eq!(transaction.size().operations(), 3 + (2 + 1 + 1));
        let mut larger = sweep();
        larger.expected.push(key("x"));
        transaction.steps.push(Step::Sweep(larger));
        assert_eq!(transaction.size().operations(), 4 + (3 + 1 + 1));
        transaction.guards.resize(9, Guard::Missing(key("a")));
        assert_eq!(transaction.size().operations(), 9 + (3 + 1 + 1));
        let bytes = transaction.size().bytes();
        transaction.guards[0] = Guard::Loose(key("a"), "12345".into());
        assert_eq!(transaction.size().operations(), 10 + (3 + 1 + 1));
        assert_eq!(transaction.size().bytes(), bytes + 5);
    }
}
