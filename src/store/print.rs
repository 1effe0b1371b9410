//! A store that writes nothing: it holds all in memory and prints each change. It serves `run --dry-run`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;

use super::{Found, Guard, Lease, LeaseId, Outcome, Step, Store, StoreError, Transaction};
use crate::entry::Key;

/// Prints `put KEY VALUE` and `delete KEY`, a line each.
#[derive(Debug)]
pub struct PrintStore<W> {
    out: W,
    keys: BTreeMap<Key, Found>,
    /// The leases, which never expire here, with their TTL in seconds.
    leases: BTreeMap<LeaseId, u32>,
    revision: i64,
}

impl<W: Write + Send + 'static> PrintStore<W> {
    /// An empty store that prints to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: 0,
        }
    }

    fn holds(&self, guard: &Guard) -> bool {
        match guard {
            Guard::Missing(key) => !self.keys.contains_key(key),
            Guard::OnLease(key, lease) => self
                .keys
                .get(key)
                .is_some_and(|found| found.lease == Some(*lease)),
            Guard::Unchanged(key, revision) => self
                .keys
                .get(key)
                .is_some_and(|found| found.revision == *revision),
        }
    }

    fn put(&mut self, key: &Key, value: &Arc<str>, lease: LeaseId) -> Result<(), StoreError> {
        let found = Found {
            key: Arc::clone(key),
            value: Arc::clone(value),
            lease: Some(lease),
            revision: self.revision,
        };
        self.keys.insert(Arc::clone(key), found);
        self.print(&format!("put {key} {value}"))
    }

    fn delete(&mut self, key: &Key) -> Result<(), StoreError> {
        self.keys.remove(key);
        self.print(&format!("delete {key}"))
    }

    fn print(&mut self, line: &str) -> Result<(), StoreError> {
        writeln!(self.out, "{line}")
            .and_then(|()| self.out.flush())
            .context("cannot print")
            .map_err(StoreError::Failed)
    }
}

impl<W: Write + Send + 'static> Store for PrintStore<W> {
    const MAX_OPERATIONS: usize = usize::MAX;

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        Ok(self.leases.keys().copied().collect())
    }

    async fn lease(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        let on_lease = self
            .keys
            .values()
            .filter(|found| found.lease == Some(lease));
        let keys = on_lease.map(|found| Arc::clone(&found.key)).collect();
        Ok(self
            .leases
            .contains_key(&lease)
            .then_some(Lease { remaining: 0, keys }))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        let ttl = |lease: &LeaseId| Some((*lease, *self.leases.get(lease)?));
        Ok(leases.iter().filter_map(ttl).collect())
    }

    async fn grant(
        &mut self,
        leases: &BTreeMap<LeaseId, u32>,
    ) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.leases.extend(leases);
        Ok(leases.clone())
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        Ok(keys
            .iter()
            .filter_map(|key| self.keys.get(key).cloned())
            .collect())
    }

    async fn list(&mut self, directories: &[Arc<str>]) -> Result<Vec<Found>, StoreError> {
        let inside = |key: &Key| {
            directories
                .iter()
                .any(|directory| key.starts_with(&**directory))
        };
        Ok(self
            .keys
            .values()
            .filter(|found| inside(&found.key))
            .cloned()
            .collect())
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        if !transaction.guards.iter().all(|guard| self.holds(guard)) {
            let keys: Vec<Key> = transaction
                .guards
                .iter()
                .map(|guard| Arc::clone(guard.key()))
                .collect();
            return Ok(Outcome::Refused(self.read(&keys).await?));
        }
        self.revision += 1;
        let before: BTreeSet<Key> = self.keys.keys().cloned().collect();
        let (mut existing, mut swept) = (Vec::new(), Vec::new());
        for step in &transaction.steps {
            match step {
                Step::Put(key, value, lease) => self.put(key, value, *lease)?,
                Step::Ensure(key, value, lease) => match self.keys.get(key) {
                    Some(found) => existing.push(found.clone()),
                    None => self.put(key, value, *lease)?,
                },
                Step::Delete(key) => self.delete(key)?,
                Step::Sweep {
                    expected,
                    directory,
                    sweep,
                } => {
                    let mut inside = before.iter().filter(|key| key.starts_with(&**directory));
                    if inside.all(|key| expected.contains(key)) {
                        for key in sweep {
                            self.delete(key)?;
                            swept.push(Arc::clone(key));
                        }
                    }
                }
            }
        }
        Ok(Outcome::Done { existing, swept })
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.leases.remove(&lease);
        let on_lease = |found: &&Found| found.lease == Some(lease);
        let keys: Vec<Key> = self
            .keys
            .values()
            .filter(on_lease)
            .map(|found| Arc::clone(&found.key))
            .collect();
        for key in keys {
            self.delete(&key)?;
        }
        Ok(())
    }
}
