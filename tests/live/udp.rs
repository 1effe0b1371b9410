//! UDP through each proxy that has it: resolvers ask, each from a port of its own, while the servers are replaced.

use std::thread;

use crate::common;
use crate::discover::{Site, wait_for_answers, wait_until_ready};

use common::{
    Backend, Load, ProxyKind, ProxyProgram, Registrar, SOON, UdpBackend, ask_udp, envoys,
    eventually, free_port, get, nginxes,
};

/// Registers a UDP service, and returns its port.
fn service(site: &Site, name: &str) -> u16 {
    let port = free_port();
    site.put(&format!("{name}/1/port"), &format!("{port}/udp"));
    port
}

fn add(site: &Site, service: &str, server: &UdpBackend) {
    let key = format!("{service}/1/{}", server.name);
    site.put(&key, &server.address.to_string());
}

/// `discover`, whose UDP services answer each datagram once. A reload of nginx costs the datagrams that are under way, so
/// it has the pause between two reloads that users have.
fn start(site: &Site) -> Registrar {
    let command = site.command().arg("--set").arg("responses=1");
    let command = command.flag("--reload-interval", "2");
    let discover = command.start_command("discover");
    wait_until_ready(&discover);
    discover
}

fn wait_for_an_answer(port: u16, name: &str) {
    let address = format!("127.0.0.1:{port}");
    eventually(SOON, &format!("an answer of {name}"), || {
        ask_udp(&address).as_deref() == Ok(name)
    });
}

/// Twenty changes of the servers lose at most two of a thousand datagrams. A change costs the datagrams that are under
/// way, so they are counted at four changes in a thousand datagrams: one in 1.25 seconds.
fn changes(site: &Site) {
    const REPLACEMENTS: usize = 10;
    const BETWEEN: usize = 250;
    let port = service(site, "dns");
    let mut servers = vec![UdpBackend::start("s0"), UdpBackend::start("s1")];
    for server in &servers {
        add(site, "dns", server);
    }
    let discover = start(site);
    wait_for_an_answer(port, "s0");
    let load = Load::start_udp(&format!("127.0.0.1:{port}"), 200);
    for number in 0..REPLACEMENTS {
        let new = UdpBackend::start(&format!("s{}", number + 2));
        add(site, "dns", &new);
        let before = load.count();
        eventually(SOON, "the new one to be asked", || {
            new.answered() > 0 && load.count() >= before + BETWEEN
        });
        servers.push(new);
        let old = servers.remove(0);
        site.delete(&format!("dns/1/{}", old.name));
        // It ends when no datagram has reached it for a while.
        let mut last = (old.answered(), load.count());
        eventually(SOON, "its datagrams to end", || {
            let answered = old.answered();
            if answered != last.0 {
                last = (answered, load.count());
            }
            load.count() > last.1 + BETWEEN
        });
    }
    let (good, bad) = load.stop();
    println!("{} answers, {} lost: {bad:?}", good.len(), bad.len());
    assert!(
        bad.len() * 1000 <= 2 * (good.len() + bad.len()),
        "{} of {} are lost: {bad:?}\n{}",
        bad.len(),
        good.len() + bad.len(),
        discover.log()
    );
}

/// A service may have TCP and UDP on one port, as DNS has.
fn both_on_one_port(site: &Site) {
    let (udp, tcp) = (UdpBackend::start("u"), Backend::start("t"));
    let port = service(site, "dns");
    add(site, "dns", &udp);
    site.put("dns/2/port", &port.to_string());
    site.put("dns/2/t", &tcp.address.to_string());
    let discover = start(site);
    wait_for_answers(port, &["t"]);
    wait_for_an_answer(port, "u");
    let log = discover.log();
    assert!(!log.contains("is left out"), "{log}");
}

#[test]
fn nginx_loses_at_most_two_of_a_thousand_datagrams() {
    thread::scope(|scope| {
        for nginx in nginxes() {
            scope.spawn(move || changes(&Site::of(&nginx)));
        }
    });
}

#[test]
fn envoy_loses_at_most_two_of_a_thousand_datagrams() {
    for envoy in envoys() {
        changes(&Site::of(&envoy));
    }
}

#[test]
fn a_service_has_tcp_and_udp_on_one_port() {
    for proxy in [nginxes(), envoys()].concat() {
        both_on_one_port(&Site::of(&proxy));
    }
}

#[test]
fn haproxy_leaves_udp_out_and_says_why() {
    let site = Site::of(&ProxyProgram::of(ProxyKind::Haproxy));
    let a = Backend::start("a");
    let port = service(&site, "dns");
    site.put("dns/2/port", &port.to_string());
    site.put("dns/2/a", &a.address.to_string());
    let discover = site.start();
    wait_for_answers(port, &["a"]);
    let page = get(&discover.address(), "/").body;
    assert!(page.contains("HAProxy has no udp"), "{page}");
}
