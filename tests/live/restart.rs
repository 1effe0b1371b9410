//! A registrar that ends or dies, and starts again: live keys are never written again, and stale ones are removed
//! after its first list of Docker's containers.

use crate::common;

use common::{
    Container, ContainerBuilder, HOST_IP, Kind, Registrar, SOON, TestBed, eventually, joined,
    web_keys,
};
use std::collections::BTreeMap;

const HOST_A: &str = "192.0.2.1";
const HOST_B: &str = "192.0.2.2";

fn service(bed: &TestBed, name: &str) -> ContainerBuilder {
    bed.container().env("SERVICE_NAME", name).publish_all()
}

/// Starts the bed's registrar, and waits until its first sync is done.
#[track_caller]
fn in_step(registrar: &common::RegistrarBuilder) -> Registrar {
    let registrar = registrar.start();
    registrar.wait_for_log("in step", SOON);
    registrar
}

/// The keys in etcd with their revisions, which show whether they were written again.
fn revisions(bed: &TestBed) -> BTreeMap<String, i64> {
    let revision = |key: &String| bed.etcd.kv(&bed.key(key)).map_or(0, |kv| kv.mod_revision);
    let keys = bed.keys().into_keys();
    keys.map(|key| (key.clone(), revision(&key))).collect()
}

#[test]
fn a_killed_registrar_takes_up_where_it_was() {
    let bed = TestBed::new();
    let [lives, dies, alone] = ["web", "web", "alone"].map(|name| service(&bed, name).start());
    let registrar = in_step(&bed.registrar());
    let of_web = web_keys("web", &lives, HOST_IP);
    assert_eq!(bed.keys().len(), 2 * 3 + 2 * 2, "{:#?}", bed.keys());
    let before = revisions(&bed);

    registrar.kill9();
    dies.stop();
    alone.stop();
    let comes = service(&bed, "new").start();
    assert_eq!(revisions(&bed), before);
    let _registrar = in_step(&bed.registrar());
    let wanted = joined([&of_web, &web_keys("new", &comes, HOST_IP)]);
    assert_eq!(bed.keys(), wanted, "after the first sync");

    let after = revisions(&bed);
    for key in of_web.keys() {
        assert_eq!(after[key], before[key], "{key} was written anew");
    }
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_registrar_that_starts_with_nothing_to_want_removes_what_it_had() {
    let bed = TestBed::new();
    let only = service(&bed, "web").start();
    let registrar = in_step(&bed.registrar());
    registrar.kill9();
    only.rm();
    assert_eq!(bed.keys().len(), 4);
    let _registrar = in_step(&bed.registrar());
    assert_eq!(bed.keys(), BTreeMap::new(), "after the first sync");
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn another_ttl_moves_the_keys_to_another_lease() {
    let bed = TestBed::new();
    let [lives, dies] = ["web", "alone"].map(|name| service(&bed, name).start());
    in_step(&bed.registrar().flag("--ttl", "30")).kill9();
    dies.stop();
    let _registrar = in_step(&bed.registrar().flag("--ttl", "40"));
    let keys = web_keys("web", &lives, HOST_IP);
    let member = bed.key(&format!("web/1/{}", lives.short_id()));
    assert_eq!(bed.keys(), keys, "after the first sync");
    let lease = bed.etcd.kv(&member).expect("the key exists").lease;
    assert_eq!(bed.etcd.time_to_live(lease).0, 40);
    for (revision, state) in bed.states() {
        let started = state.contains_key("web/1/port");
        assert!(
            !started || keys.keys().all(|key| state.contains_key(key)),
            "at revision {revision} a key of the living container is missing: {state:#?}"
        );
    }
}

#[test]
fn no_member_outlives_its_port_key_after_the_ttl_was_raised() {
    let bed = TestBed::new();
    let _web = service(&bed, "web").start();
    in_step(&bed.registrar().flag("--ttl", "2")).kill9();
    in_step(&bed.registrar().flag("--ttl", "8")).kill9();
    eventually(SOON, "the keys to expire", || bed.keys().is_empty());
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn sigterm_leaves_the_keys() {
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let registrar = in_step(&bed.registrar().flag("--on-exit", "leave"));
    let revision = bed.etcd.revision();
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("the keys stay"), "{}", output.stderr);
    assert_eq!(bed.keys(), web_keys("web", &web, HOST_IP));
    assert_eq!(bed.etcd.revision(), revision);
}

#[test]
fn sigint_ends_it_as_well() {
    let bed = TestBed::new();
    let registrar = in_step(&bed.registrar());
    registrar.signal("INT");
    assert_eq!(registrar.wait(SOON).code(), Some(0));
}

#[test]
fn sigterm_removes_the_keys_if_told_to() {
    let bed = TestBed::new();
    let _web = service(&bed, "web").start();
    let registrar = in_step(&bed.registrar().flag("--on-exit", "remove"));
    assert_eq!(bed.keys().len(), 4);
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    assert_eq!(bed.keys(), BTreeMap::new());
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(
        output.stderr.contains("the keys are removed"),
        "{}",
        output.stderr
    );
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn what_another_host_wants_is_not_removed() {
    let bed = TestBed::new();
    let member = |host| bed.container_on(host).env("SERVICE_NAME", "web").start();
    let (a, b): (Container, Container) = (member("a"), member("b"));
    let on_a = in_step(&bed.registrar_on("a", HOST_A).flag("--on-exit", "remove"));
    let _on_b = in_step(&bed.registrar_on("b", HOST_B));
    let [keys_a, keys_b] = [web_keys("web", &a, HOST_A), web_keys("web", &b, HOST_B)];
    assert_eq!(bed.keys(), joined([&keys_a, &keys_b]));
    assert_eq!(on_a.terminate().code(), Some(0));
    assert_eq!(bed.keys(), keys_b);
    let port = bed.key("web/1/port");
    let history = bed.etcd.history(&port);
    assert!(
        history.iter().all(|event| event.kind == Kind::Put),
        "the port key was deleted: {history:#?}"
    );
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let bed = TestBed::new();
    let _web = service(&bed, "web").start();
    let registrar = in_step(&bed.registrar().flag("--on-exit", "remove"));
    // The shutdown has to wait for an etcd that does not answer.
    bed.etcd.pause();
    registrar.signal("TERM");
    registrar.wait_for_log("SIGTERM", SOON);
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    assert!(
        output.stderr.contains("ending at once"),
        "{}",
        output.stderr
    );
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
}

#[test]
fn an_etcd_that_is_away_holds_up_the_end_for_seconds_only() {
    let bed = TestBed::new();
    let _web = service(&bed, "web").start();
    let registrar = in_step(&bed.registrar().flag("--on-exit", "remove"));
    bed.etcd.stop();
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(
        output.stderr.contains("stay until their TTL ends, because"),
        "{}",
        output.stderr
    );
}
