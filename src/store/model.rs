//! etcd in memory, for tests that no real one could run by the thousand: leases that expire, revisions, guards, and
//! calls that fail before or after they had their effect. It stands in for etcd's semantics, which the live tests
//! check against the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use super::{Found, Guard, Lease, LeaseId, Outcome, Step, Store, StoreError, Transaction};
use crate::base::key::Key;

/// What somebody does to the store behind the registrars' backs.
type Meddle = Box<dyn FnOnce(&mut Model) + Send>;

/// What several registrars share.
#[derive(Default)]
pub struct Model {
    /// The keys.
    pub keys: BTreeMap<Key, Found>,
    /// When each lease expires, and its TTL.
    pub leases: BTreeMap<LeaseId, (Instant, Duration)>,
    /// The raft term.
    pub term: u64,
    /// The keys and values at every revision.
    pub history: Vec<BTreeMap<Key, Arc<str>>>,
    /// The keys and values before and after each transaction that changed something, until somebody takes them.
    pub transactions: Vec<[BTreeMap<Key, Arc<str>>; 2]>,
    /// What it takes no puts of.
    pub refuses: Refuses,
    /// What happens right after the next transaction that is refused, before anybody asks why it was.
    pub after_refusal: Option<Meddle>,
}

/// Puts that a store does not take. It deletes all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refuses {
    /// None.
    #[default]
    Nothing,
    /// Keys below this, for which the role has no right.
    Below(&'static str),
    /// All, and new leases too, because there is no space.
    Everything,
}

impl Refuses {
    fn put(self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Below(prefix) => key.starts_with(prefix),
            Self::Everything => true,
        }
    }

    fn lease(self) -> Result<(), StoreError> {
        if self == Self::Everything {
            return Err(StoreError::Refused(anyhow!("no space")));
        }
        Ok(())
    }
}

/// One registrar's connection.
#[derive(Clone, Default)]
pub struct ModelStore {
    model: Arc<Mutex<Model>>,
    /// How many calls go well before one fails, and whether that one has its effect.
    fault: Option<(usize, bool)>,
}

impl Model {
    /// Lets time pass to now: leases that are over end, each at a revision of its own, the last to expire first, for
    /// etcd promises no order.
    pub fn expire(&mut self) {
        let now = Instant::now();
        let mut over: Vec<(Instant, LeaseId)> = self
            .leases
            .iter()
            .filter(|(_, (deadline, _))| *deadline <= now)
            .map(|(lease, (deadline, _))| (*deadline, *lease))
            .collect();
        over.sort();
        for (_, lease) in over.into_iter().rev() {
            self.end(lease);
        }
    }

    /// Ends a lease with all its keys.
    pub fn end(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        self.keys.retain(|_, found| found.lease != Some(lease));
        self.commit();
    }

    /// Elects a new leader, for which every lease has its whole TTL before it.
    pub fn elect(&mut self) {
        self.term += 1;
        for (deadline, ttl) in self.leases.values_mut() {
            *deadline = Instant::now() + *ttl;
        }
    }

    /// Deletes a key, as somebody by hand would.
    pub fn delete(&mut self, key: &str) {
        self.keys.remove(key);
        self.commit();
    }

    /// Puts a key, as somebody by hand would.
    pub fn put(&mut self, key: &Key, value: &str, lease: Option<LeaseId>) {
        let revision = self.revision() + 1;
        let (key, value) = (Arc::clone(key), value.into());
        self.keys.insert(
            Arc::clone(&key),
            Found {
                key,
                value,
                lease,
                revision,
            },
        );
        self.commit();
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.history.len()).expect("fewer revisions than that")
    }

    fn commit(&mut self) {
        let state = |found: &Found| (Arc::clone(&found.key), Arc::clone(&found.value));
        self.history.push(self.keys.values().map(state).collect());
    }

    fn holds(&self, guard: &Guard) -> bool {
        let found = self.keys.get(guard.key());
        match guard {
            Guard::Missing(_) => found.is_none(),
            Guard::OnLease(_, lease) => found.is_some_and(|found| found.lease == Some(*lease)),
            Guard::Unchanged(_, revision) => found.is_some_and(|found| found.revision == *revision),
        }
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let steps = transaction.steps.len();
        let nested = transaction
            .steps
            .iter()
            .map(Step::nested_size)
            .max()
            .unwrap_or(0);
        assert!(transaction.guards.len().max(steps) + nested <= ModelStore::MAX_OPERATIONS);
        let written: Vec<&Key> = transaction
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Put(key, ..) | Step::Delete(key) => Some(key),
                Step::Sweep { .. } => None,
            })
            .collect();
        let distinct: BTreeSet<&Key> = written.iter().copied().collect();
        assert_eq!(
            written.len(),
            distinct.len(),
            "etcd refuses a key that is written twice"
        );
        // etcd looks at its space and at the user's rights before it looks at the guards.
        let is_refused = |step: &Step| matches!(step, Step::Put(key, ..) if self.refuses.put(key));
        if transaction.steps.iter().any(is_refused) {
            return Err(StoreError::Refused(anyhow!("not that key")));
        }
        if !transaction.guards.iter().all(|guard| self.holds(guard)) {
            if let Some(meddle) = self.after_refusal.take() {
                meddle(self);
            }
            return Ok(Outcome::Refused);
        }
        // etcd evaluates nested guards on the state before the transaction too.
        let before = self.keys.clone();
        let revision = self.revision() + 1;
        let (mut after, mut swept) = (before.clone(), Vec::new());
        for step in &transaction.steps {
            match step {
                Step::Put(key, value, lease) => {
                    if !self.leases.contains_key(lease) {
                        return Err(StoreError::LeaseLost);
                    }
                    let (key, value) = (Arc::clone(key), Arc::clone(value));
                    let found = Found {
                        key: Arc::clone(&key),
                        value,
                        lease: Some(*lease),
                        revision,
                    };
                    after.insert(key, found);
                }
                Step::Delete(key) => drop(after.remove(key)),
                Step::Sweep {
                    expected,
                    directory,
                    sweep,
                } => {
                    let mut inside = before.keys().filter(|key| key.starts_with(&**directory));
                    let on_lease = |(key, lease): &(Key, LeaseId)| {
                        before
                            .get(key)
                            .is_some_and(|found| found.lease == Some(*lease))
                    };
                    if inside.all(|key| expected.contains(key)) && sweep.iter().all(on_lease) {
                        for (key, _) in sweep {
                            after.remove(key);
                            swept.push(Arc::clone(key));
                        }
                    }
                }
            }
        }
        if after != before {
            self.keys = after;
            self.commit();
            let states = [&before, &self.keys].map(|keys| {
                let state = |found: &Found| (Arc::clone(&found.key), Arc::clone(&found.value));
                keys.values().map(state).collect()
            });
            self.transactions.push(states);
        }
        Ok(Outcome::Done { swept })
    }
}

impl ModelStore {
    /// Another connection to the same etcd.
    pub fn connect(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            fault: None,
        }
    }

    /// The etcd itself.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("no test panicked with it")
    }

    /// Makes one of the next calls fail, with its effect or without.
    pub fn fail(&mut self, after: usize, with_effect: bool) {
        self.fault = Some((after, with_effect));
    }

    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Model) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut model = self.model.lock().expect("no test panicked with it");
        model.expire();
        let failed = || Err(StoreError::Failed(anyhow!("no answer")));
        match &mut self.fault {
            Some((0, with_effect)) => {
                if *with_effect {
                    let _ = call(&mut model);
                }
                self.fault = None;
                failed()
            }
            Some((after, _)) => {
                *after -= 1;
                call(&mut model)
            }
            None => call(&mut model),
        }
    }
}

impl Store for ModelStore {
    // Smaller than etcd's, so that few keys make several transactions.
    const MAX_OPERATIONS: usize = 12;

    fn pace(&mut self, _ttl: u32) {}

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        self.call(|model| Ok(model.leases.keys().copied().collect()))
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.call(|model| {
            let on_lease = model
                .keys
                .values()
                .filter(|found| found.lease == Some(lease));
            let keys = on_lease.map(|found| Arc::clone(&found.key)).collect();
            let term = model.term;
            Ok(model.leases.get(&lease).map(|(deadline, _)| Lease {
                keys,
                remaining: u32::try_from((*deadline - Instant::now()).as_secs()).expect("a TTL"),
                term,
            }))
        })
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.call(|model| {
            let mut renewed = BTreeMap::new();
            for lease in leases {
                if let Some((deadline, ttl)) = model.leases.get_mut(lease) {
                    *deadline = Instant::now() + *ttl;
                    renewed.insert(*lease, u32::try_from(ttl.as_secs()).expect("a TTL"));
                }
            }
            Ok(renewed)
        })
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.call(|model| {
            let mut granted = BTreeMap::new();
            for lease in leases {
                if !model.leases.contains_key(lease) {
                    model.refuses.lease()?;
                }
                let ttl = Duration::from_secs(u64::from(lease.ttl()));
                model.leases.insert(*lease, (Instant::now() + ttl, ttl));
                granted.insert(*lease, lease.ttl());
            }
            Ok(granted)
        })
    }

    async fn claim(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        self.call(|model| {
            if model.leases.contains_key(&lease) {
                return Ok(false);
            }
            model.refuses.lease()?;
            let ttl = Duration::from_secs(u64::from(ttl));
            model.leases.insert(lease, (Instant::now() + ttl, ttl));
            Ok(true)
        })
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        self.call(|model| {
            Ok(keys
                .iter()
                .filter_map(|key| model.keys.get(key).cloned())
                .collect())
        })
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        self.call(|model| {
            let leased = |found: &Found| {
                let inside = |directory: &Arc<str>| found.key.starts_with(&**directory);
                let lease = found.lease.filter(|_| directories.iter().any(inside))?;
                Some((Arc::clone(&found.key), lease))
            };
            Ok(model.keys.values().filter_map(leased).collect())
        })
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        self.call(|model| model.transact(transaction))
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(|model| {
            model.end(lease);
            Ok(())
        })
    }
}
