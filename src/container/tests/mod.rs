//! Reading a container.

mod saved;
mod shared_network;

use serde_json::{Value, json};

use super::*;

/// The parts of a reference, `-` for one that is missing.
fn image(reference: &str) -> [String; 5] {
    let image = Image::new(reference, "sha256:0123456789abcdef0123456789abcdef");
    [
        image.registry,
        image.repository,
        image.name,
        image.tag,
        image.digest,
    ]
    .map(|part| part.unwrap_or_else(|| "-".to_owned()))
}

fn containers(saved: &Value) -> Vec<Arc<Container>> {
    let saved = read_saved(&saved.to_string()).and_then(Saved::whole);
    saved.expect("containers")
}

#[expect(clippy::needless_pass_by_value, reason = "it is always a literal")]
pub fn container(value: Value) -> Container {
    (*containers(&json!([value]))[0]).clone()
}

#[test]
fn image_references_are_split() {
    for (reference, parts) in [
        ("web", ["-", "web", "web", "latest", "-"]),
        ("web:1.2", ["-", "web", "web", "1.2", "-"]),
        ("team/web:1", ["-", "team/web", "web", "1", "-"]),
        (
            "host.example:5000/team/app/web:1",
            ["host.example:5000", "team/app/web", "web", "1", "-"],
        ),
        ("localhost/web", ["localhost", "web", "web", "latest", "-"]),
        (
            "team/web@sha256:abcd",
            ["-", "team/web", "web", "-", "sha256:abcd"],
        ),
        (
            "team/web:1@sha256:abcd",
            ["-", "team/web", "web", "1", "sha256:abcd"],
        ),
        // An image given by its id has no name; hex digits that are not its id are one.
        ("sha256:0123456789abcdef0123456789abcdef", ["-"; 5]),
        ("0123456789ab", ["-"; 5]),
        ("0123", ["-"; 5]),
        ("012", ["-", "012", "012", "latest", "-"]),
        ("facade", ["-", "facade", "facade", "latest", "-"]),
    ] {
        assert_eq!(image(reference), parts, "{reference}");
    }
}

#[test]
fn inspect_objects_are_equal_in_whatever_order_their_maps_are() {
    let labels: serde_json::Map<_, _> = (0..20).map(|n| (n.to_string(), json!("x"))).collect();
    let object = json!({"Id": "0123456789abcdef", "Name": "/a", "Config": {"Labels": labels}});
    let [one, same] = [(); 2].map(|()| container(object.clone()));
    // So it is whether it is packed or not.
    one.inspect.pack();
    assert_eq!(one, same);
    let labels = one.inspect.object().expect("it is packed")["Config"]["Labels"].clone();
    assert_eq!(labels, object["Config"]["Labels"]);
    let mut object = object;
    object["Config"]["Labels"]["19"] = json!("y");
    assert_ne!(one.inspect, container(object).inspect);
}

#[test]
fn ports_are_in_order_of_number_then_protocol() {
    let container = container(json!({
        "Id": "a", "Name": "/a",
        "Config": { "ExposedPorts": { "9000/tcp": {}, "53/udp": {}, "53/tcp": {}, "8000-8002/tcp": {} } },
        "NetworkSettings": { "Ports": { "53/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "1053" }], "53/udp": null } },
    }));
    let ports: Vec<_> = container
        .ports
        .iter()
        .map(|port| (port.index, port.port, port.protocol.as_str()))
        .collect();
    assert_eq!(
        ports,
        [
            (1, 53, "tcp"),
            (2, 53, "udp"),
            (3, 8000, "tcp"),
            (4, 8001, "tcp"),
            (5, 8002, "tcp"),
            (6, 9000, "tcp")
        ]
    );
    assert_eq!(
        container.ports[0].bindings,
        [Binding {
            ip: "0.0.0.0".to_owned(),
            port: 1053
        }]
    );
    assert!(container.ports[1].bindings.is_empty());
}

#[test]
fn the_best_binding_comes_first() {
    let container = container(json!({
        "Id": "a", "Name": "/a",
        "NetworkSettings": { "Ports": { "80/tcp": [
            { "HostIp": "127.0.0.1", "HostPort": "1" },
            { "HostIp": "::", "HostPort": "2" },
            { "HostIp": "", "HostPort": "3" },
            { "HostIp": "10.0.0.1", "HostPort": "" },
        ] } },
    }));
    let bindings: Vec<_> = container.ports[0]
        .bindings
        .iter()
        .map(|binding| (binding.ip.as_str(), binding.port))
        .collect();
    assert_eq!(bindings, [("0.0.0.0", 3), ("::", 2), ("127.0.0.1", 1)]);
}

#[test]
fn in_host_networking_a_port_is_bound_to_itself() {
    let container = container(json!({
        "Id": "a", "Name": "/a",
        "Config": { "ExposedPorts": { "8005/tcp": {} } },
        "HostConfig": { "NetworkMode": "host" },
    }));
    let bindings = &container.ports[0].bindings;
    let bindings: Vec<_> = bindings
        .iter()
        .map(|binding| (binding.ip.as_str(), binding.port))
        .collect();
    assert_eq!(bindings, [("0.0.0.0", 8005), ("::", 8005)]);
}

#[test]
fn only_a_fatal_signal_announces_the_end() {
    let with = |signal: Value| {
        container(json!({ "Id": "a", "Name": "/a", "Config": { "StopSignal": signal } }))
    };
    let plain = with(Value::Null);
    for (signal, fatal) in [
        ("15", true),
        ("9", true),
        ("1", false),
        ("2", false),
        ("", false),
        ("x", false),
    ] {
        assert_eq!(plain.ends_by(signal), fatal, "{signal}");
    }
    assert!(with(json!("SIGINT")).ends_by("2"));
    assert!(with(json!("QUIT")).ends_by("3"));
    assert!(with(json!("SIGRTMIN+3")).ends_by("37"));
    assert!(with(json!("3")).ends_by("15"));
}

#[test]
fn ages_sort_however_many_digits_they_have() {
    let age = |created: &str| container(json!({ "Id": "a", "Name": "/a", "Created": created })).age;
    assert!(age("2026-01-01T00:00:00.1Z") < age("2026-01-01T00:00:00.12Z"));
    assert!(age("2026-01-01T00:00:00Z") < age("2026-01-01T00:00:00.000000001Z"));
    assert_eq!(
        age("2026-01-01T02:00:00+02:00"),
        age("2026-01-01T00:00:00Z")
    );
}

#[test]
fn what_nobody_reads_may_be_of_any_type_and_an_unknown_word_is_itself() {
    let container = container(json!({
        "Id": "a", "Name": "b", "Created": 7, "Path": [], "Entrypoint": "", "ImageName": "docker.io/library/web:1",
        "State": { "Status": "stopped", "Running": false, "Health": { "Status": "odd", "Log": 1 } },
        "Config": {
            "StopSignal": 3, "StopTimeout": "x", "Hostname": null, "Env": null, "Labels": [], "ExposedPorts": null,
            "Healthcheck": { "Interval": "30s" },
        },
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": null, "HostPort": 8080 }] }, "Networks": { "n": null } },
    }));
    assert_eq!(
        (container.status.as_str(), container.health.as_str()),
        ("stopped", "odd")
    );
    assert_eq!(container.image.name.as_deref(), Some("web"));
    assert!(container.ends_by("3"));
    assert_eq!(
        container.ports[0].bindings,
        [Binding {
            ip: "0.0.0.0".to_owned(),
            port: 8080
        }]
    );
}

#[test]
fn a_health_check_that_is_switched_off_is_none_and_flags_stand_for_a_status() {
    let with = |state: Value, test: Value| {
        let config = json!({ "Healthcheck": { "Test": test } });
        let it = container(json!({ "Id": "a", "Name": "/a", "State": state, "Config": config }));
        (it.status, it.health)
    };
    let starting =
        json!({ "Status": "running", "Running": true, "Health": { "Status": "starting" } });
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        with(starting.clone(), json!(["NONE"])),
        pair("running", "none")
    );
    assert_eq!(
        with(starting, json!(["CMD", "x"])),
        pair("running", "starting")
    );
    let podman = json!({ "Running": true, "Healthcheck": { "Status": "healthy" } });
    assert_eq!(with(podman, json!(null)), pair("running", "healthy"));
    let paused = json!({ "Running": true, "Paused": true });
    assert_eq!(with(paused, json!(null)), pair("paused", "none"));
    assert_eq!(
        with(json!({ "Running": false }), json!(null)),
        pair("exited", "none")
    );
}

#[test]
fn podman_1_lists_published_ports() {
    let container = container(json!({
        "ID": "a", "Config": { "ExposedPorts": { "81/tcp": {} } },
        "NetworkSettings": { "Ports": [
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" },
            { "hostPort": 8081, "containerPort": 80, "protocol": "tcp", "hostIP": "10.0.0.2" },
        ] },
    }));
    let ports = container
        .ports
        .iter()
        .map(|port| (port.port, port.bindings.len()));
    assert_eq!(ports.collect::<Vec<_>>(), [(80, 2), (81, 0)]);
}

#[test]
fn a_container_may_lack_everything_but_its_id() {
    let container = container(json!({ "Id": "0123456789abcdef" }));
    assert_eq!(&*container.name, "0123456789ab");
    assert_eq!(container.short_id(), "0123456789ab");
    assert_eq!(
        (container.health.as_str(), container.status.as_str()),
        ("none", "")
    );
    assert_eq!(container.image.name, None);
    assert!(container.ports.is_empty());
}
