use std::collections::BTreeMap;

use super::*;
use crate::base::key::directory;
use crate::container::Container;
use crate::container::Sample;
use crate::store::{Found, Guard, Outcome, Transaction};

const TTL: u32 = 60;
const MAX_OPERATIONS: usize = 128;

fn identity() -> Identity {
    Identity::new("daemon", "")
}

fn own() -> LeaseId {
    identity().lease(TTL)
}

fn owned(key: &str, value: &str) -> Entry {
    Entry {
        key: key.into(),
        value: value.into(),
        ttl: TTL,
        shared: false,
    }
}

fn shared(key: &str, value: &str) -> Entry {
    Entry {
        shared: true,
        ..owned(key, value)
    }
}

/// A claim of a container that is as old as its name sorts.
fn claim(name: &str, entries: &[Entry]) -> Claim {
    Claim {
        who: Who {
            id: name.into(),
            name: name.into(),
        },
        age: name.into(),
        entries: entries.into(),
    }
}

fn wanted(claims: &[Claim]) -> Arc<Wanted> {
    wanted_beside(claims, Vec::new())
}

fn wanted_beside(claims: &[Claim], protected: Vec<String>) -> Arc<Wanted> {
    Arc::new(Wanted {
        claims: claims.iter().cloned().map(Arc::new).collect(),
        protected,
        ..Wanted::default()
    })
}

fn found(key: &str, value: &str, lease: Option<LeaseId>) -> Found {
    Found {
        key: key.into(),
        value: value.into(),
        lease,
        revision: 7,
    }
}

/// The member and the port of a container in one directory.
fn web(name: &str) -> Claim {
    claim(
        name,
        &[
            owned(&format!("/b/web/1/{name}"), "1.2.3.4:80"),
            shared("/b/web/1/port", "80"),
        ],
    )
}

/// A plan that wants `claims` and finds `found`.
fn plan(claims: &[Claim], found: &[Found]) -> Plan {
    let mut plan = Plan::new(identity());
    plan.want(&wanted(claims));
    plan.learn(found.to_vec());
    plan
}

/// The only transaction that follows.
fn only(plan: &mut Plan) -> Transaction {
    let mut batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(batches.len(), 1, "{batches:#?}");
    batches.remove(0).transaction
}

/// Carries all out, as a store in which every guard holds and every sweep succeeds.
fn settle(plan: &mut Plan) {
    for batch in plan.batches(MAX_OPERATIONS, false) {
        let swept = batch.transaction.steps.iter().flat_map(|step| match step {
            Step::Sweep { sweep, .. } => sweep.iter().map(|(key, _)| Arc::clone(key)).collect(),
            _ => Vec::new(),
        });
        let outcome = Outcome::Done {
            swept: swept.collect(),
        };
        plan.done(&batch, &outcome);
    }
    assert_is_settled(plan);
}

fn assert_is_settled(plan: &mut Plan) {
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert!(batches.is_empty(), "{batches:#?}");
}

fn put(key: &str, value: &str, lease: LeaseId) -> Step {
    Step::Put(key.into(), value.into(), lease)
}

fn notes(plan: &mut Plan) -> Vec<String> {
    plan.notes().iter().map(Note::to_string).collect()
}

#[test]
fn a_missing_key_is_put_if_it_is_still_missing() {
    let shared_lease = LeaseId::shared("/x/a", TTL + 2);
    for (entry, lease) in [
        (owned("/x/a", "1"), own()),
        (shared("/x/a", "1"), shared_lease),
    ] {
        let mut plan = plan(&[claim("a", &[entry])], &[]);
        let transaction = only(&mut plan);
        assert_eq!(transaction.guards, [Guard::Missing("/x/a".into())]);
        assert_eq!(transaction.steps, [put("/x/a", "1", lease)]);
        settle(&mut plan);
    }
}

#[test]
fn what_is_held_as_it_is_wanted_stays_untouched() {
    let lease = LeaseId::shared("/b/web/1/port", TTL + 2);
    let held = [
        found("/b/web/1/a", "1.2.3.4:80", Some(own())),
        found("/b/web/1/port", "80", Some(lease)),
    ];
    let mut plan = plan(&[web("a")], &held);
    assert_is_settled(&mut plan);
    // Neither the same again nor reading the same again changes anything.
    plan.want(&wanted(&[web("a")]));
    plan.learn(held.to_vec());
    assert_is_settled(&mut plan);
}

#[test]
fn another_value_or_ttl_is_put_if_the_key_is_still_ours() {
    let other_ttl = identity().lease(30);
    for held in [
        found("/x/a", "0", Some(own())),
        found("/x/a", "1", Some(other_ttl)),
    ] {
        let at = held.lease.unwrap();
        let mut plan = plan(&[claim("a", &[owned("/x/a", "1")])], &[held]);
        let transaction = only(&mut plan);
        assert_eq!(transaction.guards, [Guard::OnLease("/x/a".into(), at)]);
        assert_eq!(transaction.steps, [put("/x/a", "1", own())]);
        settle(&mut plan);
    }
}

#[test]
fn a_leftover_is_taken_with_a_warning() {
    for entry in [owned("/x/a", "1"), shared("/x/a", "1")] {
        let mut plan = plan(&[claim("a", &[entry])], &[found("/x/a", "1", None)]);
        assert_eq!(only(&mut plan).guards, [Guard::Unchanged("/x/a".into(), 7)]);
        assert_eq!(
            notes(&mut plan),
            ["`/x/a` was on no lease, so nothing would ever have removed it: taken over for `a`"]
        );
        settle(&mut plan);
        assert!(notes(&mut plan).is_empty());
    }
}

#[test]
fn a_key_on_a_strangers_lease_is_left_until_it_is_free() {
    let stranger = LeaseId(0x77);
    let mut plan = plan(
        &[claim("a", &[owned("/x/a", "1")])],
        &[found("/x/a", "0", Some(stranger))],
    );
    assert_is_settled(&mut plan);
    assert_eq!(
        notes(&mut plan),
        [
            "`/x/a` is on lease 77, which is not this registrar's: `a` goes without it until it is free"
        ]
    );
    plan.learn(vec![found("/x/a", "0", Some(stranger))]);
    assert_is_settled(&mut plan);
    assert!(notes(&mut plan).is_empty(), "said once");
    plan.learn(Vec::new());
    assert_eq!(only(&mut plan).steps, [put("/x/a", "1", own())]);
}

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
    settle(&mut plan);
    // They put theirs again: that stands.
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
    settle(&mut plan);
    // Another's value is not fought over, but moved.
    plan.learn(vec![found("/x/port", "81", Some(short))]);
    assert_eq!(only(&mut plan).steps, [put("/x/port", "81", long)]);
    settle(&mut plan);
    // A longer one than ours is left as it is.
    let longer = LeaseId::shared("/x/port", 1000);
    plan.learn(vec![found("/x/port", "81", Some(longer))]);
    assert_is_settled(&mut plan);
}

#[test]
fn a_shared_value_that_was_found_where_nothing_was_believed_is_put_too() {
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
fn what_nobody_wants_is_deleted_if_it_is_still_ours() {
    let mut plan = plan(&[], &[found("/x/a", "1", Some(own()))]);
    let transaction = only(&mut plan);
    assert_eq!(transaction.guards, [Guard::OnLease("/x/a".into(), own())]);
    assert_eq!(transaction.steps, [Step::Delete("/x/a".into())]);
    settle(&mut plan);
}

#[test]
fn what_is_not_ours_is_never_deleted() {
    let others = [
        found("/x/a", "1", None),
        found("/x/b", "1", Some(LeaseId(0x77))),
        found("/x/c", "1", Some(LeaseId::shared("/x/c", TTL + 2))),
        found(
            "/x/d",
            "1",
            Some(Identity::new("daemon", "another").lease(TTL)),
        ),
    ];
    assert_is_settled(&mut plan(&[], &others));
}

#[test]
fn a_shared_key_goes_with_the_last_owned_key_of_its_directory() {
    let mut plan = plan(&[web("a"), web("b")], &[]);
    settle(&mut plan);
    plan.want(&wanted(&[web("a")]));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/b/web/1/b".into())]);
    settle(&mut plan);
    plan.want(&wanted(&[]));
    let sweep = Step::Sweep {
        expected: vec!["/b/web/1/a".into(), "/b/web/1/port".into()],
        directory: "/b/web/1/".into(),
        sweep: vec![(
            "/b/web/1/port".into(),
            LeaseId::shared("/b/web/1/port", TTL + 2),
        )],
    };
    assert_eq!(
        only(&mut plan).steps,
        [Step::Delete("/b/web/1/a".into()), sweep]
    );
    settle(&mut plan);
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
    settle(&mut plan);
    plan.want(&wanted(&[]));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/s/web/a".into())]);
}

#[test]
fn a_shared_key_that_others_still_need_is_swept_by_nobody_twice() {
    let mut plan = plan(&[web("a")], &[]);
    settle(&mut plan);
    plan.want(&wanted(&[]));
    let batch = plan.batches(MAX_OPERATIONS, false).remove(0);
    // Another host has a member: the sweep finds more than it expects.
    plan.done(&batch, &Outcome::Done { swept: Vec::new() });
    assert_is_settled(&mut plan);
}

#[test]
fn a_new_member_requires_that_its_shared_keys_are_there() {
    let mut plan = plan(&[web("a")], &[]);
    settle(&mut plan);
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
fn all_of_a_container_changes_in_one_transaction_and_puts_go_first() {
    let before = [
        claim("a", &[owned("/x/old", "1")]),
        claim("b", &[owned("/x/b", "1")]),
    ];
    let mut plan = plan(&before, &[]);
    settle(&mut plan);
    plan.want(&wanted(&[
        claim("a", &[owned("/x/new", "1")]),
        claim("c", &[owned("/x/c", "1")]),
    ]));
    let batches = plan.batches(MAX_OPERATIONS, false);
    let steps: Vec<&[Step]> = batches
        .iter()
        .map(|batch| &*batch.transaction.steps)
        .collect();
    let puts = [
        put("/x/new", "1", own()),
        Step::Delete("/x/old".into()),
        put("/x/c", "1", own()),
    ];
    assert_eq!(steps, [puts.as_slice(), &[Step::Delete("/x/b".into())]]);
}

#[test]
fn a_key_that_moves_from_one_container_to_another_is_never_deleted() {
    let mut plan = plan(&[claim("a", &[owned("/x/web", "1")])], &[]);
    settle(&mut plan);
    plan.want(&wanted(&[claim("b", &[owned("/x/web", "2")])]));
    assert_eq!(only(&mut plan).steps, [put("/x/web", "2", own())]);
}

#[test]
fn the_older_container_keeps_a_key_that_two_want() {
    let (a, b) = (
        claim("a", &[owned("/x", "1")]),
        claim("b", &[owned("/x", "2")]),
    );
    let warning = "two containers want `/x` and do not agree on it: `a` is older and keeps it, `b` goes without; \
                   make their keys differ in the policy";
    for order in [[a.clone(), b.clone()], [b.clone(), a.clone()]] {
        let mut plan = plan(&order, &[]);
        assert_eq!(only(&mut plan).steps, [put("/x", "1", own())]);
        assert_eq!(notes(&mut plan), [warning]);
        settle(&mut plan);
        assert!(notes(&mut plan).is_empty(), "said once");
        plan.want(&wanted(std::slice::from_ref(&b)));
        assert_eq!(only(&mut plan).steps, [put("/x", "2", own())]);
        settle(&mut plan);
        plan.want(&wanted(&order));
        assert_eq!(only(&mut plan).steps, [put("/x", "1", own())]);
        assert_eq!(notes(&mut plan), [warning]);
    }
}

#[test]
fn two_containers_may_want_one_key_with_one_value() {
    let mut plan = plan(
        &[web("a"), claim("b", &[shared("/b/web/1/port", "80")])],
        &[],
    );
    settle(&mut plan);
    assert!(notes(&mut plan).is_empty());
    plan.want(&wanted(&[claim("b", &[shared("/b/web/1/port", "80")])]));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/b/web/1/a".into())]);
}

#[test]
fn what_may_be_an_unknown_containers_is_not_deleted() {
    let mut plan = Plan::new(identity());
    let protected = vec!["failing".to_owned(), ":32768".to_owned()];
    let claims = vec![claim("a", &[owned("/x/failing-a", "1")])];
    plan.want(&wanted_beside(&claims, protected.clone()));
    let held = |key: &str, value: &str| found(key, value, Some(own()));
    plan.learn(vec![
        held("/x/failing-a", "1"),
        held("/x/failing", "1"),
        held("/x/other", "1.2.3.4:32768"),
        held("/x/gone", "1.2.3.4:1"),
        held("/x/longer", "1.2.3.4:327680"),
        held("/x/unfailing", "1"),
    ]);
    let gone = ["/x/gone", "/x/longer", "/x/unfailing"];
    assert_eq!(
        only(&mut plan).steps,
        gone.map(|key| Step::Delete(key.into()))
    );
    settle(&mut plan);
    // What a container of this process has claimed is not the unknown one's, whatever it looks like.
    plan.want(&wanted_beside(&[], protected));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/x/failing-a".into())]);
    settle(&mut plan);
    plan.want(&wanted(&[]));
    assert_eq!(
        only(&mut plan).steps,
        [
            Step::Delete("/x/failing".into()),
            Step::Delete("/x/other".into())
        ]
    );
}

#[test]
fn a_container_is_split_only_where_it_does_not_fit() {
    let entries = |name: &str, count: usize| -> Claim {
        let entries: Vec<Entry> = (0..count)
            .map(|number| owned(&format!("/x/{name}/{number:03}"), "1"))
            .collect();
        claim(name, &entries)
    };
    let sizes = |claims: &[Claim]| -> Vec<usize> {
        plan(claims, &[])
            .batches(MAX_OPERATIONS, false)
            .iter()
            .map(|batch| batch.transaction.steps.len())
            .collect()
    };
    assert_eq!(sizes(&[entries("a", 60), entries("b", 60)]), [120]);
    assert_eq!(sizes(&[entries("a", 100), entries("b", 60)]), [100, 60]);
    assert_eq!(sizes(&[entries("a", 300)]), [128, 128, 44]);
    assert_eq!(
        sizes(&[entries("a", 1), entries("b", 300)]),
        [1, 128, 128, 44]
    );
}

#[test]
fn no_transaction_puts_a_member_before_its_shared_key_or_without_it() {
    let claims: Vec<Claim> = (0..300)
        .map(|number| Claim {
            // The oldest, whose value of the shared key stands, comes last.
            age: format!("{:03}", 999 - number).into(),
            ..web(&format!("c{number:03}"))
        })
        .collect();
    let batches = plan(&claims, &[]).batches(MAX_OPERATIONS, false);
    assert!(batches.len() > 2);
    let lease = LeaseId::shared("/b/web/1/port", TTL + 2);
    let port = put("/b/web/1/port", "80", lease);
    for (index, batch) in batches.iter().enumerate() {
        let Transaction { guards, steps } = &batch.transaction;
        let guard = Guard::OnLease("/b/web/1/port".into(), lease);
        assert_eq!(steps.contains(&port), index == 0);
        assert_eq!(guards.contains(&guard), index > 0);
    }
}

#[test]
fn each_part_of_a_container_requires_the_shared_keys_that_earlier_ones_put() {
    let entries: Vec<Entry> = (0..100)
        .flat_map(|index| {
            let directory = format!("/b/web/{index:03}");
            [
                owned(&format!("{directory}/c"), "1.2.3.4:80"),
                shared(&format!("{directory}/port"), "80"),
            ]
        })
        .collect();
    let batches = plan(&[claim("c", &entries)], &[]).batches(MAX_OPERATIONS, false);
    let mut ports = std::collections::BTreeSet::new();
    for batch in &batches {
        let Transaction { guards, steps } = &batch.transaction;
        assert!(
            guards.len().max(steps.len()) <= MAX_OPERATIONS,
            "{}",
            guards.len()
        );
        for step in steps {
            let Step::Put(key, _, lease) = step else {
                continue;
            };
            if lease.is_shared_for(key) {
                ports.insert(Arc::clone(key));
                continue;
            }
            let port: Key = format!("{}port", directory(key)).into();
            let put_here = steps
                .iter()
                .any(|step| matches!(step, Step::Put(key, ..) if *key == port));
            let guarded = guards.iter().any(|guard| *guard.key() == port);
            assert!(ports.contains(&port) && (put_here || guarded), "{key}");
        }
    }
    assert_eq!(ports.len(), 100);
}

#[test]
fn a_transaction_carries_no_more_than_etcd_takes() {
    let big = "x".repeat(16_000);
    let entries: Vec<Entry> = (0..100)
        .map(|number| owned(&format!("/x/{number}"), &big))
        .collect();
    for batch in plan(&[claim("a", &entries)], &[]).batches(MAX_OPERATIONS, false) {
        let bytes: usize = batch.transaction.steps.iter().map(Step::bytes).sum();
        assert!(bytes <= 1024 * 1024, "{bytes}");
    }
}

#[test]
fn no_transaction_is_larger_than_etcd_allows_when_everything_goes() {
    let claims: Vec<Claim> = (0..300)
        .map(|number| {
            let (service, name) = (number % 40, format!("c{number:03}"));
            let directory = |port: u32| format!("/b/s{service}/{port}");
            let entries: Vec<Entry> = (1..=2)
                .flat_map(|port| {
                    [
                        owned(&format!("{}/{name}", directory(port)), "1"),
                        shared(&format!("{}/port", directory(port)), "80"),
                    ]
                })
                .collect();
            claim(&name, &entries)
        })
        .collect();
    let mut plan = plan(&claims, &[]);
    settle(&mut plan);
    plan.want(&wanted(&[]));
    let mut swept = BTreeMap::new();
    for batch in plan.batches(MAX_OPERATIONS, false) {
        let transaction = &batch.transaction;
        let nested = transaction
            .steps
            .iter()
            .map(Step::nested_size)
            .max()
            .unwrap_or(0);
        let size = transaction.guards.len().max(transaction.steps.len()) + nested;
        assert!(size <= MAX_OPERATIONS, "{size}");
        for step in &transaction.steps {
            if let Step::Sweep { sweep, .. } = step {
                for (key, _) in sweep {
                    *swept.entry(Arc::clone(key)).or_insert(0) += 1;
                }
            }
        }
    }
    assert_eq!(
        swept.len(),
        80,
        "each port key is swept with the last members of its directory"
    );
}

/// A container as a snapshot has it.
fn running(id: &str, name: &str, host_port: u16) -> Arc<Container> {
    let sample = serde_json::json!({
        "id": format!("{id:0<64}"), "name": name, "ports": [{ "port": 80, "host_port": host_port }],
    });
    Arc::new(Sample::read(sample).unwrap().container().unwrap())
}

fn steps(batches: &[Batch]) -> Vec<Vec<Step>> {
    let steps = batches.iter().map(|batch| batch.transaction.steps.clone());
    steps.collect()
}

fn delete(key: &str) -> Step {
    Step::Delete(key.into())
}

#[test]
fn a_key_that_a_renamed_container_leaves_goes_with_the_put_of_the_new_one() {
    let named = |name: &str| Claim {
        who: Who {
            id: "0".into(),
            name: name.into(),
        },
        ..claim("0", &[owned(&format!("/x/{name}"), "1")])
    };
    let mut plan = plan(&[named("before")], &[]);
    settle(&mut plan);
    plan.want(&wanted(&[named("after")]));
    assert_eq!(
        only(&mut plan).steps,
        [put("/x/after", "1", own()), delete("/x/before")]
    );
}

#[test]
fn deletes_wait_for_the_puts_that_replace_them() {
    let mut plan = plan(
        &[
            claim("moves", &[owned("/old/moves", "1")]),
            claim("gone", &[owned("/old/gone", "1")]),
            claim("less", &[owned("/old/less", "1")]),
        ],
        &["moves", "gone", "less", "unclaimed"]
            .map(|name| found(&format!("/old/{name}"), "1", Some(own()))),
    );
    plan.want(&wanted(&[
        claim("moves", &[owned("/new/moves", "1")]),
        claim("less", &[]),
    ]));
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(
        steps(&batches),
        [
            vec![put("/new/moves", "1", own()), delete("/old/moves")],
            vec![delete("/old/gone"), delete("/old/less")],
            vec![delete("/old/unclaimed")],
        ]
    );
    let may_follow = |refused: &[&str]| {
        let refused: BTreeSet<Key> = refused.iter().map(|key| Key::from(*key)).collect();
        let each = batches.iter().map(|batch| plan.may_follow(batch, &refused));
        each.collect::<Vec<_>>()
    };
    assert_eq!(may_follow(&[]), [true, true, true]);
    assert_eq!(may_follow(&["/new/moves"]), [false, true, false]);
    assert_eq!(may_follow(&["/new/other"]), [true, true, false]);
}

#[test]
fn the_parts_of_a_container_wait_for_one_another() {
    let entries = |prefix: &str| -> Vec<Entry> {
        let entry = |number| owned(&format!("/{prefix}/{number:0>3}"), "1");
        (0..MAX_OPERATIONS).map(entry).collect()
    };
    let mut plan = plan(&[claim("a", &entries("old"))], &[]);
    settle(&mut plan);
    plan.want(&wanted(&[claim("a", &entries("new"))]));
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(batches.len(), 2);
    let refused: BTreeSet<Key> = batches[0].puts().cloned().collect();
    assert_eq!(refused.len(), MAX_OPERATIONS);
    assert!(!plan.may_follow(&batches[1], &refused));
}

#[test]
fn what_may_be_another_processs_waits_until_this_one_is_alone() {
    let mut plan = Plan::new(identity());
    let containers = [running("0123456789ab", "web-1", 32768)];
    plan.want(&Arc::new(Wanted {
        running: containers.into_iter().collect(),
        outside: Some(["fedcba987654".to_owned()].into()),
        ..Wanted::default()
    }));
    let held = |key: &str, value: &str| found(key, value, Some(own()));
    plan.learn(vec![
        held("/b/web/1/0123456789ab", "10.0.0.1:9"),
        held("/b/web/1/web-1", "10.0.0.1:9"),
        held("/b/web/1/other", "10.0.0.1:32768"),
        held("/b/web/1/cba987654321", "10.0.0.1:32768"),
        held("/b/web/1/fedcba987654", "10.0.0.1:9"),
        held("/b/web/1/unclear", "10.0.0.1:9"),
    ]);
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(
        steps(&batches),
        [
            vec![delete("/b/web/1/cba987654321")],
            vec![delete("/b/web/1/unclear")]
        ],
        "an id that does not run decides, and what nothing tells of is left over"
    );
    settle(&mut plan);
    plan.set_alone(true);
    assert_eq!(only(&mut plan).steps.len(), 4);
    plan.set_alone(false);
    assert_is_settled(&mut plan);
}

#[test]
fn nothing_follows_before_anything_is_wanted() {
    let mut plan = Plan::new(identity());
    plan.learn(vec![found("/x/a", "1", Some(own()))]);
    plan.set_alone(true);
    assert_is_settled(&mut plan);
    plan.want(&wanted(&[]));
    assert_eq!(only(&mut plan).steps, [delete("/x/a")]);
}

#[test]
fn what_others_hold_does_not_replace_what_a_container_has() {
    let stranger = LeaseId(0x77);
    let mut plan = plan(&[claim("a", &[owned("/old/a", "1")])], &[]);
    settle(&mut plan);
    plan.want(&wanted(&[claim("a", &[owned("/new/a", "1")])]));
    let old = found("/old/a", "1", Some(own()));
    plan.learn(vec![old.clone(), found("/new/a", "9", Some(stranger))]);
    assert_is_settled(&mut plan);
    plan.learn(vec![old]);
    assert_eq!(
        only(&mut plan).steps,
        [put("/new/a", "1", own()), delete("/old/a")]
    );
}

#[test]
fn a_shared_lease_that_nobody_renews_is_left_for_ours() {
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
    assert!(notes(&mut plan)[0].contains("goes without it until"));
    plan.set_abandoned([at(long)].into());
    assert_eq!(only(&mut plan).steps, [put("/x/port", "81", own())]);
}

#[test]
fn a_shared_key_lives_as_long_as_the_longest_of_its_wishes() {
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

#[test]
fn what_differs_in_the_store_is_told() {
    let mut plan = plan(&[web("a")], &[]);
    settle(&mut plan);
    let surprises = plan.learn(vec![found("/b/web/1/strange", "1", Some(own()))]);
    let keys = |keys: &[Key]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut missing = keys(&surprises.missing);
    missing.sort();
    assert_eq!(missing, ["/b/web/1/a", "/b/web/1/port"]);
    assert_eq!(keys(&surprises.strange), ["/b/web/1/strange"]);
    // A put that may yet arrive is no stranger's.
    let batch = plan.batches(MAX_OPERATIONS, false).remove(0);
    plan.doubt(&batch);
    plan.want(&wanted(&[]));
    settle(&mut plan);
    let surprises = plan.learn(vec![found("/b/web/1/a", "1", Some(own()))]);
    assert_eq!(keys(&surprises.strange), Vec::<String>::new());
}
