//! Two containers of one host that claim one address of it.

use crate::common;

use common::{
    Registrar, SOON, TestBed, count, docker_of, eventually, get, in_step, inspection, warnings,
};
use serde_json::{Value, json};

/// A container of nginx in host networking.
fn on_host(id: char, name: &str) -> Value {
    json!({
        "Id": id.to_string().repeat(64), "Name": format!("/{name}"), "Created": "2026-05-01T10:00:00.5Z",
        "Image": "sha256:0123",
        "State": { "Status": "running", "Running": true, "StartedAt": "2026-05-01T10:00:01.1Z" },
        "Config": { "Image": "nginx:1", "Env": [], "Labels": {}, "ExposedPorts": { "80/tcp": {} } },
        "HostConfig": { "NetworkMode": "host", "PortBindings": {} },
        "NetworkSettings": { "Ports": {}, "Networks": {} },
    })
}

const BOTH: &str = "WARN `n1` and `n2` claim one address of this host, 10.0.0.1:80 (tcp), and only one of them can have \
                    its connections";

#[test]
fn keys_warns_of_two_in_host_networking_on_one_port() {
    let both = json!([on_host('a', "n1"), on_host('b', "n2")]);
    let keys = Registrar::command()
        .flag("--host-ip", "10.0.0.1")
        .flag("--containers", "-");
    let output = keys.clone().stdin(&both.to_string()).run("keys");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(count(&output.stderr, BOTH), 1, "{}", output.stderr);
    assert_eq!(output.stdout.lines().count(), 3, "{}", output.stdout);
    let one = json!([on_host('a', "n1")]);
    let output = keys.stdin(&one.to_string()).run("keys");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), ""));
}

#[test]
fn two_that_claim_one_address_are_shown_and_warned_of_once() {
    let bed = TestBed::new();
    let docker = docker_of(vec![
        on_host('a', "n1"),
        on_host('b', "n2"),
        inspection(3, "web", 20_000),
    ]);
    let registrar = bed.registrar_of(&docker).flag("--host-ip", "10.0.0.1");
    let output = registrar.run("diff");
    assert_eq!(count(&output.stderr, BOTH), 1, "{}", output.stderr);
    let registrar = registrar.flag("--ttl", "2").flag("--listen", "127.0.0.1:0");
    let registrar = in_step(&registrar);
    registrar.wait_for_log(BOTH, SOON);
    let address = registrar.address();
    eventually(SOON, "the metric", || {
        get(&address, "/metrics")
            .body
            .contains("\ndocker_register_address_collisions 1\n")
    });
    let page = get(&address, "/").body;
    assert!(page.contains("Claimed by several containers"), "{page}");
    assert!(page.contains("10.0.0.1:80 (tcp)"), "{page}");
    bed.etcd.let_pass(6);
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
}
