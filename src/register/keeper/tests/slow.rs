//! A large change of a slow store: its leases are renewed meanwhile, and a small change does not wait for it.

use std::collections::BTreeMap;

use super::*;
use crate::base::key::Key;
use crate::store::model::{Model, ModelStore};
use crate::wanted::{Claim, ContainerName, Entry};

const TTL: u32 = 15;
/// The time that a transaction takes.
const DELAY: Duration = Duration::from_millis(100);

/// The time that a renewal takes, or a read.
const READ_DELAY: Duration = Duration::from_millis(200);

/// A container with so many ports: a member and a `port` key for each.
fn claim(name: &str, ports: usize) -> Arc<Claim> {
    let entry = |key: String, shared| Entry {
        key: key.into(),
        value: "1".into(),
        ttl: TTL,
        shared,
        check: None,
    };
    let entries = (0..ports).flat_map(|port| {
        let directory = format!("/b/{name}/{port}");
        [
            entry(format!("{directory}/member"), false),
            entry(format!("{directory}/port"), true),
        ]
    });
    Arc::new(Claim {
        who: ContainerName {
            id: name.into(),
            name: name.into(),
        },
        age: name.into(),
        entries: entries.collect(),
        unproven: [].into(),
    })
}

fn wanted(claims: &[&Arc<Claim>]) -> Arc<Wanted> {
    Arc::new(Wanted {
        claims: claims.iter().map(|claim| Arc::clone(claim)).collect(),
        ..Wanted::default()
    })
}

/// A keeper at work, with the sender of its wanted state.
fn keeper() -> (ModelStore, watch::Sender<Option<Arc<Wanted>>>) {
    let (mut store, newest) = (ModelStore::default(), watch::Sender::default());
    (store.delay, store.read_delay) = (DELAY, READ_DELAY);
    let mut keeper = Keeper::new(
        store.connect(),
        Identity::new("daemon", ""),
        TTL,
        newest.subscribe(),
        Arc::new(Status::new(TTL, &store::Settings::default())),
    );
    tokio::spawn(async move { keeper.run().await });
    (store, newest)
}

/// Waits until the store is as it should be, and returns the time that this took.
async fn until(store: &ModelStore, is_right: impl Fn(&Model) -> bool) -> Duration {
    let begun = Instant::now();
    while !is_right(&store.model()) {
        assert!(begun.elapsed() < Duration::from_secs(3600), "in vain");
        tokio::time::sleep(DELAY / 10).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_while_a_large_change_is_carried_out() {
    const PORTS: usize = 2000;
    let (store, newest) = keeper();
    let large = claim("large", PORTS);
    newest.send_replace(Some(wanted(&[&large])));
    let took = until(&store, |model| model.keys().len() == 2 * PORTS).await;
    assert!(
        took > 2 * lifetime(TTL),
        "{took:?} is too quick for this test"
    );
    newest.send_replace(Some(wanted(&[])));
    let took = until(&store, |model| model.keys().is_empty()).await;
    assert!(
        took > 2 * lifetime(TTL),
        "{took:?} is too quick for this test"
    );
    // No key went before its time, which is what the end of a lease would look like.
    let model = store.model();
    let mut sizes = model.history.iter().map(BTreeMap::len);
    let mut last = 0;
    assert!(
        sizes
            .by_ref()
            .take_while(|size| *size < 2 * PORTS)
            .all(|size| { std::mem::replace(&mut last, size) < size })
    );
    last = 2 * PORTS;
    assert!(sizes.all(|size| std::mem::replace(&mut last, size) >= size && last - size < 100));
}

#[tokio::test(start_paused = true)]
async fn a_small_change_is_not_behind_a_large_one() {
    const PORTS: usize = 600;
    let (store, newest) = keeper();
    let (large, small) = (claim("large", PORTS), claim("small", 1));
    let has = |key: &'static str| move |model: &Model| model.keys().contains_key(key);
    newest.send_replace(Some(wanted(&[&large])));
    until(&store, has("/b/large/0/member")).await;
    for _ in 0..5 {
        newest.send_replace(Some(wanted(&[&large, &small])));
        assert!(until(&store, has("/b/small/0/member")).await <= 4 * DELAY);
        newest.send_replace(Some(wanted(&[&large])));
        assert!(until(&store, |model| !has("/b/small/0/member")(model)).await <= 4 * DELAY);
    }
    assert!(
        store.model().keys().len() < 2 * PORTS,
        "the large one was done before"
    );
    until(&store, |model| model.keys().len() == 2 * PORTS).await;
    newest.send_replace(Some(wanted(&[&small])));
    until(&store, has("/b/small/0/member")).await;
    let left = store.model().keys().len();
    assert!(left > PORTS, "{left} keys are left");
    until(&store, |model| model.keys().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_small_change_is_not_behind_a_long_renewal() {
    const PORTS: usize = 2000;
    let (store, newest) = keeper();
    let (large, small) = (claim("large", PORTS), claim("small", 1));
    newest.send_replace(Some(wanted(&[&large])));
    until(&store, |model| model.keys().len() == 2 * PORTS).await;
    // Whenever it comes during two renewals, each of which takes many of these calls.
    let begun = Instant::now();
    while begun.elapsed() < lifetime(TTL) {
        newest.send_replace(Some(wanted(&[&large, &small])));
        let has_small = |model: &Model| model.keys().contains_key("/b/small/0/member");
        assert!(until(&store, has_small).await <= READ_DELAY + 3 * DELAY);
        newest.send_replace(Some(wanted(&[&large])));
        let took = until(&store, |model| !has_small(model)).await;
        assert!(took <= READ_DELAY + 3 * DELAY, "{took:?}");
        assert!(store.model().keys().len() == 2 * PORTS);
    }
}

#[tokio::test(start_paused = true)]
async fn small_changes_without_end_do_not_hold_up_a_large_one() {
    const PORTS: usize = 300;
    let (store, newest) = keeper();
    let large = claim("large", PORTS);
    newest.send_replace(Some(wanted(&[&large])));
    let mut number = 0;
    let is_done = |model: &Model| {
        let keys = model.keys().keys();
        keys.filter(|key: &&Key| key.starts_with("/b/large/"))
            .count()
            == 2 * PORTS
    };
    while !is_done(&store.model()) {
        number += 1;
        newest.send_replace(Some(wanted(&[
            &large,
            &claim(&format!("small{number}"), 1),
        ])));
        tokio::time::sleep(DELAY).await;
        assert!(number < 20 * PORTS, "the large one makes no progress");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_change_that_is_taken_back_is_not_carried_out() {
    const PORTS: usize = 600;
    let (store, newest) = keeper();
    newest.send_replace(Some(wanted(&[&claim("large", PORTS)])));
    until(&store, |model| model.keys().len() > 100).await;
    newest.send_replace(Some(wanted(&[&claim("small", 1)])));
    until(&store, |model| model.keys().len() == 2).await;
    let most = store.model().history.iter().map(BTreeMap::len).max();
    assert!(most < Some(200), "{most:?} keys");
}
