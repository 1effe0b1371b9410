//! A store in memory that stands in for etcd in tests, with faults, refusals and a history. Tests run thousands of
//! them, which is impossible with a real etcd. `conformance` runs on both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::time::Instant;

use super::memory::Memory;
use super::{
    Change, Changes, Found, Lease, LeaseId, Limits, Listing, Outcome, Step, Store, StoreError,
    Transaction, Watching,
};
use crate::base::key::Key;

/// Smaller than etcd's, so that few keys make several transactions.
const MAX_OPERATIONS: usize = 12;

/// A change from outside.
type Meddle = Box<dyn FnOnce(&mut Model) + Send>;

/// The keys of a store at one revision, with their values.
type Values = BTreeMap<Key, Arc<str>>;

/// The store itself, which several registrars share.
#[derive(Default)]
pub struct Model {
    memory: Memory,
    /// The values at every revision.
    pub history: Vec<Values>,
    /// The changes of every revision, for watches.
    changes: Vec<Changes>,
    /// The newest revision, for watches that wait.
    newest: watch::Sender<i64>,
    /// The values before and after each transaction that changed something. A test takes them out.
    pub transactions: Vec<[Values; 2]>,
    pub refuses: Refuses,
    /// Carried out right after the next refused transaction, before the registrar reads the keys again.
    pub after_guard_failed: Option<Meddle>,
    /// Carried out after this number of further transactions.
    pub after_transactions: Option<(usize, Meddle)>,
}

/// Puts that the store refuses. It takes all deletes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refuses {
    #[default]
    Nothing,
    /// Puts below this prefix, because the role has no right to them.
    Below(&'static str),
    /// All puts, and new leases, because there is no space.
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
}

/// One registrar's connection.
#[derive(Clone, Default)]
pub struct ModelStore {
    model: Arc<Mutex<Model>>,
    /// The number of calls before one fails, and whether that one has its effect.
    fault: Option<(usize, bool)>,
    /// The time that each transaction takes, and each renewal and read of any number of leases or keys.
    pub delay: Duration,
    pub read_delay: Duration,
}

impl Model {
    pub fn keys(&self) -> &BTreeMap<Key, Found> {
        self.memory.keys()
    }

    /// Ends the leases that have expired by now.
    pub fn expire(&mut self) {
        self.memory.expire(Instant::now());
        self.record();
    }

    /// Ends a lease with all its keys.
    pub fn end(&mut self, lease: LeaseId) {
        self.memory.revoke(lease);
        self.record();
    }

    /// Elects a new leader, which gives every lease its whole TTL.
    pub fn elect(&mut self) {
        self.memory.elect(Instant::now());
    }

    /// Deletes a key by hand.
    pub fn delete(&mut self, key: &str) {
        self.memory.delete(key);
        self.record();
    }

    /// Puts a key by hand.
    pub fn put(&mut self, key: &Key, value: &str, lease: Option<LeaseId>) {
        self.memory.put(key, value, lease);
        self.record();
    }

    fn values(&self) -> Values {
        self.history.last().cloned().unwrap_or_default()
    }

    /// Adds to the history. Returns whether anything has changed.
    fn record(&mut self) -> bool {
        let log = self.memory.take_log();
        for revision in &log {
            let mut values = self.values();
            for change in &revision.changes {
                match change {
                    Change::Put(found) => {
                        values.insert(Arc::clone(&found.key), Arc::clone(&found.value));
                    }
                    Change::Delete(key) => drop(values.remove(key)),
                }
            }
            self.history.push(values);
        }
        let Some(newest) = log.last() else {
            return false;
        };
        self.newest.send_replace(newest.revision);
        self.changes.extend(log);
        true
    }

    fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        if self.refuses == Refuses::Everything && !self.memory.has_lease(lease) {
            return Err(StoreError::Refused(anyhow!("no space")));
        }
        Ok(self.memory.grant_new(lease, ttl, Instant::now()))
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let outcome = self.carry_out(transaction);
        match self.after_transactions.take() {
            Some((0, meddle)) => meddle(self),
            Some((number, meddle)) => self.after_transactions = Some((number - 1, meddle)),
            None => {}
        }
        outcome
    }

    fn carry_out(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        assert!(transaction.size().operations() <= MAX_OPERATIONS);
        assert_writes_no_key_twice(transaction);
        // etcd looks at its space and at the user's rights before it looks at the guards.
        let is_refused = |step: &Step| matches!(step, Step::Put(key, ..) if self.refuses.put(key));
        if transaction.steps.iter().any(is_refused) {
            return Err(StoreError::Refused(anyhow!("not that key")));
        }
        let before = self.values();
        let outcome = self.memory.transact(transaction)?;
        if outcome == Outcome::GuardFailed
            && let Some(meddle) = self.after_guard_failed.take()
        {
            meddle(self);
        } else if self.record() {
            self.transactions.push([before, self.values()]);
        }
        Ok(outcome)
    }
}

fn assert_writes_no_key_twice(transaction: &Transaction) {
    let written = transaction.steps.iter().filter_map(|step| match step {
        Step::Put(key, ..) | Step::Delete(key) => Some(key),
        Step::Sweep(_) => None,
    });
    let written: Vec<&Key> = written.collect();
    let distinct: BTreeSet<&Key> = written.iter().copied().collect();
    assert_eq!(written.len(), distinct.len(), "etcd refuses {written:?}");
}

impl ModelStore {
    /// Another connection to the same store.
    pub fn connect(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            fault: None,
            delay: self.delay,
            read_delay: self.read_delay,
        }
    }

    /// The store itself.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("no test panicked with it")
    }

    /// Makes the call after the next `after` ones fail, with or without its effect.
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

/// A watch of a prefix. The end of an expired lease shows when a call notices it.
pub struct ModelWatch {
    model: Arc<Mutex<Model>>,
    newest: watch::Receiver<i64>,
    prefix: String,
    /// The next revision to be told.
    revision: i64,
}

impl ModelWatch {
    /// The next changes that are known.
    fn take(&mut self) -> Option<Changes> {
        let model = self.model.lock().expect("no test panicked with it");
        let first = model
            .changes
            .partition_point(|it| it.revision < self.revision);
        let mut later = model.changes[first..].iter();
        let told = later.find_map(|changes| changes.below(&self.prefix))?;
        self.revision = told.revision + 1;
        Some(told)
    }
}

impl Watching for ModelWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            self.newest.mark_unchanged();
            if let Some(changes) = self.take() {
                return Ok(changes);
            }
            let changed = self.newest.changed().await;
            changed.map_err(|_| StoreError::Failed(anyhow!("the model is gone")))?;
        }
    }

    fn heard_at(&self) -> Instant {
        Instant::now()
    }
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

impl Store for ModelStore {
    type Watching = ModelWatch;

    fn name(&self) -> &'static str {
        "etcd"
    }

    fn limits(&self) -> Limits {
        Limits {
            operations: MAX_OPERATIONS,
            ttl: 1..=u32::MAX,
        }
    }

    fn limit_calls(&mut self, _limit: Duration) {}

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        self.call(|model| Ok(model.memory.leases()))
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.call(|model| Ok(model.memory.lookup(lease, Instant::now())))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        pause(self.read_delay).await;
        self.call(|model| Ok(model.memory.renew(leases, Instant::now())))
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.call(|model| {
            for lease in leases {
                model.grant_new(*lease, lease.ttl())?;
            }
            Ok(model.memory.renew(leases, Instant::now()))
        })
    }

    async fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        self.call(|model| model.grant_new(lease, ttl))
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        pause(self.read_delay).await;
        self.call(|model| Ok(model.memory.read(keys)))
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        self.call(|model| Ok(model.memory.leased_in(directories)))
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        pause(self.delay).await;
        self.call(|model| model.transact(transaction))
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(|model| {
            model.end(lease);
            Ok(())
        })
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.call(|model| Ok(model.memory.get(key)))
    }

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        self.call(|model| Ok(model.memory.scan(prefix)))
    }

    async fn watch(&mut self, prefix: &str, revision: i64) -> Result<ModelWatch, StoreError> {
        let newest = self.call(|model| Ok(model.newest.subscribe()))?;
        Ok(ModelWatch {
            model: Arc::clone(&self.model),
            newest,
            prefix: prefix.to_owned(),
            revision,
        })
    }
}
