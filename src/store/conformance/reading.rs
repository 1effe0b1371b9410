//! Reading keys.

use tokio::time::Instant;

use super::*;

pub async fn a_read_leaves_out_missing_keys(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    // More keys than one call asks for.
    let names: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    let there = ["007", "150", "299"];
    trial.put(lease, &there).await;
    let keys: Vec<Key> = names.iter().map(|name| trial.key(name)).collect();
    let found = trial.store.read(&keys).await.expect("keys");
    let mut found: Vec<Key> = found.into_iter().map(|found| found.key).collect();
    found.sort();
    assert_eq!(found, there.map(|name| trial.key(name)));
    assert_eq!(trial.store.read(&[]).await.expect("an answer"), []);
}

pub async fn a_read_returns_value_lease_and_revision<S: Bench>(mut trial: Trial<S>) {
    let lease = trial.granted(TTL).await;
    let key = trial.key("a");
    let value = "größe\n\"'";
    trial.carry_out(vec![put(&key, value, lease)]).await;
    let found = trial.find("a").await.expect("it exists");
    assert_eq!((&found.key, &*found.value), (&key, value));
    assert_eq!(found.on, On::Lease(lease));
    // A put of the same value and lease is a change too.
    trial.carry_out(vec![put(&key, value, lease)]).await;
    let again = trial.find("a").await.expect("it exists");
    let is_counted = again.revision > found.revision;
    assert_eq!(is_counted, S::FACTS.counts_revisions, "{again:?}");
    assert_eq!(trial.find("a").await, Some(again));
    trial.put_by_hand("a").await;
    let by_hand = trial.find("a").await.expect("it exists");
    assert_eq!((&*by_hand.value, by_hand.on), ("by hand", On::Nothing));
}

pub async fn keys_on_leases_are_found_in_their_directories(mut trial: Trial<impl Bench>) {
    let (lease, other) = (trial.granted(TTL).await, trial.granted(TTL + 1).await);
    trial.put(lease, &["1/a", "1/b/c", "10/d", "2/e"]).await;
    trial.put(other, &["1/f", "1"]).await;
    trial.put_by_hand("1/by-hand").await;
    let directories = ["1/", "10/", "empty/"].map(|name| trial.key(name));
    let found = trial.store.leased_in(&directories).await;
    let mut found = found.expect("keys");
    found.sort();
    let leases = [lease, lease, other, lease];
    let wanted = ["1/a", "1/b/c", "1/f", "10/d"].map(|name| trial.key(name));
    assert_eq!(found, wanted.into_iter().zip(leases).collect::<Vec<_>>());
    let none = trial.store.leased_in(&[]).await.expect("an answer");
    assert_eq!(none, []);
}

pub async fn a_get_returns_the_value_of_any_key(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    trial.put(lease, &["a"]).await;
    trial.put_by_hand("b").await;
    for (name, value) in [("a", Some("1")), ("b", Some("by hand")), ("none", None)] {
        let key = trial.key(name);
        let found = trial.store.get(&key).await.expect("an answer");
        assert_eq!(found.as_deref(), value, "{name}");
    }
}

pub async fn a_scan_lists_the_keys_that_begin_with_a_prefix(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    // Some stores take these characters of a prefix for patterns.
    trial
        .put(lease, &["*[1]/c", "*[1]/a", "*[2]/x", "1/x", "*[1]"])
        .await;
    trial.put_by_hand("*[1]/b").await;
    let prefix = trial.key("*[1]/");
    let listing = trial.store.scan(&prefix).await.expect("keys");
    let keys = listing.keys.iter();
    let found: Vec<_> = keys
        .map(|found| (&*found.key, &*found.value, found.on.clone()))
        .collect();
    let names = ["a", "b", "c"].map(|name| trial.key(&format!("*[1]/{name}")));
    let [a, b, c] = &names;
    let on = On::Lease(lease);
    let wanted = [
        (&**a, "1", on.clone()),
        (&**b, "by hand", On::Nothing),
        (&**c, "1", on),
    ];
    assert_eq!(found, wanted);
    let none = trial.key("none/");
    let none = trial.store.scan(&none).await.expect("an answer");
    assert!(none.keys.is_empty());
    let all = trial.store.scan("").await.expect("keys");
    let all = all.keys.iter().filter(|found| names.contains(&found.key));
    assert_eq!(all.count(), names.len());
}

pub async fn a_listing_is_of_one_moment_or_not<S: Bench>(mut trial: Trial<S>) {
    // Enough keys for several steps of a listing, and enough listings for a change between two steps.
    const KEYS: usize = 2000;
    const LISTINGS: usize = 20;
    let lease = trial.granted(TTL).await;
    let names = trial.put_many(lease, KEYS).await;
    let ends = [&names[0], &names[KEYS - 1]].map(|name| trial.key(name));
    let directory = trial.key("");
    // The first key and the last one always have the same value.
    let mut other = trial.store.connect();
    let writes = async {
        for number in 2_u64.. {
            let puts = ends.iter().map(|key| put(key, &number.to_string(), lease));
            let transaction = Transaction {
                guards: Vec::new(),
                steps: puts.collect(),
            };
            other.transact(&transaction).await.expect("puts");
            // The model never waits.
            tokio::task::yield_now().await;
        }
    };
    let begun = Instant::now();
    let reads = async {
        for number in 0.. {
            let listing = trial.store.scan(&directory).await.expect("keys");
            assert_eq!(listing.keys.len(), KEYS);
            let values = ends.each_ref().map(|key| {
                let found = listing.keys.iter().find(|found| found.key == *key);
                found.map(|found| Arc::clone(&found.value))
            });
            if values[0] != values[1] {
                return false;
            }
            let is_enough = if S::FACTS.lists_one_moment {
                number >= LISTINGS
            } else {
                begun.elapsed() > SOON
            };
            if is_enough {
                break;
            }
            tokio::task::yield_now().await;
        }
        true
    };
    let is_whole = tokio::select! {
        is_whole = reads => is_whole,
        () = writes => unreachable!("it has no end"),
    };
    assert_eq!(is_whole, S::FACTS.lists_one_moment);
}
