//! From single changes to transactions that never split a container needlessly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Who;
use crate::entry::{Entry, Key, directory};
use crate::store::{Guard, LeaseId, Step, Transaction};

/// The most bytes of keys and values in one transaction: two thirds of what etcd takes in one request (1.5 MiB).
const MAX_BYTES: usize = 1024 * 1024;

/// One transaction, with what it takes to carry it out and to tell of it.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What is asked of the store.
    pub transaction: Transaction,
    /// The leases that must live first.
    pub leases: BTreeSet<LeaseId>,
    /// For whom each step is, for the log; a key of a container that went before this process began is nobody's.
    pub owners: Vec<Option<Who>>,
}

/// One step for one key, and the guard under which it holds.
#[derive(Debug)]
pub(super) struct Change {
    pub who: Option<Who>,
    guard: Guard,
    step: Step,
    lease: Option<LeaseId>,
}

impl Change {
    pub fn create(entry: &Entry, lease: LeaseId, who: &Who) -> Self {
        let (key, value) = (Arc::clone(&entry.key), Arc::clone(&entry.value));
        let guard = Guard::Missing(Arc::clone(&key));
        Self::put(guard, Step::Put(key, value, lease), lease, who)
    }

    pub fn replace(key: &Key, value: &Arc<str>, lease: LeaseId, at: LeaseId, who: &Who) -> Self {
        let guard = Guard::OnLease(Arc::clone(key), at);
        let step = Step::Put(Arc::clone(key), Arc::clone(value), lease);
        Self::put(guard, step, lease, who)
    }

    pub fn take(entry: &Entry, lease: LeaseId, revision: i64, who: &Who) -> Self {
        let guard = Guard::Unchanged(Arc::clone(&entry.key), revision);
        let step = Step::Put(Arc::clone(&entry.key), Arc::clone(&entry.value), lease);
        Self::put(guard, step, lease, who)
    }

    pub fn delete(key: &Key, lease: LeaseId, who: Option<Who>) -> Self {
        Self {
            who,
            guard: Guard::OnLease(Arc::clone(key), lease),
            step: Step::Delete(Arc::clone(key)),
            lease: None,
        }
    }

    fn put(guard: Guard, step: Step, lease: LeaseId, who: &Who) -> Self {
        Self {
            who: Some(who.clone()),
            guard,
            step,
            lease: Some(lease),
        }
    }

    fn is_delete(&self) -> bool {
        matches!(self.step, Step::Delete(_))
    }

    /// Shared keys first, so that a container too large for one transaction never has a member without them.
    fn order(&self) -> u8 {
        match &self.step {
            Step::Put(key, _, lease) if lease.is_shared_for(key) => 0,
            Step::Put(..) | Step::Sweep { .. } => 1,
            Step::Delete(_) => 2,
        }
    }
}

/// The changes of one container, or all those of containers that went before this process began.
#[derive(Debug, Default)]
pub(super) struct Group {
    changes: Vec<Change>,
    required: Vec<Guard>,
}

impl Group {
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub fn who(&self) -> Option<&Who> {
        self.changes.first().and_then(|change| change.who.as_ref())
    }

    pub fn puts_owned(&self) -> bool {
        self.changes.iter().any(
            |change| matches!(&change.step, Step::Put(key, _, lease) if !lease.is_shared_for(key)),
        )
    }

    pub fn require(&mut self, key: &Key, lease: LeaseId) {
        self.required.push(Guard::OnLease(Arc::clone(key), lease));
    }

    /// Groups with a put go before those that only delete; within these, by container, so that the same changes
    /// always make the same transactions.
    pub fn order(&self) -> (bool, Option<Who>) {
        (self.only_deletes(), self.who().cloned())
    }

    fn only_deletes(&self) -> bool {
        self.changes.iter().all(Change::is_delete)
    }

    fn guards(&self) -> usize {
        self.required.len() + self.changes.len()
    }
}

/// Packs groups, in their order, into as few transactions as the limits allow.
pub(super) fn pack(
    groups: Vec<Group>,
    idle: &BTreeMap<Key, LeaseId>,
    max_operations: usize,
) -> Vec<Batch> {
    let mut directories: BTreeMap<&str, Vec<(Key, LeaseId)>> = BTreeMap::new();
    for (key, lease) in idle {
        directories
            .entry(directory(key))
            .or_default()
            .push((Arc::clone(key), *lease));
    }
    let mut packer = Packer {
        idle,
        directories,
        max_operations,
        batches: Vec::new(),
        current: Batch::default(),
    };
    for mut group in groups {
        group.changes.sort_by_key(Change::order);
        // Deletes do not wait for puts, which an etcd that is out of space refuses.
        let deletes_begin = group.only_deletes() && packer.has_puts();
        if deletes_begin || !packer.fits(&group) {
            packer.flush();
        }
        if packer.fits(&group) {
            packer.add(group);
        } else {
            packer.add_in_parts(group);
        }
    }
    packer.flush();
    packer.batches
}

struct Packer<'a> {
    idle: &'a BTreeMap<Key, LeaseId>,
    /// The idle keys by their directory.
    directories: BTreeMap<&'a str, Vec<(Key, LeaseId)>>,
    max_operations: usize,
    batches: Vec<Batch>,
    current: Batch,
}

impl Packer<'_> {
    /// Whether the current transaction can take a group, with the sweeps that belong to its deletes.
    fn fits(&self, group: &Group) -> bool {
        let current = &self.current.transaction;
        let steps = || {
            current
                .steps
                .iter()
                .chain(group.changes.iter().map(|change| &change.step))
        };
        let sweeps = self.sweeps(steps());
        let guards = current.guards.len() + group.guards();
        let operations = guards.max(steps().count() + sweeps.len());
        let nested = steps()
            .chain(&sweeps)
            .map(Step::nested_size)
            .max()
            .unwrap_or(0);
        let bytes: usize = steps().chain(&sweeps).map(Step::bytes).sum();
        operations + nested <= self.max_operations && (bytes <= MAX_BYTES || steps().count() == 1)
    }

    fn has_puts(&self) -> bool {
        let is_put = |step: &Step| matches!(step, Step::Put(..));
        self.current.transaction.steps.iter().any(is_put)
    }

    fn add(&mut self, group: Group) {
        self.current.transaction.guards.extend(group.required);
        for change in group.changes {
            self.current.transaction.guards.push(change.guard);
            self.current.transaction.steps.push(change.step);
            self.current.owners.push(change.who);
            self.current.leases.extend(change.lease);
        }
    }

    fn add_in_parts(&mut self, group: Group) {
        let mut part = Group {
            changes: Vec::new(),
            required: group.required,
        };
        for change in group.changes {
            part.push(change);
            if !self.fits(&part)
                && let Some(change) = part.changes.pop()
            {
                self.add(std::mem::take(&mut part));
                self.flush();
                part.push(change);
            }
        }
        self.add(part);
    }

    fn flush(&mut self) {
        let mut batch = std::mem::take(&mut self.current);
        if batch.transaction.steps.is_empty() {
            return;
        }
        let nested = batch
            .transaction
            .steps
            .iter()
            .map(Step::nested_size)
            .max()
            .unwrap_or(0);
        for sweep in self.sweeps(batch.transaction.steps.iter()) {
            let operations = batch
                .transaction
                .guards
                .len()
                .max(batch.transaction.steps.len() + 1);
            // One that is too large for any transaction is left to its lease, which nobody here keeps alive.
            if operations + nested.max(sweep.nested_size()) <= self.max_operations {
                batch.transaction.steps.push(sweep);
                batch.owners.push(None);
            }
        }
        self.batches.push(batch);
    }

    /// The sweeps that go with these deletes: one for each directory that has idle shared keys and loses an owned one.
    fn sweeps<'s>(&self, steps: impl Iterator<Item = &'s Step>) -> Vec<Step> {
        if self.directories.is_empty() {
            return Vec::new();
        }
        let deleted: BTreeSet<&Key> = steps
            .filter_map(|step| {
                if let Step::Delete(key) = step {
                    Some(key)
                } else {
                    None
                }
            })
            .collect();
        let touched: BTreeSet<&str> = deleted.iter().flat_map(|key| ancestors(key)).collect();
        touched
            .into_iter()
            .filter_map(|directory| {
                let sweep = self.directories.get(directory)?.clone();
                let inside = |key: &&Key| key.starts_with(directory);
                let expected: BTreeSet<&Key> = deleted
                    .iter()
                    .copied()
                    .chain(self.idle.keys())
                    .filter(inside)
                    .collect();
                let expected = expected.into_iter().cloned().collect();
                Some(Step::Sweep {
                    expected,
                    directory: directory.into(),
                    sweep,
                })
            })
            .collect()
    }
}

/// The directories that a key is in, from the innermost outwards.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    key.rmatch_indices('/').map(|(slash, _)| &key[..=slash])
}
