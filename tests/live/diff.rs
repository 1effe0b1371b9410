//! `diff`: compares the keys in etcd with those that should be there, and writes nothing.

use crate::common;

use common::{HOST_IP, TestBed, in_step};
use serde_json::{Value, json};

#[test]
fn nothing_differs_where_a_registrar_works() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let _registrar = in_step(&bed.registrar());
    let output = bed.registrar().run("diff");
    assert_eq!(
        (
            output.status.code(),
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (Some(0), "", "")
    );
    let output = bed.registrar().flag("--format", "json").run("diff");
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(0), "[]\n")
    );
}

#[test]
fn each_kind_of_difference_is_reported_and_nothing_is_written() {
    let bed = TestBed::new();
    let web = |service| {
        bed.container()
            .env("SERVICE_NAME", service)
            .publish_all()
            .start()
    };
    let [lost, changed, gone, held] = ["lost", "changed", "gone", "held"].map(web);
    let registrar = in_step(&bed.registrar());
    registrar.kill9();
    let key = |service: &str, rest: &str| bed.key(&format!("{service}/1/{rest}"));
    let own = bed
        .etcd
        .kv(&key("lost", lost.short_id()))
        .expect("it is registered")
        .lease;
    let strange = bed.etcd.grant(600, 0x77);
    bed.etcd.delete(&key("lost", lost.short_id()));
    bed.etcd
        .put_with_lease(&key("changed", changed.short_id()), "1.1.1.1:1", own);
    gone.rm();
    bed.etcd
        .put_with_lease(&key("held", held.short_id()), "2.2.2.2:2", strange);
    bed.etcd.put(&key("held", "port"), "8005");
    bed.etcd.put(&bed.key("leftover"), "x");
    let before = (bed.etcd.revision(), bed.etcd.leases());

    let output = bed.registrar().run("diff");
    let address =
        |container: &common::Container| format!("{HOST_IP}:{}", container.host_port("8005/tcp"));
    let line = |kind: &str, key: String, what: String| format!("{kind:<9} {key} {what}");
    let stale = |rest: &str, value: &str, index: u8| {
        let key = bed.key(&format!("gone/{index}/{rest}"));
        line("stale", key, format!("is {value}, should not be there"))
    };
    let mut wanted = vec![
        line(
            "missing",
            key("lost", lost.short_id()),
            format!("should be {}", address(&lost)),
        ),
        line(
            "different",
            key("changed", changed.short_id()),
            format!("is 1.1.1.1:1, should be {}", address(&changed)),
        ),
        line(
            "held",
            key("held", held.short_id()),
            format!(
                "is 2.2.2.2:2 on somebody else's lease 77, should be {}",
                address(&held)
            ),
        ),
        line(
            "different",
            key("held", "port"),
            "is 8005 as it should be, but on no lease".to_owned(),
        ),
        line(
            "stale",
            bed.key("leftover"),
            "is x, on no lease, so it never expires".to_owned(),
        ),
        stale("port", "8005", 1),
        stale("port", "8006", 2),
    ];
    let lines: Vec<&str> = output.stdout.lines().collect();
    // The ports that the stopped container had are not known any more.
    let (members, others): (Vec<&str>, Vec<&str>) = lines
        .iter()
        .partition(|line| line.contains(gone.short_id()));
    assert_eq!(members.len(), 2, "{lines:#?}");
    assert!(
        members.iter().all(|line| line.starts_with("stale     ")),
        "{members:#?}"
    );
    wanted.sort_by_key(|line| line.split_whitespace().nth(1).map(str::to_owned));
    assert_eq!(others, wanted);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stderr, "");

    let output = bed.registrar().flag("--format", "json").run("diff");
    let items: Vec<Value> = serde_json::from_str(&output.stdout).expect("a list");
    assert_eq!(items.len(), lines.len());
    let of_held = items.iter().find(|item| item["kind"] == "held");
    let wanted = json!({
        "kind": "held", "key": key("held", held.short_id()), "wanted": address(&held), "ttl": 60, "found": "2.2.2.2:2",
        "lease": "77",
    });
    assert_eq!(of_held, Some(&wanted));
    assert_eq!(
        (bed.etcd.revision(), bed.etcd.leases()),
        before,
        "it writes nothing"
    );
}

#[test]
fn an_etcd_that_cannot_be_reached_is_said_to_be_so() {
    let bed = TestBed::new();
    let output = bed.registrar().flag("--etcd", "127.0.0.1:1").run("diff");
    assert_eq!(
        (
            output.status.code(),
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (
            Some(1),
            "",
            "error: cannot reach etcd at `127.0.0.1:1`: Connection refused (os error 111)\n"
        )
    );
}

#[test]
fn another_ttl_is_told_with_the_wanted_one() {
    let bed = TestBed::new();
    let web = bed.container().env("SERVICE_NAME", "web");
    let web = web.publish("8005").start();
    in_step(&bed.registrar()).kill9();
    let output = bed.registrar().flag("--ttl", "30").run("diff");
    let value = format!("{HOST_IP}:{}", web.host_port("8005/tcp"));
    let line = |key: &str, value: &str| {
        let key = bed.key(&format!("web/1/{key}"));
        format!(
            "different {key} is {value} as it should be, with a TTL of 60 s, which should be 30 s"
        )
    };
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(
        lines.contains(&&*line(web.short_id(), &value)),
        "{lines:#?}"
    );
    // The longer lease of a shared key may be another host's.
    let is_port = |one: &&&str| **one == line("port", "8005");
    assert_eq!(lines.len(), 1 + lines.iter().filter(is_port).count());
}

#[test]
fn a_registrar_mends_what_was_reported() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let gone = bed.container().publish_all().start();
    in_step(&bed.registrar()).kill9();
    gone.rm();
    bed.etcd.delete(&bed.key("web/1/port"));
    assert_eq!(bed.registrar().run("diff").stdout.lines().count(), 3);
    let _registrar = in_step(&bed.registrar());
    assert_eq!(bed.registrar().run("diff").stdout, "");
}
