//! A store in memory that prints each change, for `run --dry-run`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use super::memory::Memory;
use super::{
    Change, Changes, Found, Lease, LeaseId, Limits, Listing, Outcome, Store, StoreError,
    Transaction, Watching,
};
use crate::base::key::Key;

/// Prints `put KEY VALUE` and `delete KEY`, a line each.
#[derive(Debug)]
pub struct PrintStore<W> {
    out: W,
    /// That of the store that it stands in for.
    name: &'static str,
    memory: Memory,
    /// The time, which stands still here: a dry run may wait for the reader of its output, and its leases must not
    /// expire meanwhile.
    now: Instant,
    /// Changes that have been made and not printed yet.
    unprinted: VecDeque<Change>,
}

impl<W: Write + Send + 'static> PrintStore<W> {
    /// An empty store that prints to `out`. `name` is that of the store that it stands in for.
    pub fn new(out: W, name: &'static str) -> Self {
        Self {
            out,
            name,
            memory: Memory::default(),
            now: Instant::now(),
            unprinted: VecDeque::new(),
        }
    }

    /// Prints the changes that are not printed yet. One that cannot be printed comes first the next time.
    fn print(&mut self) -> Result<(), StoreError> {
        let log = self.memory.take_log().into_iter();
        let changes = log.flat_map(|Changes { changes, .. }| changes);
        self.unprinted.extend(changes);
        while let Some(change) = self.unprinted.front() {
            let line = match change {
                Change::Put(Found { key, value, .. }) => format!("put {key} {value}\n"),
                Change::Delete(key) => format!("delete {key}\n"),
            };
            let written = self.out.write_all(line.as_bytes());
            match written.and_then(|()| self.out.flush()) {
                Ok(()) => drop(self.unprinted.pop_front()),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(StoreError::Closed);
                }
                Err(error) => return Err(StoreError::Failed(anyhow!("cannot print: {error}"))),
            }
        }
        Ok(())
    }
}

impl<W: Write + Send + 'static> Store for PrintStore<W> {
    type Watching = NoWatch;

    fn name(&self) -> &'static str {
        // A dry run's messages are those of a run.
        self.name
    }

    fn limits(&self) -> Limits {
        Limits {
            operations: usize::MAX,
            ttl: 0..=u32::MAX,
        }
    }

    fn limit_calls(&mut self, _limit: Duration) {}

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        Ok(self.memory.leases())
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        Ok(self.memory.lookup(lease, self.now))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        Ok(self.memory.renew(leases, self.now))
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        Ok(self.memory.grant(leases, self.now))
    }

    async fn grant_new(&mut self, lease: LeaseId, _ttl: u32) -> Result<bool, StoreError> {
        // A seat's id has the TTL 0, so no time is left, and the seat never seems to be renewed by another process.
        Ok(self.memory.grant_new(lease, lease.ttl(), self.now))
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        // After an error the store is read again, and nothing is right before its lines are printed.
        self.print()?;
        Ok(self.memory.read(keys))
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        Ok(self.memory.leased_in(directories))
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        // Lines that could not be printed come before those of later changes.
        self.print()?;
        let outcome = self.memory.transact(transaction)?;
        self.print()?;
        Ok(outcome)
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.print()?;
        self.memory.revoke(lease);
        self.print()
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.memory.get(key))
    }

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        Ok(self.memory.scan(prefix))
    }

    async fn watch(&mut self, _prefix: &str, _revision: i64) -> Result<NoWatch, StoreError> {
        Err(StoreError::Refused(anyhow!(
            "a dry run's keys cannot be watched, because nobody else changes them"
        )))
    }
}

/// The watch that no printing store has.
#[derive(Debug)]
pub enum NoWatch {}

impl Watching for NoWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        match *self {}
    }

    fn heard_at(&self) -> Instant {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::{Guard, Step, Sweep};

    const LEASE: LeaseId = LeaseId(7);

    /// An output that fails once after a number of lines, with this kind of error.
    #[derive(Default)]
    struct Output {
        text: String,
        fails: Option<(usize, ErrorKind)>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let lines = self.text.lines().count();
            if let Some((_, kind)) = self.fails.take_if(|(after, _)| *after <= lines) {
                return Err(kind.into());
            }
            self.text.push_str(str::from_utf8(bytes).expect("text"));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put(key: &str) -> Step {
        Step::Put(key.into(), "1".into(), LEASE)
    }

    /// A store that has printed a put of two keys in one directory.
    async fn store(fails: Option<(usize, ErrorKind)>) -> PrintStore<Output> {
        let mut store = PrintStore::new(Output::default(), "etcd");
        store.grant(&[LEASE]).await.expect("a lease");
        let transaction = Transaction {
            guards: vec![Guard::Missing("/b/a".into())],
            steps: vec![put("/b/port"), put("/b/a")],
        };
        let done = Outcome::Done { swept: Vec::new() };
        assert_eq!(store.transact(&transaction).await.expect("printed"), done);
        let refused = store.transact(&transaction).await.expect("an answer");
        assert_eq!(refused, Outcome::GuardFailed);
        store.out.fails = fails;
        store
    }

    /// Deletes both keys, the second with a sweep.
    fn delete() -> Transaction {
        Transaction {
            guards: vec![Guard::OnLease("/b/a".into(), LEASE)],
            steps: vec![
                put("/c"),
                Step::Delete("/b/a".into()),
                Step::Sweep(Sweep {
                    directory: "/b/".into(),
                    expected: vec!["/b/a".into(), "/b/port".into()],
                    keys: vec![("/b/port".into(), LEASE)],
                }),
            ],
        }
    }

    #[tokio::test]
    async fn each_change_is_a_line_in_the_order_of_the_steps() {
        let mut store = store(None).await;
        store.transact(&delete()).await.expect("printed");
        store.revoke(LEASE).await.expect("printed");
        assert_eq!(
            store.out.text,
            "put /b/port 1\nput /b/a 1\nput /c 1\ndelete /b/a\ndelete /b/port\ndelete /c\n"
        );
    }

    #[tokio::test]
    async fn a_line_that_could_not_be_printed_comes_later() {
        let mut store = store(Some((3, ErrorKind::StorageFull))).await;
        let failed = store.transact(&delete()).await;
        assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
        // After an error the keeper reads, and may find nothing else to do.
        store.read(&[]).await.expect("printed");
        assert!(store.out.text.ends_with("delete /b/port\n"));
        store.revoke(LEASE).await.expect("printed");
        assert_eq!(
            store.out.text,
            "put /b/port 1\nput /b/a 1\nput /c 1\ndelete /b/a\ndelete /b/port\ndelete /c\n"
        );
    }

    #[tokio::test]
    async fn a_closed_pipe_closes_the_store() {
        let mut store = store(Some((2, ErrorKind::BrokenPipe))).await;
        let closed = store.transact(&delete()).await;
        assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_lease_ever_expires() {
        let mut store = store(None).await;
        let lease = LeaseId::shared("/x", 2);
        store.grant(&[lease]).await.expect("a lease");
        tokio::time::advance(Duration::from_secs(9)).await;
        let found = store.lookup(lease).await.expect("an answer");
        assert_eq!(found.map(|found| found.remaining), Some(2));
    }
}
