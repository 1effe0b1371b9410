//! `discover` with a real Envoy: the scenarios that all proxies share, and Envoy's own.

use crate::common;
use crate::discover::{Site, answers, path_with, wait_for_answers, wait_until_ready};
use crate::scenarios;

use common::{Backend, Load, SOON, envoys, eventually, free_port, get};
use std::net::TcpListener;
use std::process::Command;

/// Runs a scenario with each installed version.
fn each(scenario: impl Fn(&Site)) {
    for envoy in envoys() {
        scenario(&Site::of(&envoy));
    }
}

#[test]
fn requests_follow_the_keys() {
    each(scenarios::changes);
}

#[test]
fn a_port_that_another_program_holds_costs_its_service_alone() {
    each(scenarios::a_foreign_port);
}

#[test]
fn of_two_services_on_one_port_the_older_has_it() {
    each(scenarios::two_services_on_one_port);
}

#[test]
fn services_with_host_names_share_an_address() {
    each(scenarios::host_names);
}

#[test]
fn a_new_process_uses_the_envoy_of_one_that_was_killed() {
    each(scenarios::adoption);
}

#[test]
fn at_exit_it_goes_on_or_ends() {
    each(scenarios::exit);
}

#[test]
fn an_envoy_that_dies_is_started_again_as_it_should_be() {
    each(scenarios::a_dead_proxy);
}

#[test]
fn routes_stay_while_etcd_is_away_and_when_it_comes_back_empty() {
    each(scenarios::an_empty_store);
}

#[test]
fn etcd_may_be_away_for_three_ttls() {
    each(scenarios::three_ttls);
}

#[test]
fn a_configuration_that_is_refused_changes_nothing() {
    each(scenarios::a_refused_configuration);
}

#[test]
fn replacements_lose_no_request() {
    each(|site| scenarios::replacements(site, 20));
}

#[test]
fn killed_each_second_it_costs_no_request() {
    each(|site| scenarios::kills(site, 5));
}

/// Envoy reads a file when it is moved in, and does not try a listener again by itself.
#[test]
fn a_listener_that_envoy_refuses_is_named_and_tried_again() {
    each(|site| {
        let (a, b) = (Backend::start("a"), Backend::start("b"));
        let port = site.service("web");
        site.add("web", &a);
        let discover = site.command().arg("--no-probe").start_command("discover");
        wait_until_ready(&discover);
        wait_for_answers(port, &["a"]);
        let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
        let taken = free_port();
        let holder = TcpListener::bind(("127.0.0.1", taken)).expect("the port is free");
        site.put("taken/1/port", &taken.to_string());
        site.add("taken", &b);
        let address = discover.address();
        eventually(SOON, "it to be not ready", || {
            get(&address, "/readyz").status == 503
        });
        let page = get(&address, "/").body;
        assert!(page.contains(&taken.to_string()), "{page}");
        // It is that listener alone.
        let later = site.service("later");
        site.add("later", &b);
        wait_for_answers(later, &["b"]);
        drop(holder);
        wait_for_answers(taken, &["b"]);
        wait_until_ready(&discover);
        let (_, bad) = load.stop();
        assert_eq!(bad.first(), None, "{} failed", bad.len());
    });
}

#[test]
fn an_envoy_that_somebody_else_starts_is_used_and_never_stopped() {
    for envoy in envoys() {
        let site = Site::of(&envoy);
        let (a, b) = (Backend::start("a"), Backend::start("b"));
        let port = site.service("web");
        site.add("web", &a);
        let path = |name: &str| site.directory.path().join(name);
        let command = site.command().flag("--socket", path("their.sock"));
        let discover = command.start_command("discover");
        // The files are there for whoever starts it.
        eventually(SOON, "the files", || {
            site.configuration().contains(&port.to_string())
                && path("envoy/bootstrap.json").exists()
        });
        assert_eq!(get(&discover.address(), "/readyz").status, 503);
        let bin = envoy.program.is_absolute().then(|| envoy.install());
        let bin = bin.as_ref().map(|bin| path_with(bin.path()));
        let start = || {
            let mut envoy = Command::new("envoy");
            envoy.arg("-c").arg(path("envoy/bootstrap.json"));
            envoy.args(["--disable-hot-restart", "--log-level", "error"]);
            envoy.envs(bin.as_ref().map(|path| ("PATH", path)));
            envoy.spawn().expect("`envoy` can be run")
        };
        let mut process = start();
        wait_until_ready(&discover);
        wait_for_answers(port, &["a"]);
        site.add("web", &b);
        wait_for_answers(port, &["a", "b"]);
        let end = |process: &mut std::process::Child| {
            let end = process.kill().and_then(|()| process.wait());
            end.expect("its end");
        };
        end(&mut process);
        let mut process = start();
        wait_for_answers(port, &["a", "b"]);
        site.remove("web", &a);
        wait_for_answers(port, &["b"]);
        discover.terminate();
        assert!(answers(port).is_ok());
        end(&mut process);
    }
}
