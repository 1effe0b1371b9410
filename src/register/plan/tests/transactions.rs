//! How changes are packed into transactions.

use std::collections::BTreeMap;

use super::*;
use crate::base::key::directory;

#[test]
fn all_of_a_container_changes_in_one_transaction_and_puts_go_first() {
    let before = [
        claim("a", &[owned("/x/old", "1")]),
        claim("b", &[owned("/x/b", "1")]),
    ];
    let mut plan = plan(&before, &[]);
    carry_out_all(&mut plan);
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
            // The oldest container, whose value of the shared key stands, comes last.
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
        let bytes = batch.transaction.size().bytes();
        assert!(bytes <= 1024 * 1024, "{bytes}");
    }
}

#[test]
fn no_transaction_is_larger_than_etcd_allows_when_every_key_is_deleted() {
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
    carry_out_all(&mut plan);
    plan.want(&wanted(&[]));
    let mut swept = BTreeMap::new();
    for batch in plan.batches(MAX_OPERATIONS, false) {
        let transaction = &batch.transaction;
        let size = transaction.size().operations();
        assert!(size <= MAX_OPERATIONS, "{size}");
        for step in &transaction.steps {
            if let Step::Sweep(sweep) = step {
                for (key, _) in &sweep.keys {
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

#[test]
fn the_parts_of_a_container_wait_for_one_another() {
    let entries = |prefix: &str| -> Vec<Entry> {
        let entry = |number| owned(&format!("/{prefix}/{number:0>3}"), "1");
        (0..MAX_OPERATIONS).map(entry).collect()
    };
    let mut plan = plan(&[claim("a", &entries("old"))], &[]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[claim("a", &entries("new"))]));
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].puts().count(), MAX_OPERATIONS);
    let mut refused = Refused::default();
    plan.refuse(&batches[0], &mut refused);
    assert!(!plan.may_follow(&batches[1], &refused));
}

#[test]
fn a_key_on_no_lease_takes_two_guards_of_a_transaction() {
    let entries: Vec<Entry> = (0..MAX_OPERATIONS)
        .map(|number| owned(&format!("/x/{number:03}"), "1"))
        .collect();
    let loose: Vec<Found> = entries
        .iter()
        .map(|entry| found(&entry.key, "0", None))
        .collect();
    let batches = plan(&[claim("a", &entries)], &loose).batches(MAX_OPERATIONS, false);
    assert_eq!(batches.len(), 2);
    for batch in &batches {
        assert!(!batch.is_small());
        assert_eq!(batch.transaction.size().operations(), MAX_OPERATIONS);
    }
}
