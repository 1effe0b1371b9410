//! Packs single changes into transactions. A container is split only if it does not fit into one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::key::{Key, directory};
use crate::store::{Guard, LeaseId, Size, Step, Sweep, Transaction};
use crate::wanted::{ContainerName, Entry};

/// The most bytes of keys and values in one transaction: two thirds of etcd's limit for a request (1.5 MiB).
const MAX_BYTES: usize = 1024 * 1024;

/// One transaction, with its leases and its containers.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub transaction: Transaction,
    /// The leases that must be granted first.
    pub leases: BTreeSet<LeaseId>,
    /// The container of each step, for the log; none for a container that ended before this process started.
    pub owners: Vec<Option<ContainerName>>,
    pub(super) order: Order,
}

impl Batch {
    pub fn puts(&self) -> impl Iterator<Item = &Key> {
        self.transaction.steps.iter().filter_map(|step| match step {
            Step::Put(key, ..) => Some(key),
            Step::Delete(_) | Step::Sweep(_) => None,
        })
    }
}

/// One step for one key, with its guard.
#[derive(Debug)]
pub(super) struct KeyChange {
    pub who: Option<ContainerName>,
    guard: Guard,
    step: Step,
    lease: Option<LeaseId>,
}

impl KeyChange {
    pub fn create(entry: &Entry, lease: LeaseId, who: &ContainerName) -> Self {
        let (key, value) = (Arc::clone(&entry.key), Arc::clone(&entry.value));
        let guard = Guard::Missing(Arc::clone(&key));
        Self::put(guard, Step::Put(key, value, lease), lease, who)
    }

    pub fn replace(
        key: &Key,
        value: &Arc<str>,
        lease: LeaseId,
        at: LeaseId,
        who: &ContainerName,
    ) -> Self {
        let guard = Guard::OnLease(Arc::clone(key), at);
        let step = Step::Put(Arc::clone(key), Arc::clone(value), lease);
        Self::put(guard, step, lease, who)
    }

    pub fn take(entry: &Entry, lease: LeaseId, revision: i64, who: &ContainerName) -> Self {
        let guard = Guard::Unchanged(Arc::clone(&entry.key), revision);
        let step = Step::Put(Arc::clone(&entry.key), Arc::clone(&entry.value), lease);
        Self::put(guard, step, lease, who)
    }

    pub fn delete(key: &Key, lease: LeaseId, who: Option<ContainerName>) -> Self {
        Self {
            who,
            guard: Guard::OnLease(Arc::clone(key), lease),
            step: Step::Delete(Arc::clone(key)),
            lease: None,
        }
    }

    fn put(guard: Guard, step: Step, lease: LeaseId, who: &ContainerName) -> Self {
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

    /// The shared lease of a put of a shared key. It is always the key's own.
    pub fn shared_lease(&self) -> Option<LeaseId> {
        self.lease.filter(|lease| lease.is_shared())
    }

    /// Shared keys first, so that a container that is split over transactions never has an owned key without them.
    fn rank(&self) -> u8 {
        match &self.step {
            Step::Delete(_) => 2,
            _ if self.shared_lease().is_some() => 0,
            Step::Put(..) | Step::Sweep(_) => 1,
        }
    }

    /// The directory of a put of an owned key.
    fn owned_directory(&self) -> Option<&str> {
        match &self.step {
            Step::Put(key, ..) if self.shared_lease().is_none() => Some(directory(key)),
            _ => None,
        }
    }
}

/// The order of groups. Groups of different orders never share a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Containers with puts.
    #[default]
    Puts,
    /// Deletes of containers that are gone or want fewer keys. Even an etcd without space takes them.
    Deletes,
    /// Deletes of keys that no container has claimed, but that may belong to a running one.
    Unclaimed,
}

/// The changes of one container, or of all containers that ended before this process started.
#[derive(Debug, Default)]
pub(super) struct Group {
    changes: Vec<KeyChange>,
    required: Vec<Guard>,
}

impl Group {
    pub fn push(&mut self, change: KeyChange) {
        self.changes.push(change);
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn puts_owned(&self) -> bool {
        self.changes
            .iter()
            .any(|change| change.owned_directory().is_some())
    }

    pub fn require(&mut self, key: &Key, lease: LeaseId) {
        self.required.push(Guard::OnLease(Arc::clone(key), lease));
    }

    /// Requires only the guards of keys in a directory where this group puts an owned key.
    fn require_beside(&mut self, guards: &[Guard]) {
        let directories: BTreeSet<&str> = self
            .changes
            .iter()
            .filter_map(KeyChange::owned_directory)
            .collect();
        let beside = |guard: &&Guard| directories.contains(directory(guard.key()));
        self.required = guards.iter().filter(beside).cloned().collect();
    }

    /// The guards that the shared keys of this group meet once it has been carried out.
    fn shared_guards(&self) -> Vec<Guard> {
        let guard = |change: &KeyChange| {
            let lease = change.shared_lease()?;
            Some(Guard::OnLease(Arc::clone(change.guard.key()), lease))
        };
        self.changes.iter().filter_map(guard).collect()
    }

    pub fn only_deletes(&self) -> bool {
        self.changes.iter().all(KeyChange::is_delete)
    }

    fn guards(&self) -> usize {
        self.required.len() + self.changes.len()
    }
}

/// Packs groups, in their order, into as few transactions as the limits allow; if `one_by_one`, each into its own.
pub(super) fn pack(
    groups: Vec<(Order, Group)>,
    idle: &BTreeMap<Key, LeaseId>,
    max_operations: usize,
    one_by_one: bool,
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
        order: Order::default(),
        batches: Vec::new(),
        current: Batch::default(),
    };
    for (order, mut group) in groups {
        group.changes.sort_by_key(KeyChange::rank);
        if one_by_one || order != packer.order {
            packer.flush();
        }
        packer.order = order;
        if !packer.fits(&group) {
            packer.flush();
            if !packer.fits(&group) {
                packer.add_in_parts(group);
                continue;
            }
        }
        packer.add(group);
    }
    packer.flush();
    packer.batches
}

struct Packer<'a> {
    idle: &'a BTreeMap<Key, LeaseId>,
    /// The idle keys by their directory.
    directories: BTreeMap<&'a str, Vec<(Key, LeaseId)>>,
    max_operations: usize,
    /// The order of the groups in `current`.
    order: Order,
    batches: Vec<Batch>,
    current: Batch,
}

impl Packer<'_> {
    /// Whether a group fits into the current transaction, with the sweeps of its deletes.
    fn fits(&self, group: &Group) -> bool {
        let current = &self.current.transaction;
        let steps = || {
            current
                .steps
                .iter()
                .chain(group.changes.iter().map(|change| &change.step))
        };
        let mut size = Size::of(current.guards.len() + group.guards(), steps());
        let is_single = size.steps() == 1;
        for sweep in self.sweeps(steps()) {
            size.add(&sweep);
        }
        size.operations() <= self.max_operations && (size.bytes() <= MAX_BYTES || is_single)
    }

    fn add(&mut self, group: Group) {
        let transaction = &mut self.current.transaction;
        for guard in group.required {
            // A key that the same transaction puts is not there yet when its guards are checked.
            let is_put = |step: &Step| matches!(step, Step::Put(key, ..) if key == guard.key());
            if !transaction.steps.iter().any(is_put) {
                transaction.guards.push(guard);
            }
        }
        for change in group.changes {
            transaction.guards.push(change.guard);
            transaction.steps.push(change.step);
            self.current.owners.push(change.who);
            self.current.leases.extend(change.lease);
        }
    }

    /// Each part requires the shared keys beside its owned ones. Earlier parts may have put some of them.
    fn add_in_parts(&mut self, group: Group) {
        let mut required = group.required;
        let mut part = Group::default();
        for change in group.changes {
            part.push(change);
            part.require_beside(&required);
            if !self.fits(&part)
                && let Some(change) = part.changes.pop()
            {
                part.require_beside(&required);
                required.extend(part.shared_guards());
                self.add(std::mem::take(&mut part));
                self.flush();
                part.push(change);
                part.require_beside(&required);
            }
        }
        self.add(part);
    }

    fn flush(&mut self) {
        let mut batch = std::mem::take(&mut self.current);
        batch.order = self.order;
        if batch.transaction.steps.is_empty() {
            return;
        }
        let mut size = batch.transaction.size();
        for sweep in self.sweeps(batch.transaction.steps.iter()) {
            let mut with_sweep = size;
            with_sweep.add(&sweep);
            // The keys of a sweep that fits into no transaction expire with their leases, which we do not renew.
            if with_sweep.operations() <= self.max_operations {
                size = with_sweep;
                batch.transaction.steps.push(sweep);
                batch.owners.push(None);
            }
        }
        self.batches.push(batch);
    }

    /// The sweeps of these deletes: one for each directory that has idle shared keys and loses an owned key.
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
                let keys = self.directories.get(directory)?.clone();
                let inside = |key: &&Key| key.starts_with(directory);
                let expected: BTreeSet<&Key> = deleted
                    .iter()
                    .copied()
                    .chain(self.idle.keys())
                    .filter(inside)
                    .collect();
                Some(Step::Sweep(Sweep {
                    directory: directory.into(),
                    expected: expected.into_iter().cloned().collect(),
                    keys,
                }))
            })
            .collect()
    }
}

/// The directories that a key is in, from the innermost outwards.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    key.rmatch_indices('/').map(|(slash, _)| &key[..=slash])
}
