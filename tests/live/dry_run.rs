//! Dry runs print the changes and write nothing: `run --dry-run`, and `keys` for Docker's or saved containers.

use crate::common;

use common::{
    BARE, Container, HOST_IP, Registrar, RegistrarBuilder, SOON, TestBed, docker, web_keys,
};
use serde_json::json;
use std::collections::BTreeSet;

fn web(bed: &TestBed) -> Container {
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    web.start()
}

/// The lines in which `keys` prints the keys of containers of the service `web`.
fn key_lines<'a>(
    bed: &TestBed,
    containers: impl IntoIterator<Item = &'a Container>,
) -> Vec<String> {
    let keys = containers
        .into_iter()
        .flat_map(|container| web_keys("web", container, HOST_IP));
    let lines: BTreeSet<String> = keys
        .map(|(key, value)| format!("{} {value}\n", bed.key(&key)))
        .collect();
    lines.into_iter().collect()
}

/// `KEY VALUE` lines, each replaced by `line`.
fn edited(lines: &[String], line: impl Fn(&str, &str) -> String) -> String {
    let pairs = lines
        .iter()
        .filter_map(|line| line.trim_end().split_once(' '));
    pairs.map(|(key, value)| line(key, value)).collect()
}

/// Lines in which the order does not matter.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_dry_run_prints_each_change_and_needs_no_etcd() {
    let bed = TestBed::new();
    bed.etcd.stop();
    let first = web(&bed);
    let registrar = bed.registrar().arg("--dry-run").start();
    let wait_for = |expected: &str| {
        common::eventually(SOON, &format!("{expected} on stdout"), || {
            registrar.stdout().len() >= expected.len()
        });
        assert_eq!(sorted(&registrar.stdout()), sorted(expected));
    };

    let of_first = key_lines(&bed, [&first]);
    let mut expected = edited(&of_first, |key, value| format!("put {key} {value}\n"));
    wait_for(&expected);
    let second = web(&bed);
    let of_second: Vec<String> = key_lines(&bed, [&second])
        .into_iter()
        // The port keys are there already.
        .filter(|line| !of_first.contains(line))
        .collect();
    expected += &edited(&of_second, |key, value| format!("put {key} {value}\n"));
    wait_for(&expected);
    second.stop();
    expected += &edited(&of_second, |key, _| format!("delete {key}\n"));
    wait_for(&expected);
    first.stop();
    expected += &edited(&of_first, |key, _| format!("delete {key}\n"));
    wait_for(&expected);

    registrar.signal("TERM");
    let output = registrar.output(SOON);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(!output.stderr.contains("WARN"), "{}", output.stderr);
    // It has no keys in etcd to keep or to remove.
    assert!(!output.stderr.contains("keys stay"), "{}", output.stderr);
}

#[test]
fn a_dry_run_writes_nothing() {
    let bed = TestBed::new();
    let _web = web(&bed);
    let registrar = bed.registrar().arg("--dry-run");
    let registrar = registrar.flag("--on-exit", "remove").start();
    registrar.wait_for_stdout("/web/2/port 8006\n", SOON);
    assert_eq!(registrar.terminate().code(), Some(0));
    assert_eq!(bed.etcd.revision(), 1);
    assert_eq!(bed.etcd.leases(), [0; 0]);
}

#[test]
fn a_dry_run_guesses_the_address_of_the_host_and_says_so() {
    let bed = TestBed::new();
    let container = web(&bed);
    let registrar = bed.registrar().without("--host-ip").arg("--dry-run");
    let registrar = registrar.start();
    let address = format!("127.0.0.1:{}\n", container.host_port("8005/tcp"));
    registrar.wait_for_stdout(&address, SOON);
    let log = registrar.log();
    assert!(
        log.contains("WARN") && log.contains("--host-ip ADDRESS"),
        "{log}"
    );
}

#[test]
fn saved_containers_have_the_same_keys_as_live_ones() {
    let bed = TestBed::new();
    let containers = [web(&bed), web(&bed)];
    let bare = bed.container_of(BARE).start();
    let wanted = key_lines(&bed, &containers).concat();

    let live = bed.registrar().run("keys");
    assert_eq!(live.stdout, wanted);
    assert_eq!((live.status.code(), live.stderr.as_str()), (Some(0), ""));
    assert_eq!(bed.etcd.revision(), 1);

    let [one, two] = &containers;
    let saved = docker(&["inspect", one.id(), bare.id(), two.id()]);
    let from_stdin = bed.registrar().flag("--containers", "-").stdin(&saved);
    // Saved containers need neither Docker nor etcd.
    bed.etcd.stop();
    let from_stdin = from_stdin.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let printed = from_stdin.run("keys");
    assert_eq!(printed.stdout, wanted);
    assert_eq!(
        (printed.status.code(), printed.stderr.as_str()),
        (Some(0), "")
    );

    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), &saved).expect("a file can be written");
    let from_file = bed.registrar().flag("--containers", file.path());
    let printed = from_file.run("keys");
    assert_eq!(printed.stdout, wanted);
}

#[test]
fn saved_containers_that_are_none() {
    let keys = |text: &str| {
        let keys = Registrar::command().flag("--host-ip", HOST_IP);
        keys.flag("--containers", "-").stdin(text).run("keys")
    };
    let hint = "save the output of `docker inspect $(docker ps -q)`";
    let cases = [
        ("", format!("it is empty; {hint}")),
        ("CONTAINER ID   IMAGE", format!("not JSON; {hint}")),
        ("3", format!("neither a list nor an object; {hint}")),
        (
            "[3]",
            "container 1: invalid type: integer `3`, expected an object\n".to_owned(),
        ),
        ("[{}]", "container 1: it has no `Id`".to_owned()),
    ];
    for (text, message) in cases {
        let output = keys(text);
        let message = format!("error: {message}");
        assert!(
            output.stderr.starts_with(&message),
            "{text}: {}",
            output.stderr
        );
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(1), "")
        );
    }
    let empty = keys("[]");
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", ""));
    assert_eq!(empty.status.code(), Some(0));

    let missing = Registrar::command().flag("--containers", "/nonexistent.json");
    let missing = missing.flag("--host-ip", HOST_IP).run("keys");
    let message = "error: cannot read the containers from `/nonexistent.json`: No such file or directory (os error 2)\n";
    assert_eq!(
        (missing.status.code(), missing.stderr.as_str()),
        (Some(1), message)
    );
}

#[test]
fn what_is_left_out_is_explained() {
    let bed = TestBed::new();
    let bare = bed
        .container_of(BARE)
        .name(&format!("{}-1", bed.name))
        .start();
    let paused = bed
        .container()
        .name(&format!("{}-2", bed.name))
        .publish_all();
    let paused = paused.start();
    paused.pause();
    let ignored = bed.container().name(&format!("{}-3", bed.name));
    let ignored = ignored
        .label("SERVICE_IGNORE", "true")
        .publish_all()
        .start();
    let partly = bed
        .container()
        .name(&format!("{}-4", bed.name))
        .expose("53/udp");
    let partly = partly.publish("127.0.0.1::8005").start();
    let found = web(&bed);

    let output = bed.registrar().arg("--explain").run("keys");
    assert_eq!(output.stdout, key_lines(&bed, [&found]).concat());
    let wanted = [
        format!("`{}`: left out: it exposes no port", bare.name()),
        format!("`{}`: left out: it is paused", paused.name()),
        format!("`{}`: left out: SERVICE_IGNORE is set", ignored.name()),
        format!(
            "`{}`: left out: port 53/udp: udp is not asked for (--set protocols=tcp,udp)",
            partly.name()
        ),
        format!(
            "`{}`: left out: port 8005/tcp: it is published on 127.0.0.1 alone",
            partly.name()
        ),
        format!(
            "`{}`: left out: port 8006/tcp: it is not published",
            partly.name()
        ),
    ];
    assert_eq!(output.stderr.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        bed.registrar().run("keys").stderr,
        "",
        "it was not asked for"
    );
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let bed = TestBed::new();
    let container = web(&bed);
    let quiet = |command: RegistrarBuilder, subcommand: &str| {
        let output = command.closed_stdout().run(subcommand);
        assert_eq!(
            (output.status.code(), output.stderr.as_str()),
            (Some(0), ""),
            "{subcommand}"
        );
    };
    quiet(bed.registrar(), "keys");
    let saved = docker(&["inspect", container.id()]);
    quiet(
        bed.registrar().flag("--containers", "-").stdin(&saved),
        "keys",
    );
    quiet(Registrar::command().arg("--help"), "keys");
    let run = bed.registrar().arg("--dry-run");
    quiet(run.flag("--log-level", "error"), "run");
}

#[test]
fn a_log_that_nobody_reads_is_no_reason_to_end() {
    let bed = TestBed::new();
    // As in `docker-register keys --explain 2>&1 | head -1`.
    let _bare = bed.container_of(BARE).start();
    let explained = bed.registrar().arg("--explain").closed_stderr();
    assert_eq!(explained.run("keys").status.code(), Some(0));
    let registrar = bed.registrar().closed_stderr().start();
    let container = web(&bed);
    bed.wait_for_keys(&web_keys("web", &container, HOST_IP), SOON);
    assert!(registrar.exited().is_none());
    container.stop();
    common::eventually(SOON, "the keys to go", || bed.keys().is_empty());
    assert_eq!(registrar.terminate().code(), Some(0));
}

#[test]
fn a_failing_policy_is_a_failure_of_keys() {
    let bed = TestBed::new();
    let good = json!({
        "Id": "a".repeat(64), "Name": "/good",
        "State": { "Status": "running", "Running": true },
        "Config": { "Image": "web", "ExposedPorts": { "80/tcp": {} } },
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "", "HostPort": "8000" }] } },
    });
    let mut bad = good.clone();
    bad["Id"] = "b".repeat(64).into();
    bad["Name"] = "/bad".into();
    bad["Config"]["Labels"] = json!({ "SERVICE_NAME": "a/b" });
    let saved = json!([bad, good]).to_string();
    let output = bed.registrar().flag("--containers", "-").stdin(&saved);
    let output = output.run("keys");
    let directory = bed.key("web/1");
    assert_eq!(
        output.stdout,
        format!("{directory}/aaaaaaaaaaaa 192.0.2.1:8000\n{directory}/port 80\n")
    );
    let message = "error: `bad`: the service name `a/b` (label SERVICE_NAME) has a slash\n";
    assert!(output.stderr.starts_with(message), "{}", output.stderr);
    assert_eq!(output.status.code(), Some(1));
}
