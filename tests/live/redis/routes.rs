//! `run` and `discover` together.

use std::time::Duration;

use super::{Site, TTL};
use crate::common::{
    Container, Load, Registrar, SOON, count, eventually, free_port, in_step, let_time_pass,
};
use crate::discover::{answers, wait_for_answers, wait_until_ready, wait_until_refused};

on_each_server! {
    a_rolling_replacement_fails_no_request,
}

/// A container that goes on for some seconds after its stop has begun, as a well-behaved one does.
fn start_graceful(site: &Site, service: &str, port: u16) -> Container {
    let web = site.bed.container().env("SERVICE_NAME", service);
    let web = web.env("SERVICE_8005_PORT", &port.to_string());
    // Docker accepts connections for it before it does.
    let web = web.env("SERVICE_8005_CHECK_HTTP", "/");
    let web = web.env("SERVICE_8005_CHECK_INTERVAL", "1s");
    let web = web.env("SERVICE_8006_IGNORE", "1").publish_all();
    web.args(&["--stop-signal=WINCH", "--stop-timeout=3"])
        .start()
}

fn name_of(container: &Container) -> String {
    format!("{} 8005\n", container.short_id())
}

fn wait_until_asked(port: u16, container: &Container) {
    let name = name_of(container);
    eventually(SOON, "an answer of the new one", || {
        answers(port).is_ok_and(|names| names.contains(&name))
    });
}

/// `run` on this host's loopback, and `discover`, both ready.
fn start_both(site: &Site) -> (Registrar, Registrar) {
    let registrar = in_step(&site.registrar().flag("--host-ip", "127.0.0.1"));
    let discover = site.discover().start_command("discover");
    wait_until_ready(&discover);
    (registrar, discover)
}

fn a_rolling_replacement_fails_no_request(site: &Site) {
    const REPLACEMENTS: usize = 4;
    let port = free_port();
    let mut containers = vec![
        start_graceful(site, "web", port),
        start_graceful(site, "web", port),
    ];
    let (_registrar, discover) = start_both(site);
    for container in &containers {
        wait_until_asked(port, container);
    }
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    for _ in 0..REPLACEMENTS {
        let new = start_graceful(site, "web", port);
        wait_until_asked(port, &new);
        containers.push(new);
        containers.remove(0).stop();
    }
    let names: Vec<String> = containers.iter().map(name_of).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    wait_for_answers(port, &names);
    let (good, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    assert!(good.len() > 100, "{}", good.len());
    assert_eq!(count(&discover.log(), "ERROR "), 0, "{}", discover.log());
    for container in &containers {
        container.kill("KILL");
    }
    wait_until_refused(port);
}

#[test]
fn routes_stay_while_redis_is_away_and_when_it_comes_back_empty() {
    let (site, port) = (Site::new(), free_port());
    let web = start_graceful(&site, "web", port);
    // Their end shows for longer than that of the registrar's keys, which are six keys with these.
    let directory = site.bed.key("gone/1");
    site.set(&format!("{directory}/port"), &free_port().to_string(), &[]);
    for member in ["a", "b", "c"] {
        site.set(&format!("{directory}/{member}"), "127.0.0.1:1", &[]);
    }
    let (_registrar, discover) = start_both(&site);
    wait_until_asked(port, &web);
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    site.redis.kill9();
    discover.wait_for_log("all routes stay as they are", SOON);
    let_time_pass(Duration::from_secs(TTL.into()));
    site.redis.start_again();
    discover.wait_for_log("until a second listing", SOON);
    wait_until_ready(&discover);
    discover.wait_for_log("Redis is back after", SOON);
    // A service that comes after it reaches the proxy.
    let other = free_port();
    let _other = start_graceful(&site, "other", other);
    eventually(SOON, "the other service", || answers(other).is_ok());
    wait_for_answers(port, &[&name_of(&web)]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
}
