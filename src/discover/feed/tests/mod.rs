//! The feed on a store that is made up, where time matters, and on a real etcd.

mod doubt;

use std::sync::{Mutex, MutexGuard};

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::ops::condition::{Condition, State};
use crate::store::etcd::process::{Process, SOON};
use crate::store::{
    Change, Changes, Found, Identity, Listing, On, Step, Store, StoreError, Transaction, Watching,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RESYNC: Duration = Duration::from_secs(60);

/// A store whose answers a test sets.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    keys: Keys,
    /// It does not answer.
    is_away: bool,
    watches: Vec<mpsc::UnboundedSender<Changes>>,
    listings: usize,
    /// Its watches do.
    compares_itself: bool,
}

struct FakeWatch {
    changes: mpsc::UnboundedReceiver<Changes>,
    heard_at: Instant,
    compares_itself: bool,
}

fn away() -> StoreError {
    StoreError::Failed(anyhow!("it is away"))
}

impl Source for Fake {
    type Watching = FakeWatch;

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        assert_eq!(prefix, "/b/");
        let mut inner = self.inner();
        if inner.is_away {
            return Err(away());
        }
        inner.listings += 1;
        let keys = inner.keys.found.values().cloned().collect();
        let revision = inner.keys.revision;
        Ok(Listing { keys, revision })
    }

    async fn watch(&mut self, _: &str, revision: i64) -> Result<FakeWatch, StoreError> {
        let mut inner = self.inner();
        assert_eq!(revision, inner.keys.revision + 1);
        let (sender, changes) = mpsc::unbounded_channel();
        inner.watches.push(sender);
        Ok(FakeWatch {
            changes,
            heard_at: Instant::now(),
            compares_itself: inner.compares_itself,
        })
    }
}

impl Watching for FakeWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        let changes = self.changes.recv().await.ok_or_else(away)?;
        self.heard_at = Instant::now();
        Ok(changes)
    }

    fn heard_at(&self) -> Instant {
        self.heard_at
    }

    fn compares_itself(&self) -> bool {
        self.compares_itself
    }
}

impl Fake {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test has panicked")
    }

    fn listings(&self) -> usize {
        self.inner().listings
    }

    /// Changes keys at one revision: `+a` puts `/b/a`, `-a` deletes it. No watch is told yet.
    fn change_silently(&self, changes: &[&str]) -> Changes {
        let mut inner = self.inner();
        let revision = inner.keys.revision + 1;
        let change = |text: &&str| {
            let key = format!("/b/{}", &text[1..]).into();
            if text.starts_with('-') {
                return Change::Delete(key);
            }
            Change::Put(Found {
                key,
                value: "1".into(),
                on: On::Nothing,
                created: revision,
                revision,
            })
        };
        let changes = Changes {
            revision,
            changes: changes.iter().map(change).collect(),
        };
        inner.keys.change(changes.clone());
        changes
    }

    fn tell(&self, changes: &Changes) {
        for watch in &self.inner().watches {
            let _ = watch.send(changes.clone());
        }
    }

    fn change(&self, changes: &[&str]) {
        self.tell(&self.change_silently(changes));
    }

    fn go_away(&self) {
        let mut inner = self.inner();
        inner.is_away = true;
        inner.watches.clear();
    }

    fn come_back(&self) {
        self.inner().is_away = false;
    }
}

/// A feed that runs, seen from outside. It ends on drop.
struct Running {
    keys: watch::Receiver<Option<Arc<Keys>>>,
    freshness: watch::Receiver<Freshness>,
    condition: Condition,
    task: JoinHandle<Infallible>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(source: impl Source + 'static) -> Self {
        let condition = Condition::default();
        let outage = Outage::new("etcd", "routes stay", SECOND).shown_by(&condition);
        let (keys, freshness) = (watch::Sender::new(None), watch::Sender::default());
        Self {
            condition,
            keys: keys.subscribe(),
            freshness: freshness.subscribe(),
            task: tokio::spawn(
                Feed {
                    store: "etcd",
                    prefix: "/b".to_owned(),
                    resync: RESYNC,
                    outage,
                    keys,
                    freshness,
                }
                .run(source),
            ),
        }
    }

    /// The published keys, without their directory.
    fn published(&self) -> Option<String> {
        let keys = self.keys.borrow();
        let keys = keys.as_ref()?.found.keys();
        Some(keys.map(|key| &key["/b/".len()..]).collect())
    }

    /// Waits for the next publication. Returns it with the time that it took.
    async fn next(&mut self) -> (String, Duration) {
        let begun = Instant::now();
        let changed = timeout(10 * RESYNC, self.keys.changed()).await;
        changed.expect("a publication").expect("a feed");
        (self.published().expect("keys"), begun.elapsed())
    }

    /// Whether nothing is published for some time.
    async fn is_quiet(&mut self, time: Duration) -> bool {
        timeout(time, self.keys.changed()).await.is_err()
    }
}

/// A feed of a store that has these keys, each of one letter, after its first listing.
async fn running(letters: &str) -> (Fake, Running) {
    let fake = Fake::default();
    for letter in letters.chars() {
        fake.change_silently(&[&format!("+{letter}")]);
    }
    let mut running = Running::start(fake.clone());
    assert_eq!(running.next().await.0, letters);
    (fake, running)
}

#[tokio::test(start_paused = true)]
async fn an_error_is_never_an_empty_list() {
    let fake = Fake::default();
    fake.change_silently(&["+a"]);
    fake.go_away();
    let mut running = Running::start(fake.clone());
    assert!(running.is_quiet(RESYNC).await);
    assert_eq!(*running.freshness.borrow(), Freshness::Unknown);
    assert!(matches!(running.condition.state(), State::Bad { why, .. } if &*why == "it is away"));
    fake.come_back();
    let (keys, after) = running.next().await;
    assert_eq!(keys, "a");
    assert!(after <= 2 * SECOND, "{after:?}");
    sleep(MS).await;
    assert_eq!(*running.freshness.borrow(), Freshness::InStep);

    let heard = Instant::now();
    fake.change(&["+b"]);
    running.next().await;
    sleep(RESYNC / 2).await;
    fake.go_away();
    assert!(running.is_quiet(10 * RESYNC).await);
    assert_eq!(running.published().as_deref(), Some("ab"));
    assert_eq!(*running.freshness.borrow(), Freshness::StaleSince(heard));
    assert!(matches!(running.condition.state(), State::Bad { .. }));

    fake.change_silently(&["-a"]);
    fake.come_back();
    assert_eq!(running.next().await.0, "b");
    sleep(MS).await;
    assert_eq!(*running.freshness.borrow(), Freshness::InStep);
    assert!(matches!(running.condition.state(), State::Good { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_published_at_once_and_a_burst_together() {
    let (fake, mut running) = running("a").await;
    sleep(SECOND).await;
    fake.change(&["+b", "-a"]);
    assert_eq!(running.next().await, ("b".to_owned(), Duration::ZERO));
    for key in ["+c", "+d", "+e"] {
        fake.change(&[key]);
        sleep(5 * MS).await;
    }
    let (keys, after) = running.next().await;
    assert_eq!(keys, "bcde");
    assert!(after <= 16 * MS, "{after:?}");
    assert!(running.is_quiet(SECOND).await);
    fake.change(&["-none"]);
    assert!(running.is_quiet(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_found_by_the_next_listing() {
    let (fake, mut running) = running("ab").await;
    sleep(MS).await;
    let begun = Instant::now();
    fake.change_silently(&["-a"]);
    assert_eq!(running.next().await.0, "b");
    let after = begun.elapsed();
    assert!(
        RESYNC * 3 / 4 <= after && after <= RESYNC + 2 * SECOND,
        "{after:?}"
    );
    // The listing that is compared, and the one that counts.
    assert_eq!(fake.listings(), 3);
    fake.change_silently(&["+c"]);
    assert_eq!(running.next().await.0, "bc");
}

#[tokio::test(start_paused = true)]
async fn very_many_keys_are_listed_less_often() {
    let fake = Fake::default();
    let keys: Vec<String> = (0..60_000).map(|number| format!("+{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    fake.change_silently(&keys);
    let mut running = Running::start(fake.clone());
    running.next().await;
    // 600 s, less a quarter.
    sleep(449 * SECOND).await;
    assert_eq!(fake.listings(), 1);
    sleep(152 * SECOND).await;
    assert_eq!(fake.listings(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_late_is_not_lost() {
    let (fake, mut running) = running("ab").await;
    let late = fake.change_silently(&["-a"]);
    while fake.listings() == 1 {
        sleep(10 * MS).await;
    }
    sleep(SECOND / 2).await;
    fake.tell(&late);
    assert_eq!(running.next().await.0, "b");
    // And neither is one of a change after the listing.
    fake.change(&["+c", "-b"]);
    assert_eq!(running.next().await.0, "c");
    sleep(2 * SECOND).await;
    assert_eq!(fake.listings(), 2);
    assert!(running.is_quiet(5 * RESYNC).await);
    assert_eq!(fake.inner().watches.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_compares_itself_is_compared_with_no_listing() {
    let fake = Fake::default();
    fake.inner().compares_itself = true;
    let mut running = Running::start(fake.clone());
    assert_eq!(running.next().await.0, "");
    assert!(running.is_quiet(3 * RESYNC).await);
    fake.change(&["+a"]);
    assert_eq!(running.next().await.0, "a");
    assert_eq!(fake.listings(), 1);
}

#[tokio::test(start_paused = true)]
async fn readers_that_lose_the_store_together_list_it_one_after_another() {
    let fakes: Vec<Fake> = (0..100).map(|_| Fake::default()).collect();
    let running: Vec<Running> = fakes.iter().cloned().map(Running::start).collect();
    sleep(MS).await;
    for fake in &fakes {
        fake.go_away();
        fake.come_back();
    }
    let listed = || fakes.iter().filter(|fake| fake.listings() > 1).count();
    sleep(SECOND / 2).await;
    let half = listed();
    assert!((20..80).contains(&half), "{half}");
    sleep(SECOND).await;
    assert_eq!(listed(), 100);
    drop(running);
}

#[tokio::test]
async fn etcd_is_followed_through_changes_and_its_end() {
    let Some(etcd) = Process::start().await else {
        return;
    };
    let mut store = etcd.store();
    let lease = Identity::new("a feed", "").lease(60);
    store.grant(&[lease]).await.expect("a lease");
    let mut steps = async |steps: Vec<Step>| {
        let guards = Vec::new();
        let transaction = Transaction { guards, steps };
        store.transact(&transaction).await.expect("changes");
    };
    let put = |key: &str| Step::Put(key.into(), "1".into(), lease);
    steps(vec![put("/b/a"), put("/b2"), put("/b2/x"), put("/b")]).await;
    let mut running = Running::start(etcd.store());
    let next = async |running: &mut Running, expected: &str| {
        let published = async {
            while running.published().as_deref() != Some(expected) {
                running.keys.changed().await.expect("a feed");
            }
        };
        let published = timeout(SOON, published).await;
        published.unwrap_or_else(|_| panic!("{:?}, not {expected}", running.published()));
    };
    next(&mut running, "a").await;
    steps(vec![put("/b/b"), put("/b2/y")]).await;
    next(&mut running, "ab").await;
    steps(vec![Step::Delete("/b/a".into())]).await;
    next(&mut running, "b").await;
    drop(etcd);
    let lost = running
        .freshness
        .wait_for(|it| matches!(it, Freshness::StaleSince(_)));
    timeout(SOON, lost).await.expect("a loss").expect("a feed");
    assert_eq!(running.published().as_deref(), Some("b"));
}
