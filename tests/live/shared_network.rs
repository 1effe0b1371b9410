//! Containers that share a network: each published port leads to the one that listens on it.

use crate::common;

use common::{
    BARE, Container, ContainerBuilder, HOST_IP, SOON, TestBed, WEB, joined, map, web_keys,
};
use std::collections::BTreeMap;

/// A container that publishes the ports of the test image for others, as a VPN does.
fn vpn(bed: &TestBed) -> Container {
    let owner = bed.container_of(BARE).env("SERVICE_NAME", "vpn");
    owner.publish("8005").publish("8006").start()
}

fn guest(bed: &TestBed, image: &str, owner: &Container) -> ContainerBuilder {
    let network = format!("container:{}", owner.name());
    bed.container_of(image).network(&network)
}

/// The keys of the test image's ports for a guest, at the addresses of the owner of its network.
fn guest_keys(service: &str, guest: &Container, owner: &Container) -> BTreeMap<String, String> {
    let keys = web_keys(service, owner, HOST_IP);
    let keys = keys
        .into_iter()
        .map(|(key, value)| (key.replace(owner.short_id(), guest.short_id()), value));
    keys.collect()
}

#[test]
fn a_published_port_is_the_guests_that_expose_it_else_the_owners() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let vpn = vpn(&bed);
    let of_vpn = || web_keys("vpn", &vpn, HOST_IP);
    bed.wait_for_keys(&of_vpn(), SOON);
    let _shell = guest(&bed, BARE, &vpn).env("SERVICE_NAME", "shell").start();
    let web = guest(&bed, WEB, &vpn).env("SERVICE_NAME", "web").start();
    bed.wait_for_keys(&guest_keys("web", &web, &vpn), SOON);
    web.stop();
    bed.wait_for_keys(&of_vpn(), SOON);
    web.start();
    bed.wait_for_keys(&guest_keys("web", &web, &vpn), SOON);
    let said = bed.registrar().arg("--explain").run("keys");
    let reason = "left out: port 8005/tcp: it belongs to ";
    assert!(said.stderr.contains(reason), "{}", said.stderr);
    assert!(
        said.stderr
            .contains("left out: it exposes no port, so those of its network belong to "),
        "{}",
        said.stderr
    );
}

#[test]
fn a_chain_of_networks_is_followed_to_its_end() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let vpn = vpn(&bed);
    let middle = guest(&bed, BARE, &vpn).start();
    let web = guest(&bed, WEB, &middle).env("SERVICE_NAME", "web").start();
    bed.wait_for_keys(&guest_keys("web", &web, &vpn), SOON);
}

#[test]
fn the_owner_of_a_shared_network_may_be_out_of_the_filters_sight() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().filter("label=seen").start();
    let vpn = vpn(&bed);
    let web = guest(&bed, WEB, &vpn).env("SERVICE_NAME", "web");
    let web = web.label("seen", "").start();
    bed.wait_for_keys(&guest_keys("web", &web, &vpn), SOON);
    vpn.stop();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
}

/// Docker gives the owner a new network at each start, and its guests stay in the former one.
#[test]
fn a_guest_is_left_out_until_it_restarts_after_its_owner() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let vpn = vpn(&bed);
    let web = guest(&bed, WEB, &vpn).env("SERVICE_NAME", "web").start();
    bed.wait_for_keys(&guest_keys("web", &web, &vpn), SOON);
    vpn.restart();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    let said = bed.registrar().arg("--explain").run("keys");
    let reason = format!(
        "the owner of its network, {}, has started after it",
        vpn.name()
    );
    assert!(said.stderr.contains(&reason), "{}", said.stderr);
    web.restart();
    bed.wait_for_keys(&guest_keys("web", &web, &vpn), SOON);
}

#[test]
fn behind_an_owner_in_host_networking_ports_are_bound_to_themselves() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let owner = bed.container_of(BARE).network("host").start();
    // It listens on none, because they are the host's.
    let web = guest(&bed, WEB, &owner).env("SERVICE_NAME", "web");
    let web = web.command(&["sleep", "1000"]).start();
    let member = |index| format!("web/{index}/{}", web.short_id());
    let wanted = map([
        (member(1).as_str(), format!("{HOST_IP}:8005").as_str()),
        ("web/1/port", "8005"),
        (member(2).as_str(), format!("{HOST_IP}:8006").as_str()),
        ("web/2/port", "8006"),
    ]);
    bed.wait_for_keys(&wanted, SOON);
    // The host's network outlives its owner.
    owner.restart();
    let other = bed.container().env("SERVICE_NAME", "other").publish_all();
    let other = other.start();
    let wanted = joined([&wanted, &web_keys("other", &other, HOST_IP)]);
    bed.wait_for_keys(&wanted, SOON);
}
