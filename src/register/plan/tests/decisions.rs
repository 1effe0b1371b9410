//! The decision table, and containers that want the same keys or replace one another.

use super::*;

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
        carry_out_all(&mut plan);
    }
}

#[test]
fn a_held_key_with_the_wanted_value_stays_untouched() {
    let lease = LeaseId::shared("/b/web/1/port", TTL + 2);
    let held = [
        found("/b/web/1/a", "1.2.3.4:80", Some(own())),
        found("/b/web/1/port", "80", Some(lease)),
    ];
    let mut plan = plan(&[web("a")], &held);
    assert_is_settled(&mut plan);
    // Neither the same wants nor the same read again changes anything.
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
        let at = held.lease().unwrap();
        let mut plan = plan(&[claim("a", &[owned("/x/a", "1")])], &[held]);
        let transaction = only(&mut plan);
        assert_eq!(transaction.guards, [Guard::OnLease("/x/a".into(), at)]);
        assert_eq!(transaction.steps, [put("/x/a", "1", own())]);
        carry_out_all(&mut plan);
    }
}

#[test]
fn a_key_on_no_lease_is_taken_over_with_a_warning() {
    for entry in [owned("/x/a", "1"), shared("/x/a", "1")] {
        let mut plan = plan(&[claim("a", &[entry])], &[found("/x/a", "0", None)]);
        let transaction = only(&mut plan);
        let loose = Guard::Loose("/x/a".into(), "0".into());
        assert_eq!(transaction.guards, [loose]);
        let [Step::Put(_, value, _)] = &transaction.steps[..] else {
            panic!("{transaction:?}");
        };
        assert_eq!(&**value, "1");
        assert_eq!(
            notes(&mut plan),
            ["`/x/a` was on no lease, so nothing would ever have removed it: taken over for `a`"]
        );
        carry_out_all(&mut plan);
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
            "`/x/a` is on lease 77, which is not this registrar's: `a` does not get it until it is free"
        ]
    );
    plan.learn(vec![found("/x/a", "0", Some(stranger))]);
    assert_is_settled(&mut plan);
    assert!(notes(&mut plan).is_empty(), "logged once");
    plan.learn(Vec::new());
    assert_eq!(only(&mut plan).steps, [put("/x/a", "1", own())]);
}

#[test]
fn a_strangers_key_without_a_lease_is_left_too() {
    let stranger = Found {
        on: On::Stranger("a list".into()),
        ..found("/x/a", "", None)
    };
    let wanted = claim("a", &[owned("/x/a", "1")]);
    let mut plan = plan(&[wanted], std::slice::from_ref(&stranger));
    assert_is_settled(&mut plan);
    assert_eq!(
        notes(&mut plan),
        ["`/x/a` is a list, which is not this registrar's: `a` does not get it until it is free"]
    );
    plan.learn(vec![stranger]);
    assert_is_settled(&mut plan);
    assert!(notes(&mut plan).is_empty(), "logged once");
}

#[test]
fn an_unwanted_key_is_deleted_if_it_is_still_ours() {
    let mut plan = plan(&[], &[found("/x/a", "1", Some(own()))]);
    let transaction = only(&mut plan);
    assert_eq!(transaction.guards, [Guard::OnLease("/x/a".into(), own())]);
    assert_eq!(transaction.steps, [Step::Delete("/x/a".into())]);
    carry_out_all(&mut plan);
}

#[test]
fn a_key_that_is_not_ours_is_never_deleted() {
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
fn a_key_that_moves_from_one_container_to_another_is_never_deleted() {
    let mut plan = plan(&[claim("a", &[owned("/x/web", "1")])], &[]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[claim("b", &[owned("/x/web", "2")])]));
    assert_eq!(only(&mut plan).steps, [put("/x/web", "2", own())]);
}

#[test]
fn the_older_container_keeps_a_key_that_two_want() {
    let (a, b) = (
        claim("a", &[owned("/x", "1")]),
        claim("b", &[owned("/x", "2")]),
    );
    let warning = "two containers want `/x` and do not agree on it: `a` is older and keeps it as `1`, `b` wants `2` \
                   and does not get it; make their keys differ in the policy";
    for order in [[a.clone(), b.clone()], [b.clone(), a.clone()]] {
        let mut plan = plan(&order, &[]);
        assert_eq!(only(&mut plan).steps, [put("/x", "1", own())]);
        assert_eq!(notes(&mut plan), [warning]);
        carry_out_all(&mut plan);
        assert!(notes(&mut plan).is_empty(), "logged once");
        plan.want(&wanted(std::slice::from_ref(&b)));
        assert_eq!(only(&mut plan).steps, [put("/x", "2", own())]);
        carry_out_all(&mut plan);
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
    carry_out_all(&mut plan);
    assert!(notes(&mut plan).is_empty());
    plan.want(&wanted(&[claim("b", &[shared("/b/web/1/port", "80")])]));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/b/web/1/a".into())]);
}

#[test]
fn the_old_key_of_a_renamed_container_is_deleted_with_the_put_of_the_new_one() {
    let named = |name: &str| Claim {
        who: ContainerName {
            id: "0".into(),
            name: name.into(),
        },
        ..claim("0", &[owned(&format!("/x/{name}"), "1")])
    };
    let mut plan = plan(&[named("before")], &[]);
    carry_out_all(&mut plan);
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
    let may_follow = |keys: &[&str]| {
        let mut puts = Batch::default();
        puts.transaction.steps = keys.iter().map(|key| put(key, "1", own())).collect();
        let mut refused = Refused::default();
        plan.refuse(&puts, &mut refused);
        let each = batches.iter().map(|batch| plan.may_follow(batch, &refused));
        each.collect::<Vec<_>>()
    };
    assert_eq!(may_follow(&[]), [true, true, true]);
    assert_eq!(may_follow(&["/new/moves"]), [false, true, false]);
    assert_eq!(may_follow(&["/new/other"]), [true, true, false]);
}

#[test]
fn a_container_keeps_its_old_key_while_another_registrar_holds_the_new_one() {
    let stranger = LeaseId(0x77);
    let mut plan = plan(&[claim("a", &[owned("/old/a", "1")])], &[]);
    carry_out_all(&mut plan);
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
fn two_containers_that_disagree_on_a_shared_key_are_named_with_their_values() {
    let claims = [("a", "8006"), ("b", "8005")].map(|(name, port)| {
        claim(
            name,
            &[
                owned(&format!("/w/2/{name}"), "1"),
                shared("/w/2/port", port),
            ],
        )
    });
    let mut plan = plan(&claims, &[]);
    carry_out_all(&mut plan);
    assert_eq!(
        notes(&mut plan),
        [
            "two containers want `/w/2/port` and do not agree on it: `a` is older and keeps it as `8006`, `b` wants \
             `8005` and does not get it; if they have different versions of one image, replace the older one, else \
             make their keys differ in the policy"
        ]
    );
}

#[test]
fn a_key_of_the_former_identity_is_taken_if_it_is_wanted() {
    let former = Identity::new("former", "");
    let on = |key| found(key, "1", Some(former.lease(TTL)));
    let mut plan = Plan::new(identity().after(former));
    plan.want(&wanted(&[claim("a", &[owned("/x/a", "1")])]));
    plan.learn(vec![on("/x/a"), on("/x/b")]);
    let transaction = only(&mut plan);
    let at = former.lease(TTL);
    assert_eq!(transaction.guards, [Guard::OnLease("/x/a".into(), at)]);
    assert_eq!(transaction.steps, [put("/x/a", "1", own())]);
    carry_out_all(&mut plan);
    assert!(notes(&mut plan).is_empty());
}
