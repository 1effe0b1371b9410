//! Reading back what the store has of ours, and renewing what keeps it alive.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Keeper, lifetime};
use crate::entry::{Key, directory};
use crate::status::Held;
use crate::store::{Found, LeaseId, Store, StoreError};

/// How often in a row a lease may end while its keys are read.
const MAX_LOADS: usize = 3;

impl<S: Store> Keeper<S> {
    /// Reads all keys that are wanted or on our own leases, and renews what keeps them alive.
    pub(super) async fn load(&mut self) -> Result<(), StoreError> {
        self.loaded = false;
        for _ in 0..MAX_LOADS {
            if self.read_and_renew().await? {
                self.loaded = true;
                return Ok(());
            }
            warn!("a lease expired or was revoked: what was on it is put again");
        }
        Err(StoreError::Failed(anyhow!(
            "leases in etcd end faster than they can be renewed"
        )))
    }

    /// Returns false if a lease ended in between, so that what was read is not true any more.
    async fn read_and_renew(&mut self) -> Result<bool, StoreError> {
        let start = Instant::now();
        // Reading takes the longer the more there is, and what we keep must not end meanwhile.
        let kept: Vec<LeaseId> = self.leases.iter().copied().collect();
        let mut alive = self.renew(&kept).await?;
        let (owned, on_owned) = self.own_leases().await?;
        let keys: BTreeSet<Key> = self.plan.wanted_keys().cloned().chain(on_owned).collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut found = self.store.read(&keys).await?;
        // What goes says where shared keys may be that go with it; those too live until it has gone.
        let directories: BTreeSet<Arc<str>> = found
            .iter()
            .filter(|found| found.lease.is_some_and(|lease| self.identity.owns(lease)))
            .filter(|found| !self.plan.wants(&found.key))
            .map(|found| directory(&found.key).into())
            .collect();
        let directories: Vec<Arc<str>> = directories.into_iter().collect();
        let is_shared = |found: &Found| {
            found
                .lease
                .is_some_and(|lease| lease.is_shared_for(&found.key))
        };
        let siblings = self.store.list(&directories).await?;
        found.extend(
            siblings
                .into_iter()
                .filter(|found| is_shared(found) && !self.plan.wants(&found.key)),
        );

        let shared = found.iter().filter(|found| is_shared(found));
        let in_use: BTreeSet<LeaseId> = shared
            .filter_map(|found| found.lease)
            .chain(owned)
            .collect();
        let new: Vec<LeaseId> = in_use
            .iter()
            .copied()
            .filter(|lease| !alive.contains_key(lease))
            .collect();
        alive.extend(self.renew(&new).await?);
        alive.retain(|lease, _| in_use.contains(lease));
        let lost = |lease: LeaseId| in_use.contains(&lease) && !alive.contains_key(&lease);
        if found.iter().filter_map(|found| found.lease).any(lost) {
            return Ok(false);
        }
        let wanted = self.plan.entries().map(|(entry, _)| entry.ttl);
        let ttls = alive.values().copied().chain(wanted);
        let shortest = ttls.min().unwrap_or(self.ttl).min(self.ttl);
        let until = alive.values().min().map(|ttl| start + lifetime(*ttl));
        self.leases = alive.into_keys().collect();
        let leases = self.leases.clone();
        self.status.held.send_modify(|held| {
            let seat = held.seat;
            *held = Held {
                leases,
                seat,
                until,
            };
        });
        self.plan.learn(found);
        self.schedule(start, shortest);
        Ok(true)
    }

    /// Our own leases that are in use, and the keys on them.
    async fn own_leases(&mut self) -> Result<(Vec<LeaseId>, Vec<Key>), StoreError> {
        let ttls = self
            .plan
            .entries()
            .filter(|(entry, _)| !entry.shared)
            .map(|(entry, _)| entry.ttl);
        let wanted: BTreeSet<LeaseId> = ttls.map(|ttl| self.identity.lease(ttl)).collect();
        let mut candidates: BTreeSet<LeaseId> = self
            .leases
            .iter()
            .copied()
            .filter(|lease| self.identity.owns(*lease))
            .collect();
        candidates.extend(&wanted);
        if !self.adopted {
            // An earlier process may have had other TTLs.
            let all = match self.store.leases().await {
                Ok(all) => all,
                Err(StoreError::Refused(error)) => {
                    debug!("cannot look for leases of an earlier process: {error:#}");
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            candidates.extend(all.into_iter().filter(|lease| self.identity.owns(*lease)));
        }
        let (mut in_use, mut keys) = (Vec::new(), Vec::new());
        for lease in candidates {
            let Some(found) = self.store.lookup(lease).await? else {
                continue;
            };
            // The last one is kept for the next container that comes.
            if wanted.is_empty() || wanted.contains(&lease) || !found.keys.is_empty() {
                in_use.push(lease);
                keys.extend(found.keys);
            }
        }
        self.adopted = true;
        Ok((in_use, keys))
    }
}
