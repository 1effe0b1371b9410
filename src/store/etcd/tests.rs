//! A real etcd keeps the promises of every store, and its listings and watches show every change.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::KvClient;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::process::{Process, SOON};
use super::watch::Watch;
use super::*;
use crate::store::conformance::{self, Bench, check, check_on_disk};
use crate::store::{Change, Changes, Guard, Identity, On, Step, StoreError, Sweep, Watching as _};

/// Changes that no registrar makes.
impl Connection {
    async fn put(&mut self, key: &str, value: &str) {
        let put = |mut client: KvClient| async move { client.put(key, value, None).await };
        self.call(Link::kv, put).await.expect("a put");
    }

    async fn delete(&mut self, key: &str) {
        let delete = |mut client: KvClient| async move { client.delete(key, None).await };
        self.call(Link::kv, delete).await.expect("a delete");
    }

    async fn compact(&mut self, revision: i64) {
        let compact = |mut client: KvClient| async move { client.compact(revision, None).await };
        self.call(Link::kv, compact).await.expect("a compaction");
    }
}

impl Bench for EtcdStore {
    type Events = Watch;

    fn connect(&self) -> Self {
        let (settings, limit) = (self.connection.settings(), self.connection.limit());
        Self::new(settings.clone(), limit)
    }

    async fn put_by_hand(&mut self, key: &str, value: &str) {
        self.connection.put(key, value).await;
    }

    async fn delete_by_hand(&mut self, key: &str) {
        self.connection.delete(key).await;
    }

    async fn subscribe(&mut self, prefix: &str) -> Watch {
        conformance::subscribe(self, prefix).await
    }

    async fn told(watch: &mut Watch) -> Vec<Key> {
        conformance::told(watch).await
    }
}

async fn next(watch: &mut Watch) -> Result<Changes, StoreError> {
    let next = timeout(SOON, watch.next()).await;
    next.expect("the watch gets changes")
}

/// The changes of a revision: keys that were put with their values, and keys that were deleted.
fn told(changes: &Changes) -> Vec<(&str, Option<&str>)> {
    let told = changes.changes.iter().map(|change| match change {
        Change::Put(found) => {
            assert_eq!(found.revision, changes.revision);
            (&*found.key, Some(&*found.value))
        }
        Change::Delete(key) => (&**key, None),
    });
    told.collect()
}

#[tokio::test]
async fn etcd_keeps_every_promise() {
    let Some(mut etcd) = Process::start().await else {
        return;
    };
    let mut store = etcd.store();
    check(&store, &mut etcd).await;
    check_on_disk(&store, &mut etcd).await;

    // One operation more than the limit is refused, in the transaction's own lists and in those of a sweep.
    let keys: Vec<Key> = (0..=MAX_OPERATIONS)
        .map(|number| format!("/large/{number:03}").into())
        .collect();
    let sweep = Sweep {
        directory: "/large/".into(),
        expected: keys[..MAX_OPERATIONS - 2].to_vec(),
        keys: vec![(keys[0].clone(), LeaseId(1))],
    };
    for steps in [
        keys.iter().cloned().map(Step::Delete).collect(),
        vec![Step::Sweep(sweep)],
    ] {
        let guards = Vec::new();
        let transaction = Transaction { guards, steps };
        let operations = transaction.size().operations();
        assert_eq!(operations, MAX_OPERATIONS + 1);
        let refused = store.transact(&transaction).await;
        assert!(
            matches!(refused, Err(StoreError::Refused(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn random_calls_have_the_answers_of_the_model() {
    let runtime = Runtime::new().expect("a runtime");
    if let Some(etcd) = runtime.block_on(Process::start()) {
        conformance::answers_like_the_model(&runtime, || etcd.store());
    }
}

#[tokio::test]
async fn a_listing_has_every_page_of_one_revision() {
    let Some(etcd) = Process::start().await else {
        return;
    };
    let mut connection = etcd.connect();
    let mut store = etcd.store();
    let lease = Identity::new("a listing", "").lease(60);
    store.grant(&[lease]).await.expect("a lease");
    let keys: Vec<Key> = (0..450)
        .map(|number| format!("/b/{number:03}").into())
        .collect();
    for keys in keys.chunks(MAX_OPERATIONS) {
        let puts = keys
            .iter()
            .map(|key| Step::Put(Arc::clone(key), "1".into(), lease));
        let transaction = Transaction {
            guards: keys.iter().cloned().map(Guard::Missing).collect(),
            steps: puts.collect(),
        };
        store.transact(&transaction).await.expect("puts");
    }
    connection.put("/c", "other").await;
    let listing = connection.list("/b/").await.expect("keys");
    let listed: Vec<Key> = listing.keys.iter().map(|found| found.key.clone()).collect();
    assert_eq!(listed, keys);
    assert!(
        listing
            .keys
            .iter()
            .all(|found| found.on == On::Lease(lease))
    );
    let all = connection.list("").await.expect("keys");
    assert_eq!((all.keys.len(), all.revision), (451, listing.revision));
    assert_eq!(all.keys[450].revision, all.revision, "the put of `/c`");
    let none = connection.list("/none/").await.expect("an answer");
    assert_eq!((none.keys.len(), none.revision), (0, all.revision));
    assert_eq!(
        connection.get("/c").await.expect("a key").as_deref(),
        Some("other")
    );
    assert_eq!(connection.get("/none").await.expect("an answer"), None);
}

#[tokio::test]
async fn a_watch_goes_on_where_a_listing_ends() {
    let Some(etcd) = Process::start().await else {
        return;
    };
    let (mut connection, mut store) = (etcd.connect(), etcd.store());
    connection.put("/b/before", "1").await;
    let listing = connection.list("/b/").await.expect("keys");
    let from = listing.revision + 1;
    // A put before the watch begins is in neither the listing nor lost.
    connection.put("/b/a", "1").await;
    let mut watch = connection.watch("/b/", from).await.expect("a watch");
    let lease = Identity::new("a watch", "").lease(60);
    store.grant(&[lease]).await.expect("a lease");
    let put = |key: &str| Step::Put(key.into(), "2".into(), lease);
    let transaction = Transaction {
        guards: Vec::new(),
        steps: vec![put("/b/a"), put("/b/c"), Step::Delete("/b/before".into())],
    };
    store.transact(&transaction).await.expect("changes");
    connection.put("/bb", "others' keys are not told of").await;
    connection.delete("/b/none").await;
    store.revoke(lease).await.expect("an end");

    let first = next(&mut watch).await.expect("changes");
    assert_eq!(
        (first.revision, told(&first)),
        (from, vec![("/b/a", Some("1"))])
    );
    let second = next(&mut watch).await.expect("changes");
    let wanted = [
        ("/b/a", Some("2")),
        ("/b/c", Some("2")),
        ("/b/before", None),
    ];
    assert_eq!(
        (second.revision, told(&second)),
        (from + 1, wanted.to_vec())
    );
    let Change::Put(found) = &second.changes[0] else {
        panic!("{second:?}");
    };
    assert_eq!(found.on, On::Lease(lease));
    let third = next(&mut watch).await.expect("changes");
    let mut gone = told(&third);
    gone.sort_unstable();
    assert_eq!(
        (third.revision, gone),
        (from + 3, vec![("/b/a", None), ("/b/c", None)])
    );

    // A watch that begins later gets the same history, and several watches at a time do not disturb each other.
    let mut again = connection.watch("/b/", from).await.expect("a watch");
    for changes in [first, second, third] {
        assert_eq!(next(&mut again).await.expect("changes"), changes);
    }
    connection.put("/b/d", "3").await;
    let (a, b) = (next(&mut watch).await, next(&mut again).await);
    assert_eq!(a.expect("changes"), b.expect("changes"));
}

#[tokio::test]
async fn a_watch_of_a_compacted_revision_fails() {
    let Some(etcd) = Process::start().await else {
        return;
    };
    let mut connection = etcd.connect();
    let mut watch = connection.watch("/b/", 1).await.expect("a watch");
    for value in ["1", "2", "3"] {
        connection.put("/b/a", value).await;
        next(&mut watch).await.expect("changes");
    }
    let listing = connection.list("/b/").await.expect("keys");
    connection.compact(listing.revision).await;
    let error = match connection.watch("/b/", listing.revision - 1).await {
        Ok(mut watch) => next(&mut watch).await.map(drop),
        Err(error) => Err(error),
    };
    let error = error.expect_err("the history is gone").to_string();
    assert!(error.contains("compacted"), "{error}");
    // A watch that has seen every change goes on, and so does one that begins after a new listing.
    connection.put("/b/a", "4").await;
    let changes = next(&mut watch).await.expect("changes");
    let mut anew = connection
        .watch("/b/", changes.revision)
        .await
        .expect("a watch");
    assert_eq!(next(&mut anew).await.expect("changes"), changes);
}

#[tokio::test]
async fn a_watch_of_an_etcd_that_hangs_or_ends_fails() {
    let Some(etcd) = Process::start().await else {
        return;
    };
    let mut connection = etcd.connect();
    connection.limit_calls(Duration::from_secs(1));
    connection.put("/b/a", "1").await;
    let mut watch = connection.watch("/b/", 1).await.expect("a watch");
    next(&mut watch).await.expect("changes");
    // While nothing changes, etcd is asked for a sign of life again and again.
    let quiet = timeout(Duration::from_millis(2500), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    etcd.freeze();
    let error = next(&mut watch).await.expect_err("nobody answers");
    assert!(error.to_string().contains("did not answer"), "{error}");

    let Some(etcd) = Process::start().await else {
        return;
    };
    let mut watch = etcd.connect().watch("/b/", 1).await.expect("a watch");
    drop(etcd);
    let error = next(&mut watch).await.expect_err("the connection is lost");
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
}
