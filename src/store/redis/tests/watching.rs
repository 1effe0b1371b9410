//! Watches show every change, and end when Redis hangs or goes.

use tokio::time::timeout;

use super::*;
use crate::store::{Change, Changes, Watching as _};

async fn next(watch: &mut RedisWatch) -> Result<Changes, StoreError> {
    let next = timeout(SOON, watch.next()).await;
    next.expect("the watch gets changes")
}

/// The next changes in words, up to the one that is wanted.
pub(super) async fn await_change(watch: &mut RedisWatch, wanted: &str) -> Vec<String> {
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != wanted) {
        let changes = next(watch).await.expect("changes").changes;
        told.extend(changes.into_iter().map(|change| match change {
            Change::Put(found) => format!("put {} {}", found.key, found.value),
            Change::Delete(key) => format!("delete {key}"),
        }));
    }
    told
}

#[tokio::test]
async fn a_watch_goes_on_where_a_listing_ends() {
    for program in programs() {
        let process = Process::start_program(&program, &[]).await;
        let (mut store, mut other) = (process.store(), process.store());
        let lease = granted(&mut store, "a watch", 60).await;
        put(&mut store, lease, &["/b/before", "/b/stays"])
            .await
            .expect("puts");
        let listing = store.scan("/b/").await.expect("keys");
        // Changes before the watch begins are in neither the listing nor lost.
        put(&mut other, lease, &["/b/a"]).await.expect("a put");
        other.ask("DEL /b/before").await;
        let watch = store.watch("/b/", listing.revision + 1).await;
        let mut watch = watch.expect("a watch");
        let first = next(&mut watch).await.expect("changes");
        assert_eq!(first.revision, listing.revision + 1);
        assert_eq!(first.changes[0], Change::Delete("/b/before".into()));
        assert!(
            matches!(&first.changes[1..], [Change::Put(found)] if found.on == On::Lease(lease))
        );

        // A renewal, a change outside and a put of the same are no change.
        other.renew(&[lease]).await.expect("a renewal");
        other.put_by_hand("/bb", "1").await;
        put(&mut other, lease, &["/b/a"]).await.expect("a put");
        other.put_by_hand("/b/hand", "1").await;
        assert_eq!(await_change(&mut watch, "put /b/hand 1").await.len(), 1);
        let begun = Instant::now();
        other.revoke(lease).await.expect("an end");
        let mut told = await_change(&mut watch, "delete /b/stays").await;
        told.sort();
        assert_eq!(told, ["delete /b/a", "delete /b/stays"]);
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "told of, and not found by a listing"
        );
    }
}

#[tokio::test]
async fn a_watch_finds_what_redis_does_not_tell() {
    let Some(process) = Process::start(&["--enable-debug-command", "yes"]).await else {
        return;
    };
    let (mut store, mut other) = (process.store(), process.store());
    let mut watch = store.watch("/b/", 1).await.expect("a watch");
    other.ask("CONFIG SET notify-keyspace-events x").await;
    other.put_by_hand("/b/a", "1").await;
    assert_eq!(await_change(&mut watch, "put /b/a 1").await.len(), 1);
    // Without being asked for them, Redis deletes expired keys when it comes across them.
    other.ask("CONFIG SET notify-keyspace-events K$").await;
    other.ask("DEBUG SET-ACTIVE-EXPIRE 0").await;
    let lease = granted(&mut other, "expires", 5).await;
    put(&mut other, lease, &["/b/b"]).await.expect("a put");
    await_change(&mut watch, "put /b/b 1").await;
    await_change(&mut watch, "delete /b/b").await;
}

#[tokio::test]
async fn a_watch_does_not_go_on_at_another_server() {
    let Some(first) = Process::start(&[]).await else {
        return;
    };
    let second = Process::start(&[]).await.expect("it is installed");
    let addresses = [&first, &second].map(|process| process.address().to_owned());
    let settings = Settings {
        place: Place::Servers(addresses.to_vec()),
        ..first.settings()
    };
    // Twice this, after which it is asked for a sign of life, is longer than the pause before the next listing.
    let mut store = RedisStore::new(settings, Duration::from_secs(3));
    store.put_by_hand("/b/a", "1").await;
    let listing = store.scan("/b/").await.expect("keys");
    let watch = store.watch("/b/", listing.revision + 1).await;
    let mut watch = watch.expect("a watch");
    first.freeze();
    let error = next(&mut watch)
        .await
        .expect_err("the other one has no key");
    assert!(error.to_string().contains("did not answer"), "{error}");
}

#[tokio::test]
async fn a_watch_of_a_redis_that_hangs_or_ends_fails() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    store.limit_calls(Duration::from_secs(1));
    let mut watch = store.watch("/b/", 1).await.expect("a watch");
    // While nothing changes, Redis is asked for a sign of life again and again.
    let quiet = timeout(Duration::from_millis(2500), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert!(watch.heard_at().elapsed() < Duration::from_millis(2400));
    process.freeze();
    let begun = Instant::now();
    let error = next(&mut watch).await.expect_err("nobody answers");
    assert!(error.to_string().contains("did not answer"), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );

    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut watch = process.store().watch("/b/", 1).await.expect("a watch");
    drop(process);
    let error = next(&mut watch).await.expect_err("the connection is lost");
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
}
