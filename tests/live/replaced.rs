//! Another layout, prefix or script: the keys of a running container stay until their replacements are in etcd. Keys
//! that may belong to another process stay until the seat is decided.

use crate::common;

use common::{
    Etcd, FakeDocker, HOST_IP, Registrar, RegistrarBuilder, Reply, SOON, Script, TestBed, count,
    docker_of, eventually, in_step, inspection, joined, let_time_pass, map, summary, web_keys,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::etcd_access::etcdctl;
use super::faults_etcd::assert_never_deleted;

/// The keys as below another prefix, inside the test's own.
fn below(prefix: &str, keys: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let key = |(key, value): (&String, &String)| (format!("{prefix}/{key}"), value.clone());
    map(keys.iter().map(key))
}

fn at_prefix(bed: &TestBed, prefix: &str) -> RegistrarBuilder {
    bed.registrar()
        .flag("--prefix", format!("{}/{prefix}", bed.prefix))
}

/// An etcd with a small quota.
fn small_bed() -> TestBed {
    let mut bed = TestBed::new();
    bed.etcd = Etcd::start_with(&["--quota-backend-bytes", "16777216"]);
    bed
}

const JUNK: &str = "/junk";

// --- Puts that are refused -------------------------------------------------------------------------------------------

#[test]
fn a_role_without_the_right_to_the_new_prefix_loses_no_key() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let [web, goes] = ["web", "goes"].map(|name| {
        let container = bed.container().env("SERVICE_NAME", name);
        container.publish_all().start()
    });
    let grant = |prefix: &str| {
        let arguments = format!(
            "role grant-permission site readwrite {}/{prefix} --prefix=true",
            bed.prefix
        );
        etcdctl(&bed, &arguments);
    };
    for arguments in [
        "user add root:root",
        "user grant-role root root",
        "user add registrar:secret",
        "role add site",
        "user grant-role registrar site",
    ] {
        etcdctl(&bed, arguments);
    }
    grant("old");
    etcdctl(&bed, "auth enable");
    let start = |prefix: &str| {
        at_prefix(&bed, prefix)
            .flag("--ttl", TTL.to_string())
            .flag("--etcd-user", "registrar")
            .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret")
            .start()
    };
    let registrar = start("old");
    registrar.wait_for_log("in step", SOON);
    registrar.terminate();
    let registrar = start("new");
    registrar.wait_for_log("permission denied", SOON);
    let_time_pass(2 * Duration::from_secs(TTL.into()));
    // Keys of a stopped container are removed, because nothing will replace them.
    goes.stop();
    let deletes_of = |container: &common::Container| {
        let log = registrar.log();
        let deletes = log.lines().filter(|line| line.contains("INFO delete"));
        deletes
            .filter(|line| line.contains(container.short_id()))
            .count()
    };
    eventually(SOON, "the end of its keys", || deletes_of(&goes) == 2);
    assert_eq!(deletes_of(&web), 0, "{}", registrar.log());

    grant("new");
    registrar.wait_for_log("in step", SOON);
    etcdctl(&bed, "auth disable");
    bed.wait_for_keys(&below("new", &web_keys("web", &web, HOST_IP)), SOON);
    // At each revision the running container had its old keys, its new ones, or both.
    for (revision, state) in bed.states().into_iter().skip(1) {
        let members = state.keys().filter(|key| key.ends_with(web.short_id()));
        assert!(members.count() >= 2, "at revision {revision}: {state:#?}");
    }
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn without_space_another_layout_replaces_nothing_and_removes_nothing() {
    const TTL: u32 = 6;
    let bed = small_bed();
    let start = |name: &str| {
        let container = bed.container().env("SERVICE_NAME", name);
        container.publish_all().start()
    };
    let [web, goes] = ["web", "goes"].map(start);
    let script = Script::new("return require 'register'");
    let by_script = || {
        let registrar = bed.registrar().flag("--ttl", TTL.to_string());
        registrar.flag("--script", script.path())
    };
    let registrar = in_step(&by_script());
    let of_web = web_keys("web", &web, HOST_IP);
    let of_goes = web_keys("goes", &goes, HOST_IP);
    bed.wait_for_keys(&joined([&of_web, &of_goes]), SOON);
    let member = bed.key(&format!("web/1/{}", web.short_id()));
    let revision_of_web = || bed.etcd.kv(&member).map(|kv| kv.create_revision);
    let before = revision_of_web();
    bed.etcd.fill(JUNK);
    let renamed = "local register = require 'register'\n\
         local service = register.service\n\
         function register.service(container, port) return 'new-' .. service(container, port) end\n\
         return register\n";
    fs::write(script.path(), renamed).expect("the script");

    // By a reload, then by a restart, then after a crash.
    registrar.signal("HUP");
    let what_now = "database space exceeded: compact it (`etcdctl compact REVISION`), defragment it (`etcdctl defrag`), \
                    and then disarm its alarm (`etcdctl alarm disarm`)";
    registrar.wait_for_log(what_now, SOON);
    let_time_pass(Duration::from_secs(2));
    assert_eq!(bed.keys(), joined([&of_web, &of_goes]));
    registrar.terminate();
    let registrar = by_script().start();
    registrar.wait_for_log("space", SOON);
    let_time_pass(2 * Duration::from_secs(TTL.into()));
    assert_eq!(bed.keys(), joined([&of_web, &of_goes]));
    registrar.kill9();
    let registrar = by_script().start();
    registrar.wait_for_log("space", SOON);
    let_time_pass(2 * Duration::from_secs(TTL.into()));
    assert_eq!(bed.keys(), joined([&of_web, &of_goes]));

    // Keys of a stopped container are removed, because nothing will replace them.
    goes.stop();
    bed.wait_for_keys(&of_web, SOON);
    assert_eq!(revision_of_web(), before);
    bed.etcd.make_room(JUNK);
    bed.wait_for_keys(&web_keys("new-web", &web, HOST_IP), SOON);
    assert!(registrar.exited().is_none());
}

#[test]
fn a_key_of_a_container_that_is_left_out_goes_without_space_too() {
    let bed = small_bed();
    let [web, other] = ["web", "other"].map(|name| {
        let container = bed.container().env("SERVICE_NAME", name);
        container.publish_all().start()
    });
    let registrar = in_step(&bed.registrar());
    bed.etcd.fill(JUNK);
    // Its put is refused.
    let _new = bed.container().publish_all().start();
    registrar.wait_for_log("space", SOON);
    other.pause();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
}

// --- A second process ------------------------------------------------------------------------------------------------

/// A registrar at `old`, and beside it one of the same identity at `new`, until that gives way.
fn beside_a_rival(second: impl Fn(&TestBed) -> RegistrarBuilder) {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    let first = in_step(&at_prefix(&bed, "old").flag("--ttl", TTL.to_string()));
    let old = below("old", &web_keys("web", &web, HOST_IP));
    bed.wait_for_keys(&old, SOON);
    let second = second(&bed)
        .flag("--ttl", TTL.to_string())
        .flag("--listen", "127.0.0.1:0")
        .start();
    let ready = || common::get(&second.address(), "/readyz");
    let gives_way = || second.log().contains("another registrar of this Docker");
    eventually(SOON, "the second one to give way", || {
        assert_eq!(ready().status, 503, "{}", ready().body);
        gives_way()
    });
    eventually(SOON, "the first one to notice", || {
        first
            .log()
            .contains("another process writes on this registrar's lease")
    });
    bed.wait_for_keys(&old, SOON);
    assert_never_deleted(&bed, old.keys());
    assert_eq!(count(&first.log(), "ERROR "), 0, "{}", first.log());

    // It takes over, and then the old keys have been replaced.
    first.terminate();
    second.wait_for_log("this one writes again", SOON);
    eventually(SOON, "the old keys to be replaced", || {
        let keys = bed.keys();
        !keys.is_empty() && keys.keys().all(|key| !old.contains_key(key))
    });
    eventually(SOON, "the second one to be ready", || ready().status == 200);
}

#[test]
fn a_second_process_with_another_prefix_deletes_nothing_of_the_first() {
    beside_a_rival(|bed| at_prefix(bed, "new"));
}

#[test]
fn a_second_process_with_another_script_deletes_nothing_of_the_first() {
    beside_a_rival(|bed| {
        bed.registrar()
            .flag("--prefix", &bed.prefix)
            .flag("--script", "registrator")
    });
}

#[test]
fn a_second_process_that_removes_its_keys_at_exit_leaves_those_of_the_first() {
    let bed = TestBed::new();
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    let _first = in_step(&at_prefix(&bed, "old"));
    let old = below("old", &web_keys("web", &web, HOST_IP));
    bed.wait_for_keys(&old, SOON);
    for _ in 0..3 {
        let second = at_prefix(&bed, "new").flag("--on-exit", "remove").start();
        // At once, and after it has written something.
        second.wait_for_log("policy: ", SOON);
        assert_eq!(second.terminate().code(), Some(0));
        let second = in_step(&at_prefix(&bed, "new").flag("--on-exit", "remove"));
        assert_eq!(second.terminate().code(), Some(0));
    }
    assert_never_deleted(&bed, old.keys());
}

#[test]
fn another_prefix_after_a_restart_takes_over_at_once_and_after_a_crash_within_the_ttl() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    let start = |prefix: &str| in_step(&at_prefix(&bed, prefix).flag("--ttl", TTL.to_string()));
    let keys = |prefix: &str| below(prefix, &web_keys("web", &web, HOST_IP));
    let registrar = start("one");
    bed.wait_for_keys(&keys("one"), SOON);
    registrar.terminate();
    let registrar = start("two");
    bed.wait_for_keys(&keys("two"), Duration::from_secs(1));
    registrar.kill9();
    let registrar = start("three");
    assert_eq!(bed.keys(), joined([&keys("two"), &keys("three")]));
    let limit = Duration::from_secs(u64::from(TTL) + 3);
    bed.wait_for_keys(&keys("three"), limit);
    assert_eq!(count(&registrar.log(), "ERROR "), 0, "{}", registrar.log());
    bed.assert_each_member_always_had_its_port();
}

// --- Kinds and TTLs --------------------------------------------------------------------------------------------------

/// A policy with one key beside a member's. It is rewritten for each reload.
fn of_one_key(kind: &str, value: &str, ttl: u32) -> String {
    format!(
        "local etcd, register = require 'etcd', require 'register'\n\
         function register.entries(container)\n\
           return {{ {{ key = register.prefix .. '/one', value = '{value}', {kind}, ttl = {ttl} }} }}\n\
         end\n\
         return register\n"
    )
}

#[test]
fn a_key_that_was_shared_and_is_owned_now_gets_its_new_value() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let script = Script::new(&of_one_key("shared = true", "before", TTL));
    let registrar = bed.registrar().flag("--ttl", TTL.to_string());
    let registrar = in_step(&registrar.flag("--script", script.path()));
    bed.wait_for_keys(&map([("one", "before")]), SOON);
    let shared = bed.etcd.kv(&bed.key("one")).expect("the key").lease;
    fs::write(script.path(), of_one_key("shared = false", "after", TTL)).expect("the script");
    registrar.signal("HUP");
    bed.wait_for_keys(
        &map([("one", "after")]),
        Duration::from_secs(u64::from(TTL) + 2),
    );
    let owned = bed.etcd.kv(&bed.key("one")).expect("the key").lease;
    assert_ne!(shared, owned);
    assert_never_deleted(&bed, [&"one".to_owned()]);
    // And back again, at once.
    fs::write(script.path(), of_one_key("shared = true", "again", TTL)).expect("the script");
    registrar.signal("HUP");
    bed.wait_for_keys(&map([("one", "again")]), SOON);
    assert_eq!(bed.etcd.kv(&bed.key("one")).expect("the key").lease, shared);
    assert_never_deleted(&bed, [&"one".to_owned()]);
}

#[test]
fn a_shared_key_that_another_host_still_shares_is_not_taken_from_it() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let [_a, _b] = ["a", "b"].map(|host| bed.container_on(host).start());
    let shares = Script::new(&of_one_key("shared = true", "shared", TTL));
    let owns = Script::new(&of_one_key("shared = true", "shared", TTL));
    let start = |host: &str, script: &Script| {
        let registrar = bed.registrar_on(host, HOST_IP);
        let registrar = registrar.flag("--script", script.path());
        in_step(&registrar.flag("--ttl", TTL.to_string()))
    };
    let one = start("a", &shares);
    let other = start("b", &owns);
    bed.wait_for_keys(&map([("one", "shared")]), SOON);
    fs::write(owns.path(), of_one_key("shared = false", "owned", TTL)).expect("the script");
    other.signal("HUP");
    other.wait_for_log("does not get it until", SOON);
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(bed.keys(), map([("one", "shared")]));
    one.kill9();
    bed.wait_for_keys(&map([("one", "owned")]), SOON);
    assert_never_deleted(&bed, [&"one".to_owned()]);
}

#[test]
fn a_port_key_lives_no_longer_than_somebody_needs_it() {
    const SHORT: u32 = 3;
    const LONG: u32 = 18;
    let bed = TestBed::new();
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    let script = Script::new("");
    let write = |ttl: u32| {
        let text =
            format!("local register = require 'register' register.ttl = {ttl} return register");
        fs::write(script.path(), text).expect("the script");
    };
    let ttl_of = |key: &str| {
        let lease = bed.etcd.kv(&bed.key(key)).expect("the key").lease;
        u32::try_from(bed.etcd.time_to_live(lease).0).expect("a lease")
    };
    write(SHORT);
    let registrar = bed.registrar().flag("--script", script.path());
    let registrar = in_step(&registrar.flag("--ttl", SHORT.to_string()));
    for ttl in [LONG, SHORT] {
        write(ttl);
        registrar.signal("HUP");
        // A lease that has to become shorter is left after 7/12 of its life.
        let limit = Duration::from_secs(u64::from(LONG) + 5);
        eventually(limit, "the TTL of the port key", || {
            ttl_of("web/1/port") == ttl + 2
        });
        assert_eq!(ttl_of(&format!("web/1/{}", web.short_id())), ttl);
    }
    let revision = bed.etcd.revision();
    bed.etcd.let_pass(2 * SHORT);
    assert_eq!(bed.etcd.revision(), revision, "and then it is quiet");
    bed.assert_each_member_always_had_its_port();
    registrar.kill9();
    eventually(Duration::from_secs(u64::from(SHORT) + 6), "the end", || {
        bed.keys().is_empty()
    });
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn a_port_key_keeps_the_longer_life_that_another_host_needs() {
    const SHORT: u32 = 2;
    const LONG: u32 = 15;
    let bed = TestBed::new();
    let on = |host: &str| bed.container_on(host).env("SERVICE_NAME", "web").start();
    let (_a, _b) = (on("a"), on("b"));
    let start = |host: &str, ttl: u32| {
        in_step(
            &bed.registrar_on(host, HOST_IP)
                .flag("--ttl", ttl.to_string()),
        )
    };
    let _needs = start("a", LONG);
    let _short = start("b", SHORT);
    let port = bed.key("web/1/port");
    let before = bed.etcd.kv(&port).expect("the key");
    bed.etcd.let_pass(LONG + 3);
    assert_eq!(bed.etcd.kv(&port), Some(before));
    bed.assert_each_member_always_had_its_port();
}

// --- The first moment ------------------------------------------------------------------------------------------------

#[test]
fn a_directory_with_more_than_one_answer_can_hold_is_no_danger() {
    const TTL: u32 = 6;
    const NEIGHBOURS: usize = 60_000;
    let bed = TestBed::new();
    let (goes, lives) = (inspection(1, "web", 20_000), inspection(2, "web", 20_002));
    let docker = docker_of(vec![goes, lives.clone()]);
    // All members in one flat directory, with a shared key beside them.
    let flat = Script::new(
        "local register = require 'register'\n\
         function register.entries(container)\n\
           return {\n\
             { key = register.prefix .. '/' .. container.name, value = 'x' },\n\
             { key = register.prefix .. '/about', value = 'y', shared = true },\n\
           }\n\
         end\n\
         return register\n",
    );
    let flat_registrar = |docker: &FakeDocker| {
        let registrar = bed.registrar_of(docker).flag("--script", flat.path());
        registrar.flag("--ttl", TTL.to_string())
    };
    let registrar = in_step(&flat_registrar(&docker));
    bed.etcd.put_many(NEIGHBOURS, |number| {
        format!("{}/n{number:0>48}", bed.prefix)
    });
    let key = bed.key("c2");
    let before = bed.etcd.kv(&key).expect("its key");

    // After a restart one container is gone, so that its directory must be read.
    registrar.kill9();
    let docker = docker_of(vec![lives]);
    let registrar = flat_registrar(&docker).start();
    registrar.wait_for_log("in step", SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.etcd.kv(&key), Some(before), "it lived on");
    eventually(SOON, "the end of the other's key", || {
        bed.etcd.kv(&bed.key("c1")).is_none()
    });
    assert!(bed.etcd.kv(&bed.key("about")).is_some());
    assert!(
        !registrar.log().contains("too large"),
        "{}",
        registrar.log()
    );
}

/// A Docker that holds every list until the test releases it.
fn silent_docker(containers: Vec<Value>) -> (FakeDocker, Arc<(Mutex<bool>, Condvar)>) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let for_routes = Arc::clone(&gate);
    let docker = FakeDocker::start(move |_, path| {
        if path == "/containers/json" {
            let (open, changed) = &*for_routes;
            let closed = open.lock().expect("no thread panics with it");
            let _open = changed.wait_while(closed, |open| !*open);
            return Some(Reply::Json(200, containers.iter().map(summary).collect()));
        }
        let id = path
            .strip_prefix("/containers/")
            .and_then(|rest| rest.strip_suffix("/json"))?;
        let one = containers.iter().find(|one| one["Id"] == id)?;
        Some(Reply::Json(200, one.clone()))
    });
    (docker, gate)
}

#[test]
fn what_an_earlier_process_held_is_renewed_before_docker_has_listed_anything() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let containers = vec![inspection(1, "web", 20_000)];
    let docker = docker_of(containers.clone());
    let ttl = |docker: &FakeDocker| bed.registrar_of(docker).flag("--ttl", TTL.to_string());
    let registrar: Registrar = in_step(&ttl(&docker));
    let keys = bed.keys();
    assert_eq!(keys.len(), 4);
    registrar.kill9();
    let (silent, gate) = silent_docker(containers);
    let registrar = ttl(&silent).start();
    registrar.wait_for_log("policy: ", SOON);
    let revision = bed.etcd.revision();
    bed.etcd.let_pass(4 * TTL);
    assert_eq!(bed.keys(), keys);
    assert_eq!(bed.etcd.revision(), revision);
    *gate.0.lock().expect("no thread panics with it") = true;
    gate.1.notify_all();
    registrar.wait_for_log("in step", SOON);
    assert_eq!(
        bed.etcd.revision(),
        revision,
        "and nothing was written anew"
    );
}
