//! Active checks: a key exists only while its service answers.

use crate::common;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    Answer, Container, FakeDocker, Registrar, RegistrarBuilder, SOON, Script, Service, TestBed,
    count, docker_of, eventually, free_port, get, in_step, inspection, let_time_pass, web_keys,
};
use tempfile::TempDir;

/// The host's address of these tests, at which checks reach published ports.
const LOCALHOST: &str = "127.0.0.1";

/// The program on this host, with its page.
fn checking(bed: &TestBed) -> RegistrarBuilder {
    bed.registrar()
        .flag("--host-ip", LOCALHOST)
        .flag("--listen", "127.0.0.1:0")
}

/// A value of `/metrics`.
fn metric(address: &str, name: &str) -> u64 {
    let page = get(address, "/metrics").body;
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name} in {page}"));
    value.trim().parse().expect("a number")
}

fn wait_for_probes(address: &str, result: &str, number: u64) {
    let name = format!("docker_register_probes_total{{result=\"{result}\"}}");
    eventually(SOON, &format!("{number} probes that {result}"), || {
        metric(address, &name) >= number
    });
}

/// A container that serves nothing before `/tmp/go` exists.
fn late(bed: &TestBed) -> Container {
    let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; exec /serve 8005 8006";
    bed.container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .command(&["sh", "-c", script])
        .label("SERVICE_CHECK_TCP", "true")
        .label("SERVICE_CHECK_INTERVAL", "1s")
        .start()
}

#[test]
fn a_container_that_listens_late_is_registered_when_it_answers() {
    let bed = TestBed::new();
    let registrar = in_step(&checking(&bed));
    let address = registrar.address();
    // Docker's own proxy accepts connections to the published ports from the start.
    let web = late(&bed);
    wait_for_probes(&address, "failed", 6);
    registrar.wait_for_log("its check fails, and it has no keys: tcp ", SOON);
    assert_eq!(bed.keys(), BTreeMap::new());
    assert!(bed.etcd.history(&bed.prefix).is_empty());
    web.exec(&["touch", "/tmp/go"]);
    let began = Instant::now();
    let keys = web_keys("web", &web, LOCALHOST);
    bed.wait_for_keys(&keys, SOON);
    // An interval, and time for a busy machine.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(
        count(&registrar.log(), "its check passes, and its keys are put"),
        2
    );
    web.stop();
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_port_has_keys_while_its_health_page_is_there() {
    let bed = TestBed::new();
    let start = |service: &str| {
        bed.container()
            .env("SERVICE_NAME", service)
            .publish_all()
            .label("SERVICE_CHECK_HTTP", "/health")
            .label("SERVICE_CHECK_INTERVAL", "200ms")
            .label("SERVICE_CHECK_RISE", "2")
            .label("SERVICE_CHECK_FALL", "2")
            .start()
    };
    // Two containers of one service share its `port` keys.
    let (one, two) = (start("web"), start("web"));
    let registrar = in_step(&checking(&bed));
    let address = registrar.address();
    let page = || get(&address, "/").body;
    wait_for_probes(&address, "failed", 8);
    assert_eq!(bed.keys(), BTreeMap::new());
    assert!(page().contains("Failing their checks"), "{}", page());
    assert!(page().contains("its status is 404"), "{}", page());
    assert_eq!(
        metric(&address, "docker_register_containers{state=\"failing\"}"),
        2
    );
    let (first, second) = (
        web_keys("web", &one, LOCALHOST),
        web_keys("web", &two, LOCALHOST),
    );
    let both = common::joined([&first, &second]);
    let health = |container: &Container, command: &str| {
        container.exec(&[
            "sh",
            "-c",
            &format!("{command} /www/8005/health /www/8006/health"),
        ]);
    };
    health(&one, "touch");
    bed.wait_for_keys(&first, SOON);
    health(&two, "touch");
    bed.wait_for_keys(&both, SOON);
    health(&one, "rm");
    bed.wait_for_keys(&second, SOON);
    // One port of two.
    two.exec(&["rm", "/www/8006/health"]);
    let mut half = second.clone();
    half.retain(|key, _| key.starts_with("web/1/"));
    bed.wait_for_keys(&half, SOON);
    health(&one, "touch");
    health(&two, "touch");
    bed.wait_for_keys(&both, SOON);
    let checks = |state: &str| {
        metric(
            &address,
            &format!("docker_register_checks{{state=\"{state}\"}}"),
        )
    };
    eventually(SOON, "all checks to pass", || checks("passing") == 4);
    assert_eq!(count(&registrar.log(), "its keys are removed"), 3);
    one.kill("KILL");
    two.kill("KILL");
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    eventually(SOON, "no checks", || {
        checks("passing") + checks("failing") + checks("unproven") == 0
    });
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

/// Each container's port 8005 is checked at the address in its variable `TARGET`.
const AT_TARGET: &str = "local register = require 'register'\n\
    function register.accept_port(container, port) return port.port == 8005 end\n\
    function register.member(container) return container.name end\n\
    function register.check(container, port)\n\
      return { http = '/', address = container.env.TARGET, interval = 0.3, fall = 2 }\n\
    end\n\
    return register";

/// Containers of a fake Docker, each with a service of this test behind its check.
struct Simulation {
    docker: FakeDocker,
    services: Vec<Service>,
}

impl Simulation {
    fn start(number: u16) -> Self {
        let services: Vec<Service> = (0..number).map(|_| Service::start()).collect();
        let containers = (1..).zip(&services).map(|(number, service)| {
            let mut container = inspection(number, &format!("s{number}"), 20_000 + 2 * number);
            let env = container["Config"]["Env"].as_array_mut().expect("a list");
            env.push(format!("TARGET={}", service.address).into());
            container
        });
        Self {
            docker: docker_of(containers.collect()),
            services,
        }
    }

    fn registrar(&self, bed: &TestBed, script: &Script) -> RegistrarBuilder {
        bed.registrar_of(&self.docker)
            .flag("--script", script.path())
            .flag("--listen", "127.0.0.1:0")
    }

    /// The keys of the container with this number.
    fn keys(number: usize) -> BTreeMap<String, String> {
        let port = 20_000 + 2 * number;
        common::map([
            (
                format!("s{number}/1/c{number}"),
                format!("{}:{port}", common::HOST_IP),
            ),
            (format!("s{number}/1/port"), "8005".to_owned()),
        ])
    }

    fn all_keys(&self) -> BTreeMap<String, String> {
        let keys: Vec<_> = (1..=self.services.len()).map(Self::keys).collect();
        keys.into_iter().flatten().collect()
    }
}

#[test]
fn a_service_that_answers_oddly_is_removed_and_comes_back() {
    let odd = [
        (Answer::Hangs(""), "no whole answer in 0.3 s"),
        (Answer::Text("HTTP/1.1 500 No\r\n\r\n"), "its status is 500"),
        (Answer::Refuses, "connection refused"),
        (
            Answer::Text(""),
            "it closes the connection before it has answered",
        ),
        (Answer::Hangs("HTTP/1.1 20"), "no whole answer in 0.3 s"),
        (
            Answer::Endless("HTTP/1.1 200 OK\r\n\r\n", "and so on, "),
            "no whole answer in 0.3 s",
        ),
        (
            Answer::Text("HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n"),
            "it redirects more than 5 times",
        ),
        (
            Answer::Text("220 smtp.example\r\n"),
            "its answer is not HTTP",
        ),
    ];
    let bed = TestBed::new();
    let host = Simulation::start(u16::try_from(odd.len()).expect("a few"));
    let script = Script::new(AT_TARGET);
    let registrar = in_step(&host.registrar(&bed, &script));
    let address = registrar.address();
    let all = host.all_keys();
    bed.wait_for_keys(&all, SOON);
    for (service, (answer, _)) in host.services.iter().zip(odd) {
        service.set(answer);
    }
    bed.wait_for_keys(&BTreeMap::new(), SOON);
    let page = get(&address, "/").body;
    for (number, (_, why)) in (1..).zip(odd) {
        let name = format!("<strong>c{number}</strong>");
        let (_, rest) = page.split_once(&name).expect("the container");
        let its = rest.split("<strong>").next().unwrap_or_default();
        assert!(its.contains("failing") && its.contains(why), "{why}: {its}");
        let line = format!("`c{number}`: its check fails, and its keys are removed");
        assert_eq!(count(&registrar.log(), &line), 1, "{line}");
    }
    for service in &host.services {
        service.set(Answer::GOOD);
    }
    bed.wait_for_keys(&all, SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_restart_changes_no_key_of_fifty_checked_containers() {
    let bed = TestBed::new();
    let host = Simulation::start(50);
    let script = Script::new(AT_TARGET);
    let run = host.registrar(&bed, &script);
    let registrar = in_step(&run);
    bed.wait_for_keys(&host.all_keys(), SOON);
    let revision = bed.etcd.revision();
    let restarts: [fn(&Registrar); 2] = [Registrar::kill9, |it| {
        it.terminate();
    }];
    let mut registrar = registrar;
    for end in restarts {
        end(&registrar);
        registrar = in_step(&run);
        wait_for_probes(&registrar.address(), "passed", 100);
        assert_eq!(bed.etcd.revision(), revision);
    }
    // A policy that checks something else has new checks without a verdict.
    let changed = AT_TARGET.replace("http = '/'", "http = '/other'");
    std::fs::write(script.path(), &changed).expect("a script can be written");
    registrar.signal("HUP");
    registrar.wait_for_log("loaded again", SOON);
    let before = metric(
        &registrar.address(),
        "docker_register_probes_total{result=\"passed\"}",
    );
    wait_for_probes(&registrar.address(), "passed", before + 100);
    assert_eq!(bed.etcd.revision(), revision);
    // A service that has ended meanwhile loses its keys all the same.
    registrar.kill9();
    host.services[0].set(Answer::Refuses);
    let _registrar = in_step(&run);
    let mut rest = host.all_keys();
    rest.retain(|key, _| !key.starts_with("s1/"));
    bed.wait_for_keys(&rest, SOON);
}

#[test]
fn what_cannot_be_asked_keeps_its_keys() {
    let bed = TestBed::new();
    let host = Simulation::start(20);
    let script = Script::new(AT_TARGET);
    let registrar = in_step(&host.registrar(&bed, &script));
    let address = registrar.address();
    bed.wait_for_keys(&host.all_keys(), SOON);
    wait_for_probes(&address, "passed", 40);
    let revision = bed.etcd.revision();
    // The process may open no more descriptors.
    let limit = |number: &str| {
        let limited = Command::new("prlimit")
            .args(["--pid", &registrar.pid().to_string()])
            .arg(format!("--nofile={number}:"))
            .status();
        assert!(limited.expect("`prlimit` can be run").success());
    };
    limit("3");
    registrar.wait_for_log(
        "checks cannot be made, and their keys stay as they are",
        SOON,
    );
    let_time_pass(Duration::from_secs(2));
    limit("1024");
    registrar.wait_for_log("all checks can be made again", SOON);
    assert_eq!(bed.etcd.revision(), revision);
    // The process stands still for longer than any check has time.
    registrar.signal("STOP");
    let_time_pass(Duration::from_secs(3));
    registrar.signal("CONT");
    let before = metric(&address, "docker_register_probes_total{result=\"passed\"}");
    wait_for_probes(&address, "passed", before + 40);
    assert_eq!(bed.etcd.revision(), revision);
    assert_eq!(count(&registrar.log(), "its check fails"), 0);
    assert_eq!(count(&registrar.log(), "cannot be made"), 1);
}

#[test]
fn a_crash_loop_ends_at_an_uptime() {
    let bed = TestBed::new();
    let _registrar = in_step(&checking(&bed));
    let container = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .label("SERVICE_CHECK_UPTIME", "2s")
        .start();
    let keys = || bed.keys();
    // A container that is started again and again has no keys.
    for _ in 0..3 {
        let_time_pass(Duration::from_millis(600));
        assert_eq!(keys(), BTreeMap::new());
        container.kill("KILL");
        container.start();
    }
    bed.wait_for_keys(&web_keys("web", &container, LOCALHOST), SOON);
    assert_eq!(bed.etcd.history(&bed.prefix).len(), 4);
}

#[test]
fn keys_and_diff_make_each_check_once() {
    let bed = TestBed::new();
    let good = bed
        .container()
        .env("SERVICE_NAME", "good")
        .publish_all()
        .label("SERVICE_CHECK_HTTP", "/")
        .start();
    let bad = bed
        .container()
        .env("SERVICE_NAME", "bad")
        .publish_all()
        .label("SERVICE_CHECK_HTTP", "/missing")
        .start();
    let run = checking(&bed).without("--listen");
    let output = run.run("keys");
    assert_eq!(output.stdout.lines().count(), 8, "{}", output.stdout);
    let output = run.clone().arg("--check").run("keys");
    assert_eq!(output.stdout.lines().count(), 4, "{}", output.stdout);
    assert!(output.stdout.contains(good.short_id()));
    let why = format!(
        "`{}`: its check does not pass: http://{LOCALHOST}:",
        bad.name()
    );
    assert!(output.stderr.contains(&why), "{}", output.stderr);
    assert!(
        output.stderr.contains("its status is 404"),
        "{}",
        output.stderr
    );

    // Nothing is registered yet.
    let output = run.run("diff");
    assert_eq!(count(&output.stdout, "unproven "), 8, "{}", output.stdout);
    assert!(output.status.success());
    let output = run.clone().arg("--check").run("diff");
    assert_eq!(count(&output.stdout, "missing "), 4, "{}", output.stdout);
    assert!(!output.status.success());

    let registrar = in_step(&run);
    bed.wait_for_keys(&web_keys("good", &good, LOCALHOST), SOON);
    let output = run.clone().arg("--check").run("diff");
    assert_eq!(output.stdout, "");
    assert!(output.status.success());
    // A service that has ended, and whose keys are still there.
    registrar.kill9();
    good.exec(&["rm", "/www/8005/index.html", "/www/8006/index.html"]);
    let output = run.clone().arg("--check").run("diff");
    assert_eq!(count(&output.stdout, "stale "), 4, "{}", output.stdout);
}

/// A service that speaks TLS 1.2 and 1.3 with a certificate of its own for `shop.example`, and answers HTTP.
struct Secure {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl Secure {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.current_dir(&directory).args(arguments.split(' '));
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        for name in ["cert", "other"] {
            let made = openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -days 2 \
                 -subj /CN=shop.example -addext subjectAltName=DNS:shop.example -addext basicConstraints=critical,CA:FALSE"
            ))
            .status();
            assert!(made.expect("`openssl` can be run").success());
        }
        let port = free_port();
        let server = format!("s_server -accept 127.0.0.1:{port} -cert cert.pem -key cert.key -www");
        let process = openssl(&server).spawn().expect("`openssl` can be run");
        let secure = Self {
            process,
            directory,
            port,
        };
        eventually(SOON, "a server", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        secure
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_certificate_is_explained_as_etcds_is() {
    let secure = Secure::start();
    let saved = serde_json::json!([inspection(1, "web", 20_000)]).to_string();
    let plain = Service::start();
    let keys = |check: &str, port: &str| {
        let script = Script::new(&format!(
            "local register = require 'register'\n\
             function register.accept_port(container, port) return port.port == 8005 end\n\
             function register.check(container, port)\n\
               return {{ https = '/', address = '127.0.0.1:{port}', interval = 5, timeout = 5, {check} }}\n\
             end\n\
             return register"
        ));
        let run = Registrar::command()
            .flag("--script", script.path())
            .flag("--host-ip", common::HOST_IP)
            .flag("--containers", "-")
            .stdin(&saved)
            .arg("--check");
        let trusted = if check.contains("trust") {
            "cert"
        } else {
            "other"
        };
        let trusted = secure.directory.path().join(format!("{trusted}.pem"));
        let run = run
            .env("SSL_CERT_FILE", trusted)
            .env("SSL_CERT_DIR", "/nonexistent");
        run.run("keys")
    };
    let port = secure.port.to_string();
    let own = "host = 'shop.example', --[[trust]]";
    for (check, port, why) in [
        (own, &port, None),
        ("insecure = true,", &port, None),
        (
            "host = 'other.example', --[[trust]]",
            &port,
            Some(
                "its certificate is for `shop.example` and not for `other.example`: set `host` to one of its names",
            ),
        ),
        (
            "host = 'shop.example',",
            &port,
            Some(
                "its certificate is not signed by a CA that this system trusts: trust its CA, or set `insecure`",
            ),
        ),
        (
            own,
            &plain.address.rsplit(':').next().expect("a port").to_owned(),
            Some("it does not speak TLS: check it by `http`"),
        ),
    ] {
        let output = keys(check, port);
        let expected = if why.is_none() { 2 } else { 0 };
        assert_eq!(
            output.stdout.lines().count(),
            expected,
            "{check}: {output:?}"
        );
        let why = why.unwrap_or_default();
        assert!(output.stderr.contains(why), "{check}: {output:?}");
        assert_eq!(output.stderr.is_empty(), why.is_empty(), "{output:?}");
    }
}
