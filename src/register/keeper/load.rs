//! Reads back the registrar's keys from the store, and renews their leases.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Keeper, Knowledge, REMINDER};
use crate::base::key::{Key, directory};
use crate::base::text::quote;
use crate::register::plan::Surprises;
use crate::register::timetable::{is_abandoned, lifetime};
use crate::store::{Found, LeaseId, Store, StoreError};

/// The number of keys that are read before another look at the newest wanted state.
const READ_AT_ONCE: usize = 1024;
/// The most reads in a row that may fail because a lease ended meanwhile.
const MAX_LOADS: usize = 3;

impl<S: Store> Keeper<S> {
    /// Reads all keys that are wanted, unproven, or on our own leases, and renews their leases.
    ///
    /// At a renewal the view of the store is whole, so small changes go on meanwhile.
    pub(super) async fn load(&mut self) -> Result<(), StoreError> {
        self.plan.end_read();
        if self.knowledge == Knowledge::Whole {
            self.plan.begin_read();
        }
        self.forget();
        for _ in 0..MAX_LOADS {
            let read = self.read_and_renew().await;
            self.plan.end_read();
            if read? {
                self.knowledge = Knowledge::Whole;
                return Ok(());
            }
            warn!("a lease expired or was revoked: its keys are put again");
        }
        Err(StoreError::Failed(anyhow!(
            "leases in {} end faster than they can be renewed",
            self.store.name()
        )))
    }

    /// Returns false if a lease ended in between, because the keys that were read may be gone by then.
    async fn read_and_renew(&mut self) -> Result<bool, StoreError> {
        let start = Instant::now();
        // A read of many keys takes long, so the known leases are renewed before it.
        let kept = self.leases.renewed();
        let until = self.leases.now().until;
        // The leases need no renewal if they outlive this process.
        let mut alive = if until.is_some_and(|until| self.ends_by.is_some_and(|end| end < until)) {
            kept.iter().map(|lease| (*lease, lease.ttl())).collect()
        } else {
            self.renew(&kept).await?
        };
        if let Some(shortest) = alive.values().min()
            && alive.len() == kept.len()
            && self.ends_by.is_none()
        {
            self.leases.prolong(kept.len(), start + lifetime(*shortest));
        }
        let (owned, on_owned) = self.own_leases().await?;
        let wanted = self.plan.wanted_keys().chain(self.plan.unproven_keys());
        let keys: BTreeSet<Key> = wanted.cloned().chain(on_owned).collect();
        let mut found = self.read(keys).await?;
        let siblings = self.shared_siblings(&found).await?;
        found.extend(siblings);

        let shared = found.iter().filter_map(|found| {
            let lease = found
                .lease()
                .filter(|lease| lease.is_shared_for(&found.key))?;
            Some((&found.key, lease))
        });
        let longest = owned.iter().map(|lease| lease.ttl()).max().unwrap_or(0);
        let (tended, others): (Vec<_>, Vec<_>) =
            shared.partition(|(key, lease)| self.plan.tends(key, *lease, longest));
        let in_use: BTreeSet<LeaseId> = tended
            .iter()
            .map(|(_, lease)| *lease)
            .chain(owned)
            .collect();
        // Late renewal keeps these alive too, because they would expire while a script hangs.
        let needed = others
            .iter()
            .filter(|(key, _)| self.plan.wants_shared(key))
            .map(|(_, lease)| *lease)
            .collect::<Vec<_>>();
        let others: BTreeSet<LeaseId> = others.into_iter().map(|(_, lease)| lease).collect();
        let new: Vec<LeaseId> = in_use
            .iter()
            .copied()
            .filter(|lease| !alive.contains_key(lease))
            .collect();
        alive.extend(self.renew(&new).await?);
        alive.retain(|lease, _| in_use.contains(lease));
        let lost = |lease: LeaseId| in_use.contains(&lease) && !alive.contains_key(&lease);
        if found.iter().filter_map(Found::lease).any(lost) {
            return Ok(false);
        }
        let abandoned = self.abandoned(&others).await?;
        // Those that small changes have needed meanwhile.
        let granted = self.leases.renewed().into_iter();
        let granted = granted.filter(|lease| kept.binary_search(lease).is_err());
        alive.extend(granted.map(|lease| (lease, lease.ttl())));
        let wanted = self.plan.entries().map(|(entry, _)| entry.ttl);
        let looked_at = others.iter().map(|lease| lease.ttl());
        let ttls = alive.values().copied().chain(wanted).chain(looked_at);
        let shortest = ttls.min().unwrap_or(self.ttl).min(self.ttl);
        let until = alive.values().min().map(|ttl| start + lifetime(*ttl));
        let guarded = needed.into_iter().collect();
        self.leases
            .replace(alive.into_keys().collect(), guarded, until);
        let surprises = self.plan.learn(found);
        self.plan.set_abandoned(abandoned);
        self.tell(&surprises);
        self.schedule(start, shortest);
        Ok(true)
    }

    /// The shared keys beside owned keys that will be deleted. They are kept alive until both can be deleted together.
    async fn shared_siblings(&mut self, found: &[Found]) -> Result<Vec<Found>, StoreError> {
        let is_unwanted = |found: &&Found| {
            let is_own = found.lease().is_some_and(|lease| self.identity.owns(lease));
            is_own && !self.plan.wants(&found.key)
        };
        let directories: BTreeSet<Arc<str>> = found
            .iter()
            .filter(is_unwanted)
            .map(|found| directory(&found.key).into())
            .collect();
        let mut keys = BTreeSet::new();
        for some in Vec::from_iter(directories).chunks(READ_AT_ONCE) {
            let leased = self.store.leased_in(some).await?.into_iter();
            let ours = leased.filter(|(key, lease)| lease.is_shared_for(key));
            keys.extend(ours.map(|(key, _)| key).filter(|key| !self.plan.wants(key)));
            self.attend().await?;
        }
        self.read(keys).await
    }

    async fn read(&mut self, keys: BTreeSet<Key>) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        for some in Vec::from_iter(keys).chunks(READ_AT_ONCE) {
            found.extend(self.store.read(some).await?);
            self.attend().await?;
        }
        Ok(found)
    }

    /// The shared leases among these that nobody renews any more.
    async fn abandoned(
        &mut self,
        leases: &BTreeSet<LeaseId>,
    ) -> Result<BTreeSet<LeaseId>, StoreError> {
        let mut abandoned = BTreeSet::new();
        for lease in leases {
            let found = self.store.lookup(*lease).await?;
            if found.is_some_and(|found| is_abandoned(*lease, found.remaining)) {
                abandoned.insert(*lease);
            }
            self.attend().await?;
        }
        // Renewed once more, because they would take their keys with them if the store refuses to move the keys.
        self.store.renew(&Vec::from_iter(abandoned.clone())).await?;
        Ok(abandoned)
    }

    /// Logs how the keys in the store differ from the state in which this process left them.
    fn tell(&mut self, surprises: &Surprises) {
        if self.knowledge == Knowledge::Unread {
            return;
        }
        let store = self.store.name();
        match &surprises.missing[..] {
            [] => {}
            [key] => warn!(
                "a key was missing in {store} and is put again: {}",
                quote(key)
            ),
            [key, ..] => warn!(
                "{} keys were missing in {store} and are put again, such as {}",
                surprises.missing.len(),
                quote(key)
            ),
        }
        let now = Instant::now();
        if let Some(key) = surprises.strange.first()
            && self
                .strangers_logged_at
                .is_none_or(|said| now >= said + REMINDER)
        {
            warn!(
                "another process writes on this registrar's lease: it put {}, which is not wanted here and is deleted; \
                 a second registrar of this Docker daemon and --instance is running: stop it, or give it an --instance \
                 of its own",
                quote(key)
            );
            self.strangers_logged_at = Some(now);
        }
    }

    /// Our own leases that are in use, and the keys on them.
    async fn own_leases(&mut self) -> Result<(Vec<LeaseId>, Vec<Key>), StoreError> {
        let ttls = self
            .plan
            .entries()
            .filter(|(entry, _)| !entry.shared)
            .map(|(entry, _)| entry.ttl);
        let wanted: BTreeSet<LeaseId> = ttls.map(|ttl| self.identity.lease(ttl)).collect();
        let mut candidates = BTreeSet::from_iter(self.leases.own(self.identity));
        candidates.extend(&wanted);
        if self.knowledge == Knowledge::Unread {
            // The keys of an earlier process may have had other TTLs.
            let all = match self.store.leases().await {
                Ok(all) => all,
                Err(StoreError::Refused(error)) => {
                    debug!("cannot look for leases of an earlier process: {error:#}");
                    vec![self.identity.lease(self.ttl)]
                }
                Err(error) => return Err(error),
            };
            candidates.extend(all.into_iter().filter(|lease| self.identity.owns(*lease)));
        }
        let (mut in_use, mut keys, mut until) = (Vec::new(), Vec::new(), None);
        for lease in candidates {
            let asked = Instant::now();
            let Some(found) = self.store.lookup(lease).await? else {
                continue;
            };
            // Without any wanted key the lease is kept too, because the next container needs it.
            if wanted.is_empty() || wanted.contains(&lease) || !found.keys.is_empty() {
                in_use.push(lease);
                keys.extend(found.keys);
                until = until
                    .into_iter()
                    .chain([asked + lifetime(found.remaining)])
                    .min();
            }
        }
        if self.knowledge == Knowledge::Unread && self.leases.renewed().is_empty() {
            self.leases.guard(&in_use, until);
        }
        Ok((in_use, keys))
    }
}
