//! Shared keys: their leases, their values, and sweeps of their directories.

use super::*;
use crate::store::Sweep;

#[test]
fn a_key_that_others_share_is_not_taken_for_an_owned_one() {
    let held = found("/x/a", "1", Some(LeaseId::shared("/x/a", TTL + 2)));
    let mut plan = plan(&[claim("a", &[owned("/x/a", "1")])], &[held]);
    assert_is_settled(&mut plan);
    assert_eq!(notes(&mut plan).len(), 1);
}

#[test]
fn a_shared_value_is_put_once_and_then_not_fought_over() {
    let lease = LeaseId::shared("/x/port", TTL + 2);
    let theirs = found("/x/port", "81", Some(lease));
    let claims = [claim("a", &[shared("/x/port", "80")])];
    // Ours is new, so it is put, even over theirs.
    let mut plan = plan(&claims, std::slice::from_ref(&theirs));
    assert_eq!(
        only(&mut plan).guards,
        [Guard::OnLease("/x/port".into(), lease)]
    );
    carry_out_all(&mut plan);
    // They put theirs again, and it stays.
    plan.learn(vec![theirs.clone()]);
    assert_is_settled(&mut plan);
    assert_eq!(
        notes(&mut plan),
        [
            "`/x/port` is `81`, as another registrar wrote it; this one wants `80` and leaves it: make the hosts agree"
        ]
    );
    // A new value of ours is put again.
    plan.want(&wanted(&[claim("a", &[shared("/x/port", "82")])]));
    assert_eq!(only(&mut plan).steps, [put("/x/port", "82", lease)]);
}

#[test]
fn a_shared_key_is_on_the_longest_lease_that_anybody_wants() {
    let (short, long) = (
        LeaseId::shared("/x/port", 10),
        LeaseId::shared("/x/port", TTL + 2),
    );
    let claims = [claim("a", &[shared("/x/port", "80")])];
    let mut plan = plan(&claims, &[found("/x/port", "80", Some(short))]);
    let transaction = only(&mut plan);
    assert_eq!(
        transaction.guards,
        [Guard::OnLease("/x/port".into(), short)]
    );
    assert_eq!(transaction.steps, [put("/x/port", "80", long)]);
    carry_out_all(&mut plan);
    // Another registrar's value is kept, and moved to the longer lease.
    plan.learn(vec![found("/x/port", "81", Some(short))]);
    assert_eq!(only(&mut plan).steps, [put("/x/port", "81", long)]);
    carry_out_all(&mut plan);
    // A longer one than ours is left as it is.
    let longer = LeaseId::shared("/x/port", 1000);
    plan.learn(vec![found("/x/port", "81", Some(longer))]);
    assert_is_settled(&mut plan);
}

#[test]
fn a_new_shared_value_is_put_even_if_a_missing_key_turns_out_to_exist() {
    let lease = LeaseId::shared("/x/port", TTL + 2);
    let mut plan = plan(&[claim("a", &[shared("/x/port", "80")])], &[]);
    only(&mut plan);
    plan.observe(
        &["/x/port".into()],
        vec![found("/x/port", "81", Some(lease))],
    );
    assert_eq!(only(&mut plan).steps, [put("/x/port", "80", lease)]);
}

#[test]
fn a_shared_key_is_deleted_with_the_last_owned_key_of_its_directory() {
    let mut plan = plan(&[web("a"), web("b")], &[]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[web("a")]));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/b/web/1/b".into())]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[]));
    let sweep = Step::Sweep(Sweep {
        expected: vec!["/b/web/1/a".into(), "/b/web/1/port".into()],
        directory: "/b/web/1/".into(),
        keys: vec![(
            "/b/web/1/port".into(),
            LeaseId::shared("/b/web/1/port", TTL + 2),
        )],
    });
    assert_eq!(
        only(&mut plan).steps,
        [Step::Delete("/b/web/1/a".into()), sweep]
    );
    carry_out_all(&mut plan);
}

#[test]
fn a_shared_key_without_an_owned_one_beside_it_is_left_to_its_lease() {
    let mut plan = plan(
        &[claim(
            "a",
            &[shared("/r/web/rule", "x"), owned("/s/web/a", "1")],
        )],
        &[],
    );
    carry_out_all(&mut plan);
    plan.want(&wanted(&[]));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/s/web/a".into())]);
}

#[test]
fn a_sweep_that_leaves_its_keys_to_others_is_not_repeated() {
    let mut plan = plan(&[web("a")], &[]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[]));
    let batch = plan.batches(MAX_OPERATIONS, false).remove(0);
    // Another host has a member: the sweep finds more than it expects.
    plan.done(&batch, &Outcome::Done { swept: Vec::new() });
    assert_is_settled(&mut plan);
}

#[test]
fn a_new_member_requires_that_its_shared_keys_are_there() {
    let mut plan = plan(&[web("a")], &[]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[web("a"), web("b")]));
    let transaction = only(&mut plan);
    let lease = LeaseId::shared("/b/web/1/port", TTL + 2);
    assert!(
        transaction
            .guards
            .contains(&Guard::OnLease("/b/web/1/port".into(), lease))
    );
    assert_eq!(transaction.steps, [put("/b/web/1/b", "1.2.3.4:80", own())]);
    // It is gone: both are put together.
    let held = vec![];
    let keys: Vec<Key> = transaction
        .guards
        .iter()
        .map(|guard| Arc::clone(guard.key()))
        .collect();
    plan.observe(&keys, held);
    let steps = only(&mut plan).steps;
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(steps[0], put("/b/web/1/port", "80", lease));
}

#[test]
fn a_shared_key_moves_from_a_lease_that_nobody_renews_to_ours() {
    let (long, ours) = (3000, TTL + 2);
    let at = |ttl| LeaseId::shared("/x/port", ttl);
    let mut plan = plan(
        &[claim("a", &[shared("/x/port", "80")])],
        &[found("/x/port", "80", Some(at(long)))],
    );
    assert!(!plan.tends("/x/port", at(long), TTL));
    assert!(plan.tends("/x/port", at(ours), TTL));
    assert!(
        plan.tends("/x/port", at(2 * ours), TTL),
        "it is not much longer"
    );
    assert!(
        plan.tends("/x/port", at(long), long),
        "a member of ours lives as long"
    );
    assert_is_settled(&mut plan);
    plan.set_abandoned([at(long)].into());
    let transaction = only(&mut plan);
    assert_eq!(
        transaction.guards,
        [Guard::OnLease("/x/port".into(), at(long))]
    );
    assert_eq!(transaction.steps, [put("/x/port", "80", at(ours))]);

    // The same for a key that is wanted as an owned one.
    plan.want(&wanted(&[claim("a", &[owned("/x/port", "81")])]));
    plan.set_abandoned(BTreeSet::new());
    assert!(!plan.tends("/x/port", at(ours), TTL));
    assert_is_settled(&mut plan);
    assert!(notes(&mut plan)[0].contains("does not get it until"));
    plan.set_abandoned([at(long)].into());
    assert_eq!(only(&mut plan).steps, [put("/x/port", "81", own())]);
}

#[test]
fn a_shared_key_has_the_longest_ttl_of_its_wants() {
    let mut plan = Plan::new(identity());
    let longer = Entry {
        ttl: 2 * TTL,
        ..shared("/x/port", "80")
    };
    plan.want(&wanted(&[
        claim("a", &[shared("/x/port", "80")]),
        claim("b", &[longer]),
    ]));
    let lease = LeaseId::shared("/x/port", 2 * TTL + 2);
    assert_eq!(only(&mut plan).steps, [put("/x/port", "80", lease)]);
}
