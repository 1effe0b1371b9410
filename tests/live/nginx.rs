//! `discover` with a real nginx, of each installed version: the scenarios that all proxies share, and nginx's own.

use crate::common;
use crate::discover::{Site, answers, wait_for_answers, wait_until_ready};
use crate::scenarios;

use common::{
    Backend, Load, ProxyKind, ProxyProgram, SOON, eventually, free_port, get, kill_processes,
    nginxes,
};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// Runs a scenario with each installed version.
fn each(scenario: impl Fn(&Site)) {
    for nginx in nginxes() {
        println!("nginx: {}", nginx.program.display());
        scenario(&Site::of(&nginx));
    }
}

scenarios::tests_of!(each);

/// `nginx -t` does not see it: nginx itself tells later that it cannot have the address.
#[test]
fn an_address_that_nginx_cannot_have_keeps_the_last_good_configuration() {
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
        let ready = get(&address, "/readyz").body;
        assert!(ready.contains(&taken.to_string()), "{ready}");
        eventually(SOON, "the last good configuration", || {
            !site.configuration().contains(&taken.to_string())
        });
        // It is tried again without a new event.
        drop(holder);
        wait_for_answers(taken, &["b"]);
        wait_until_ready(&discover);
        let (_, bad) = load.stop();
        assert_eq!(bad.first(), None, "{} failed", bad.len());
    });
}

#[test]
fn long_connections_survive_reloads() {
    const RELOADS: usize = 5;
    each(|site| {
        let a = Backend::start("a");
        let port = site.service("web");
        site.add("web", &a);
        let discover = site.start();
        wait_for_answers(port, &["a"]);
        let mut long = Vec::new();
        for number in 0..RELOADS {
            let stream = TcpStream::connect(("127.0.0.1", port));
            let mut stream = stream.expect("a connection");
            // A worker has accepted it once it has answered.
            ask_again(&mut stream);
            long.push(stream);
            let name = format!("s{number}");
            let other = site.service(&name);
            site.add(&name, &a);
            wait_for_answers(other, &["a"]);
        }
        for stream in &mut long {
            ask_again(stream);
        }
        drop(discover);
    });
}

/// Asks the server `a` on an open connection.
fn ask_again(stream: &mut TcpStream) {
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .expect("an open connection");
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\na") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0].into());
    }
}

#[test]
fn an_nginx_that_somebody_else_starts_is_reloaded_and_never_stopped() {
    let site = Site::of(&ProxyProgram::of(ProxyKind::Nginx));
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let path = |name: &str| site.directory.path().join(name);
    let command = site.command().flag("--pid-file", path("their.pid"));
    let discover = command.start_command("discover");
    let address = discover.address();
    // The file is there for whoever starts it.
    eventually(SOON, "the configuration", || {
        site.configuration().contains(&port.to_string())
    });
    assert_eq!(get(&address, "/readyz").status, 503);
    let start = || {
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(path("nginx.conf"));
        let nginx = nginx.args(["-g", "daemon off;"]).spawn();
        nginx.expect("`nginx` can be run: `make test` installs it")
    };
    let mut nginx = start();
    wait_until_ready(&discover);
    wait_for_answers(port, &["a"]);
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
    let other = site.service("other");
    site.add("other", &b);
    wait_for_answers(other, &["b"]);
    // After a restart that nobody told of it follows the keys again.
    kill_processes(&site.processes());
    nginx.wait().expect("its end");
    let mut nginx = start();
    wait_for_answers(port, &["a", "b"]);
    site.remove("web", &a);
    wait_for_answers(port, &["b"]);
    // The process of another program is left alone.
    fs::write(path("their.pid"), std::process::id().to_string()).expect("a file can be written");
    site.add("web", &a);
    eventually(SOON, "it to be not ready", || {
        get(&address, "/readyz").status == 503
    });
    fs::write(path("their.pid"), nginx.id().to_string()).expect("a file can be written");
    wait_for_answers(port, &["a", "b"]);
    discover.terminate();
    assert!(answers(port).is_ok());
    kill_processes(&site.processes());
    nginx.wait().expect("its end");
}
