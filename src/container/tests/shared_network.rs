//! Containers that share a network.

use super::*;

/// Names and ports with their indexes, bindings and guests, as `80:1=8080` or `80:1>guest`.
fn ports(saved: &Value) -> Vec<String> {
    let port = |port: &Port| {
        let bound = port.bindings.first();
        let bound = bound.map_or(String::new(), |bound| format!("={}", bound.port));
        let guests = port.guests.as_deref();
        let guests = guests.map_or(String::new(), |guests| format!(">{guests}"));
        format!(" {}:{}{bound}{guests}", port.port, port.index)
    };
    let container = |it: &Arc<Container>| {
        let ports: String = it.ports.iter().map(port).collect();
        let cut_off = if it.cut_off { "!" } else { "" };
        format!("{}{cut_off}{ports}", it.name)
    };
    containers(saved).iter().map(container).collect()
}

fn member(name: &str, network: &str, exposed: &[u16], published: &[u16]) -> Value {
    let exposed: serde_json::Map<_, _> = exposed
        .iter()
        .map(|port| (format!("{port}/tcp"), json!({})))
        .collect();
    let published: serde_json::Map<_, _> = published
        .iter()
        .map(|port| {
            let bindings = json!([{ "HostIp": "0.0.0.0", "HostPort": format!("1{port}") }]);
            (format!("{port}/tcp"), bindings)
        })
        .collect();
    json!({
        "Id": format!("{name:0<64}"), "Name": name, "Image": "sha256:1",
        "Config": { "Image": "web", "ExposedPorts": exposed },
        "State": { "StartedAt": "2026-01-01T00:00:00Z" },
        "HostConfig": { "NetworkMode": network },
        "NetworkSettings": { "Ports": published, "Networks": { "net": { "IPAddress": format!("10.0.0.{}", name.len()) } } },
    })
}

#[test]
fn a_published_port_belongs_to_the_guests_that_expose_it_else_to_the_owner() {
    let owner = member("vpn", "net", &[8000], &[80, 8080, 9117]);
    let saved = json!([
        member("app", "container:vpn", &[6881, 8080], &[1]),
        owner,
        member("side", "container:app", &[9100], &[]),
        member("shell", "container:side", &[], &[]),
    ]);
    let expected = [
        "app 6881:1 8080:2=18080",
        "vpn 80:1=180 8000:2 8080:3>app 9117:4=19117",
        "side 9100:1",
        "shell",
    ];
    assert_eq!(ports(&saved), expected);
    for container in containers(&saved) {
        let is_guest = &*container.name != "vpn";
        assert_eq!(
            container.network_owner.as_deref(),
            is_guest.then_some("vpn")
        );
        let network = container.networks.get("net").expect("the owner's");
        assert_eq!(network.ip.as_deref(), Some("10.0.0.3"));
    }
}

#[test]
fn the_ports_of_an_infra_container_go_to_guests_of_which_none_is_known() {
    let mut infra = member("pod", "net", &[], &[80, 81]);
    infra["Config"]["Image"] = json!("registry.k8s.io/pause:3.9");
    let guest = |name, exposed: &[u16]| member(name, "container:pod", exposed, &[]);
    let saved = json!([
        infra,
        guest("web", &[80]),
        guest("any", &[]),
        guest("all", &[])
    ]);
    let expected = [
        "pod 80:1>web 81:2>any, all",
        "web 80:1=180",
        "any 81:2=181",
        "all 81:2=181",
    ];
    assert_eq!(ports(&saved), expected);
    let saved = json!([infra, guest("web", &[80])]);
    assert_eq!(ports(&saved), ["pod 80:1>web 81:2=181", "web 80:1=180"]);
}

#[test]
fn in_host_networking_behind_an_owner_a_port_is_bound_to_itself() {
    let saved = json!([
        member("owner", "host", &[80, 81], &[]),
        member("guest", "container:owner", &[81, 82], &[]),
    ]);
    let expected = ["owner 80:1=80 81:2>guest", "guest 81:1=81 82:2=82"];
    assert_eq!(ports(&saved), expected);
}

#[test]
fn a_guest_that_started_before_an_owner_in_its_chain_is_cut_off() {
    let mut middle = member("mid", "container:own", &[81], &[]);
    let mut owner = member("own", "net", &[], &[80, 81, 82]);
    let guest = member("end", "container:mid", &[80], &[]);
    owner["State"]["StartedAt"] = json!("2026-01-01T00:00:01Z");
    let saved = json!([middle, owner, guest]);
    assert_eq!(
        ports(&saved),
        [
            "mid! 81:1=181",
            "own 80:1>end 81:2>mid 82:3=182",
            "end! 80:1=180"
        ]
    );
    middle["State"]["StartedAt"] = json!("2026-01-01T00:00:02Z");
    let saved = json!([middle, owner, guest]);
    assert!(ports(&saved)[0].starts_with("mid 81") && ports(&saved)[2].starts_with("end! 80"));
    // The host's network never ends.
    owner["HostConfig"]["NetworkMode"] = json!("host");
    let guest = member("end", "container:own", &[80], &[]);
    assert_eq!(ports(&json!([owner, guest]))[1], "end 80:1=80");
}

#[test]
fn a_guest_of_an_unknown_container_or_of_itself_has_no_bindings() {
    let saved = json!([
        member("a", "container:gone", &[80], &[80]),
        member("b", "container:c", &[80], &[]),
        member("c", "container:b", &[80], &[]),
        member("d", "container:d", &[80], &[]),
    ]);
    assert_eq!(ports(&saved), ["a 80:1", "b 80:1", "c 80:1", "d 80:1"]);
}

#[test]
fn an_infra_container_is_known_by_its_image_a_label_or_its_program() {
    let infra = |over: Value| {
        let mut object = member("web-infra", "bridge", &[], &[]);
        for (name, value) in over.as_object().expect("an object") {
            object[name] = value.clone();
        }
        container(object).infra
    };
    for (config, reason) in [
        (
            json!({ "Image": "k8s.gcr.io/pause-amd64:3.1" }),
            "its image is `pause-amd64`",
        ),
        (
            json!({ "Image": "localhost/podman-pause:4.3.1-0" }),
            "its image is `podman-pause`",
        ),
        (
            json!({ "Image": "x", "Labels": { "io.kubernetes.docker.type": "podsandbox" } }),
            "it is labelled io.kubernetes.docker.type=podsandbox",
        ),
    ] {
        assert_eq!(infra(json!({ "Config": config })).as_deref(), Some(reason));
    }
    let nothing = json!({ "Image": "", "Config": { "Image": "" } });
    assert_eq!(infra(nothing).as_deref(), Some("it has no image"));
    let program = infra(json!({ "Path": "/catatonit" }));
    assert_eq!(program.as_deref(), Some("it runs `/catatonit`"));
    let flag = infra(json!({ "IsInfra": true }));
    assert_eq!(flag.as_deref(), Some("Podman says so"));
    let annotated =
        json!({ "Image": "x", "Annotations": { "io.kubernetes.cri-o.ContainerType": "sandbox" } });
    assert_eq!(infra(json!({ "Config": annotated })), None);
    for other in [
        json!({}),
        json!({ "Path": "/bin/sh" }),
        json!({ "Config": { "Image": "pause-menu" } }),
    ] {
        assert_eq!(infra(other), None);
    }
}
