//! `discover` with a real Envoy: the scenarios that all proxies share, and Envoy's own.

use crate::common;
use crate::discover::{Site, answers, wait_for_answers, wait_until_ready};
use crate::scenarios;

use common::{Backend, Load, SOON, envoys, eventually, free_port, get, path_with};
use std::net::TcpListener;
use std::process::Command;

/// Runs a scenario with each installed version.
fn each(scenario: impl Fn(&Site)) {
    for envoy in envoys() {
        scenario(&Site::of(&envoy));
    }
}

scenarios::tests_of!(each);

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
