//! The store in memory keeps the promises of every store; besides, leases end by themselves, and listings wait for the
//! first keys.

use tokio::time::{advance, timeout};

use super::*;
use crate::base::key::Key;
use crate::store::conformance::{self, Bench, Facts, Server, check};
use crate::store::model::ModelStore;
use crate::store::{Change, Identity, Step};

const SECOND: Duration = Duration::from_secs(1);

impl Bench for MemoryStore {
    const FACTS: Facts = Facts {
        survives_a_crash: false,
        ..ModelStore::FACTS
    };

    type Events = <Self as Store>::Watching;

    fn connect(&self) -> Self {
        self.clone()
    }

    async fn put_by_hand(&mut self, key: &str, value: &str) {
        let put = |memory: &mut Memory, _| memory.put(&key.into(), value, None);
        self.shared.call(put);
    }

    async fn delete_by_hand(&mut self, key: &str) {
        self.shared.call(|memory, _| memory.delete(key));
    }

    async fn subscribe(&mut self, prefix: &str) -> Self::Events {
        conformance::subscribe(self, prefix).await
    }

    async fn told(events: &mut Self::Events) -> Vec<Key> {
        conformance::told(events).await
    }
}

/// The process that the store is in.
impl Server for MemoryStore {
    async fn restart(&mut self, down: Duration) {
        tokio::time::sleep(down).await;
        self.shared.call(|memory, _| *memory = Memory::default());
    }
}

/// A store that may be listed.
fn store() -> MemoryStore {
    let store = MemoryStore::default();
    store.in_step(true);
    store
}

/// Puts a key on a lease of `ttl` seconds.
async fn put(store: &mut MemoryStore, key: &str, ttl: u32) -> LeaseId {
    let lease = Identity::new(key, "").lease(ttl);
    store.grant(&[lease]).await.expect("a lease");
    let transaction = Transaction {
        guards: Vec::new(),
        steps: vec![Step::Put(key.into(), "1".into(), lease)],
    };
    store.transact(&transaction).await.expect("a put");
    lease
}

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_keeps_every_promise() {
    let store = store();
    check(&store, &mut store.clone()).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_hears_of_the_end_of_a_lease_without_any_call() {
    let mut store = store();
    put(&mut store, "/b/long", 600).await;
    let mut watch = store.watch("/b/", 2).await.expect("a watch");
    let begun = Instant::now();
    let mut other = store.clone();
    // It waits for the end of the long lease when the short one is granted.
    let (told, ()) = tokio::join!(watch.next(), async {
        put(&mut other, "/other", 5).await;
        put(&mut other, "/b/short", 3).await;
    });
    let put = told.expect("a change").changes;
    assert!(
        matches!(&put[..], [Change::Put(found)] if &*found.key == "/b/short"),
        "{put:?}"
    );
    let gone = watch.next().await.expect("a change").changes;
    assert_eq!(gone, [Change::Delete("/b/short".into())]);
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_too_far_behind_ends() {
    let mut store = store();
    let mut watch = store.watch("/b/", 1).await.expect("a watch");
    let mut of_others = store.watch("/c/", 1).await.expect("a watch");
    for number in 0..2000 {
        put(&mut store, &format!("/b/{number}"), 60).await;
        // It is told nothing, and falls behind all the same unless it looks.
        if number % 1000 == 0 {
            let nothing = timeout(Duration::ZERO, of_others.next()).await;
            assert!(nothing.is_err());
        }
    }
    let error = watch.next().await.expect_err("it is too late");
    assert!(error.to_string().contains("too far behind"), "{error}");
    let nothing = timeout(Duration::ZERO, of_others.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // A new listing and its watch go on.
    let listing = store.scan("/b/").await.expect("keys");
    assert_eq!(listing.keys.len(), 2000);
    let mut watch = store.watch("/b/", listing.revision + 1).await;
    let watch = watch.as_mut().expect("a watch");
    store.put_by_hand("/b/0", "2").await;
    let told = watch.next().await.expect("a change");
    assert_eq!(told.revision, listing.revision + 1);
}

#[tokio::test(start_paused = true)]
async fn a_listing_waits_for_the_first_keys_of_the_registrar() {
    let mut store = MemoryStore::default();
    put(&mut store, "/b/a", 600).await;
    let mut reader = store.clone();
    assert!(timeout(60 * SECOND, reader.scan("/b/")).await.is_err());
    // Some keys wait for the first verdict of their check, but others do not wait for that for long.
    store.in_step(false);
    assert!(timeout(UNPROVEN / 2, reader.scan("/b/")).await.is_err());
    let listing = timeout(UNPROVEN, reader.scan("/b/")).await;
    let listing = listing.expect("in time").expect("keys");
    assert_eq!(listing.keys.len(), 1);
    let store = MemoryStore::default();
    store.in_step(false);
    store.in_step(true);
    let listing = timeout(SECOND, store.clone().scan("")).await;
    assert_eq!(listing.expect("in time").expect("keys").keys, []);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_loses_no_key() {
    let mut store = store();
    let lease = put(&mut store, "/b/a", 60).await;
    let term = store.lookup(lease).await.expect("an answer");
    let term = term.expect("it exists").term;
    advance(600 * SECOND).await;
    let found = store.lookup(lease).await.expect("an answer");
    let found = found.expect("it exists");
    assert_eq!((found.remaining, found.term), (60, term + 1));
    assert_eq!(
        store.get("/b/a").await.expect("a key").as_deref(),
        Some("1")
    );
}
