//! Stores in memory. [`Memory`] is the state, with etcd's semantics; `store::print` and `store::model` make a store of it
//! too. [`MemoryStore`] is the store of a process that is registrar and reader at once.

mod shared;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{
    Changes, Found, Lease, LeaseId, Limits, Listing, Outcome, Store, StoreError, Transaction,
    Watching,
};
use crate::base::key::Key;
use shared::{Shared, Told};

pub use state::Memory;

/// The store's name in messages.
pub const NAME: &str = "the store in memory";
/// The longest time for which listings wait for keys whose check has no verdict yet.
const UNPROVEN: Duration = Duration::from_secs(10);

/// A store inside this process. Each clone is a connection to the same one.
///
/// A new one is empty, which says nothing about the services of this host. So `scan` waits until a registrar has put its
/// first keys: see [`Store::in_step`].
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// The time from which keys are listed, once it is known.
    listed_from: watch::Sender<Option<Instant>>,
}

/// A watch of a prefix.
#[derive(Debug)]
pub struct MemoryWatch {
    shared: Arc<Shared>,
    /// Shows each change of the keys, and of the leases' ends.
    changed: watch::Receiver<()>,
    prefix: String,
    /// The next revision to be told.
    revision: i64,
}

impl Store for MemoryStore {
    type Watching = MemoryWatch;

    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> Limits {
        Limits {
            operations: usize::MAX,
            ttl: 1..=u32::MAX,
        }
    }

    fn limit_calls(&mut self, _limit: Duration) {}

    fn in_step(&self, is_proven: bool) {
        let patience = if is_proven { Duration::ZERO } else { UNPROVEN };
        let from = Instant::now() + patience;
        self.listed_from.send_if_modified(|known| {
            let is_sooner = known.is_none_or(|known| from < known);
            if is_sooner {
                *known = Some(from);
            }
            is_sooner
        });
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        Ok(self.shared.call(|memory, _| memory.leases()))
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        Ok(self.shared.call(|memory, now| memory.lookup(lease, now)))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        Ok(self.shared.call(|memory, now| memory.renew(leases, now)))
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        Ok(self.shared.call(|memory, now| memory.grant(leases, now)))
    }

    async fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        let grant = |memory: &mut Memory, now| memory.grant_new(lease, ttl, now);
        Ok(self.shared.call(grant))
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        Ok(self.shared.call(|memory, _| memory.read(keys)))
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        Ok(self.shared.call(|memory, _| memory.leased_in(directories)))
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        self.shared.call(|memory, _| memory.transact(transaction))
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.call(|memory, _| memory.revoke(lease));
        Ok(())
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.shared.call(|memory, _| memory.get(key)))
    }

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        let mut listed_from = self.listed_from.subscribe();
        loop {
            let from = *listed_from.borrow_and_update();
            if from.is_some_and(|from| from <= Instant::now()) {
                return Ok(self.shared.call(|memory, _| memory.scan(prefix)));
            }
            tokio::select! {
                _ = listed_from.changed() => {}
                () = until(from) => {}
            }
        }
    }

    async fn watch(&mut self, prefix: &str, revision: i64) -> Result<MemoryWatch, StoreError> {
        Ok(MemoryWatch {
            changed: self.shared.subscribe(),
            shared: Arc::clone(&self.shared),
            prefix: prefix.to_owned(),
            revision,
        })
    }
}

impl Watching for MemoryWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            self.changed.mark_unchanged();
            match self.shared.tell(&self.prefix, &mut self.revision) {
                Told::Changes(changes) => return Ok(changes),
                Told::TooLate => {
                    return Err(StoreError::Failed(anyhow!(
                        "the watch is too far behind {NAME}: the keys are listed again"
                    )));
                }
                Told::Nothing { first_end } => tokio::select! {
                    _ = self.changed.changed() => {}
                    // Nobody else may notice the end of a lease.
                    () = until(first_end) => {}
                },
            }
        }
    }

    fn heard_at(&self) -> Instant {
        Instant::now()
    }
}

/// Waits until a time; for ever without one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
