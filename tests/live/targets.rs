//! Other targets than proxies, and the commands around their files; each target's own checker; and the layouts of keys
//! that other programs have made.

use crate::common;
use crate::discover::{Site, wait_until_ready};
use crate::listen::is_missing;

use common::{
    Backend, Container, ProxyKind, ProxyProgram, Registrar, SOON, UdpBackend, ask, ask_udp, envoys,
    eventually, free_port, get, haproxies, in_step, kill_processes, nginxes, path_with,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Keys of 50 services with hostile names.
const KEYS: &str = "tests/inputs/services.txt";

/// An address of this machine that no other test listens on.
fn own_address(number: u32) -> String {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}", 64 + number)
}

/// A Prometheus that reads the targets of one file. It ends when it goes out of scope.
struct Prometheus {
    process: Child,
    address: String,
    _directory: TempDir,
}

/// The configuration of Prometheus for a file of targets.
fn scrape(targets: &Path) -> String {
    format!(
        "scrape_configs:\n\
         - job_name: fleet\n\
         \x20 file_sd_configs:\n\
         \x20 - files: ['{}']\n\
         \x20   refresh_interval: 1s\n",
        targets.display()
    )
}

impl Prometheus {
    fn start(targets: &Path) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let configuration = path("prometheus.yml");
        fs::write(&configuration, scrape(targets)).expect("a file can be written");
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`prometheus` can be run");
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    /// The addresses that it scrapes, with the names of their services; none while it starts.
    fn targets(&self) -> BTreeSet<(String, String)> {
        if TcpStream::connect(&self.address).is_err() {
            return BTreeSet::new();
        }
        let answer = get(&self.address, "/api/v1/targets?state=active").body;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let targets = answer["data"]["activeTargets"].as_array();
        let label = |target: &Value, name: &str| {
            let label = target["discoveredLabels"][name].as_str();
            label.unwrap_or_default().to_owned()
        };
        let targets = targets.into_iter().flatten();
        targets
            .map(|target| (label(target, "__address__"), label(target, "service")))
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command line of `discover` without a proxy.
fn without_proxy(site: &Site, target: &str) -> common::RegistrarBuilder {
    let command = site.command().flag("--proxy", "none");
    command.arg("--set").arg(format!("target={target}"))
}

#[test]
fn prometheus_follows_the_fleet() {
    if is_missing("prometheus") {
        return;
    }
    let site = Site::new();
    let start = |name: &str| {
        let container = site.bed.container().env("SERVICE_NAME", name);
        let container = container.env("SERVICE_8006_IGNORE", "1");
        container.publish_all().start()
    };
    let target = |container: &Container, name: &str| {
        let port = container.host_port("8005/tcp");
        (format!("127.0.0.1:{port}"), name.to_owned())
    };
    let (one, two) = (start("web"), start("web"));
    let registrar = site.bed.registrar().flag("--host-ip", "127.0.0.1");
    let _registrar = in_step(&registrar);
    let discover = without_proxy(&site, "file_sd").start_command("discover");
    wait_until_ready(&discover);
    let prometheus = Prometheus::start(&site.directory.path().join("targets.json"));
    let wait_for = |wanted: &[(String, String)]| {
        let wanted: BTreeSet<_> = wanted.iter().cloned().collect();
        eventually(SOON, &format!("the targets {wanted:?}"), || {
            prometheus.targets() == wanted
        });
    };
    let first = target(&one, "web");
    wait_for(&[first.clone(), target(&two, "web")]);
    two.stop();
    wait_for(std::slice::from_ref(&first));
    let other = start("other");
    wait_for(&[first, target(&other, "other")]);
    one.stop();
    other.stop();
    wait_for(&[]);
}

/// The names and addresses in a hosts file.
fn hosts(text: &str) -> BTreeMap<String, IpAddr> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| !line.trim().is_empty());
    let mut hosts = BTreeMap::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address: {line}"));
        for name in words {
            assert!(name.chars().all(is_of_a_name), "{line}");
            hosts.insert(name.to_owned(), address);
        }
    }
    hosts
}

/// Two services with one port live side by side, each at a loopback address that a hosts file names.
#[test]
fn services_have_loopback_addresses_by_name() {
    let site = Site::new();
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = free_port();
    for (service, backend) in [("one", &a), ("two", &b)] {
        site.put(&format!("{service}/1/port"), &port.to_string());
        site.add(service, backend);
    }
    let command = site.command().flag("--set", "bind=loopback");
    let command = command.arg("--set").arg("target=haproxy,hosts");
    let discover = command.start_command("discover");
    wait_until_ready(&discover);
    let file = site.directory.path().join("hosts");
    let text = fs::read_to_string(&file).expect("the hosts file");
    let names = hosts(&text);
    for (service, name) in [("one", "a"), ("two", "b")] {
        let ip = names.get(service).unwrap_or_else(|| panic!("{text}"));
        assert!(ip.is_loopback() && ip.to_string() != "127.0.0.1", "{text}");
        let address = format!("{ip}:{port}");
        eventually(SOON, &format!("an answer at {address}"), || {
            ask(&address, "x").as_deref() == Ok(name)
        });
    }
    // The address of a service does not depend on the others.
    site.delete("one/1/port");
    site.remove("one", &a);
    let names_now = || hosts(&fs::read_to_string(&file).expect("the hosts file"));
    eventually(SOON, "the name to go", || !names_now().contains_key("one"));
    assert_eq!(names_now().get("two"), names.get("two"));
}

#[test]
fn commands_check_the_files_and_tell_of_their_changes() {
    let site = Site::new();
    let directory = site.directory.path();
    let place = TempDir::new().expect("a temporary directory");
    let path = |name: &str| place.path().join(name);
    let read = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
    let installed = || fs::read_to_string(directory.join("hosts")).unwrap_or_default();
    let here = place.path().display();
    // The check sees whole files, in a directory of their own.
    let check = format!(
        "echo \"$DIRECTORY\" >>'{here}/checks'; \
         if grep forbidden \"$DIRECTORY/hosts\"; then echo 'no such name' >&2; exit 1; fi"
    );
    let reload = format!(
        "echo \"$DIRECTORY\" >>'{here}/reloads'; cp \"$DIRECTORY/hosts\" '{here}/loaded'; \
         test ! -e '{here}/fails'"
    );
    site.service("one");
    let command = without_proxy(&site, "hosts");
    let command = command.flag("--check", check).flag("--reload", reload);
    let discover = command.start_command("discover");
    wait_until_ready(&discover);
    let address = discover.address();
    let reloads = || read("reloads").lines().count();
    let wait_for_unready = || {
        eventually(SOON, "it to be not ready", || {
            get(&address, "/readyz").status == 503
        });
    };
    assert!(installed().contains("one"), "{}", installed());
    assert_eq!(read("reloads"), format!("{}\n", directory.display()));
    assert_eq!(read("loaded"), installed());
    let checked = read("checks");
    assert!(!checked.is_empty());
    assert!(
        checked.lines().all(|line| Path::new(line) != directory),
        "{checked}"
    );

    site.service("two");
    eventually(SOON, "the change", || read("loaded").contains("two"));
    wait_until_ready(&discover);
    assert_eq!(reloads(), 2, "{}", discover.log());

    // A refused check keeps the old file.
    site.service("forbidden");
    discover.wait_for_log("no such name", SOON);
    wait_for_unready();
    assert!(!installed().contains("forbidden"));
    assert!(installed().contains("two"));
    site.delete("forbidden/1/port");
    wait_until_ready(&discover);
    assert_eq!(reloads(), 2, "{}", discover.log());

    // A failing reload is tried again, without a new event.
    fs::write(path("fails"), "").expect("a file can be written");
    site.service("three");
    wait_for_unready();
    assert!(installed().contains("three"));
    eventually(SOON, "another try", || reloads() >= 4);
    fs::remove_file(path("fails")).expect("the file is the test's own");
    wait_until_ready(&discover);
    assert!(read("loaded").contains("three"));
}

#[test]
fn one_policy_drives_haproxy_and_nginx() {
    let site = Site::new();
    let (tcp, udp) = (Backend::start("t"), UdpBackend::start("u"));
    let port = site.service("web");
    site.add("web", &tcp);
    let dns = free_port();
    site.put("dns/1/port", &format!("{dns}/udp"));
    site.put("dns/1/u", &udp.address.to_string());
    let nginx = "nginx -c \"$DIRECTORY/nginx.conf\"";
    let command = site
        .command()
        .flag("--script", "examples/two_targets.lua")
        .flag("--check", format!("{nginx} -t"))
        .flag("--reload", format!("{nginx} -s reload"));
    let command = command.arg("--set").arg("responses=1");
    let discover = command.start_command("discover");
    // The file is there for whoever starts it.
    let file = site.directory.path().join("nginx.conf");
    eventually(SOON, "the file of nginx", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains(&dns.to_string()))
    });
    let started = Command::new("nginx").arg("-c").arg(&file).status();
    assert!(started.expect("`nginx` can be run").success());
    wait_until_ready(&discover);
    let udp_answers = |name: &str| {
        eventually(SOON, &format!("a datagram of {name}"), || {
            ask_udp(&format!("127.0.0.1:{dns}")).as_deref() == Ok(name)
        });
    };
    udp_answers("u");
    let address = format!("127.0.0.1:{port}");
    eventually(SOON, "an answer", || {
        ask(&address, "x").as_deref() == Ok("t")
    });
    // Each has what it can route to, and no more.
    let text = fs::read_to_string(&file).expect("the file of nginx");
    assert!(!text.contains(&port.to_string()), "{text}");
    assert!(!site.configuration().contains(&dns.to_string()));
    // Both follow the keys.
    let (other_tcp, other_udp) = (Backend::start("t2"), UdpBackend::start("u2"));
    site.put("dns/1/u2", &other_udp.address.to_string());
    site.delete("dns/1/u");
    site.add("web", &other_tcp);
    site.remove("web", &tcp);
    udp_answers("u2");
    eventually(SOON, "an answer", || {
        ask(&address, "x").as_deref() == Ok("t2")
    });
    discover.terminate();
    // It is somebody else's.
    udp_answers("u2");
    kill_processes(&ProxyKind::Nginx.processes(site.directory.path()));
}

/// A container that is registered in another layout answers through HAProxy at its exposed port.
fn answers_in_layout(layout: &str, number: u32) {
    let site = Site::new();
    let ip = own_address(number);
    let web = site.bed.container().env("SERVICE_NAME", "web");
    let web = web.env("SERVICE_8006_IGNORE", "1").publish_all().start();
    let registrar = site.bed.registrar().flag("--host-ip", "127.0.0.1");
    let _registrar = in_step(&registrar.flag("--script", layout));
    let command = site.command().flag("--layout", layout);
    let command = command.flag("--set", format!("bind={ip}"));
    let discover = command.start_command("discover");
    wait_until_ready(&discover);
    let address = format!("{ip}:8005");
    let wait_for_answers = |containers: &[&Container]| {
        let names = containers.iter();
        let names: BTreeSet<String> = names
            .map(|container| format!("{} 8005\n", container.short_id()))
            .collect();
        eventually(SOON, &format!("answers of {names:?}"), || {
            let answers: Result<BTreeSet<String>, String> =
                (0..20).map(|_| ask(&address, "x")).collect();
            answers.as_ref() == Ok(&names)
        });
    };
    wait_for_answers(&[&web]);
    let other = site.bed.container().env("SERVICE_NAME", "web");
    let other = other.env("SERVICE_8006_IGNORE", "1").publish_all().start();
    wait_for_answers(&[&web, &other]);
    web.stop();
    wait_for_answers(&[&other]);
    let page = get(&discover.address(), "/").body;
    assert!(page.contains("web"), "{page}");
}

#[test]
fn keys_for_docker_discover_are_read() {
    answers_in_layout("docker_discover", 1);
}

#[test]
fn keys_of_registrator_are_read() {
    answers_in_layout("registrator", 2);
}

/// The files that a target makes of the saved keys, in a directory.
struct Files {
    directory: TempDir,
    /// The address that their services listen on.
    ip: String,
}

impl Files {
    /// `flags` choose the target, and `name` is its file if it has only one.
    fn make(flags: &[&str], name: &str, number: u32) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let ip = own_address(number);
        let mut files = Registrar::command();
        for word in ["files", "--keys", KEYS].iter().chain(flags) {
            files = files.arg(*word);
        }
        files = files.arg("--directory").arg(directory.path());
        for setting in [format!("bind={ip}"), format!("http_bind={ip}:80")] {
            files = files.arg("--set").arg(setting);
        }
        let output = files.run("discover");
        // 1 tells that a service is left out because a function of the policy failed for it.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        let text = output.stdout;
        let several: Vec<(&str, &str)> = text
            .split("==> ")
            .filter_map(|part| part.split_once(" <==\n"))
            .collect();
        let files = if several.is_empty() {
            vec![(name, &*text)]
        } else {
            several
        };
        for (name, text) in files {
            let file = directory.path().join(name);
            let parent = file.parent().expect("a directory");
            fs::create_dir_all(parent).expect("a directory can be made");
            fs::write(&file, text).expect("a file can be written");
        }
        Self { directory, ip }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn json(&self, name: &str) -> Value {
        let text = self.text(name);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
    }
}

/// The number of services with a route, at the least: the others have names or ports that no reader takes.
const MOST: usize = 25;

/// Runs a checker, whose verdict must be good.
fn accepts(proxy: &ProxyProgram, arguments: &[&str], file: &Path) {
    let bin = proxy.program.is_absolute().then(|| proxy.install());
    let mut checker = Command::new(proxy.kind.name());
    checker.envs(bin.as_ref().map(|bin| ("PATH", path_with(bin.path()))));
    let output = checker.args(arguments).arg(file).output();
    let output = output.expect("a checker can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {said}",
        proxy.program.display()
    );
}

#[test]
fn haproxy_accepts_hostile_names() {
    let files = Files::make(&[], "haproxy.cfg", 3);
    let text = files.text("haproxy.cfg");
    assert!(text.matches(&format!("bind {}:", files.ip)).count() >= MOST);
    for haproxy in haproxies() {
        accepts(&haproxy, &["-c", "-f"], &files.path("haproxy.cfg"));
    }
}

#[test]
fn nginx_accepts_hostile_names() {
    for nginx in nginxes() {
        let flags = [&["--proxy", "nginx"][..], nginx.flags()].concat();
        let files = Files::make(&flags, "nginx.conf", 4);
        let text = files.text("nginx.conf");
        assert!(text.matches(&format!("listen {}:", files.ip)).count() >= MOST);
        accepts(&nginx, &["-t", "-c"], &files.path("nginx.conf"));
    }
}

/// Validation does not read the files that a bootstrap names, so here they are in one.
#[test]
fn envoy_accepts_hostile_names() {
    let files = Files::make(&["--proxy", "envoy"], "", 5);
    let resources = |name: &str| -> Vec<Value> {
        let resources = files.json(name)["resources"].take();
        let Value::Array(mut resources) = resources else {
            panic!("{name} has no resources");
        };
        for resource in &mut resources {
            let object = resource.as_object_mut().expect("an object");
            assert!(object.remove("@type").is_some(), "{object:?}");
        }
        resources
    };
    let (clusters, listeners) = (resources("envoy/cds.json"), resources("envoy/lds.json"));
    assert!(clusters.len() >= MOST && listeners.len() >= MOST);
    let whole = json!({
        "node": { "id": "check", "cluster": "check" },
        "static_resources": { "clusters": clusters, "listeners": listeners },
    });
    let file = files.path("static.json");
    fs::write(&file, whole.to_string()).expect("a file can be written");
    for envoy in envoys() {
        for file in [&file, &files.path("envoy/bootstrap.json")] {
            accepts(&envoy, &["--mode", "validate", "-c"], file);
        }
    }
}

#[test]
fn prometheus_accepts_hostile_names() {
    let flags = ["--proxy", "none", "--set", "target=file_sd"];
    let files = Files::make(&flags, "targets.json", 6);
    let targets = files.json("targets.json");
    assert!(
        targets
            .as_array()
            .is_some_and(|groups| groups.len() >= MOST)
    );
    let configuration = files.path("prometheus.yml");
    fs::write(&configuration, scrape(&files.path("targets.json"))).expect("a file");
    if is_missing("promtool") {
        return;
    }
    let check = Command::new("promtool")
        .args(["check", "config"])
        .arg(&configuration)
        .output();
    let check = check.expect("promtool runs");
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_hosts_file_has_names_alone() {
    let flags = ["--proxy", "none", "--set", "target=hosts"];
    let files = Files::make(&flags, "hosts", 7);
    let names = hosts(&files.text("hosts"));
    assert!(names.len() >= MOST / 2, "{names:?}");
}
