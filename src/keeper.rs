//! The one task that owns the store: it brings it to the newest wanted state, and keeps the leases alive.
//!
//! Three rules keep this simple and safe:
//!
//! - After any error it forgets what it believes of the store and reads it again before it writes.
//! - Each renewal reads back what is there, so every drift is mended by the same path as a change.
//! - Shared leases are renewed before owned ones and live two seconds longer, so that when a registrar dies its
//!   owned keys go before the shared keys that describe them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::entry::{Key, TTL, directory};
use crate::plan::{Batch, Plan, Wanted};
use crate::store::{Identity, LeaseId, Outcome, Step, Store, StoreError};
use crate::trouble::Trouble;

/// How many seconds longer a shared lease lives than the owned ones. etcd looks for expired leases twice a second and
/// revokes those it finds in no order, so a second and a half is the least that keeps the order.
const SHARED_MARGIN: u32 = 2;
/// How often a plan may be refused in a row before it is taken for a failure.
const MAX_ROUNDS: usize = 20;
/// How long the keys' removal at exit may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// What becomes of the keys when the registrar ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// They stay for their TTL, so that a registrar can be upgraded without an outage.
    Leave,
    /// They are removed before it ends.
    Remove,
}

/// Keeps `store` in step with what is `wanted` until `shutdown` is over.
pub async fn keep<S: Store>(
    store: S,
    identity: Identity,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    on_exit: OnExit,
    shutdown: impl Future<Output = ()>,
) {
    let mut keeper = Keeper::new(store, identity);
    tokio::select! {
        () = keeper.run(wanted) => {}
        () = shutdown => {}
    }
    match on_exit {
        OnExit::Leave => info!("ending; the keys stay until their TTL"),
        OnExit::Remove => keeper.remove_all().await,
    }
}

/// How long after a renewal the next is due: a third of the TTL, which is in seconds.
fn renewal(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl)) / 3
}

struct Keeper<S> {
    store: S,
    identity: Identity,
    plan: Plan,
    /// The leases that we keep alive, with the TTL that we ask for, in seconds.
    leases: BTreeMap<LeaseId, u32>,
    /// Whether the plan knows what the store has.
    loaded: bool,
    renew_at: Instant,
    trouble: Trouble,
}

impl<S: Store> Keeper<S> {
    fn new(store: S, identity: Identity) -> Self {
        Self {
            store,
            identity,
            plan: Plan::new(identity),
            leases: BTreeMap::new(),
            loaded: false,
            renew_at: Instant::now(),
            trouble: Trouble::new("etcd", "keys in etcd stay until their TTL"),
        }
    }

    /// Returns when nobody can want anything any more.
    async fn run(&mut self, mut wanted: watch::Receiver<Option<Arc<Wanted>>>) {
        let mut in_step = false;
        loop {
            let newest = wanted.borrow_and_update().clone();
            let Some(newest) = newest else {
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.plan.want(&newest);
            match self.bring_in_step().await {
                Ok(()) => {
                    self.trouble.over();
                    if !in_step {
                        let (keys, containers) =
                            (self.plan.wanted_keys().count(), self.plan.container_count());
                        info!("in step with Docker: keys: {keys}, of containers: {containers}");
                        in_step = true;
                    }
                    tokio::select! {
                        changed = wanted.changed() => if changed.is_err() { return },
                        () = tokio::time::sleep_until(self.renew_at) => {}
                    }
                }
                Err(error) => {
                    self.loaded = false;
                    in_step = false;
                    let wait = self.trouble.with(error.to_string());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn bring_in_step(&mut self) -> Result<(), StoreError> {
        if !self.loaded || Instant::now() >= self.renew_at {
            self.load().await?;
        }
        for _ in 0..MAX_ROUNDS {
            let batches = self.plan.batches(S::MAX_OPERATIONS);
            for note in self.plan.notes() {
                warn!("{note}");
            }
            if batches.is_empty() {
                return Ok(());
            }
            for batch in batches {
                match self.carry_out(&batch).await {
                    Ok(true) => {}
                    // What was believed of the store was wrong: plan again with what it said.
                    Ok(false) => break,
                    Err(StoreError::LeaseLost) => {
                        debug!("a lease expired or was revoked: granting it again");
                        self.loaded = false;
                        self.load().await?;
                        break;
                    }
                    Err(error) => {
                        self.loaded = false;
                        return Err(error);
                    }
                }
            }
        }
        Err(StoreError::Failed(anyhow!(
            "etcd refused {MAX_ROUNDS} transactions in a row, because something else changes the same keys"
        )))
    }

    /// Renews all leases and reads all keys that are wanted or on our own leases.
    async fn load(&mut self) -> Result<(), StoreError> {
        let start = Instant::now();
        let mut shared: BTreeMap<LeaseId, u32> = BTreeMap::new();
        let mut owned: BTreeMap<LeaseId, u32> = BTreeMap::new();
        for (entry, _) in self.plan.entries() {
            if entry.shared {
                let ttl = shared.entry(LeaseId::shared(&entry.key)).or_default();
                *ttl = entry.ttl.max(*ttl);
            } else {
                owned.insert(self.identity.lease(entry.ttl), entry.ttl);
            }
        }
        // An owned lease is kept while it is in use, and the last one for the next container that comes.
        let held: BTreeSet<LeaseId> = self.plan.owned_leases().collect();
        for (lease, ttl) in &self.leases {
            if self.identity.owns(*lease) && (held.contains(lease) || owned.is_empty()) {
                owned.insert(*lease, *ttl);
            }
        }
        self.leases.clear();
        let shared_ttl = self.hold(&shared).await?;
        let owned_ttl = self.hold(&owned).await?;
        let mut keys: BTreeSet<Key> = self.plan.wanted_keys().cloned().collect();
        for lease in owned.keys() {
            keys.extend(self.store.keys(*lease).await?);
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut found = self.store.read(&keys).await?;
        // Keys of containers that went before this process began say where to look for shared ones that went with them.
        let directories: BTreeSet<Arc<str>> = found
            .iter()
            .filter(|found| found.lease.is_some_and(|lease| self.identity.owns(lease)))
            .filter(|found| !self.plan.wants(&found.key))
            .map(|found| directory(&found.key).into())
            .collect();
        let directories: Vec<Arc<str>> = directories.into_iter().collect();
        let siblings = self.store.list(&directories).await?;
        found.extend(
            siblings
                .into_iter()
                .filter(|found| found.lease == Some(LeaseId::shared(&found.key))),
        );
        self.plan.learn(found);
        self.renew_at = start + renewal(shared_ttl.min(owned_ttl));
        self.loaded = true;
        Ok(())
    }

    /// Makes leases live, and returns for how long all of them do, not counting the margin of shared ones.
    async fn hold(&mut self, leases: &BTreeMap<LeaseId, u32>) -> Result<u32, StoreError> {
        let with_margin: Vec<(LeaseId, u32)> = leases
            .iter()
            .map(|(lease, ttl)| {
                (
                    *lease,
                    if self.identity.owns(*lease) {
                        *ttl
                    } else {
                        ttl + SHARED_MARGIN
                    },
                )
            })
            .collect();
        let shortest = self.store.hold(&with_margin).await?.unwrap_or(*TTL.end());
        self.leases.extend(leases);
        let shared = leases.keys().any(|lease| !self.identity.owns(*lease));
        Ok(if shared {
            shortest.saturating_sub(SHARED_MARGIN).max(1)
        } else {
            shortest
        })
    }

    /// Returns whether the transaction was carried out; if not, the plan has learnt why.
    async fn carry_out(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        let mut new = batch.leases.clone();
        new.retain(|lease, _| !self.leases.contains_key(lease));
        if !new.is_empty() {
            let ttl = self.hold(&new).await?;
            self.renew_at = self.renew_at.min(Instant::now() + renewal(ttl));
        }
        let outcome = self.store.transact(&batch.transaction).await?;
        match outcome {
            Outcome::Refused(found) => {
                let keys = batch
                    .transaction
                    .guards
                    .iter()
                    .map(crate::store::Guard::key);
                self.plan.observe(keys, found);
                Ok(false)
            }
            Outcome::Done {
                ref existing,
                ref swept,
            } => {
                for (step, who) in batch.transaction.steps.iter().zip(&batch.owners) {
                    let container = who.as_ref().map_or("-", |who| &who.name);
                    match step {
                        Step::Ensure(key, ..) if existing.iter().any(|found| found.key == *key) => {
                        }
                        Step::Put(key, value, _) | Step::Ensure(key, value, _) => {
                            info!(container, key = %key, value = %value, "put");
                        }
                        Step::Delete(key) => info!(container, key = %key, "delete"),
                        Step::Sweep { .. } => {}
                    }
                }
                for key in swept {
                    info!(key = %key, "delete");
                }
                self.plan.done(batch, &outcome);
                Ok(true)
            }
        }
    }

    async fn remove_all(&mut self) {
        self.plan.want(&Wanted {
            claims: Vec::new(),
            unknown: Vec::new(),
        });
        let removal = async {
            self.bring_in_step().await?;
            let owned: Vec<LeaseId> = self
                .leases
                .keys()
                .copied()
                .filter(|lease| self.identity.owns(*lease))
                .collect();
            for lease in owned {
                self.store.revoke(lease).await?;
            }
            Ok::<(), StoreError>(())
        };
        match timeout(FAREWELL, removal).await {
            Ok(Ok(())) => info!("ending; the keys are removed"),
            Ok(Err(error)) => warn!("ending; the keys stay until their TTL, because {error}"),
            Err(_) => warn!(
                "ending; the keys stay until their TTL, because etcd did not answer within {} s",
                FAREWELL.as_secs()
            ),
        }
    }
}

#[cfg(test)]
mod tests;
