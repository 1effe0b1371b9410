//! Transactions: their guards, and all or nothing of their steps.

use super::*;
use crate::store::Sweep;

/// The most operations that are tried, for a store without a limit.
const MOST_OPERATIONS: usize = 5000;
/// The same for keys that are put by hand one by one.
const MOST_LOOSE: usize = 200;

impl<S: Bench> Trial<S> {
    /// Whether a guard holds. Nothing is changed.
    async fn holds(&mut self, guard: Guard) -> bool {
        let steps = vec![delete(&self.key("no such key"))];
        match self.transact(vec![guard], steps).await {
            Outcome::Done { .. } => true,
            Outcome::GuardFailed => false,
        }
    }
}

pub async fn a_guard_of_a_missing_key_holds_while_it_is_missing(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    let key = trial.key("a");
    assert!(trial.holds(Guard::Missing(key.clone())).await);
    trial.put(lease, &["a"]).await;
    assert!(!trial.holds(Guard::Missing(key.clone())).await);
    trial.carry_out(vec![delete(&key)]).await;
    assert!(trial.holds(Guard::Missing(key)).await);
}

pub async fn a_guard_of_a_lease_holds_while_the_key_is_on_it(mut trial: Trial<impl Bench>) {
    let (lease, other) = (trial.granted(TTL).await, trial.granted(TTL + 1).await);
    let on_lease = Guard::OnLease(trial.key("a"), lease);
    assert!(!trial.holds(on_lease.clone()).await);
    trial.put(lease, &["a"]).await;
    assert!(trial.holds(on_lease.clone()).await);
    trial.put(other, &["a"]).await;
    assert!(!trial.holds(on_lease.clone()).await);
    trial.put_by_hand("a").await;
    assert!(!trial.holds(on_lease).await);
}

pub async fn a_guard_of_a_loose_key_holds_while_it_has_its_value_and_no_lease(
    mut trial: Trial<impl Bench>,
) {
    let lease = trial.granted(TTL).await;
    let key = trial.key("a");
    let loose = |value: &str| Guard::Loose(key.clone(), value.into());
    assert!(!trial.holds(loose("by hand")).await);
    assert!(!trial.holds(loose("")).await);
    trial.put_by_hand("a").await;
    assert!(trial.holds(loose("by hand")).await);
    assert!(!trial.holds(loose("by han")).await);
    assert!(!trial.holds(loose("")).await);
    // On a lease it is not loose, whatever its value is.
    let steps = vec![put(&key, "by hand", lease)];
    let taken = trial.transact(vec![loose("by hand")], steps).await;
    assert_eq!(taken, swept(&[]));
    assert!(!trial.holds(loose("by hand")).await);
    let found = trial.find("a").await.expect("it exists");
    assert_eq!(found.on, On::Lease(lease));
    // A put by hand takes it from the lease, also one of the same value.
    trial.put_by_hand("a").await;
    assert!(trial.holds(loose("by hand")).await);
    trial.carry_out(vec![delete(&key)]).await;
    assert!(!trial.holds(loose("by hand")).await);
}

pub async fn a_transaction_is_carried_out_whole_or_not_at_all(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    trial.put(lease, &["a"]).await;
    let (a, b) = (trial.key("a"), trial.key("b"));
    let steps = vec![put(&b, "1", lease), delete(&a)];
    let (holds, holds_not) = (Guard::OnLease(a.clone(), lease), Guard::Missing(a.clone()));
    for guards in [
        vec![holds.clone(), holds_not.clone()],
        vec![holds_not, holds.clone()],
    ] {
        let outcome = trial.transact(guards, steps.clone()).await;
        assert_eq!(outcome, Outcome::GuardFailed);
        trial.assert_left(&["a"], &["b"]).await;
    }
    let guards = vec![holds, Guard::Missing(b)];
    assert_eq!(trial.transact(guards, steps).await, swept(&[]));
    trial.assert_left(&["b"], &["a"]).await;
}

pub async fn a_put_on_a_missing_lease_is_an_error(mut trial: Trial<impl Bench>) {
    let (lease, missing) = (trial.granted(TTL).await, trial.lease(TTL + 1));
    trial.put(lease, &["a"]).await;
    let (a, b, c) = (trial.key("a"), trial.key("b"), trial.key("c"));
    let mut transaction = Transaction {
        guards: vec![Guard::Missing(b.clone())],
        steps: vec![put(&b, "1", lease), delete(&a), put(&c, "1", missing)],
    };
    let lost = trial.store.transact(&transaction).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    trial.assert_left(&["a"], &["b", "c"]).await;
    // The guards come first.
    transaction.guards.push(Guard::Missing(a));
    let refused = trial.store.transact(&transaction).await;
    assert_eq!(refused.expect("an answer"), Outcome::GuardFailed);
}

pub async fn a_put_moves_a_key_to_another_lease(mut trial: Trial<impl Bench>) {
    let (lease, other) = (trial.granted(TTL).await, trial.granted(TTL + 1).await);
    trial.put(lease, &["a"]).await;
    trial.put(other, &["a"]).await;
    trial.store.revoke(lease).await.expect("an end");
    trial.assert_left(&["a"], &[]).await;
    trial.store.revoke(other).await.expect("an end");
    trial.assert_left(&[], &["a"]).await;
}

pub async fn a_transaction_may_be_as_large_as_the_store_says(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    let most = trial.store.limits().operations.min(MOST_OPERATIONS);
    let keys = |count: usize| (0..count).map(|number| format!("{number:05}"));
    let names: Vec<Key> = keys(most).map(|name| trial.key(&name)).collect();
    let guards: Vec<Guard> = names.iter().cloned().map(Guard::Missing).collect();
    let steps: Vec<Step> = names.iter().map(|key| put(key, "1", lease)).collect();
    let transaction = Transaction { guards, steps };
    assert_eq!(transaction.size().operations(), most);
    let outcome = trial.store.transact(&transaction).await;
    assert_eq!(outcome.expect("carried out"), swept(&[]));
    trial.store.revoke(lease).await.expect("an end");

    // Two steps, plus the guards of the sweep: one for each expected key, one for each lease, and one for the rest.
    let lease = trial.granted(TTL).await;
    let names: Vec<Key> = keys(most - 4).map(|name| trial.key(&name)).collect();
    let (first, last) = (&names[0], &names[names.len() - 1]);
    let puts = vec![put(first, "1", lease), put(last, "1", lease)];
    trial.carry_out(puts).await;
    let sweep = Sweep {
        directory: trial.key(""),
        expected: names.clone(),
        keys: vec![(last.clone(), lease)],
    };
    let transaction = Transaction {
        guards: vec![Guard::OnLease(first.clone(), lease)],
        steps: vec![delete(first), Step::Sweep(sweep)],
    };
    assert_eq!(transaction.size().operations(), most);
    let outcome = trial.store.transact(&transaction).await;
    assert_eq!(
        outcome.expect("carried out"),
        swept(std::slice::from_ref(last))
    );
}

pub async fn as_many_loose_keys_as_the_store_says_are_taken_at_once(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    let most = trial.store.limits().operations.min(MOST_LOOSE);
    let names: Vec<String> = (0..most / 2).map(|number| format!("{number:03}")).collect();
    for name in &names {
        trial.put_by_hand(name).await;
    }
    let keys: Vec<Key> = names.iter().map(|name| trial.key(name)).collect();
    let loose = |key: &Key| Guard::Loose(key.clone(), "by hand".into());
    let transaction = Transaction {
        guards: keys.iter().map(loose).collect(),
        steps: keys.iter().map(|key| put(key, "1", lease)).collect(),
    };
    assert_eq!(transaction.size().operations(), most);
    let outcome = trial.store.transact(&transaction).await;
    assert_eq!(outcome.expect("carried out"), swept(&[]));
}
