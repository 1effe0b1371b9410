//! A store that writes nothing: it holds all in memory and prints each change. It serves `run --dry-run`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::sync::Arc;

use anyhow::anyhow;

use super::{Found, Guard, Lease, LeaseId, Outcome, Step, Store, StoreError, Transaction};
use crate::base::key::Key;

/// Prints `put KEY VALUE` and `delete KEY`, a line each.
#[derive(Debug)]
pub struct PrintStore<W> {
    out: W,
    keys: BTreeMap<Key, Found>,
    /// The leases, which never expire here.
    leases: BTreeSet<LeaseId>,
    revision: i64,
}

impl<W: Write + Send + 'static> PrintStore<W> {
    /// An empty store that prints to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            keys: BTreeMap::new(),
            leases: BTreeSet::new(),
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
        self.print(&format!("put {key} {value}"))?;
        let found = Found {
            key: Arc::clone(key),
            value: Arc::clone(value),
            lease: Some(lease),
            revision: self.revision,
        };
        self.keys.insert(Arc::clone(key), found);
        Ok(())
    }

    fn delete(&mut self, key: &Key) -> Result<(), StoreError> {
        self.print(&format!("delete {key}"))?;
        self.keys.remove(key);
        Ok(())
    }

    fn print(&mut self, line: &str) -> Result<(), StoreError> {
        match writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(StoreError::Closed),
            Err(error) => Err(StoreError::Failed(anyhow!("cannot print: {error}"))),
        }
    }
}

impl<W: Write + Send + 'static> Store for PrintStore<W> {
    const MAX_OPERATIONS: usize = usize::MAX;

    fn pace(&mut self, _ttl: u32) {}

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        Ok(self.leases.iter().copied().collect())
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        let on_lease = self
            .keys
            .values()
            .filter(|found| found.lease == Some(lease));
        let keys = on_lease.map(|found| Arc::clone(&found.key)).collect();
        Ok(self.leases.contains(&lease).then_some(Lease {
            keys,
            remaining: lease.ttl(),
            term: 0,
        }))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        let known = leases.iter().filter(|lease| self.leases.contains(lease));
        Ok(known.map(|lease| (*lease, lease.ttl())).collect())
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.leases.extend(leases);
        self.renew(leases).await
    }

    async fn claim(&mut self, lease: LeaseId, _ttl: u32) -> Result<bool, StoreError> {
        Ok(self.leases.insert(lease))
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        Ok(keys
            .iter()
            .filter_map(|key| self.keys.get(key).cloned())
            .collect())
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        let leased = |found: &Found| {
            let inside = |directory: &Arc<str>| found.key.starts_with(&**directory);
            let lease = found.lease.filter(|_| directories.iter().any(inside))?;
            Some((Arc::clone(&found.key), lease))
        };
        Ok(self.keys.values().filter_map(leased).collect())
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        if !transaction.guards.iter().all(|guard| self.holds(guard)) {
            return Ok(Outcome::Refused);
        }
        self.revision += 1;
        let before: BTreeSet<Key> = self.keys.keys().cloned().collect();
        let mut swept = Vec::new();
        for step in &transaction.steps {
            match step {
                Step::Put(key, value, lease) => self.put(key, value, *lease)?,
                Step::Delete(key) => self.delete(key)?,
                Step::Sweep {
                    expected,
                    directory,
                    sweep,
                } => {
                    let mut inside = before.iter().filter(|key| key.starts_with(&**directory));
                    if inside.all(|key| expected.contains(key)) {
                        for (key, _) in sweep {
                            self.delete(key)?;
                            swept.push(Arc::clone(key));
                        }
                    }
                }
            }
        }
        Ok(Outcome::Done { swept })
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
