//! The layout of the keys, at every revision of etcd: two hosts share a service while containers of either stop or are
//! killed. And the facts of a container that decide its keys.

use crate::common;

use common::{
    BARE, Container, ContainerBuilder, HOST_IP, KeyValue, Registrar, SOON, TestBed, joined, map,
    web_keys,
};
use std::collections::BTreeMap;

/// The addresses of two hosts, reserved for documentation (RFC 5737).
const HOST_A: &str = "192.0.2.1";
const HOST_B: &str = "192.0.2.2";

/// The service of [`member`]'s containers.
const SERVICE: &str = "service_name";

fn member(bed: &TestBed, host: &str) -> ContainerBuilder {
    bed.container_on(host).env("SERVICE_NAME", SERVICE)
}

/// The `port` keys of [`SERVICE`] with their revisions, which show whether they were written again.
fn port_keys(bed: &TestBed) -> [Option<KeyValue>; 2] {
    [1, 2].map(|index| bed.etcd.kv(&bed.key(&format!("{SERVICE}/{index}/port"))))
}

/// Waits until a container of each host has its keys, and returns them.
fn wait_for_both(bed: &TestBed, a: &Container, b: &Container) -> [BTreeMap<String, String>; 2] {
    let keys_a = web_keys(SERVICE, a, HOST_A);
    let keys_b = web_keys(SERVICE, b, HOST_B);
    bed.wait_for_keys(&joined([&keys_a, &keys_b]), SOON);
    [keys_a, keys_b]
}

#[test]
fn two_hosts_share_the_port_keys_until_the_last_member_goes() {
    let bed = TestBed::new();
    let _registrars = [
        bed.registrar_on("a", HOST_A).start(),
        bed.registrar_on("b", HOST_B).start(),
    ];
    // The table of the design, except for the host's ports, which Docker chooses.
    let a = member(&bed, "a").start();
    let b = member(&bed, "b").start();
    let (on_a, on_b) = (a.short_id(), b.short_id());
    let wanted = map([
        (
            format!("service_name/1/{on_a}"),
            format!("192.0.2.1:{}", a.host_port("8005/tcp")),
        ),
        (
            format!("service_name/1/{on_b}"),
            format!("192.0.2.2:{}", b.host_port("8005/tcp")),
        ),
        ("service_name/1/port".to_owned(), "8005".to_owned()),
        (
            format!("service_name/2/{on_a}"),
            format!("192.0.2.1:{}", a.host_port("8006/tcp")),
        ),
        (
            format!("service_name/2/{on_b}"),
            format!("192.0.2.2:{}", b.host_port("8006/tcp")),
        ),
        ("service_name/2/port".to_owned(), "8006".to_owned()),
    ]);
    bed.wait_for_keys(&wanted, SOON);
    let [keys_a, _] = wait_for_both(&bed, &a, &b);
    let ports = port_keys(&bed);

    // Host b has none left; host a still has one.
    b.stop();
    bed.wait_for_keys(&keys_a, SOON);
    b.start();
    let [_, keys_b] = wait_for_both(&bed, &a, &b);

    // And the other way round.
    a.stop();
    bed.wait_for_keys(&keys_b, SOON);
    assert_eq!(port_keys(&bed), ports, "nobody wrote the port keys anew");

    b.stop();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn the_death_of_a_registrar_takes_its_own_keys_alone() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let on_a = bed.registrar_on("a", HOST_A).flag("--ttl", TTL.to_string());
    let on_b = bed.registrar_on("b", HOST_B).flag("--ttl", TTL.to_string());
    let (a, b) = (member(&bed, "a").start(), member(&bed, "b").start());
    let (registrar_a, registrar_b) = (on_a.start(), on_b.start());
    let [keys_a, keys_b] = wait_for_both(&bed, &a, &b);
    let ports = port_keys(&bed);

    // The lease of a port key is as old as the registrar that first wanted it, and outlives it.
    let outlives = |dead: Registrar, left: &BTreeMap<String, String>| {
        dead.kill9();
        bed.wait_for_keys(left, SOON);
        bed.etcd.let_pass(2 * TTL);
        assert_eq!(bed.keys(), *left);
        assert_eq!(port_keys(&bed), ports, "nobody wrote the port keys anew");
    };
    outlives(registrar_a, &keys_b);
    let registrar_a = on_a.start();
    wait_for_both(&bed, &a, &b);
    outlives(registrar_b, &keys_a);
    bed.assert_each_port_always_had_a_member();

    // The port keys are removed with the last registrar that wants them, but not before the members.
    registrar_a.kill9();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn no_member_outlives_its_port_key_when_the_last_to_want_that_died() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let on_a = bed.registrar_on("a", HOST_A).flag("--ttl", TTL.to_string());
    let on_b = bed.registrar_on("b", HOST_B).flag("--ttl", TTL.to_string());
    let (a, b) = (member(&bed, "a").start(), member(&bed, "b").start());
    let (registrar_a, _registrar_b) = (on_a.start(), on_b.start());
    wait_for_both(&bed, &a, &b);

    // The keys of host a stay until their TTL ends, and nobody renews the port keys for them.
    registrar_a.kill9();
    b.stop();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn several_containers_of_a_service_come_and_go_on_one_host() {
    let bed = TestBed::new();
    let _registrar = bed.registrar_on("a", HOST_A).start();
    let containers = [(); 3].map(|()| member(&bed, "a").start());
    let [first, second, third] = [0, 1, 2].map(|n| web_keys(SERVICE, &containers[n], HOST_A));
    bed.wait_for_keys(&joined([&first, &second, &third]), SOON);
    containers[1].rm();
    bed.wait_for_keys(&joined([&first, &third]), SOON);
    containers[0].kill("KILL");
    bed.wait_for_keys(&third, SOON);
    containers[2].stop();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_service_may_be_on_tcp_and_udp() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().flag("--set", "protocols=tcp,udp").start();
    let dns = bed
        .container_of(BARE)
        .env("SERVICE_NAME", "dns")
        .publish("53/udp")
        .publish("53/tcp")
        .publish("9/tcp")
        .start();
    let id = dns.short_id();
    let address = |port| format!("{HOST_IP}:{}", dns.host_port(port));
    let wanted = map([
        (format!("dns/1/{id}"), address("9/tcp")),
        ("dns/1/port".to_owned(), "9".to_owned()),
        (format!("dns/2/{id}"), address("53/tcp")),
        ("dns/2/port".to_owned(), "53".to_owned()),
        (format!("dns/3/{id}"), address("53/udp")),
        ("dns/3/port".to_owned(), "53/udp".to_owned()),
    ]);
    bed.wait_for_keys(&wanted, SOON);
}

#[test]
fn udp_is_left_out_unless_it_is_asked_for() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let dns = bed.container_of(BARE).env("SERVICE_NAME", "dns");
    let dns = dns.publish("53/udp").publish("9053/tcp").start();
    let wanted = map([
        (
            format!("dns/2/{}", dns.short_id()),
            format!("{HOST_IP}:{}", dns.host_port("9053/tcp")),
        ),
        ("dns/2/port".to_owned(), "9053".to_owned()),
    ]);
    bed.wait_for_keys(&wanted, SOON);
}

#[test]
fn a_container_in_host_networking_is_reached_at_its_own_ports() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let direct = bed.container_of(BARE).env("SERVICE_NAME", "direct");
    let direct = direct.expose("9105/tcp").expose("9106/udp").network("host");
    let direct = direct.start();
    let member = format!("direct/1/{}", direct.short_id());
    let wanted = map([
        (member.as_str(), format!("{HOST_IP}:9105").as_str()),
        ("direct/1/port", "9105"),
    ]);
    bed.wait_for_keys(&wanted, SOON);
}

#[test]
fn labels_and_environment_decide_the_service_of_each_port() {
    let bed = TestBed::new();
    let web = || bed.container().publish_all();
    let address = |container: &Container, port| {
        format!("{HOST_IP}:{}", container.host_port(&format!("{port}/tcp")))
    };

    let by_image = web().start();
    let by_label = web()
        .env("SERVICE_NAME", "env")
        .label("SERVICE_NAME", "label");
    let by_label = by_label.start();
    let by_port = web()
        .env("SERVICE_8005_NAME", "five")
        .env("SERVICE_NAME", "rest");
    let by_port = by_port.start();
    let label_by_port = web()
        .env("SERVICE_8005_NAME", "env-of-port")
        .label("SERVICE_8005_NAME", "label-of-port")
        .label("SERVICE_8006_IGNORE", "true")
        .start();
    let _ignored = [
        web().label("SERVICE_IGNORE", "1").start(),
        web().env("SERVICE_IGNORE", "true").start(),
    ];
    let not_ignored = web()
        .env("SERVICE_IGNORE", "false")
        .env("SERVICE_NAME", "not-ignored")
        .start();
    let unpublished = bed
        .container()
        .env("SERVICE_NAME", "second")
        .publish("8006");
    let unpublished = unpublished.start();
    let _loopback = bed
        .container()
        .env("SERVICE_NAME", "loopback")
        .publish("127.0.0.1::8005")
        .publish("[::1]::8006")
        .start();
    let own_address = bed
        .container()
        .env("SERVICE_NAME", "own-address")
        .publish("127.0.0.1::8005")
        .publish("0.0.0.0::8006")
        .start();

    let [five, second, of_port, own] =
        [&by_port, &unpublished, &label_by_port, &own_address].map(|c| c.short_id().to_owned());
    let wanted = joined([
        &web_keys("web", &by_image, HOST_IP),
        &web_keys("label", &by_label, HOST_IP),
        &web_keys("not-ignored", &not_ignored, HOST_IP),
        &map([
            (format!("five/1/{five}"), address(&by_port, 8005)),
            ("five/1/port".to_owned(), "8005".to_owned()),
            (format!("rest/2/{five}"), address(&by_port, 8006)),
            ("rest/2/port".to_owned(), "8006".to_owned()),
        ]),
        &map([
            (
                format!("label-of-port/1/{of_port}"),
                address(&label_by_port, 8005),
            ),
            ("label-of-port/1/port".to_owned(), "8005".to_owned()),
        ]),
        // A port keeps its index although the one before it is not published.
        &map([
            (format!("second/2/{second}"), address(&unpublished, 8006)),
            ("second/2/port".to_owned(), "8006".to_owned()),
        ]),
        &map([
            (format!("own-address/2/{own}"), address(&own_address, 8006)),
            ("own-address/2/port".to_owned(), "8006".to_owned()),
        ]),
    ]);
    // All run before the program starts, so that its first writes to etcd are its last.
    let _registrar = bed.registrar().start();
    bed.wait_for_keys(&wanted, SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}
