//! The state of a store in memory, with etcd's semantics. It reads no clock: callers pass the time.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::key::Key;
use crate::store::{
    Change, Changes, Found, Lease, LeaseId, Listing, On, Outcome, Step, StoreError, Sweep,
    Transaction,
};

/// Keys, and the leases that they are on.
#[derive(Debug, Default)]
pub struct Memory {
    keys: BTreeMap<Key, Found>,
    leases: BTreeMap<LeaseId, Life>,
    /// The number of transactions that have changed something.
    revision: i64,
    /// The raft term.
    term: u64,
    /// The changes since the last `take_log`.
    log: Vec<Changes>,
}

/// The end of a lease.
#[derive(Debug, Clone, Copy)]
struct Life {
    ends: Instant,
    /// In seconds.
    ttl: u32,
}

impl Life {
    fn new(ttl: u32, now: Instant) -> Self {
        let ends = now + Duration::from_secs(ttl.into());
        Self { ends, ttl }
    }

    /// In seconds, rounded down.
    fn remaining(self, now: Instant) -> u32 {
        let remaining = self.ends.saturating_duration_since(now).as_secs();
        u32::try_from(remaining).unwrap_or(u32::MAX)
    }
}

impl Changes {
    /// The changes of keys that begin with `prefix`; none if there are none.
    pub fn below(&self, prefix: &str) -> Option<Self> {
        let is_below = |change: &&Change| match change {
            Change::Put(found) => found.key.starts_with(prefix),
            Change::Delete(key) => key.starts_with(prefix),
        };
        let changes: Vec<Change> = self.changes.iter().filter(is_below).cloned().collect();
        let revision = self.revision;
        (!changes.is_empty()).then_some(Self { revision, changes })
    }
}

impl Memory {
    /// The changes since this was last called, each revision by itself.
    pub fn take_log(&mut self) -> Vec<Changes> {
        mem::take(&mut self.log)
    }

    pub fn leases(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    pub fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    pub fn lookup(&self, lease: LeaseId, now: Instant) -> Option<Lease> {
        let life = self.leases.get(&lease)?;
        Some(Lease {
            keys: self.keys_on(lease),
            granted: life.ttl,
            remaining: life.remaining(now),
            term: self.term,
        })
    }

    pub fn renew(&mut self, leases: &[LeaseId], now: Instant) -> BTreeMap<LeaseId, u32> {
        let mut renewed = BTreeMap::new();
        for lease in leases {
            if let Some(life) = self.leases.get_mut(lease) {
                *life = Life::new(life.ttl, now);
                renewed.insert(*lease, life.ttl);
            }
        }
        renewed
    }

    pub fn grant(&mut self, leases: &[LeaseId], now: Instant) -> BTreeMap<LeaseId, u32> {
        for lease in leases {
            self.grant_new(*lease, lease.ttl(), now);
        }
        self.renew(leases, now)
    }

    pub fn grant_new(&mut self, lease: LeaseId, ttl: u32, now: Instant) -> bool {
        if self.has_lease(lease) {
            return false;
        }
        self.leases.insert(lease, Life::new(ttl, now));
        true
    }

    pub fn read(&self, keys: &[Key]) -> Vec<Found> {
        let found = keys.iter().filter_map(|key| self.keys.get(key));
        found.cloned().collect()
    }

    pub fn get(&self, key: &str) -> Option<String> {
        self.keys.get(key).map(|found| found.value.to_string())
    }

    pub fn scan(&self, prefix: &str) -> Listing {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let found = self.keys.range::<str, _>(from).map(|(_, found)| found);
        let found = found.take_while(|found| found.key.starts_with(prefix));
        Listing {
            keys: found.cloned().collect(),
            revision: self.revision,
        }
    }

    pub fn leased_in(&self, directories: &[Arc<str>]) -> Vec<(Key, LeaseId)> {
        let leased = |found: &Found| {
            let is_inside = |directory: &Arc<str>| found.key.starts_with(&**directory);
            let lease = found
                .lease()
                .filter(|_| directories.iter().any(is_inside))?;
            Some((Arc::clone(&found.key), lease))
        };
        self.keys.values().filter_map(leased).collect()
    }

    pub fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let Transaction { guards, steps } = transaction;
        if !guards.iter().all(|guard| guard.holds(&self.keys)) {
            return Ok(Outcome::GuardFailed);
        }
        let is_lost =
            |step: &Step| matches!(step, Step::Put(_, _, lease) if !self.has_lease(*lease));
        if steps.iter().any(is_lost) {
            return Err(StoreError::LeaseLost);
        }
        let (mut changes, mut swept) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Put(key, value, lease) => {
                    changes.push(self.put_change(key, value, On::Lease(*lease)));
                }
                Step::Delete(key) => changes.push(Change::Delete(Arc::clone(key))),
                // Nothing is changed yet, so this looks at the store as it was before the transaction.
                Step::Sweep(sweep) if sweep.holds(&self.keys) => {
                    let Sweep { keys, .. } = sweep;
                    swept.extend(keys.iter().map(|(key, _)| Arc::clone(key)));
                    let deletes = keys.iter().map(|(key, _)| Change::Delete(Arc::clone(key)));
                    changes.extend(deletes);
                }
                Step::Sweep(_) => {}
            }
        }
        self.commit(changes);
        Ok(Outcome::Done { swept })
    }

    /// The leases that have ended by now, in the order of their ends, with those.
    pub fn over(&self, now: Instant) -> Vec<(Instant, LeaseId)> {
        let over = self.leases.iter().filter(|(_, life)| life.ends <= now);
        let mut over: Vec<_> = over.map(|(lease, life)| (life.ends, *lease)).collect();
        over.sort();
        over
    }

    /// The end of the first lease, unless it is renewed.
    pub fn first_end(&self) -> Option<Instant> {
        self.leases.values().map(|life| life.ends).min()
    }

    /// Elects a new leader, which gives every lease its whole TTL.
    pub fn elect(&mut self, now: Instant) {
        self.term += 1;
        for life in self.leases.values_mut() {
            *life = Life::new(life.ttl, now);
        }
    }

    pub fn revoke(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let keys = self.keys_on(lease).into_iter();
        self.commit(keys.map(Change::Delete).collect());
    }

    fn keys_on(&self, lease: LeaseId) -> Vec<Key> {
        let on_lease = |found: &&Found| found.lease() == Some(lease);
        let found = self.keys.values().filter(on_lease);
        found.map(|found| Arc::clone(&found.key)).collect()
    }

    fn put_change(&self, key: &Key, value: &Arc<str>, on: On) -> Change {
        let revision = self.revision + 1;
        Change::Put(Found {
            key: Arc::clone(key),
            value: Arc::clone(value),
            on,
            created: self.keys.get(key).map_or(revision, |found| found.created),
            revision,
        })
    }

    /// Makes changes at a new revision. If nothing changes, there is no new revision.
    fn commit(&mut self, mut changes: Vec<Change>) {
        changes.retain(|change| match change {
            Change::Put(found) => {
                self.keys.insert(Arc::clone(&found.key), found.clone());
                true
            }
            Change::Delete(key) => self.keys.remove(key).is_some(),
        });
        if !changes.is_empty() {
            self.revision += 1;
            let revision = self.revision;
            self.log.push(Changes { revision, changes });
        }
    }
}

/// Changes from outside, for `model`.
#[cfg(test)]
impl Memory {
    pub fn keys(&self) -> &BTreeMap<Key, Found> {
        &self.keys
    }

    /// Ends the expired leases, each at its own revision. The last to expire comes first, because etcd promises no
    /// order.
    pub fn expire(&mut self, now: Instant) {
        for (_, lease) in self.over(now).into_iter().rev() {
            self.revoke(lease);
        }
    }

    /// Puts a key by hand.
    pub fn put(&mut self, key: &Key, value: &str, lease: Option<LeaseId>) {
        let change = self.put_change(key, &value.into(), lease.into());
        self.commit(vec![change]);
    }

    /// Deletes a key by hand.
    pub fn delete(&mut self, key: &str) {
        self.commit(vec![Change::Delete(key.into())]);
    }
}
