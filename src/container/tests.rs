use serde_json::json;

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

#[expect(clippy::needless_pass_by_value, reason = "it is always a literal")]
pub fn container(value: serde_json::Value) -> Container {
    let containers = read_saved(&json!([value]).to_string()).expect("a container");
    (*containers[0]).clone()
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
fn a_container_has_the_ports_of_the_one_whose_network_it_uses() {
    let (owner, user) = ("a".repeat(64), "b".repeat(64));
    let saved = json!([
        { "Id": user, "Name": "/user", "HostConfig": { "NetworkMode": format!("container:{owner}") },
          "Config": { "ExposedPorts": { "1/tcp": {} } } },
        { "Id": owner, "Name": "/owner",
          "NetworkSettings": {
              "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }] },
              "Networks": { "bridge": { "IPAddress": "172.17.0.2", "GlobalIPv6Address": "", "Aliases": null } } } },
    ]);
    let containers = read_saved(&saved.to_string()).unwrap();
    assert_eq!(&*containers[0].name, "user");
    assert_eq!(containers[0].ports, containers[1].ports);
    assert_eq!(
        containers[0].networks.get("bridge").expect("it").ip,
        Some("172.17.0.2".to_owned())
    );
    assert_eq!(containers[0].networks.get("bridge").expect("it").ip6, None);
}

#[test]
fn only_a_fatal_signal_announces_the_end() {
    let with = |signal: serde_json::Value| {
        container(json!({ "Id": "a", "Name": "/a", "Config": { "StopSignal": signal } }))
    };
    let plain = with(serde_json::Value::Null);
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
fn malformed_saved_containers_are_refused_with_their_place() {
    let why = |json: &str| format!("{:#}", read_saved(json).expect_err("refused"));
    assert!(
        why("[").starts_with("not JSON; save the output of `docker inspect $(docker ps -q)`: EOF")
    );
    assert_eq!(
        why("3"),
        "neither a list nor an object; save the output of `docker inspect $(docker ps -q)`"
    );
    assert_eq!(
        why(r#"[{"Id":"a","Name":"/a"},{"Name":"/b"}]"#),
        "container 2: it has no `Id`"
    );
    assert!(
        why("[[]]").starts_with("container 1: not what `docker inspect` prints of a container: ")
    );
    assert!(read_saved("[]").unwrap().is_empty());
}

#[test]
fn a_container_may_lack_everything_but_its_id_and_name() {
    let container = container(json!({ "Id": "0123456789abcdef", "Name": "/a" }));
    assert_eq!(container.short_id(), "0123456789ab");
    assert_eq!(
        (container.health.as_str(), container.status.as_str()),
        ("none", "")
    );
    assert_eq!(container.image.name, None);
    assert!(container.ports.is_empty());
}
