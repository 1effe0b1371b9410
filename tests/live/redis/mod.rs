//! `run` and `discover` with a real Redis: each promise that Redis can keep, and each one that it cannot. The most
//! important ones with a Valkey too.

use crate::common;

use common::{
    Container, ContainerBuilder, HOST_IP, Redis, RegistrarBuilder, SOON, TestBed, count,
    eventually, in_step, joined, kill_processes, let_time_pass, map, processes, web_keys,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tempfile::TempDir;

use super::discover::wait_until_ready;

/// Makes tests of functions that take a site: with Redis, and with each Valkey that is installed.
macro_rules! on_each_server {
    ($($test:ident,)*) => {
        mod on_redis {
            $(#[test]
            fn $test() {
                super::$test(&crate::redis::Site::new());
            })*
        }

        mod on_valkey {
            $(#[test]
            fn $test() {
                for program in crate::common::valkeys() {
                    let valkey = crate::common::Redis::start_program(&program);
                    super::$test(&crate::redis::Site::of(valkey));
                }
            })*
        }
    };
}

mod failover;
mod routes;

const TTL: u32 = 6;

on_each_server! {
    keys_come_and_go_with_containers,
    a_restart_writes_no_key,
    the_keys_of_a_registrar_that_is_killed_go_after_the_ttl,
    a_server_without_persistence_has_its_keys_again_soon_after_a_crash,
}

/// A Redis, and containers of its own.
struct Site {
    bed: TestBed,
    redis: Redis,
    /// For `discover`.
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        Self::of(Redis::start())
    }

    fn of(redis: Redis) -> Self {
        Self {
            bed: TestBed::new(),
            redis,
            directory: TempDir::new().expect("a temporary directory"),
        }
    }

    fn registrar(&self) -> RegistrarBuilder {
        let registrar = self.bed.registrar().without("--etcd");
        let registrar = registrar.flag("--store", self.redis.uri());
        registrar.flag("--ttl", TTL.to_string())
    }

    fn discover(&self) -> RegistrarBuilder {
        let discover = self.bed.discover(self.directory.path()).without("--etcd");
        discover
            .flag("--store", self.redis.uri())
            .flag("--listen", "127.0.0.1:0")
            .flag("--reload-interval", "0")
    }

    fn web(&self) -> ContainerBuilder {
        let web = self.bed.container().env("SERVICE_NAME", "web");
        web.publish_all()
    }

    /// The keys in Redis now, without the prefix and its slash.
    fn keys(&self) -> BTreeMap<String, String> {
        self.keys_in(&self.redis)
    }

    fn keys_in(&self, redis: &Redis) -> BTreeMap<String, String> {
        let keys = redis.get(&self.bed.prefix).into_iter();
        keys.map(|(key, value)| (key[self.bed.prefix.len() + 1..].to_owned(), value))
            .collect()
    }

    #[track_caller]
    fn wait_for_keys(&self, wanted: &BTreeMap<String, String>) {
        eventually(SOON, &format!("the keys {wanted:#?}"), || {
            self.keys() == *wanted
        });
    }

    /// Sets a key by hand, with further words such as `EX 100`.
    fn set(&self, key: &str, value: &str, further: &[&str]) {
        let words = [&["SET", key, value], further].concat();
        self.redis.call::<()>(&words);
    }

    fn member(&self, container: &Container) -> String {
        self.bed.key(&format!("web/1/{}", container.short_id()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        kill_processes(&processes(self.directory.path()));
    }
}

fn as_user(command: RegistrarBuilder, name: &str) -> RegistrarBuilder {
    let command = command.flag("--store-user", name);
    command.env("DOCKER_REGISTER_STORE_PASSWORD", "secret")
}

fn nothing() -> BTreeMap<String, String> {
    map::<&str, &str>([])
}

/// The keys that Traefik's client finds: all that begin with its root.
fn keys_of_traefik(site: &Site) -> BTreeMap<String, String> {
    let (mut keys, mut cursor) = (BTreeMap::new(), "0".to_owned());
    loop {
        let scan = ["SCAN", &cursor, "MATCH", "traefik*", "COUNT", "10"];
        let (next, found): (String, Vec<String>) = site.redis.call(&scan);
        for key in found {
            // It may be gone by now.
            let value: Option<String> = site.redis.call(&["GET", &key]);
            keys.extend(value.map(|value| (key, value)));
        }
        if next == "0" {
            return keys;
        }
        cursor = next;
    }
}

/// Waits until the keys' TTL is a new one.
#[track_caller]
fn wait_for_a_renewal(site: &Site, key: &str) {
    let mut before = site.redis.ttl(key);
    eventually(SOON, "a renewal", || {
        let now = site.redis.ttl(key);
        let is_longer = now > before;
        before = now;
        is_longer
    });
}

fn keys_come_and_go_with_containers(site: &Site) {
    let registrar = in_step(&site.registrar());
    assert_eq!(site.keys(), nothing());
    let [a, b] = [site.web().start(), site.web().start()];
    let [of_a, of_b] = [&a, &b].map(|web| web_keys("web", web, HOST_IP));
    site.wait_for_keys(&joined([&of_a, &of_b]));
    wait_for_a_renewal(site, &site.member(&a));
    a.stop();
    site.wait_for_keys(&of_b);
    b.stop();
    site.wait_for_keys(&nothing());
    a.start();
    site.wait_for_keys(&web_keys("web", &a, HOST_IP));
    let log = registrar.log();
    assert!(log.contains("redis=127.0.0.1"), "{log}");
    assert_eq!(count(&log, "ERROR "), 0, "{log}");
    registrar.terminate();
    let left = site.registrar().flag("--on-exit", "remove").start();
    left.wait_for_log("in step", SOON);
    left.terminate();
    assert_eq!(site.keys(), nothing());
}

fn a_restart_writes_no_key(site: &Site) {
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    for kill in [false, true] {
        let registrar = in_step(&site.registrar());
        assert_eq!(site.keys(), keys);
        if kill {
            registrar.kill9();
        } else {
            registrar.terminate();
        }
        site.redis.call::<()>(&["CONFIG", "RESETSTAT"]);
        let again = in_step(&site.registrar());
        wait_for_a_renewal(site, &site.member(&web));
        assert_eq!(site.keys(), keys);
        for command in ["set", "del"] {
            assert_eq!(site.redis.calls_of(command), 0, "{}", again.log());
        }
        again.kill9();
    }
}

fn the_keys_of_a_registrar_that_is_killed_go_after_the_ttl(site: &Site) {
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&site.registrar());
    site.wait_for_keys(&keys);
    wait_for_a_renewal(site, &site.member(&web));
    registrar.kill9();
    let killed = Instant::now();
    let mut members_gone = None;
    eventually(SOON, "the end of the keys", || {
        let keys = site.keys();
        let members = keys.keys().filter(|key| !key.ends_with("/port")).count();
        let ports = keys.len() - members;
        assert!(ports >= members, "a member without its port: {keys:?}");
        if members == 0 && members_gone.is_none() {
            members_gone = Some(killed.elapsed());
        }
        keys.is_empty()
    });
    let whole = Duration::from_secs(TTL.into());
    let members_gone = members_gone.expect("they are gone");
    assert!(members_gone > whole / 2, "{members_gone:?}");
    assert!(
        members_gone < whole + Duration::from_secs(1),
        "{members_gone:?}"
    );
}

#[test]
fn a_redis_with_persistence_has_its_keys_after_a_crash() {
    let site = Site::of(Redis::start_persistent());
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&site.registrar().flag("--ttl", "60"));
    site.wait_for_keys(&keys);
    site.redis.kill9();
    registrar.wait_for_log("retrying", SOON);
    site.redis.start_again();
    assert_eq!(site.keys(), keys, "before the registrar has done anything");
    registrar.wait_for_log("Redis is back after", SOON);
    assert_eq!(site.keys(), keys);
    assert_eq!(site.redis.calls_of("set"), 0, "{}", registrar.log());
}

fn a_server_without_persistence_has_its_keys_again_soon_after_a_crash(site: &Site) {
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&site.registrar());
    registrar.wait_for_log("keeps nothing on disk", SOON);
    site.wait_for_keys(&keys);
    site.redis.kill9();
    registrar.wait_for_log("retrying", SOON);
    site.redis.start_again();
    site.wait_for_keys(&keys);
    registrar.wait_for_log("Redis is back after", SOON);
    // The lease is there too.
    wait_for_a_renewal(site, &site.member(&web));
    assert_eq!(site.keys(), keys);
}

#[test]
fn a_redis_that_is_away_for_longer_than_the_ttl_has_its_keys_again() {
    let site = Site::of(Redis::start_persistent());
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&site.registrar());
    site.wait_for_keys(&keys);
    site.redis.kill9();
    let_time_pass(Duration::from_secs((3 * TTL).into()));
    site.redis.start_again();
    site.wait_for_keys(&keys);
    registrar.wait_for_log("Redis is back after", SOON);
    assert!(registrar.exited().is_none());
}

#[test]
fn a_redis_that_is_frozen_is_noticed_and_has_its_keys_afterwards() {
    let site = Site::new();
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&site.registrar());
    site.wait_for_keys(&keys);
    for (times, freeze) in [(1, TTL / 3), (2, 2 * TTL)] {
        site.redis.pause();
        let_time_pass(Duration::from_secs(freeze.into()));
        eventually(SOON, "a word about it", || {
            count(&registrar.log(), "did not answer within") >= times
        });
        site.redis.resume();
        eventually(SOON, "a word about its end", || {
            count(&registrar.log(), "Redis is back after") == times
        });
        site.wait_for_keys(&keys);
        wait_for_a_renewal(&site, &site.member(&web));
    }
}

#[test]
fn a_key_that_is_set_by_hand_is_mended() {
    let site = Site::new();
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let registrar = in_step(&site.registrar());
    site.wait_for_keys(&keys);
    let member = site.member(&web);
    let own = site.redis.get(&member).remove(&member).expect("the key");
    // A `SET` without a TTL takes that of the key away, so nothing would ever remove it.
    for (times, value) in [(1, own.as_str()), (2, "192.0.2.99:1")] {
        site.set(&member, value, &[]);
        assert_eq!(site.redis.ttl(&member), None);
        eventually(SOON, "a TTL", || site.redis.ttl(&member).is_some());
        site.wait_for_keys(&keys);
        eventually(SOON, "a warning", || {
            count(&registrar.log(), "was on no lease") == times
        });
    }
    site.redis.call::<()>(&["DEL", &member]);
    site.wait_for_keys(&keys);
}

#[test]
fn a_key_of_another_program_is_left_alone() {
    let site = Site::new();
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let member = site.member(&web);
    let name = format!("web/1/{}", web.short_id());
    site.redis.call::<()>(&["RPUSH", &member, "1", "2"]);
    let registrar = site.registrar().start();
    registrar.wait_for_log(&format!("`{member}` is a key of the type `list`"), SOON);
    let mut others = keys.clone();
    others.remove(&name);
    site.wait_for_keys(&others);
    assert_eq!(site.redis.call::<u64>(&["LLEN", &member]), 2);

    site.set(&member, "192.0.2.99:1", &["EX", "100"]);
    registrar.wait_for_log(&format!("`{member}` is a key with another TTL"), SOON);
    others.insert(name, "192.0.2.99:1".to_owned());
    wait_for_a_renewal(&site, &site.bed.key("web/1/port"));
    assert_eq!(site.keys(), others);

    site.redis.call::<()>(&["DEL", &member]);
    site.wait_for_keys(&keys);
}

#[test]
fn a_user_without_rights_is_told_the_rights_and_they_suffice() {
    let site = Site::new();
    let web = site.web().start();
    let keys = web_keys("web", &web, HOST_IP);
    let acl = |rights: &[&str]| {
        let words = [
            &["ACL", "SETUSER", "registrar", "reset", "on", ">secret"],
            rights,
        ];
        site.redis.call::<()>(&words.concat());
    };
    site.redis
        .call::<()>(&["CONFIG", "SET", "notify-keyspace-events", "K$gxe"]);
    acl(&["~other:*", "+@all"]);
    let registrar = as_user(site.registrar(), "registrar").start();
    registrar.wait_for_log("ACL SETUSER", SOON);
    let log = registrar.log();
    let rights = log.split_once("`ACL SETUSER registrar ").expect("rights").1;
    let (rights, _) = rights.split_once('`').expect("they end");
    let rights = rights.replace("PREFIX", &site.bed.prefix);
    let rights: Vec<&str> = rights.split(' ').collect();
    acl(&rights);
    site.wait_for_keys(&keys);
    registrar.wait_for_log("in step", SOON);

    // And for `discover`.
    let discover = as_user(site.discover(), "registrar").start_command("discover");
    wait_until_ready(&discover);
    assert!(
        !discover.log().contains("may not tell"),
        "{}",
        discover.log()
    );
    web.stop();
    site.wait_for_keys(&nothing());
}

#[test]
fn the_set_up_in_the_docs_is_enough_for_both_roles() {
    let page = include_str!("../../../docs/stores.md");
    let lines = page.split_once("```text\n").expect("a block").1;
    let (lines, _) = lines.split_once("```").expect("it ends");
    let bed = TestBed::new();
    let lines = lines.replace("/backends/", &format!("{}/", bed.prefix));
    let redis = Redis::start_configured(&lines.replace("PASSWORD", "secret"));
    let directory = TempDir::new().expect("a temporary directory");
    let site = Site {
        bed,
        redis,
        directory,
    };
    let web = site.web().start();
    let registrar = in_step(&as_user(site.registrar(), "docker-register"));
    site.wait_for_keys(&web_keys("web", &web, HOST_IP));
    let discover = as_user(site.discover(), "docker-register").start_command("discover");
    wait_until_ready(&discover);
    wait_for_a_renewal(&site, &site.member(&web));
    for log in [registrar.log(), discover.log()] {
        assert_eq!(count(&log, "WARN Redis"), 0, "{log}");
        assert_eq!(count(&log, "Redis at"), 0, "{log}");
    }
    web.stop();
    site.wait_for_keys(&nothing());
    // Nothing outside of the prefix can be changed.
    let outside = format!("{}2", site.bed.prefix);
    let outside = as_user(site.registrar(), "docker-register").flag("--prefix", &outside);
    web.start();
    let outside = outside.flag("--instance", "outside").start();
    outside.wait_for_log("ACL SETUSER", SOON);
    assert_eq!(site.redis.get(&format!("{}2", site.bed.prefix)), nothing());
}

#[test]
fn a_redis_with_full_memory_loses_no_key_and_gets_new_ones_later() {
    let site = Site::new();
    let a = site.web().start();
    let registrar = in_step(&site.registrar());
    let of_a = web_keys("web", &a, HOST_IP);
    site.wait_for_keys(&of_a);
    site.redis.call::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let b = site.web().start();
    registrar.wait_for_log("raise its `maxmemory`", SOON);
    let_time_pass(Duration::from_secs((2 * TTL).into()));
    assert_eq!(site.keys(), of_a, "they are renewed");
    site.redis.call::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    let of_b = web_keys("web", &b, HOST_IP);
    site.wait_for_keys(&joined([&of_a, &of_b]));
}

#[test]
fn a_second_process_of_one_identity_gives_way() {
    let site = Site::new();
    let web = site.web().start();
    let first = in_step(&site.registrar());
    let keys = web_keys("web", &web, HOST_IP);
    site.wait_for_keys(&keys);
    let second = site.registrar().start();
    second.wait_for_log("another registrar of this Docker", SOON);
    assert_eq!(site.keys(), keys);
    first.terminate();
    second.wait_for_log("this one writes again", SOON);
    assert_eq!(site.keys(), keys);
}

#[test]
fn the_commands_that_read_work_with_redis_too() {
    let site = Site::new();
    let web = site.web().start();
    let registrar = in_step(&site.registrar());
    site.wait_for_keys(&web_keys("web", &web, HOST_IP));
    let diff = site.registrar().run("diff");
    assert_eq!(
        (diff.status.code(), diff.stdout.as_str()),
        (Some(0), ""),
        "{}",
        diff.stderr
    );
    let services = common::Registrar::command()
        .flag("--store", site.redis.uri())
        .flag("--prefix", &site.bed.prefix)
        .run("services");
    assert_eq!(services.status.code(), Some(0), "{}", services.stderr);
    assert!(services.stdout.contains("web"), "{}", services.stdout);
    let leases = common::Registrar::command()
        .flag("--store", site.redis.uri())
        .run("leases");
    assert_eq!(leases.status.code(), Some(0), "{}", leases.stderr);
    registrar.terminate();
    let listed = site
        .redis
        .call::<u64>(&["EXISTS", "docker-register:leases"]);
    assert_eq!(listed, 1);
}

#[test]
fn traefik_finds_its_keys_and_none_of_ours() {
    let site = Site::new();
    let web = site.web().start();
    let registrar = site.registrar().flag("--script", "traefik");
    let registrar = registrar.arg("--set").arg("domain=example.org");
    let _registrar = in_step(&registrar.arg("--set").arg("entrypoints=web"));

    let number = u64::from_str_radix(web.short_id(), 16).expect("an id is hexadecimal");
    let server =
        |port: u16| format!("traefik/http/services/web-{port}/loadbalancer/servers/{number}/url");
    let mut wanted = BTreeMap::new();
    for port in [8005, 8006] {
        let host_port = web.host_port(&format!("{port}/tcp"));
        let router = format!("traefik/http/routers/web-{port}");
        wanted.extend([
            (
                format!("{router}/rule"),
                format!("Host(`web-{port}.example.org`)"),
            ),
            (format!("{router}/entrypoints/0"), "web".to_owned()),
            (format!("{router}/service"), format!("web-{port}")),
            (server(port), format!("http://{HOST_IP}:{host_port}")),
        ]);
    }
    let waits_for = |wanted: &BTreeMap<String, String>| {
        eventually(SOON, &format!("the keys {wanted:#?}"), || {
            keys_of_traefik(&site) == *wanted
        });
    };
    waits_for(&wanted);
    wait_for_a_renewal(&site, &server(8005));
    assert_eq!(keys_of_traefik(&site), wanted);
    let leases = "docker-register:leases";
    assert_eq!(site.redis.call::<u64>(&["EXISTS", leases]), 1);

    // The routers follow a TTL later.
    web.stop();
    wanted.retain(|key, _| key.contains("/routers/"));
    waits_for(&wanted);
    waits_for(&nothing());
}
