//! The means for each difference, and the differences that are found without a look at all servers.

use std::collections::BTreeMap;

use proptest::collection::btree_set;
use proptest::prelude::*;

use super::*;
use crate::discover::haproxy::Health;
use crate::routes::Piece;

const ALL: Abilities = Abilities {
    can_add_servers: true,
};

/// A file with a service `web` of these servers, by the last part of their addresses.
fn file(head: &str, servers: &[u8], options: &str) -> File {
    let servers = servers_of("web", servers, options);
    let pieces = vec![Piece::Text(head.into()), Piece::Servers(Arc::new(servers))];
    let name = "haproxy.cfg".into();
    File { name, pieces }
}

fn servers_of(backend: &str, servers: &[u8], options: &str) -> Servers {
    let servers: Vec<Server> = servers
        .iter()
        .map(|number| server(*number, options))
        .collect();
    let line = |server: &Server| format!("{} {} {options}\n", server.name, server.address);
    let lines = servers.iter().map(|server| line(server).into()).collect();
    Servers {
        backend: backend.into(),
        frontend: Some(backend.into()),
        servers,
        lines,
    }
}

fn server(number: u8, options: &str) -> Server {
    Server {
        name: format!("s{number}").into(),
        address: ([10, 0, 0, number], 80).into(),
        options: options.into(),
    }
}

/// A process with these servers of `web`, those in maintenance apart.
fn running(ready: &[u8], maint: &[u8], is_open: bool) -> Running {
    Running {
        backends: [("web".into(), Arc::new(found(ready, maint)))].into(),
        frontends: [("web".into(), is_open)].into(),
    }
}

fn found(ready: &[u8], maint: &[u8]) -> BTreeMap<Arc<str>, RunningServer> {
    let found = |number: &u8, is_maint| {
        let Server { name, address, .. } = server(*number, "");
        let found = RunningServer {
            name: Arc::clone(&name),
            address: Some(address),
            is_maint,
            health: Health::Up,
            sessions: 0,
        };
        (name, found)
    };
    let ready = ready.iter().map(|number| found(number, false));
    ready
        .chain(maint.iter().map(|number| found(number, true)))
        .collect()
}

fn applied(file: &File) -> Applied {
    Applied::loaded(file)
}

/// The changes as an operator reads them.
fn changes(plan: &Plan) -> Vec<String> {
    plan.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_in_step_is_left_alone() {
    let wanted = file("a", &[1, 2], "check");
    let plan = plan(
        &wanted,
        Some(&applied(&wanted)),
        &running(&[1, 2], &[], true),
        ALL,
    );
    assert_eq!(plan, Plan::default());
}

#[test]
fn servers_come_and_go_without_a_reload() {
    let before = applied(&file("a", &[1, 2], "check"));
    let wanted = file("a", &[2, 3], "check");
    let plan = plan(&wanted, Some(&before), &running(&[1, 2], &[], true), ALL);
    assert_eq!(plan.reload, None);
    assert_eq!(
        changes(&plan),
        [
            "add server `web/s3` at 10.0.0.3:80",
            "set server `web/s1` to maintenance"
        ]
    );
}

#[test]
fn a_server_that_returns_is_made_ready_if_its_options_are_the_same() {
    let before = applied(&file("a", &[1], "check"));
    let plan_for = |options| {
        let wanted = file("a", &[1], options);
        plan(&wanted, Some(&before), &running(&[], &[1], true), ALL)
    };
    let same = plan_for("check");
    assert_eq!((changes(&same).len(), same.reload), (1, None));
    let other = plan_for("check inter 1s");
    assert_eq!(changes(&other), [""; 0]);
    assert!(other.reload.is_some());
}

#[test]
fn a_service_without_servers_is_closed_and_opened_with_its_first() {
    let before = applied(&file("a", &[1], "check"));
    let closed = plan(
        &file("a", &[], "check"),
        Some(&before),
        &running(&[1], &[], true),
        ALL,
    );
    assert!(matches!(
        &closed.changes[..],
        [Change::Maint { .. }, Change::Disable { .. }]
    ));
    let opened = plan(
        &file("a", &[2], "check"),
        Some(&before),
        &running(&[], &[1], false),
        ALL,
    );
    // The server comes first, so that nobody is let in before it.
    assert!(matches!(
        &opened.changes[..],
        [Change::Add { .. }, Change::Enable { .. }]
    ));
    assert_eq!((closed.reload, opened.reload), (None, None));
}

#[test]
fn other_text_needs_a_reload_and_servers_do_not_wait_for_it() {
    let before = applied(&file("a", &[1], "check"));
    let plan = plan(
        &file("b", &[2], "check"),
        Some(&before),
        &running(&[1], &[], true),
        ALL,
    );
    assert_eq!(plan.changes.len(), 2);
    assert!(
        plan.reload
            .is_some_and(|why| why.contains("more than servers"))
    );
}

#[test]
fn a_service_that_goes_is_closed_before_the_reload() {
    let before = applied(&file("a", &[1], "check"));
    let name = "haproxy.cfg".into();
    let pieces = vec![Piece::Text("a".into())];
    let plan = plan(
        &File { name, pieces },
        Some(&before),
        &running(&[1], &[], true),
        ALL,
    );
    assert!(matches!(
        &plan.changes[..],
        [Change::Maint { .. }, Change::Disable { .. }]
    ));
    assert!(plan.reload.is_some());
}

#[test]
fn an_unknown_state_an_old_version_and_a_missing_backend_need_a_reload() {
    let wanted = file("a", &[1], "check");
    let known = applied(&wanted);
    let old = Abilities {
        can_add_servers: false,
    };
    for plan in [
        plan(&wanted, None, &running(&[1], &[], true), ALL),
        plan(&wanted, Some(&known), &running(&[], &[], true), old),
        plan(&wanted, Some(&known), &Running::default(), ALL),
    ] {
        assert!(plan.reload.is_some(), "{plan:?}");
    }
}

/// The servers of three services.
fn any_servers() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let of_one =
        btree_set(1..5_u8, 0..3).prop_map(|numbers| numbers.into_iter().collect::<Vec<u8>>());
    prop::collection::vec(of_one, 3)
}

/// A file with these services.
fn file_of(services: &[Vec<u8>], options: &str) -> File {
    let servers = ["a", "b", "c"].into_iter().zip(services);
    let servers = servers.map(|(name, servers)| servers_of(name, servers, options));
    File {
        name: "haproxy.cfg".into(),
        pieces: servers
            .map(|servers| Piece::Servers(Arc::new(servers)))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_servers_that_differ_make_the_same_plan_as_all_servers(
        before in any_servers(),
        wanted in any_servers(),
        in_maint in any_servers(),
        options in prop::sample::select(vec!["check", "check inter 1s"]),
    ) {
        let mut running = Running::default();
        for ((name, ready), maint) in ["a", "b", "c"].into_iter().zip(&before).zip(&in_maint) {
            let maint: Vec<u8> = maint.iter().copied().filter(|it| !ready.contains(it)).collect();
            running.backends.insert(name.into(), Arc::new(found(ready, &maint)));
            running.frontends.insert(name.into(), !ready.is_empty());
        }
        let (before, wanted) = (file_of(&before, "check"), file_of(&wanted, options));
        let applied = applied(&before);
        prop_assert_eq!(plan(&before, Some(&applied), &running, ALL), Plan::default());
        let changed = wanted.changed_servers(&before).expect("the same text");
        prop_assert_eq!(
            plan_servers(&changed, Some(&applied), &running, ALL),
            plan(&wanted, Some(&applied), &running, ALL)
        );
    }
}
