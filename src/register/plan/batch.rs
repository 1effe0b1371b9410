//! Changes of single keys, groups of them, and the transactions that `pack` makes of groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::key::{Key, directory};
use crate::store::{Guard, LeaseId, Step, Transaction};
use crate::wanted::{ContainerName, Entry};

/// One transaction, with its leases and its containers.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub transaction: Transaction,
    /// The leases that must be granted first.
    pub leases: BTreeSet<LeaseId>,
    /// The container of each step, for the log; none for a container that ended before this process started.
    pub owners: Vec<Option<ContainerName>>,
    pub(super) order: Order,
    /// The number of the planning that made it.
    pub(super) planning: u64,
}

impl Batch {
    pub fn puts(&self) -> impl Iterator<Item = &Key> {
        self.transaction.steps.iter().filter_map(|step| match step {
            Step::Put(key, ..) => Some(key),
            Step::Delete(_) | Step::Sweep(_) => None,
        })
    }

    /// The container whose owned key beside a swept key it deletes, if that is known.
    pub fn owner_beside(&self, swept: &Key) -> Option<&ContainerName> {
        let directory = directory(swept);
        let mut steps = self.transaction.steps.iter().zip(&self.owners);
        steps.find_map(|(step, who)| match step {
            Step::Delete(key) if key.starts_with(directory) => who.as_ref(),
            _ => None,
        })
    }

    /// Whether it is neither a part of a large change nor waits for all others.
    pub fn is_small(&self) -> bool {
        matches!(self.order, Order::Puts | Order::Deletes)
    }
}

/// One step for one key, with its guard.
#[derive(Debug)]
pub(super) struct KeyChange {
    pub who: Option<ContainerName>,
    pub guard: Guard,
    pub step: Step,
    pub lease: Option<LeaseId>,
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

    /// Takes over a key that is on no lease, with this value.
    pub fn take(entry: &Entry, lease: LeaseId, value: &Arc<str>, who: &ContainerName) -> Self {
        let guard = Guard::Loose(Arc::clone(&entry.key), Arc::clone(value));
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

    pub fn is_delete(&self) -> bool {
        matches!(self.step, Step::Delete(_))
    }

    /// The guard that a put of a shared key meets once it has been carried out.
    pub fn shared_guard(&self) -> Option<Guard> {
        let lease = self.shared_lease()?;
        Some(Guard::OnLease(Arc::clone(self.guard.key()), lease))
    }

    pub fn directory(&self) -> &str {
        directory(self.guard.key())
    }

    /// The shared lease of a put of a shared key. It is always the key's own.
    pub fn shared_lease(&self) -> Option<LeaseId> {
        self.lease.filter(|lease| lease.is_shared())
    }

    /// Shared keys first, so that a container that is split over transactions never has an owned key without them.
    pub fn rank(&self) -> u8 {
        match &self.step {
            Step::Delete(_) => 2,
            _ if self.shared_lease().is_some() => 0,
            Step::Put(..) | Step::Sweep(_) => 1,
        }
    }

    /// The directory of a put of an owned key.
    pub fn owned_directory(&self) -> Option<&str> {
        match &self.step {
            Step::Put(key, ..) if self.shared_lease().is_none() => Some(directory(key)),
            _ => None,
        }
    }
}

/// The order of groups. Groups of different orders never share a transaction. Of the changes of one wanted state the
/// small ones come first, so that none waits for a large one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Containers with puts.
    #[default]
    Puts,
    /// Deletes of containers that are gone or want fewer keys. Even an etcd without space takes them.
    Deletes,
    /// Containers with puts that need several transactions.
    LargePuts,
    /// Deletes of a container that need several transactions, or that wait for `LargePuts` in the same directories.
    LargeDeletes,
    /// Deletes of keys that no container has claimed, but that may belong to a running one.
    Unclaimed,
}

/// The changes of one container, or of all containers that ended before this process started.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub changes: Vec<KeyChange>,
    /// Shared keys that must exist.
    pub required: Vec<Guard>,
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

    /// The order of this group with a number of puts of shared keys that are not in it yet.
    pub fn order(&self, shared_puts: usize, max_operations: usize) -> Order {
        let only_deletes = shared_puts == 0 && self.changes.iter().all(KeyChange::is_delete);
        let guards = self.changes.iter().map(|change| change.guard.compares());
        let is_large = guards.sum::<usize>() + shared_puts > max_operations;
        match (only_deletes, is_large) {
            (false, false) => Order::Puts,
            (true, false) => Order::Deletes,
            (false, true) => Order::LargePuts,
            (true, true) => Order::LargeDeletes,
        }
    }
}
