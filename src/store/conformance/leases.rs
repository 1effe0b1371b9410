//! Leases: granted, renewed, claimed, looked up, revoked and expired.

use super::*;

pub async fn a_granted_lease_lives_for_the_ttl_in_its_id(mut trial: Trial<impl Bench>) {
    let (lease, shared) = (trial.lease(TTL), LeaseId::shared(trial.name, TTL + 2));
    assert_eq!(trial.store.lookup(lease).await.expect("an answer"), None);
    let granted = trial.store.grant(&[lease, shared]).await.expect("leases");
    assert_eq!(granted, [(lease, TTL), (shared, TTL + 2)].into());
    let all = trial.store.leases().await.expect("leases");
    assert!(all.contains(&lease) && all.contains(&shared));
    let found = trial.store.lookup(lease).await.expect("an answer");
    let found = found.expect("it exists");
    assert!(found.keys.is_empty(), "{found:?}");
    assert!((TTL / 2..=TTL).contains(&found.remaining), "{found:?}");
}

pub async fn a_grant_renews_a_lease_that_exists(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    trial.put(lease, &["a"]).await;
    let other = LeaseId::shared(trial.name, TTL);
    let granted = trial.store.grant(&[other, lease]).await.expect("leases");
    assert_eq!(granted, [(lease, TTL), (other, TTL)].into());
    trial.assert_left(&["a"], &[]).await;
}

pub async fn a_renewal_leaves_out_missing_leases(mut trial: Trial<impl Bench>) {
    let (lease, missing) = (trial.granted(TTL).await, trial.lease(TTL + 1));
    let renewed = trial.store.renew(&[missing, lease]).await;
    assert_eq!(renewed.expect("an answer"), [(lease, TTL)].into());
    let none = trial.store.renew(&[]).await.expect("an answer");
    assert!(none.is_empty());
    assert_eq!(trial.store.lookup(missing).await.expect("an answer"), None);
}

pub async fn a_claim_is_granted_once(mut trial: Trial<impl Bench>) {
    let seat = trial.identity.seat();
    assert!(trial.store.grant_new(seat, TTL).await.expect("an answer"));
    let mut other = trial.store.connect();
    assert!(!other.grant_new(seat, 2 * TTL).await.expect("an answer"));
    let found = trial.store.lookup(seat).await.expect("an answer");
    let remaining = found.expect("it exists").remaining;
    assert!((TTL / 2..=TTL).contains(&remaining), "{remaining}");
    let renewed = trial.store.renew(&[seat]).await.expect("an answer");
    assert!(renewed.contains_key(&seat));
    trial.store.revoke(seat).await.expect("an end");
    assert!(other.grant_new(seat, TTL).await.expect("an answer"));
}

pub async fn a_revoked_lease_removes_its_keys(mut trial: Trial<impl Bench>) {
    let (lease, other) = (trial.granted(TTL).await, trial.granted(TTL + 1).await);
    trial.put(lease, &["a", "b"]).await;
    trial.put(other, &["c"]).await;
    trial.store.revoke(lease).await.expect("an end");
    trial.assert_left(&["c"], &["a", "b"]).await;
    assert_eq!(trial.store.lookup(lease).await.expect("an answer"), None);
    let again = trial.store.revoke(lease).await;
    again.expect("one that does not exist is no error");
}

pub async fn an_expired_lease_removes_its_keys(mut trial: Trial<impl Bench>) {
    // Long enough for the puts on a busy machine.
    let (lease, other) = (trial.granted(3).await, trial.granted(TTL).await);
    trial.put(lease, &["a"]).await;
    trial.put(other, &["b"]).await;
    // The lookups do not renew it.
    trial.await_end(lease).await;
    trial.assert_left(&["b"], &["a"]).await;
    let renewed = trial.store.renew(&[lease]).await.expect("an answer");
    assert!(renewed.is_empty(), "{renewed:?}");
    let again = trial.store.grant(&[lease]).await.expect("a lease");
    assert_eq!(again, [(lease, 3)].into());
}

pub async fn a_renewal_gives_a_lease_its_whole_ttl_again(mut trial: Trial<impl Bench>) {
    const SPENT: u32 = 3;
    let (renewed, granted) = (trial.granted(TTL).await, trial.granted(TTL + 1).await);
    for lease in [renewed, granted] {
        trial.await_remaining(lease, lease.ttl() - SPENT).await;
    }
    trial.store.renew(&[renewed]).await.expect("an answer");
    trial.store.grant(&[granted]).await.expect("leases");
    for lease in [renewed, granted] {
        let found = trial.store.lookup(lease).await.expect("an answer");
        let found = found.expect("it exists");
        assert!(found.remaining > lease.ttl() - SPENT, "{found:?}");
    }
}

pub async fn a_lookup_returns_the_keys_that_are_on_the_lease_now(mut trial: Trial<impl Bench>) {
    let (lease, other) = (trial.granted(TTL).await, trial.granted(TTL + 1).await);
    trial.put(lease, &["a", "b", "c", "d"]).await;
    trial.put(other, &["b"]).await;
    trial.put_by_hand("c").await;
    let delete = delete(&trial.key("d"));
    trial.carry_out(vec![delete]).await;
    for (lease, name) in [(lease, "a"), (other, "b")] {
        let found = trial.store.lookup(lease).await.expect("an answer");
        assert_eq!(found.expect("it exists").keys, [trial.key(name)]);
    }
}
