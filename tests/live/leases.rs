//! `leases` and `forget`: the registrars of all hosts, and the end of a dead host's lease.

use crate::common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{HOST_IP, RegistrarBuilder, SOON, TestBed, eventually, in_step, web_keys};
use serde_json::{Value, json};

/// The commands about leases have few flags, and see all registrars in etcd.
fn command(bed: &TestBed) -> RegistrarBuilder {
    common::Registrar::command()
        .flag("--etcd", bed.etcd.endpoint())
        .flag("--instance", format!("{}-a", bed.name))
}

fn listed(bed: &TestBed) -> Vec<Value> {
    let output = command(bed).flag("--format", "json").run("leases");
    assert!(output.status.success(), "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("a list")
}

/// The registrar in the list whose keys have this address.
fn of<'a>(list: &'a [Value], address: &str) -> &'a Value {
    let has = |item: &&Value| item["addresses"] == json!([address]);
    list.iter().find(has).expect("the registrar of the address")
}

#[test]
fn each_registrar_is_listed_and_a_dead_one_can_be_forgotten() {
    let bed = TestBed::new();
    let one = bed.container_on("a").env("SERVICE_NAME", "web").start();
    let _two = bed.container_on("b").env("SERVICE_NAME", "web").start();
    let here = in_step(&bed.registrar_on("a", HOST_IP));
    // A dead host's keys would stay for an hour.
    let dead = bed.registrar_on("b", "192.0.2.2").flag("--ttl", "3600");
    let dead = in_step(&dead);
    // Another program's lease is none of a registrar, nor is that of a shared key.
    let strange = bed.etcd.grant(600, 0x7701);
    bed.etcd.put_with_lease("/other", "10.9.9.9:1", strange);

    let list = listed(&bed);
    assert_eq!(list.len(), 2, "{list:#?}");
    let (a, b) = (of(&list, HOST_IP), of(&list, "192.0.2.2"));
    for (item, ttl, this) in [(a, 60, true), (b, 3600, false)] {
        assert_eq!(item["ttl"], ttl);
        assert_eq!(
            (&item["keys"], &item["runs"], &item["this"]),
            (&json!(2), &json!(true), &json!(this))
        );
        let left = item["left"].as_u64().expect("seconds");
        assert!(left < ttl && left + 30 > ttl, "{item}");
    }
    let table = command(&bed).run("leases").stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("LEASE ") && lines[0].ends_with(" REGISTRAR"),
        "{table}"
    );
    let lease = b["lease"].as_str().expect("a lease");
    let line = lines
        .iter()
        .find(|line| line.starts_with(lease))
        .expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..3], ["3600", "s"]);
    assert_eq!(words[5..], ["2", "192.0.2.2", "runs"], "{table}");
    assert!(table.contains("runs, this one\n"), "{table}");

    // It ends in order, so that its seat is released, and leaves its keys.
    dead.terminate();
    assert_eq!(of(&listed(&bed), "192.0.2.2")["runs"], false);
    let refused = command(&bed).arg(lease).run("forget");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("pass --yes to end lease "),
        "{refused:?}"
    );
    assert_eq!(
        bed.etcd
            .keys_of_lease(i64::from_str_radix(lease, 16).expect("an id"))
            .len(),
        2
    );

    let forgotten = command(&bed).arg(lease).arg("--yes").run("forget");
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert_eq!(
        forgotten.stdout,
        format!("lease {lease} has ended; keys removed: 2\n")
    );
    bed.wait_for_keys(&web_keys("web", &one, HOST_IP), SOON);
    assert_eq!(listed(&bed).len(), 1);

    for (id, message) in [
        (lease, "there is no lease "),
        ("7701", "is not of a registrar's own keys, so it stays"),
    ] {
        let wrong = command(&bed).arg(id).arg("--yes").run("forget");
        assert_eq!(wrong.status.code(), Some(1));
        assert!(wrong.stderr.contains(message), "{wrong:?}");
    }
    assert!(bed.etcd.kv("/other").is_some());
    let usage = command(&bed).arg("x").run("forget");
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    here.terminate();
}

/// Runs `forget` on a terminal of its own, and types an answer.
fn answer(bed: &TestBed, lease: &str, typed: &str) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_docker-register");
    let line = format!("{program} forget {lease} --etcd {}", bed.etcd.endpoint());
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` can be run");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(typed.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("a child can be waited for");
    drop(stdin);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn forget_asks_on_a_terminal() {
    let bed = TestBed::new();
    let web = bed.container_on("a").env("SERVICE_NAME", "web").start();
    let registrar = in_step(&bed.registrar_on("a", HOST_IP));
    registrar.kill9();
    let list = listed(&bed);
    let lease = of(&list, HOST_IP)["lease"].as_str().expect("a lease");
    let (status, text) = answer(&bed, lease, "n\n");
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains(&format!("Keys: 2; addresses: {HOST_IP}.")),
        "{text}"
    );
    // Its seat may still be there.
    assert!(
        text.contains("Its registrar runs, or was killed less than a minute ago."),
        "{text}"
    );
    assert!(text.contains("nothing is changed"), "{text}");
    assert_eq!(bed.keys(), web_keys("web", &web, HOST_IP));
    let (status, text) = answer(&bed, lease, "y\n");
    assert_eq!(status, Some(0), "{text}");
    eventually(SOON, "the end of the owned keys", || {
        bed.keys().into_keys().all(|key| key.ends_with("/port"))
    });
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_mentioned_once_although_another_works() {
    let bed = TestBed::new();
    let _web = bed.container_on("a").start();
    let _registrar = in_step(&bed.registrar_on("a", HOST_IP));
    let both = format!("127.0.0.1:1,{}", bed.etcd.endpoint());
    let message = "WARN cannot reach etcd at `127.0.0.1:1`: Connection refused (os error 111); another endpoint answers";
    for command in [
        command(&bed).flag("--etcd", &both).run("leases"),
        bed.registrar_on("a", HOST_IP)
            .flag("--etcd", &both)
            .run("diff"),
        common::Registrar::command()
            .flag("--etcd", &both)
            .run("services"),
    ] {
        assert!(command.status.success(), "{command:?}");
        let lines = command
            .stderr
            .lines()
            .filter(|line| line.ends_with(message));
        assert_eq!(lines.count(), 1, "{}", command.stderr);
    }
}
