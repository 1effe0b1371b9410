//! `discover` with a real etcd and a real HAProxy: requests go to the members of the right service, and to nobody else,
//! whatever happens to the keys, the proxy, the addresses and the program itself.

use crate::common;

use common::{
    Backend, Load, ProxyDirectory, Registrar, RegistrarBuilder, SOON, TestBed, ask, eventually,
    free_port, get, haproxies, kill_processes, processes,
};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// An etcd, and a directory for `discover`.
pub struct Site {
    pub bed: TestBed,
    pub directory: ProxyDirectory,
}

impl Site {
    pub fn new() -> Self {
        Self {
            bed: TestBed::new(),
            directory: ProxyDirectory::new(),
        }
    }

    pub fn command(&self) -> RegistrarBuilder {
        let discover = self.bed.discover(self.directory.path());
        discover
            .flag("--listen", "127.0.0.1:0")
            .flag("--reload-interval", "0")
    }

    /// `discover`, once it has brought HAProxy in step.
    pub fn start(&self) -> Registrar {
        let discover = self.command().start_command("discover");
        wait_until_ready(&discover);
        discover
    }

    /// Registers a service on a port of its own, and returns that port.
    pub fn service(&self, name: &str) -> u16 {
        let port = free_port();
        self.put(&format!("{name}/1/port"), &port.to_string());
        port
    }

    pub fn put(&self, key: &str, value: &str) {
        self.bed
            .etcd
            .put(&format!("{}/{key}", self.bed.prefix), value);
    }

    pub fn delete(&self, key: &str) {
        self.bed.etcd.delete(&format!("{}/{key}", self.bed.prefix));
    }

    pub fn add(&self, service: &str, backend: &Backend) {
        self.put(
            &format!("{service}/1/{}", backend.name),
            &backend.address.to_string(),
        );
    }

    pub fn remove(&self, service: &str, backend: &Backend) {
        self.delete(&format!("{service}/1/{}", backend.name));
    }

    pub fn configuration(&self) -> String {
        fs::read_to_string(self.directory.path().join("haproxy.cfg")).unwrap_or_default()
    }
}

pub fn wait_until_ready(discover: &Registrar) {
    let address = discover.address();
    eventually(SOON, "it to be ready", || {
        get(&address, "/readyz").status == 200
    });
}

/// The servers that answer at a port.
pub fn answers(port: u16) -> Result<BTreeSet<String>, String> {
    let address = format!("127.0.0.1:{port}");
    (0..20).map(|_| ask(&address, "example.com")).collect()
}

#[track_caller]
pub fn wait_for_answers(port: u16, names: &[&str]) {
    let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    eventually(SOON, &format!("answers of {names:?}"), || {
        answers(port).as_ref() == Ok(&wanted)
    });
}

#[track_caller]
pub fn wait_until_refused(port: u16) {
    eventually(SOON, "connections to be refused", || {
        answers(port).is_err_and(|error| error.contains("refused"))
    });
}

/// The value of a metric.
pub fn metric(discover: &Registrar, name: &str) -> u64 {
    let page = get(&discover.address(), "/metrics").body;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(&format!("docker_register_discover_{name} ")));
    line.and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {page}"))
}

pub fn reloads(discover: &Registrar) -> u64 {
    metric(discover, "reloads_total{result=\"done\"}")
}

#[test]
fn requests_follow_the_keys_and_members_come_and_go_without_a_reload() {
    let site = Site::new();
    let (a, b, c) = (
        Backend::start("a"),
        Backend::start("b"),
        Backend::start("c"),
    );
    let port = site.service("web");
    site.add("web", &a);
    site.add("web", &b);
    let discover = site.start();
    wait_for_answers(port, &["a", "b"]);
    let before = reloads(&discover);

    site.add("web", &c);
    wait_for_answers(port, &["a", "b", "c"]);
    site.remove("web", &a);
    wait_for_answers(port, &["b", "c"]);
    site.remove("web", &b);
    site.remove("web", &c);
    wait_until_refused(port);
    site.add("web", &a);
    wait_for_answers(port, &["a"]);
    assert_eq!(reloads(&discover), before, "{}", discover.log());
    // The file is what should run.
    let configuration = site.configuration();
    assert!(
        configuration.contains(&format!(" a_{} ", a.address)),
        "{configuration}"
    );
    assert!(
        !configuration.contains(&format!(" b_{} ", b.address)),
        "{configuration}"
    );

    let other = site.service("other");
    site.add("other", &c);
    wait_for_answers(other, &["c"]);
    wait_for_answers(port, &["a"]);
    site.delete("other/1/port");
    site.remove("other", &c);
    wait_until_refused(other);
    wait_for_answers(port, &["a"]);
    discover.terminate();
    assert_eq!(processes(site.directory.path()), [""; 0]);
}

#[test]
fn a_port_that_another_program_holds_costs_its_service_alone() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let (web, taken) = (site.service("web"), site.service("taken"));
    let holder = TcpListener::bind(("127.0.0.1", taken)).expect("the port is free");
    site.add("web", &a);
    let discover = site.start();
    wait_for_answers(web, &["a"]);
    let load = Load::start(&format!("127.0.0.1:{web}"), "x", 100);
    site.add("taken", &b);
    let refused = format!("address 127.0.0.1:{taken} of service `taken/1` is left out");
    discover.wait_for_log(&refused, SOON);
    // A service after it is served.
    let later = site.service("later");
    site.add("later", &b);
    wait_for_answers(later, &["b"]);
    let (good, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    assert!(!good.is_empty());
    let log = discover.log();
    assert!(
        log.contains(&format!("{}", std::process::id())),
        "no holder: {log}"
    );
    let page = get(&discover.address(), "/").body;
    assert!(page.contains(&format!("127.0.0.1:{taken}")), "{page}");
    drop(holder);
}

#[test]
fn of_two_services_on_one_port_the_older_has_it() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("old");
    site.add("old", &a);
    site.put("an-other/1/port", &port.to_string());
    site.add("an-other", &b);
    let discover = site.start();
    wait_for_answers(port, &["a"]);
    discover.wait_for_log("service `an-other/1` is left out", SOON);
    assert!(discover.log().contains("`old/1`"), "{}", discover.log());
    // When the owner goes, the other gets it.
    site.delete("old/1/port");
    site.remove("old", &a);
    wait_for_answers(port, &["b"]);
}

#[test]
fn services_with_host_names_share_an_address() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let shared = format!("127.0.0.1:{}", free_port());
    for (service, backend) in [("one", &a), ("two", &b)] {
        site.service(service);
        site.add(service, backend);
        site.put(
            &format!("{service}/1/http"),
            &format!("{service}.example.com,WWW.{service}.example.com"),
        );
    }
    let discover = site
        .command()
        .arg("--set")
        .arg(format!("http_bind={shared}"));
    let discover = discover.start_command("discover");
    wait_until_ready(&discover);
    for (host, name) in [
        ("one.example.com", "a"),
        ("two.example.com:80", "b"),
        ("www.TWO.example.com", "b"),
    ] {
        assert_eq!(ask(&shared, host), Ok(name.to_owned()), "{host}");
    }
    assert!(ask(&shared, "three.example.com").is_err_and(|error| error.contains("503")));
    // A younger service with one of these names is told, and gets nothing of it.
    site.service("three");
    site.add("three", &b);
    site.put("three/1/http", "one.example.com");
    discover.wait_for_log(
        "host name `one.example.com` of service `three/1` goes to `one/1`, which is older",
        SOON,
    );
    assert_eq!(ask(&shared, "one.example.com"), Ok("a".to_owned()));
}

#[test]
fn a_new_process_uses_the_proxy_of_one_that_was_killed() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let discover = site.start();
    wait_for_answers(port, &["a"]);
    let before = processes(site.directory.path());
    assert_eq!(before.len(), 2, "a master and a worker");
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    let mut discover = discover;
    for round in 0..3 {
        discover.kill9();
        if round == 1 {
            site.add("web", &b);
        }
        discover = site.start();
        assert_eq!(
            processes(site.directory.path()),
            before,
            "{}",
            discover.log()
        );
        assert_eq!(reloads(&discover), 0, "{}", discover.log());
    }
    wait_for_answers(port, &["a", "b"]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    discover.terminate();
    assert_eq!(processes(site.directory.path()), [""; 0]);
}

#[test]
fn a_proxy_that_dies_is_started_again_as_it_should_be() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let discover = site.start();
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
    site.remove("web", &a);
    wait_for_answers(port, &["b"]);
    kill_processes(&processes(site.directory.path()));
    discover.wait_for_log("starting it again", SOON);
    wait_for_answers(port, &["b"]);
    wait_until_ready(&discover);
    assert_eq!(processes(site.directory.path()).len(), 2);
}

#[test]
fn routes_stay_while_etcd_is_away_and_when_it_comes_back_empty() {
    let site = Site::new();
    let a = Backend::start("a");
    let ports: Vec<u16> = (0..6)
        .map(|number| {
            let name = format!("s{number}");
            let port = site.service(&name);
            site.add(&name, &a);
            port
        })
        .collect();
    let discover = site.start();
    let load = Load::start(&format!("127.0.0.1:{}", ports[0]), "x", 50);
    site.bed.etcd.kill9();
    discover.wait_for_log("all routes stay as they are", SOON);
    let address = discover.address();
    eventually(SOON, "it to be not ready", || {
        get(&address, "/readyz").status == 503
    });
    let ready = get(&address, "/readyz").body;
    assert!(ready.contains("seconds old"), "{ready}");
    for port in &ports {
        wait_for_answers(*port, &["a"]);
    }
    site.bed.etcd.lose_data();
    site.bed.etcd.start_again();
    // Six services with two keys each are gone at once, which is not believed at once.
    discover.wait_for_log("until a second listing", SOON);
    wait_for_answers(ports[0], &["a"]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    wait_until_refused(ports[0]);
}

#[test]
fn a_configuration_that_is_refused_changes_nothing_and_holds_up_no_server() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let script = site.directory.path().join("policy.lua");
    let policy = |head: &str| {
        let text = format!(
            "local discover = require \"discover\"\nlocal head = discover.head\nfunction discover.head() return head() .. {head:?} end\nreturn discover\n"
        );
        fs::write(&script, text).expect("the script is the test's own");
    };
    policy("");
    let discover = site
        .command()
        .flag("--script", &script)
        .start_command("discover");
    wait_until_ready(&discover);
    wait_for_answers(port, &["a"]);
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 50);
    policy("  no such keyword\n");
    discover.signal("HUP");
    discover.wait_for_log("HAProxy refuses the configuration", SOON);
    let ready = get(&discover.address(), "/readyz");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(!site.configuration().contains("no such keyword"));
    // Servers come and go all the same.
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
    policy("");
    discover.signal("HUP");
    wait_until_ready(&discover);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
}

#[test]
fn a_policy_that_fails_or_never_ends_changes_no_route() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let script = site.directory.path().join("policy.lua");
    fs::write(&script, "return require \"discover\"\n").expect("the script is the test's own");
    let discover = site
        .command()
        .flag("--script", &script)
        .start_command("discover");
    wait_until_ready(&discover);
    for (body, message) in [
        (
            "function discover.files() error(\"no files today\") end",
            "no files today",
        ),
        (
            "function discover.listener() while true do end end",
            "longer than",
        ),
        (
            "function discover.listener() return { listen = \"nowhere\" } end",
            "nowhere",
        ),
    ] {
        fs::write(
            &script,
            format!("local discover = require \"discover\"\n{body}\nreturn discover\n"),
        )
        .expect("the script is the test's own");
        discover.signal("HUP");
        discover.wait_for_log(message, SOON);
        let address = discover.address();
        eventually(SOON, "it to be not ready", || {
            get(&address, "/readyz").status == 503
        });
        wait_for_answers(port, &["a"]);
    }
    fs::write(&script, "return require \"discover\"\n").expect("the script is the test's own");
    discover.signal("HUP");
    wait_until_ready(&discover);
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
}

#[test]
fn a_hundred_replacements_lose_no_request() {
    const REPLACEMENTS: usize = 100;
    let site = Site::new();
    let (tcp, http) = (site.service("tcp"), site.service("http"));
    site.put("http/1/http", "http.example.com");
    let start =
        |number: usize| Backend::start_slow(&format!("b{number}"), Duration::from_millis(20));
    let mut backends: Vec<Backend> = (0..3).map(start).collect();
    let mut ended = Vec::new();
    for backend in &backends {
        site.add("tcp", backend);
        site.add("http", backend);
    }
    let discover = site
        .command()
        .arg("--set")
        .arg(format!("http_bind=127.0.0.1:{}", free_port()));
    let discover = discover.start_command("discover");
    wait_until_ready(&discover);
    let loads = [tcp, http].map(|port| Load::start(&format!("127.0.0.1:{port}"), "x", 150));
    let before = reloads(&discover);
    for number in 0..REPLACEMENTS {
        let new = start(number + 3);
        site.add("tcp", &new);
        site.add("http", &new);
        eventually(SOON, "the new one to be asked", || new.answered() > 0);
        backends.push(new);
        let old = backends.remove(0);
        site.remove("tcp", &old);
        site.remove("http", &old);
        // It ends as a well-behaved container does: it answers what it has got, and then accepts no more.
        let server = format!(" {}_", old.name);
        eventually(SOON, "no more requests for it", || {
            !site.configuration().contains(&server)
        });
        let begun = loads.each_ref().map(Load::count);
        eventually(SOON, "its requests to end", || {
            let counts = loads.each_ref().map(Load::count);
            counts
                .iter()
                .zip(begun)
                .all(|(now, before)| *now > before + 5)
        });
        old.stop();
        // Its requests end by themselves.
        ended.push(old);
    }
    for load in loads {
        let (good, bad) = load.stop();
        println!("{} answers, {} failed", good.len(), bad.len());
        assert_eq!(bad.first(), None, "{} failed", bad.len());
    }
    println!("{} reloads", reloads(&discover) - before);
}

#[test]
fn what_cannot_work_is_told_at_once() {
    let site = Site::new();
    let file = site.directory.path().join("file");
    fs::write(&file, "").expect("a file can be written");
    let output = site.bed.discover(&file).run("discover");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("pass --directory"),
        "{}",
        output.stderr
    );
    let output = site
        .command()
        .flag("--script", "/no/such.lua")
        .run("discover");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("/no/such.lua"), "{}", output.stderr);
    let long = site.directory.path().join("x".repeat(120));
    let output = site.bed.discover(&long).run("discover");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("too long"), "{}", output.stderr);
}

#[test]
fn without_services_the_proxy_runs_and_waits_for_the_first() {
    let site = Site::new();
    let discover = site.start();
    assert!(!discover.log().contains("WARN"), "{}", discover.log());
    let a = Backend::start("a");
    let port = site.service("web");
    site.add("web", &a);
    // A member with a host name costs itself alone.
    site.put("web/1/named", "localhost:80");
    wait_for_answers(port, &["a"]);
    let address = discover.address();
    eventually(SOON, "the reason on the page", || {
        get(&address, "/").body.contains("named_localhost:80")
    });
}

/// A `haproxy` in a directory for `PATH` that is one of the installed versions.
fn path_with(program: &Path) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("haproxy");
    let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display());
    fs::write(&file, script).expect("a file can be written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&file, executable).expect("a file can be made executable");
    directory
}

#[test]
fn each_version_of_haproxy_loses_no_request() {
    let programs = haproxies();
    for program in programs {
        let site = Site::new();
        let (a, b, c) = (
            Backend::start("a"),
            Backend::start("b"),
            Backend::start("c"),
        );
        let port = site.service("web");
        site.add("web", &a);
        let bin = path_with(&program);
        let path = format!(
            "{}:{}",
            bin.path().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        // Deleted as soon as it is drained, where the version can.
        let command = site.command().env("PATH", path).flag("--drain", "1");
        let discover = command.start_command("discover");
        wait_until_ready(&discover);
        wait_for_answers(port, &["a"]);
        // With `balance random`, 2.6.12 would ask only the first and the last of those that it gets at run time.
        let many = ["d", "e", "f", "g"].map(Backend::start);
        for backend in &many {
            site.add("web", backend);
        }
        wait_for_answers(port, &["a", "d", "e", "f", "g"]);
        for backend in &many {
            site.remove("web", backend);
        }
        wait_for_answers(port, &["a"]);
        let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
        for round in 0..3 {
            site.add("web", &b);
            wait_for_answers(port, &["a", "b"]);
            site.remove("web", &b);
            wait_for_answers(port, &["a"]);
            let new = site.service(&format!("new{round}"));
            wait_until_refused(new);
            site.add(&format!("new{round}"), &c);
            wait_for_answers(new, &["c"]);
        }
        // Killed at any moment of a reload.
        let mut discover = discover;
        for round in 0..5 {
            let name = format!("killed{round}");
            let new = site.service(&name);
            site.add(&name, &c);
            if round > 0 {
                eventually(SOON, "a reload to begin", || {
                    site.configuration().contains(&name)
                });
            }
            discover.kill9();
            discover = command.start_command("discover");
            wait_for_answers(new, &["c"]);
        }
        wait_until_ready(&discover);
        site.add("web", &c);
        wait_for_answers(port, &["a", "c"]);
        let (_, bad) = load.stop();
        assert_eq!(
            bad.first(),
            None,
            "{}: {} failed\n{}",
            program.display(),
            bad.len(),
            discover.log()
        );
        assert_eq!(metric(&discover, "drifts_total"), 0, "{}", discover.log());
        discover.terminate();
        assert_eq!(processes(site.directory.path()), [""; 0]);
    }
}

#[test]
fn servers_that_are_killed_cost_no_get_request() {
    const KILLED: usize = 20;
    let site = Site::new();
    let port = site.service("web");
    site.put("web/1/http", "web.example.com");
    let start =
        |number: usize| Backend::start_slow(&format!("b{number}"), Duration::from_millis(20));
    let mut backends: Vec<Backend> = (0..3).map(start).collect();
    for backend in &backends {
        site.add("web", backend);
    }
    let http = format!("http_bind=127.0.0.1:{}", free_port());
    let discover = site
        .command()
        .arg("--set")
        .arg(http)
        .start_command("discover");
    wait_until_ready(&discover);
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    for number in 0..KILLED {
        let new = start(number + 3);
        site.add("web", &new);
        eventually(SOON, "the new one to be asked", || new.answered() > 0);
        backends.push(new);
        let old = backends.remove(0);
        old.kill();
        // The registrar learns of it later.
        let begun = load.count();
        eventually(SOON, "requests without it", || load.count() > begun + 10);
        site.remove("web", &old);
    }
    let (good, bad) = load.stop();
    println!("{} answers, {} failed", good.len(), bad.len());
    assert_eq!(bad.first(), None, "{} failed", bad.len());
}

#[test]
fn long_connections_survive_reloads() {
    const RELOADS: usize = 10;
    let site = Site::new();
    let a = Backend::start("a");
    let port = site.service("web");
    site.add("web", &a);
    let discover = site.start();
    wait_for_answers(port, &["a"]);
    let open = || TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let mut long: Vec<TcpStream> = Vec::new();
    for number in 0..RELOADS {
        long.extend([open(), open()]);
        let name = format!("s{number}");
        let other = site.service(&name);
        site.add(&name, &a);
        wait_for_answers(other, &["a"]);
    }
    // The last one answers before its reload is counted.
    eventually(SOON, "all reloads to be counted", || {
        reloads(&discover) >= RELOADS as u64
    });
    eventually(SOON, "the old processes to be counted", || {
        metric(&discover, "old_workers") > 0
    });
    for mut stream in long {
        stream
            .write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            .expect("an open connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("\r\n\r\na"), "{answer}");
    }
}

#[test]
fn a_proxy_that_somebody_else_starts_is_used_and_never_stopped() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let path = |name: &str| site.directory.path().join(name);
    let (socket, master) = (path("admin.sock"), path("their.sock"));
    let command = site.command().flag("--socket", &socket);
    let discover = command
        .flag("--master-socket", &master)
        .start_command("discover");
    // It is told once, and the file is there for whoever starts it.
    discover.wait_for_log("does not exist", SOON);
    eventually(SOON, "the configuration", || {
        site.configuration().contains("web.1")
    });
    let start = || {
        let mut haproxy = Command::new("haproxy");
        haproxy
            .arg("-W")
            .arg("-S")
            .arg(&master)
            .arg("-f")
            .arg(path("haproxy.cfg"));
        haproxy.spawn().expect("haproxy can be run")
    };
    let mut haproxy = start();
    wait_until_ready(&discover);
    wait_for_answers(port, &["a"]);
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
    let other = site.service("other");
    site.add("other", &b);
    wait_for_answers(other, &["b"]);
    // A service without a server refuses connections again after a restart that nobody told of.
    site.remove("other", &b);
    wait_until_refused(other);
    haproxy
        .kill()
        .and_then(|()| haproxy.wait())
        .expect("its end");
    kill_processes(&processes(site.directory.path()));
    let mut haproxy = start();
    wait_for_answers(port, &["a", "b"]);
    wait_until_refused(other);
    discover.terminate();
    wait_for_answers(port, &["a", "b"]);
    haproxy
        .kill()
        .and_then(|()| haproxy.wait())
        .expect("its end");
    kill_processes(&processes(site.directory.path()));
}
