//! Bad input: each case gets a clear message, and no key is lost.

use crate::common;

use common::{
    BARE, Container, FakeDocker, HOST_IP, Kind, Registrar, Reply, SOON, Script, TestBed, docker,
    eventually, joined, map, web_keys,
};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// The inspect object of a container with one published port. Its id is the first letter of its name, repeated.
fn inspected(name: &str, image: &str) -> Value {
    json!({
        "Id": name[..1].repeat(64),
        "Name": format!("/{name}"), "Created": "2024-01-01T00:00:00Z", "Image": "sha256:0123",
        "State": { "Status": "running", "Running": true },
        "Config": { "Image": image, "ExposedPorts": { "80/tcp": {} } },
        "HostConfig": { "NetworkMode": "default" },
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8000" }] } },
    })
}

/// A Docker with these containers, which answers with `status` where `answers` says that it fails.
fn docker_with(
    containers: Vec<Value>,
    failure: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static,
) -> FakeDocker {
    FakeDocker::start(move |_, path| {
        let reply = failure(path);
        if reply.is_some() {
            return reply;
        }
        if path == "/containers/json" {
            let list = containers.iter().map(|c| json!({ "Id": c["Id"] }));
            return Some(Reply::Json(200, list.collect()));
        }
        let one = |c: &&Value| path == format!("/containers/{}/json", c["Id"].as_str().unwrap());
        let container = containers.iter().find(one)?;
        Some(Reply::Json(200, container.clone()))
    })
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn no_docker_at_the_address() {
    let bed = TestBed::new();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let message = format!(
        "cannot use Docker at `{host}`: there is no such socket; is the daemon running, and is DOCKER_HOST right?"
    );
    let fake = docker_with(vec![inspected("one", "web")], |_| None);

    let keys = bed
        .registrar_of(&fake)
        .env("DOCKER_HOST", &host)
        .run("keys");
    assert_eq!(keys.stderr, format!("error: {message}\n"));
    assert_eq!((keys.status.code(), keys.stdout.as_str()), (Some(1), ""));

    // `run` waits for it, and does not repeat the message.
    let registrar = bed.registrar_of(&fake).env("DOCKER_HOST", &host);
    let registrar = registrar.flag("--log-level", "debug").start();
    eventually(SOON, "several attempts", || {
        count(&registrar.log(), &message) >= 5
    });
    assert_eq!(count(&registrar.log(), &format!("WARN {message}")), 1);
    symlink(fake.host().trim_start_matches("unix://"), &socket).unwrap();
    eventually(SOON, "the keys", || bed.keys().len() == 2);
    registrar.wait_for_log("Docker is back", SOON);
}

#[test]
fn no_etcd_at_the_address() {
    let bed = TestBed::new();
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    bed.etcd.stop();
    let registrar = bed.registrar().flag("--log-level", "debug").start();
    let message = format!("cannot reach etcd at `{}`: ", bed.etcd.endpoint());
    eventually(SOON, "several attempts", || {
        count(&registrar.log(), &message) >= 5
    });
    assert_eq!(count(&registrar.log(), &format!("WARN {message}")), 1);
    bed.etcd.start_again();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    registrar.wait_for_log("etcd is back", SOON);
}

#[test]
fn no_etcd_is_noticed_on_a_host_without_containers() {
    let bed = TestBed::new();
    bed.etcd.stop();
    let registrar = bed.registrar().start();
    let message = format!("WARN cannot reach etcd at `{}`: ", bed.etcd.endpoint());
    registrar.wait_for_log(&message, SOON);
    assert!(!registrar.log().contains("in step"), "{}", registrar.log());
}

#[test]
fn something_else_than_etcd_at_the_address() {
    let bed = TestBed::new();
    // It accepts the connection and sends nothing.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let _web = bed.container().publish_all().start();
    let registrar = bed.registrar().flag("--etcd", &address).flag("--ttl", "3");
    let registrar = registrar.start();
    registrar.wait_for_log(&format!("etcd at `{address}`"), SOON);
    assert_eq!(registrar.terminate().code(), Some(0));
}

#[test]
fn a_docker_that_cannot_list_takes_no_key_away() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let fake = docker_with(vec![inspected("one", "web")], move |path| {
        (path == "/containers/json" && fails.load(Ordering::SeqCst))
            .then(|| Reply::error(500, "the disk is on fire"))
    });
    let registrar = bed.registrar_of(&fake).flag("--ttl", TTL.to_string());
    let registrar = registrar.flag("--resync", "1").start();
    eventually(SOON, "the keys", || bed.keys().len() == 2);
    let revision = bed.etcd.revision();

    failing.store(true, Ordering::SeqCst);
    let message = "WARN cannot list containers: Docker answered with 500: the disk is on fire; \
                   retrying, keys stay as they are";
    registrar.wait_for_log(message, SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.etcd.revision(), revision);
    let log = registrar.log();
    assert_eq!(count(&log, "the disk is on fire"), 2, "{log}");
    assert_eq!(count(&log, "ERROR cannot list containers: "), 1, "{log}");
    failing.store(false, Ordering::SeqCst);
    registrar.wait_for_log("Docker is back", SOON);
    assert_eq!(bed.etcd.revision(), revision);

    // A command that asks once prints the error.
    failing.store(true, Ordering::SeqCst);
    let keys = bed.registrar_of(&fake).run("keys");
    let message = "error: cannot list containers: Docker answered with 500: the disk is on fire\n";
    assert_eq!((keys.stderr.as_str(), keys.stdout.as_str()), (message, ""));
    assert_eq!(keys.status.code(), Some(1));
}

#[test]
fn a_docker_that_talks_nonsense_takes_no_key_away() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let phase = Arc::new(AtomicU16::new(0));
    let current = Arc::clone(&phase);
    let fake = docker_with(vec![inspected("one", "web")], move |path| {
        match (path, current.load(Ordering::SeqCst)) {
            ("/containers/json", 1) => Some(Reply::Json(200, json!({ "not": "a list" }))),
            ("/containers/json", 2) => Some(Reply::HangUp),
            _ => None,
        }
    });
    let registrar = bed.registrar_of(&fake).flag("--ttl", TTL.to_string());
    let registrar = registrar.flag("--resync", "1").start();
    eventually(SOON, "the keys", || bed.keys().len() == 2);
    let revision = bed.etcd.revision();
    phase.store(1, Ordering::SeqCst);
    registrar.wait_for_log("WARN cannot list containers: ", SOON);
    // Another message is logged when the outage has lasted for half a TTL.
    phase.store(2, Ordering::SeqCst);
    registrar.wait_for_log("ERROR cannot list containers: connection closed", SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.etcd.revision(), revision);
    let log = registrar.log();
    assert_eq!(count(&log, "cannot list containers: "), 2, "{log}");
}

#[test]
fn a_container_that_docker_cannot_show_keeps_its_keys() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let (first, second) = (inspected("one", "web"), inspected("two", "web"));
    let path_of_second = format!("/containers/{}/json", second["Id"].as_str().unwrap());
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let fake = docker_with(vec![first, second], move |path| {
        (path == path_of_second && fails.load(Ordering::SeqCst))
            .then(|| Reply::error(500, "no such layer"))
    });
    let command = bed.registrar_of(&fake).flag("--ttl", TTL.to_string());
    let command = command.flag("--resync", "1");
    let registrar = command.start();
    eventually(SOON, "the keys", || bed.keys().len() == 3);
    let revision = bed.etcd.revision();
    failing.store(true, Ordering::SeqCst);
    registrar.wait_for_log(
        "so its keys stay as they are: Docker answered with 500: no such layer",
        SOON,
    );
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.etcd.revision(), revision);
    assert_eq!(count(&registrar.log(), "no such layer"), 1);

    // Nor are they removed by a registrar that has never seen the container.
    registrar.kill9();
    let registrar = command.start();
    registrar.wait_for_log("in step", SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.etcd.revision(), revision);
}

#[test]
fn a_script_with_a_syntax_error_ends_the_program_before_it_touches_etcd() {
    let bed = TestBed::new();
    let script =
        Script::new("local register = require 'register'\nregister.ttl = = 30\nreturn register\n");
    let command = bed.registrar().flag("--script", script.path());
    let message = format!(
        "error: unexpected symbol near '='\n  at {}:2\n",
        script.path().display()
    );
    for subcommand in ["run", "keys"] {
        let output = command.run(subcommand);
        assert_eq!(output.stderr, message, "{subcommand}");
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(1), "")
        );
    }
    assert_eq!(bed.etcd.revision(), 1);
    assert_eq!(bed.etcd.leases(), [0; 0]);
}

#[test]
fn scripts_that_are_no_policy_are_refused_when_they_are_loaded() {
    let bed = TestBed::new();
    let cases = [
        (
            "",
            "`PATH` returned nothing and not a policy; end it with `return register`",
        ),
        (
            "return {}",
            "`PATH` returned a table whose `run` is nil and not a function; begin with `local register = require \"register\"`",
        ),
        (
            "local register = require 'register'\nregister.sevice = print\nreturn register",
            "register has no decision `sevice`; did you mean `service`?\n  at PATH:2",
        ),
        (
            "local register = require 'register'\nregister.ttl = 'soon'\nreturn register",
            "register.ttl is a number, not a string\n  at PATH:2",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped\n  at PATH:1",
        ),
        (
            "require 'docker'.watch()",
            "`docker.watch` waits, so it cannot be called while the script loads; call it in `run`\n  at PATH:1",
        ),
        ("error('no licence')", "no licence\n  at PATH:1"),
    ];
    for (text, message) in cases {
        let script = Script::new(text);
        let output = bed.registrar().flag("--script", script.path()).run("run");
        let message = message.replace("PATH", &script.path().display().to_string());
        assert_eq!(output.stderr, format!("error: {message}\n"), "{text}");
        assert_eq!(output.status.code(), Some(1), "{text}");
    }
    let missing = bed
        .registrar()
        .flag("--script", "/nonexistent/policy.lua")
        .run("run");
    assert_eq!(
        missing.stderr,
        "error: cannot read `/nonexistent/policy.lua`: No such file or directory (os error 2)\n"
    );
    assert_eq!(bed.etcd.revision(), 1);
}

#[test]
fn a_policy_that_fails_for_one_container_leaves_the_others_alone() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.service(container, port)\n\
           if container.name:find('-bad$') then\n\
             error('label the container com.acme.service=NAME')\n\
           end\n\
           return 'web'\n\
         end\n\
         return register\n",
    );
    let command = bed.registrar().flag("--script", script.path());
    let command = command.flag("--ttl", TTL.to_string());
    let web = || bed.container().publish_all().start();
    let (good, fails, stops) = (web(), web(), web());
    let keys = |container: &Container| web_keys("web", container, HOST_IP);
    let (of_good, of_failing) = (keys(&good), keys(&fails));
    let registrar = command.start();
    bed.wait_for_keys(&joined([&of_good, &of_failing, &keys(&stops)]), SOON);

    let name = fails.name();
    fails.rename(&format!("{name}-bad"));
    let message = format!(
        "ERROR `{name}-bad`: label the container com.acme.service=NAME\n  at {}:4 in register.service\n  \
         its 4 keys stay as they were\n",
        script.path().display()
    );
    registrar.wait_for_log(&message, SOON);
    stops.stop();
    let of_both = joined([&of_good, &of_failing]);
    bed.wait_for_keys(&of_both, SOON);
    let comes = web();
    let of_all = joined([&of_both, &keys(&comes)]);
    bed.wait_for_keys(&of_all, SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), of_all);
    assert_eq!(
        count(&registrar.log(), "com.acme.service"),
        1,
        "it is said once"
    );

    // A registrar that never saw the policy succeed for it does not know its keys, and leaves them.
    registrar.kill9();
    let registrar = command.start();
    registrar.wait_for_log(
        "it gets no keys; those that it may have in the store stay",
        SOON,
    );
    registrar.wait_for_log("in step", SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), of_all);

    // Once the policy succeeds for it, its keys follow it again.
    fails.rename(&name);
    fails.stop();
    bed.wait_for_keys(&joined([&of_good, &keys(&comes)]), SOON);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn entries_of_a_wrong_shape() {
    let list = "it returned";
    let hint = "return a list of entries, `{}` for none";
    let cases = [
        ("nil", format!("{list} nil; {hint}")),
        ("'/a/b'", format!("{list} a string; {hint}")),
        (
            "{ key = '/a', value = 'x' }",
            format!("{list} one entry and not a list; {hint}: `{{ entry }}`"),
        ),
        (
            "{ web = {} }",
            format!("{list} a table with the field `web`; {hint}"),
        ),
        (
            "{ 'x' }",
            "entry 1 is a string; an entry is a table with `key` and `value`".to_owned(),
        ),
        ("{ { value = 'x' } }", "entry 1 has no `key`".to_owned()),
        ("{ { key = '/a' } }", "entry 1 has no `value`".to_owned()),
        (
            "{ { key = '/a', value = 'x' }, { key = '/b', value = 'x', tll = 3 } }",
            "entry 2 has the unknown field `tll`; an entry has `key`, `value`, `ttl`, `shared` and `check`"
                .to_owned(),
        ),
        (
            "{ { key = '/a', value = 'x', ttl = 0 } }",
            "entry 1: `ttl` is 0; it is a whole number of seconds from 1 to 86400".to_owned(),
        ),
        (
            "{ { key = '/a', value = 'x', ttl = '3' } }",
            "entry 1: `ttl` is a string; it is a whole number of seconds from 1 to 86400"
                .to_owned(),
        ),
        (
            "{ { key = '/a', value = 'x', shared = 1 } }",
            "entry 1: `shared` is a number; it is true or false".to_owned(),
        ),
        (
            "{ { key = '/a/../b', value = 'x' } }",
            "entry 1: segment 2 of the key `/a/../b` is `..`".to_owned(),
        ),
        (
            "{ { key = '/a\\nb', value = 'x' } }",
            "entry 1: segment 1 of the key `/a\\nb` has a control character: `a\\nb`".to_owned(),
        ),
        (
            "{ { key = '/a', value = 'x' }, { key = '/a', value = 'y' } }",
            "entries 1 and 2 have one key, `/a`, and differ".to_owned(),
        ),
    ];
    let saved = json!([inspected("web-1", "web")]).to_string();
    for (entries, message) in cases {
        let script = Script::new(&format!(
            "local register = require 'register'\n\
             function register.entries() return {entries} end\n\
             return register\n"
        ));
        let output = Registrar::command()
            .flag("--host-ip", HOST_IP)
            .flag("--containers", "-")
            .flag("--script", script.path())
            .stdin(&saved)
            .run("keys");
        let path = script.path();
        let place = format!("at {}:2 in register.entries", path.display());
        assert_eq!(
            output.stderr,
            format!("error: `web-1`: {message}\n  {place}\n"),
            "{entries}"
        );
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(1), "")
        );
    }
}

#[test]
fn hostile_service_names_reach_nobody_elses_keys() {
    let bed = TestBed::new();
    let web = |service: &str| {
        let web = bed.container().label("SERVICE_NAME", service);
        web.publish_all().start()
    };
    let too_long = "x".repeat(10 * 1024);
    let hostile = [
        (
            "../../x",
            "the service name `../../x` (label SERVICE_NAME) has a slash\n",
        ),
        (
            "a/b",
            "the service name `a/b` (label SERVICE_NAME) has a slash\n",
        ),
        ("..", "the service name (label SERVICE_NAME) is `..`\n"),
        (
            "",
            "its SERVICE_NAME or SERVICE_8005_NAME is empty: give it a value, or remove it",
        ),
        (
            "a\nb",
            "the service name `a\\nb` (label SERVICE_NAME) has a control character\n",
        ),
        (
            &too_long,
            &format!(
                "the service name `{}…` (label SERVICE_NAME) has 10240 bytes, more than 255\n",
                "x".repeat(72)
            ),
        ),
    ];
    let containers: Vec<Container> = hostile.iter().map(|(name, _)| web(name)).collect();
    let good = web("good");
    let registrar = bed.registrar().start();
    let keys = web_keys("good", &good, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    for ((service, message), container) in hostile.iter().zip(&containers) {
        let line = format!("ERROR `{}`: {message}", container.name());
        registrar.wait_for_log(&line, SOON);
        assert_eq!(count(&registrar.log(), &line), 1, "{service}");
    }
    // Only the keys of the good one were ever written.
    let written = bed.etcd.history("");
    assert_eq!(written.len(), keys.len(), "{written:#?}");
    assert_eq!(bed.keys(), keys);
    let log = registrar.log();
    assert!(log.lines().all(|line| line.len() < 500), "{log}");
}

#[test]
fn an_image_given_by_id_has_no_name() {
    let bed = TestBed::new();
    let image = docker(&["image", "inspect", "--format", "{{.Id}}", common::WEB]);
    let short = &image["sha256:".len()..][..12];
    let by_id = bed.container_of(&image).publish_all().start();
    let by_short_id = bed.container_of(short).publish_all().start();
    let named = bed.container_of(&image).env("SERVICE_NAME", "named");
    let named = named.publish_all().start();
    let registrar = bed.registrar().start();
    bed.wait_for_keys(&web_keys("named", &named, HOST_IP), SOON);
    for container in [by_id, by_short_id] {
        let message = format!(
            "ERROR `{}`: its image was given by id, which has no name: set SERVICE_NAME\n  at scripts/register.lua:",
            container.name()
        );
        registrar.wait_for_log(&message, SOON);
    }
}

#[test]
fn an_image_given_by_digest_has_its_name() {
    let digest = "0123456789abcdef".repeat(4);
    let image = format!("registry.example.org:5000/team/app@sha256:{digest}");
    let output = Registrar::command()
        .flag("--host-ip", HOST_IP)
        .flag("--containers", "-")
        .stdin(&json!([inspected("one", &image)]).to_string())
        .run("keys");
    assert_eq!(
        output.stdout,
        "/backends/app/1/oooooooooooo 192.0.2.1:8000\n/backends/app/1/port 80\n"
    );
    assert_eq!(
        (output.status.code(), output.stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn a_container_without_ports_has_no_keys() {
    let bed = TestBed::new();
    let bare = bed.container_of(BARE).start();
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    let registrar = bed.registrar().arg("--explain").start();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    let message = format!("INFO `{}`: left out: it exposes no port", bare.name());
    registrar.wait_for_log(&message, SOON);
    let log = registrar.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn of_two_containers_with_one_key_the_older_keeps_it() {
    let bed = TestBed::new();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.member() return 'one' end\n\
         return register\n",
    );
    let web = || {
        bed.container()
            .env("SERVICE_NAME", "web")
            .publish_all()
            .start()
    };
    let (older, younger) = (web(), web());
    let keys = |container: &Container| {
        let keys = web_keys("web", container, HOST_IP).into_iter();
        map(keys.map(|(key, value)| (key.replace(container.short_id(), "one"), value)))
    };
    let registrar = bed.registrar().flag("--script", script.path()).start();
    bed.wait_for_keys(&keys(&older), SOON);
    let warning = format!(
        "WARN two containers want `{}` and do not agree on it: `{}` is older and keeps it as `{}`, `{}` wants `{}` \
         and does not get it; make their keys differ in the policy",
        bed.key("web/1/one"),
        older.name(),
        keys(&older)["web/1/one"],
        younger.name(),
        keys(&younger)["web/1/one"]
    );
    registrar.wait_for_log(&warning, SOON);
    older.stop();
    bed.wait_for_keys(&keys(&younger), SOON);
    older.start();
    bed.wait_for_keys(&keys(&older), SOON);
    // One took over from the other without a gap.
    let history = bed.etcd.history(&bed.prefix);
    assert!(
        history.iter().all(|event| event.kind == Kind::Put),
        "{history:#?}"
    );
    younger.stop();
    older.stop();
    eventually(SOON, "all keys to go", || bed.keys().is_empty());
}

#[test]
fn wrong_flags_are_wrong_usage() {
    let cases = [
        ("--bogus", "1", "unexpected argument '--bogus'"),
        ("--ttl", "0", "expected a number of seconds from 1 to 86400"),
        (
            "--ttl",
            "soon",
            "expected a number of seconds from 1 to 86400",
        ),
        (
            "--host-ip",
            "here",
            "invalid value 'here' for '--host-ip <ADDRESS>'",
        ),
        (
            "--etcd",
            "ftp://etcd",
            "invalid value 'ftp://etcd' for '--etcd <HOST:PORT>'",
        ),
        ("--etcd", "etcd:many", "`many` is not a port"),
        ("--prefix", "/a//b", "segment 2 of the key `/a//b` is empty"),
        (
            "--set",
            "prefix=/x",
            "`prefix` has a flag of its own: --prefix",
        ),
        ("--set", "novalue", "expected NAME=VALUE"),
        ("--filter", "novalue", "expected NAME=VALUE"),
        (
            "--resync",
            "0",
            "invalid value '0' for '--resync <SECONDS>'",
        ),
        ("--on-exit", "explode", "[possible values: leave, remove]"),
    ];
    for (flag, value, message) in cases {
        let output = Registrar::command().flag(flag, value).run("run");
        assert!(
            output.stderr.contains(message),
            "{flag} {value}: {}",
            output.stderr
        );
        assert_eq!(
            output.status.code(),
            Some(2),
            "{flag} {value}: {}",
            output.stderr
        );
        assert_eq!(output.stdout, "");
    }
    assert_eq!(Registrar::command().run("rnu").status.code(), Some(2));
}

#[test]
fn an_address_of_the_host_that_only_the_host_can_use_is_not_guessed() {
    let bed = TestBed::new();
    let output = bed.registrar().without("--host-ip").run("run");
    let message = format!(
        "error: cannot find the address at which other hosts reach this one, because etcd at {} is on this host; \
         pass --host-ip ADDRESS, or set HOST_IP\n",
        bed.etcd.endpoint()
    );
    assert_eq!((output.status.code(), output.stderr), (Some(1), message));
    assert_eq!(bed.etcd.revision(), 1);

    // An explicit --host-ip may be loopback.
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let web = web.start();
    let registrar = bed.registrar().without("--host-ip");
    let _registrar = registrar.env("HOST_IP", "127.0.0.1").start();
    bed.wait_for_keys(&web_keys("web", &web, "127.0.0.1"), SOON);
}
