//! The bundled policy's choice among bindings, and its reasons against a container in a shared network.

use super::*;

/// The value and the reason for one port with these bindings, on a host with this address.
async fn registered(host_ip: &str, bindings: &[&str]) -> (Option<String>, String) {
    registered_with(&[], host_ip, bindings).await
}

/// The same, with settings of the policy.
async fn registered_with(
    set: &[(&str, &str)],
    host_ip: &str,
    bindings: &[&str],
) -> (Option<String>, String) {
    let mut container = web("a");
    let bindings = bindings
        .iter()
        .map(|ip| json!({ "HostIp": ip, "HostPort": "80" }));
    container["NetworkSettings"]["Ports"]["80/tcp"] = bindings.collect();
    container["NetworkSettings"]["Networks"]["bridge"]["Gateway"] = json!("172.30.0.1");
    container["NetworkSettings"]["Networks"]["bridge"]["IPv6Gateway"] = json!("fd00:30::1");
    let mut site = Site::new(&[container]);
    host_ip.clone_into(&mut site.world.options.host_ip);
    let set = set
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    site.world.options.set.extend(set);
    let left_out = left_out(&mut site).await;
    let keys = site.keys();
    let value = keys.first().and_then(|key| key.rsplit_once(' '));
    (value.map(|(_, value)| value.to_owned()), left_out)
}

/// Runs the bundled policy. Returns the reasons, with a line for each.
async fn left_out(site: &mut Site) -> String {
    site.world.script = None;
    let script = site.world.load().expect("it loads");
    script.run().await.expect("it runs");
    let verdicts = site.world.verdicts.borrow();
    let reasons = verdicts.all().into_iter().flat_map(|it| &it.left_out);
    reasons.cloned().collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_binding_that_other_hosts_reach_best_is_registered() {
    let four = "10.0.0.1";
    for (host_ip, bindings, value) in [
        (four, &["172.17.0.1", "0.0.0.0", four][..], "10.0.0.1:80"),
        (four, &["8.8.4.4", "192.168.0.9", "0.0.0.0"], "10.0.0.1:80"),
        (four, &["192.168.0.9", "8.8.4.4"], "8.8.4.4:80"),
        (four, &["172.15.0.1", "10.9.0.1"], "172.15.0.1:80"),
        (four, &["100.64.0.1", "100.128.0.1"], "100.128.0.1:80"),
        (four, &["2001:db8::9", "192.168.0.9"], "192.168.0.9:80"),
        (four, &["fd00::9", "2001:db8::9"], "[2001:db8::9]:80"),
        (
            four,
            &["127.0.0.1", "fe80::1", "172.31.0.9"],
            "172.31.0.9:80",
        ),
        ("fd00::1", &["0.0.0.0", "::"], "[fd00::1]:80"),
        ("fd00::1", &["8.8.4.4", "fd00::9"], "[fd00::9]:80"),
        // The host's own address is taken, whatever it is.
        ("172.17.0.1", &["172.17.0.1", "8.8.4.4"], "172.17.0.1:80"),
    ] {
        let (registered, _) = registered(host_ip, bindings).await;
        assert_eq!(registered.as_deref(), Some(value), "{host_ip} {bindings:?}");
    }
}

#[tokio::test]
async fn an_address_that_other_hosts_do_not_reach_is_none() {
    let family = "it is published over IPv6 alone, and the host's address is 10.0.0.1";
    for (bindings, why) in [
        (
            &["127.0.0.1", "::1"][..],
            "it is published on 127.0.0.1 and ::1 alone",
        ),
        (
            &["169.254.1.1", "fe80::1"],
            "it is published on 169.254.1.1 and fe80::1 alone",
        ),
        (&["172.17.0.1"], "it is published on 172.17.0.1 alone"),
        (
            &["172.30.0.1", "fd00:30::1"],
            "it is published on 172.30.0.1 and fd00:30::1 alone",
        ),
        (&["::"], family),
    ] {
        let (registered, left_out) = registered("10.0.0.1", bindings).await;
        assert_eq!(registered, None);
        assert_eq!(left_out, format!("port 80/tcp: {why}"));
    }
}

#[tokio::test]
async fn a_loopback_address_is_registered_if_it_is_the_hosts_and_asked_for() {
    let loopback = "127.0.0.1";
    for (set, bindings, value) in [
        (&[][..], &["127.0.0.1"][..], None),
        (&[][..], &["0.0.0.0"], Some("127.0.0.1:80")),
        (
            &[("loopback", "true")],
            &["127.0.0.1"],
            Some("127.0.0.1:80"),
        ),
        (&[("loopback", "false")], &["127.0.0.1"], None),
        (&[("loopback", "true")], &["172.17.0.1"], None),
    ] {
        let (registered, _) = registered_with(set, loopback, bindings).await;
        assert_eq!(registered.as_deref(), value, "{set:?} {bindings:?}");
    }
}

#[tokio::test]
async fn an_infra_container_is_left_out_unless_it_has_a_name() {
    let mut infra = web("pod");
    infra["Config"]["Image"] = json!("registry.k8s.io/pause:3.9");
    let mut site = Site::new(&[infra.clone()]);
    let reason = "it only holds a pod's network: its image is `pause`; no container in that network exposes 80/tcp, \
        which it publishes";
    assert_eq!(left_out(&mut site).await, reason);
    infra["Config"]["Env"] = json!(["SERVICE_80_NAME=shop"]);
    let mut site = Site::new(&[infra]);
    assert_eq!(left_out(&mut site).await, "");
    assert!(site.keys()[0].starts_with("/backends/shop/1/"));
}

#[tokio::test]
async fn a_guest_has_its_reason() {
    let mut owner = web("vpn");
    owner["State"]["StartedAt"] = json!("2026-01-01T00:00:01Z");
    let guest = |name: &str, started: &str, exposed: Json| {
        let mut guest = web(name);
        guest["HostConfig"] = json!({ "NetworkMode": "container:vpn" });
        guest["State"]["StartedAt"] = json!(started);
        guest["Config"]["ExposedPorts"] = exposed;
        guest
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z");
    let mut site = Site::new(&[
        guest("a", early, json!({ "9100/tcp": {} })),
        guest("b", late, json!({ "9100/tcp": {} })),
        guest("c", late, json!({})),
        guest("d", late, json!({ "80/tcp": {} })),
        owner,
    ]);
    let reasons = [
        "the owner of its network, vpn, has started after it: restart it too",
        "port 9100/tcp: vpn, the owner of its network, does not publish it",
        "it exposes no port, so those of its network belong to vpn",
        "port 80/tcp: it belongs to d, in its network",
    ];
    assert_eq!(left_out(&mut site).await, reasons.join("\n"));
    assert_eq!(
        site.keys()[0],
        "/backends/web/1/d00000000000 10.0.0.1:32768"
    );
}
