//! Reading keys.

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

pub async fn a_read_returns_value_lease_and_revision(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    let key = trial.key("a");
    let value = "größe\n\"'";
    trial.carry_out(vec![put(&key, value, lease)]).await;
    let found = trial.find("a").await.expect("it exists");
    assert_eq!((&found.key, &*found.value), (&key, value));
    assert_eq!(found.lease, Some(lease));
    // A put of the same value and lease is a change too.
    trial.carry_out(vec![put(&key, value, lease)]).await;
    let again = trial.find("a").await.expect("it exists");
    assert!(again.revision > found.revision, "{again:?}");
    assert_eq!(trial.find("a").await, Some(again));
    trial.put_by_hand("a").await;
    let by_hand = trial.find("a").await.expect("it exists");
    assert_eq!((&*by_hand.value, by_hand.lease), ("by hand", None));
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
