//! Claims that collide, and claims that do not.

use serde_json::{Value, json};

use super::*;
use crate::container::{Container, Saved, read_saved};
use crate::wanted::{Claim, Entry};

/// A container with bindings, as `8000:80/tcp` or `10.0.0.1:8000:80/tcp`.
fn container(name: &str, bindings: &[&str]) -> Arc<Container> {
    let mut ports = serde_json::Map::new();
    for binding in bindings {
        let (outside, inside) = binding.rsplit_once(':').expect("two ports");
        let (ip, port) = outside.rsplit_once(':').unwrap_or(("0.0.0.0", outside));
        ports.insert(
            inside.to_owned(),
            json!([{ "HostIp": ip, "HostPort": port }]),
        );
    }
    let exposed: serde_json::Map<String, Value> =
        ports.keys().map(|port| (port.clone(), json!({}))).collect();
    saved(&json!([{
        "Id": format!("{name:0<64}"), "Name": format!("/{name}"), "Created": "2026-01-01T00:00:00Z",
        "State": { "Status": "running", "Running": true },
        "Config": { "Image": "web", "ExposedPorts": exposed },
        "HostConfig": { "NetworkMode": "default" }, "NetworkSettings": { "Ports": ports },
    }]))
    .remove(0)
}

fn saved(text: &Value) -> Vec<Arc<Container>> {
    let saved = read_saved(&text.to_string()).and_then(Saved::whole);
    saved.expect("containers")
}

/// The wanted state of containers with the values of their owned keys.
fn wanted(containers: &[(&Arc<Container>, &[&str])]) -> Arc<Wanted> {
    let claim = |(container, values): &(&Arc<Container>, &[&str])| {
        let entry = |value: &&str| Entry {
            key: format!("/b/{}/{value}", container.name).into(),
            value: (*value).into(),
            ttl: 60,
            shared: false,
            check: None,
        };
        Arc::new(Claim {
            who: ContainerName {
                id: Arc::clone(&container.id),
                name: Arc::clone(&container.name),
            },
            age: Arc::clone(&container.age),
            entries: values.iter().map(entry).collect(),
            unproven: [].into(),
        })
    };
    Arc::new(Wanted {
        claims: containers.iter().map(claim).collect(),
        running: containers.iter().map(|(one, _)| Arc::clone(one)).collect(),
        ..Wanted::default()
    })
}

fn news(collisions: &mut Collisions, wanted: &Arc<Wanted>) -> Vec<String> {
    collisions
        .want(wanted)
        .iter()
        .map(Collision::to_string)
        .collect()
}

const AT: &str = "10.0.0.1:8000";

#[test]
fn two_containers_that_claim_one_address_are_named_once_until_that_changes() {
    let [a, b, c] = ["a", "b", "c"].map(|name| container(name, &["8000:80/tcp"]));
    let mut collisions = Collisions::default();
    let one = wanted(&[(&a, &[AT])]);
    assert_eq!(news(&mut collisions, &one), [""; 0]);
    let two = wanted(&[(&a, &[AT]), (&b, &[AT, "10.0.0.1:8000"])]);
    assert_eq!(
        news(&mut collisions, &two),
        [
            "`a` and `b` claim one address of this host, 10.0.0.1:8000 (tcp), and only one of them can have its \
          connections: give each a port of its own, or let the policy leave out all but one"
        ]
    );
    assert_eq!(news(&mut collisions, &two), [""; 0]);
    assert_eq!(collisions.all().len(), 1);
    let three = wanted(&[(&a, &[AT]), (&b, &[AT]), (&c, &[AT])]);
    assert!(news(&mut collisions, &three)[0].starts_with("`a`, `b` and `c` claim"));
    assert_eq!(news(&mut collisions, &one), [""; 0]);
    assert!(collisions.all().is_empty());
    assert_eq!(news(&mut collisions, &two).len(), 1);
}

#[test]
fn other_protocols_addresses_and_values_are_no_collision() {
    let (tcp, udp) = (
        container("a", &["53:53/tcp"]),
        container("b", &["53:53/udp"]),
    );
    let local = container("c", &["10.0.0.2:53:53/tcp"]);
    let text = "{\"addr\":\"10.0.0.1:53\"}";
    for (one, two, value) in [
        (&tcp, &udp, "10.0.0.1:53"),
        // The port of an address elsewhere, such as a load balancer's.
        (&tcp, &container("d", &["54:53/tcp"]), "10.0.0.1:53"),
        (&tcp, &container("e", &["53:80/tcp"]), text),
        (&tcp, &container("f", &["53:80/tcp"]), "53"),
        (
            &local,
            &container("g", &["10.0.0.3:53:53/tcp"]),
            "10.0.0.1:53",
        ),
    ] {
        let mut collisions = Collisions::default();
        let both = wanted(&[(one, &[value]), (two, &[value])]);
        assert_eq!(news(&mut collisions, &both), [""; 0], "{value}");
    }
    // One on every address, and one on the claimed address.
    let mut collisions = Collisions::default();
    let both = wanted(&[(&tcp, &["10.0.0.2:53"]), (&local, &["10.0.0.2:53"])]);
    assert_eq!(news(&mut collisions, &both).len(), 1);
}

/// At most one of them can listen there.
#[test]
fn two_guests_that_expose_one_port_collide() {
    let guest = |name: &str| {
        json!({
            "Id": format!("{name:0<64}"), "Name": format!("/{name}"), "Created": "2026-05-01T10:00:00.5Z",
            "State": { "Status": "running", "Running": true },
            "Config": { "Image": "web", "ExposedPorts": { "80/tcp": {} } },
            "HostConfig": { "NetworkMode": "container:a" }, "NetworkSettings": {},
        })
    };
    let owner = json!({
        "Id": format!("{:0<64}", "a"), "Name": "/a", "Created": "2026-01-01T00:00:00Z",
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8000" }] } },
    });
    let all = saved(&json!([owner, guest("b"), guest("c")]));
    let mut collisions = Collisions::default();
    let both = wanted(&[(&all[1], &[AT]), (&all[2], &[AT])]);
    assert!(news(&mut collisions, &both)[0].starts_with("`b` and `c` claim"));
}

#[test]
fn a_container_that_gets_other_ports_is_judged_again() {
    let a = container("a", &["8000:80/tcp"]);
    let (udp, tcp) = (
        container("b", &["8000:80/udp"]),
        container("b", &["8000:80/tcp"]),
    );
    let mut collisions = Collisions::default();
    assert_eq!(
        news(&mut collisions, &wanted(&[(&a, &[AT]), (&udp, &[AT])])),
        [""; 0]
    );
    assert_eq!(
        news(&mut collisions, &wanted(&[(&a, &[AT]), (&tcp, &[AT])])).len(),
        1
    );
}

#[test]
fn two_in_host_networking_on_one_port_collide() {
    let one = |name: &str| {
        json!({
            "Id": format!("{name:0<64}"), "Name": format!("/{name}"), "Created": "2026-05-01T10:00:00.5Z",
            "State": { "Status": "running", "Running": true },
            "Config": { "Image": "nginx:1", "ExposedPorts": { "80/tcp": {} } },
            "HostConfig": { "NetworkMode": "host" }, "NetworkSettings": { "Ports": {} },
        })
    };
    let both = saved(&json!([one("a"), one("b")]));
    for value in ["10.0.0.1:80", "[fd00::1]:80"] {
        let wanted = wanted(&[(&both[0], &[value]), (&both[1], &[value])]);
        assert_eq!(
            news(&mut Collisions::default(), &wanted).len(),
            1,
            "{value}"
        );
    }
}
