//! `discover` with a real etcd and a real HAProxy: requests go to the members of the right service, and to nobody else,
//! whatever happens to the keys, the proxy, the addresses and the program itself.

use crate::common;
use crate::scenarios;

use common::{
    Backend, Load, ProxyDirectory, ProxyKind, ProxyProgram, Registrar, RegistrarBuilder, SOON,
    TestBed, ask, eventually, free_port, get, haproxies, kill_processes, path_with,
};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// An etcd, and a directory for `discover` with a proxy.
pub struct Site {
    pub bed: TestBed,
    pub directory: ProxyDirectory,
    pub kind: ProxyKind,
    /// A directory for `PATH` with the version of the proxy.
    bin: Option<TempDir>,
    /// The flags for this version.
    flags: &'static [&'static str],
}

impl Site {
    /// With the HAProxy in `PATH`.
    pub fn new() -> Self {
        Self::of(&ProxyProgram::of(ProxyKind::Haproxy))
    }

    pub fn of(proxy: &ProxyProgram) -> Self {
        let is_named = proxy.program.is_absolute();
        Self {
            bed: TestBed::new(),
            directory: ProxyDirectory::new(),
            kind: proxy.kind,
            bin: is_named.then(|| proxy.install()),
            flags: proxy.flags(),
        }
    }

    pub fn command(&self) -> RegistrarBuilder {
        let discover = self.bed.discover(self.directory.path());
        let discover = discover
            .flag("--listen", "127.0.0.1:0")
            .flag("--reload-interval", "0");
        let discover = match self.kind {
            ProxyKind::Haproxy => discover,
            ProxyKind::Nginx | ProxyKind::Envoy => discover.flag("--proxy", self.kind.name()),
        };
        let flags = self.flags.iter();
        let discover = flags.fold(discover, |discover, flag| discover.arg(*flag));
        match &self.bin {
            Some(bin) => discover.env("PATH", path_with(bin.path())),
            None => discover,
        }
    }

    /// `discover`, once it has brought the proxy in step.
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

    /// The text of the files that the proxy reads.
    pub fn configuration(&self) -> String {
        let names: &[&str] = match self.kind {
            ProxyKind::Haproxy => &["haproxy.cfg"],
            ProxyKind::Nginx => &["nginx.conf"],
            ProxyKind::Envoy => &["envoy/cds.json", "envoy/lds.json"],
        };
        let files = names.iter().map(|name| self.directory.path().join(name));
        files
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .collect()
    }

    /// Whether the files have a server.
    pub fn has_server(&self, backend: &Backend) -> bool {
        let server = match self.kind {
            ProxyKind::Haproxy => format!(" {}_", backend.name),
            ProxyKind::Nginx => backend.address.to_string(),
            ProxyKind::Envoy => backend.address.port().to_string(),
        };
        self.configuration().contains(&server)
    }

    /// The proxy's processes, the master first.
    pub fn processes(&self) -> Vec<String> {
        self.kind.processes(self.directory.path())
    }

    pub fn master(&self) -> Option<String> {
        self.processes().into_iter().next()
    }

    /// Waits until a service without a server answers nobody. HAProxy refuses connections; the others close them.
    #[track_caller]
    pub fn wait_until_refused(&self, port: u16) {
        eventually(SOON, "connections to be refused", || {
            answers(port)
                .is_err_and(|error| self.kind != ProxyKind::Haproxy || error.contains("refused"))
        });
    }
}

pub fn wait_until_ready(discover: &Registrar) {
    let address = discover.address();
    eventually(SOON, "it to be ready", || {
        get(&address, "/readyz").status == 200
    });
}

/// Waits until HAProxy refuses connections at a port.
#[track_caller]
pub fn wait_until_refused(port: u16) {
    eventually(SOON, "connections to be refused", || {
        answers(port).is_err_and(|error| error.contains("refused"))
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
    let backends = ["a", "b", "c"].map(Backend::start);
    let [a, b, _] = &backends;
    let port = site.service("web");
    site.add("web", a);
    site.add("web", b);
    let discover = site.start();
    wait_for_answers(port, &["a", "b"]);
    let before = reloads(&discover);
    scenarios::members_come_and_go(&site, port, &backends);
    assert_eq!(reloads(&discover), before, "{}", discover.log());
    // The file is what should run. It is written after the change.
    eventually(SOON, "the file to follow", || {
        let configuration = site.configuration();
        configuration.contains(&format!(" a_{} ", a.address))
            && !configuration.contains(&format!(" b_{} ", b.address))
    });
    scenarios::a_service_comes_and_goes(&site, port, &backends);
    discover.terminate();
    assert_eq!(site.processes(), [""; 0]);
}

#[test]
fn a_port_that_another_program_holds_costs_its_service_alone() {
    scenarios::a_foreign_port(&Site::new());
}

#[test]
fn of_two_services_on_one_port_the_older_has_it() {
    scenarios::two_services_on_one_port(&Site::new());
}

#[test]
fn services_with_host_names_share_an_address() {
    scenarios::host_names(&Site::new());
}

#[test]
fn a_new_process_uses_the_proxy_of_one_that_was_killed() {
    scenarios::adoption(&Site::new());
}

#[test]
fn a_proxy_that_dies_is_started_again_as_it_should_be() {
    scenarios::a_dead_proxy(&Site::new());
}

#[test]
fn routes_stay_while_etcd_is_away_and_when_it_comes_back_empty() {
    scenarios::an_empty_store(&Site::new());
}

#[test]
fn a_configuration_that_is_refused_changes_nothing_and_holds_up_no_server() {
    scenarios::a_refused_configuration(&Site::new());
}

#[test]
fn at_exit_the_proxy_goes_on_or_ends() {
    scenarios::exit(&Site::new());
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
    scenarios::replacements(&Site::new(), 100);
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

#[test]
fn each_version_of_haproxy_loses_no_request() {
    for haproxy in haproxies() {
        let site = Site::of(&haproxy);
        let (a, b, c) = (
            Backend::start("a"),
            Backend::start("b"),
            Backend::start("c"),
        );
        let port = site.service("web");
        site.add("web", &a);
        // Deleted as soon as it is drained, where the version can.
        let command = site.command().flag("--drain", "1");
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
            site.wait_until_refused(new);
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
            haproxy.program.display(),
            bad.len(),
            discover.log()
        );
        assert_eq!(metric(&discover, "drifts_total"), 0, "{}", discover.log());
        discover.terminate();
        assert_eq!(site.processes(), [""; 0]);
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
    site.wait_until_refused(other);
    haproxy
        .kill()
        .and_then(|()| haproxy.wait())
        .expect("its end");
    kill_processes(&site.processes());
    let mut haproxy = start();
    wait_for_answers(port, &["a", "b"]);
    site.wait_until_refused(other);
    discover.terminate();
    wait_for_answers(port, &["a", "b"]);
    haproxy
        .kill()
        .and_then(|()| haproxy.wait())
        .expect("its end");
    kill_processes(&site.processes());
}
