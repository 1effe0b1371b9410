//! Each bundled layout and each example policy: its keys for the saved containers, its own tests, and its readers'
//! rules for keys, which are written down here a second time.

use crate::common;
use crate::reading_policies;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use common::{Output, Registrar};
use serde_json::{Value, json};

/// The keys that a policy makes.
type Keys = BTreeMap<String, String>;

/// A policy, `<directory>/<name>.lua`, with `<directory>/tests/<name>.lua` and `<directory>/golden/<name>.txt`.
struct Example {
    /// [`LAYOUTS`] or [`POLICIES`].
    directory: &'static str,
    name: &'static str,
    /// Its flags, for runs and tests.
    flags: &'static str,
    /// Its reader's rules for keys.
    check: fn(&Keys),
}

/// Layouts are bundled: `--script <name>` runs one.
const LAYOUTS: &str = "scripts/layouts";
/// Policies that a site copies.
const POLICIES: &str = "examples";

/// The saved containers, and the host that they are on.
const FLEET: &str = "examples/fleet.json";
const HOST: &str = "10.0.0.1";

const EXAMPLES: [Example; 20] = [
    layout(
        "coredns",
        "--set domain=example.org --set protocols=tcp,udp",
        check_coredns,
    ),
    layout(
        "docker_discover",
        "--set protocols=tcp,udp",
        check_docker_discover,
    ),
    layout(
        "go_zero",
        "--prefix / --set protocols=tcp,udp",
        check_go_zero,
    ),
    layout("grpc", "--set protocols=tcp,udp", check_grpc),
    layout(
        "registrator",
        "--prefix /services --set host=alpha --set protocols=tcp,udp",
        check_registrator,
    ),
    layout(
        "traefik",
        "--set domain=example.org --set entrypoints=web",
        check_traefik,
    ),
    policy("aliases", ""),
    policy("compose_names", ""),
    Example {
        check: check_environments,
        ..policy("environments", "--set environment=staging")
    },
    Example {
        check: check_host_list,
        ..policy("host_list", "--set host=alpha")
    },
    policy("interface_address", "--set interface=lo"),
    Example {
        check: check_json_value,
        ..policy("json_value", "")
    },
    policy("network_address", "--set network=bridge"),
    policy("opt_in", "--set label=com.docker.compose.project"),
    policy("site", ""),
    policy("swarm_tasks", "--set network=media_default"),
    policy("tcp_checks", ""),
    Example {
        check: check_two_layouts,
        ..policy("two_layouts", "--set domain=example.org")
    },
    policy("udp", ""),
    policy("uptime", "--set uptime=5"),
];

/// A layout of its own.
const fn layout(name: &'static str, flags: &'static str, check: fn(&Keys)) -> Example {
    Example {
        directory: LAYOUTS,
        name,
        flags,
        check,
    }
}

/// A policy that changes a decision and keeps the default's layout.
const fn policy(name: &'static str, flags: &'static str) -> Example {
    Example {
        directory: POLICIES,
        name,
        flags,
        check: check_default,
    }
}

impl Example {
    fn file(&self) -> String {
        format!("{}/{}.lua", self.directory, self.name)
    }

    fn test(&self) -> String {
        format!("{}/tests/{}.lua", self.directory, self.name)
    }

    fn golden(&self) -> String {
        format!("{}/golden/{}.txt", self.directory, self.name)
    }

    /// Runs a subcommand with the flags of this example.
    fn run(&self, subcommand: &str, args: &[&str], stdin: &str) -> Output {
        let args = args.iter().copied().chain(self.flags.split_whitespace());
        args.fold(
            Registrar::command().stdin(stdin),
            common::RegistrarBuilder::arg,
        )
        .run(subcommand)
    }

    /// Runs `keys` with the saved containers.
    fn keys(&self, script: &str) -> Output {
        let args = ["--script", script, "--containers", FLEET, "--host-ip", HOST];
        self.run("keys", &args, "")
    }
}

/// The keys in the output of `keys`. A key may contain a space; no value here does.
fn parse(stdout: &str) -> Keys {
    let pairs = stdout
        .lines()
        .map(|line| line.rsplit_once(' ').expect(line));
    common::map(pairs)
}

/// The segments of a key below its root.
fn segments<'a>(key: &'a str, root: &str) -> Vec<&'a str> {
    let below = key.strip_prefix(root);
    let segments: Vec<&str> = below
        .unwrap_or_else(|| panic!("{key} is not below {root}"))
        .split('/')
        .collect();
    for segment in &segments {
        assert!(!matches!(*segment, "" | "." | ".."), "{key}");
    }
    segments
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An address that Go's and Rust's libraries parse, with a valid port.
fn check_address(text: &str) {
    let address: SocketAddr = text
        .parse()
        .unwrap_or_else(|_| panic!("no address: {text}"));
    assert_ne!(address.port(), 0, "{text}");
}

/// `/backends/<service>/<n>/<container>` and `port` beside it.
fn check_default(keys: &Keys) {
    for (key, value) in keys {
        let [service, n, member] = segments(key, "/backends/")[..] else {
            panic!("{key} has not four segments");
        };
        assert!(is_number(n), "{key}");
        if member == "port" {
            let number = value.strip_suffix("/udp").unwrap_or(value);
            assert!(is_number(number), "{key} {value}");
        } else {
            check_address(value);
            assert!(
                keys.contains_key(&format!("/backends/{service}/{n}/port")),
                "{key}"
            );
        }
    }
}

/// Three segments; the value of `port` stands behind `bind *:` in the proxy's configuration.
fn check_docker_discover(keys: &Keys) {
    for (key, value) in keys {
        let [service, member] = segments(key, "/backends/")[..] else {
            panic!("{key} has not three segments");
        };
        if member == "port" {
            assert!(is_number(value), "{key} {value}");
        } else {
            check_address(value);
            assert!(
                keys.contains_key(&format!("/backends/{service}/port")),
                "{key}"
            );
        }
    }
}

/// `<host>:<container>:<port>`, and `:udp` where it is that; there is no SCTP in the fleet.
fn check_registrator(keys: &Keys) {
    for (key, value) in keys {
        let [_, id] = segments(key, "/services/")[..] else {
            panic!("{key} has not three segments");
        };
        let parts: Vec<&str> = id.strip_suffix(":udp").unwrap_or(id).split(':').collect();
        let [host, container, port] = parts[..] else {
            panic!("{key} has not three parts");
        };
        assert_eq!(host, "alpha", "{key}");
        assert!(!container.is_empty() && is_number(port), "{key}");
        check_address(value);
    }
}

/// Legal DNS labels, the last unique to a container, and a value for A and SRV records.
fn check_coredns(keys: &Keys) {
    for (key, value) in keys {
        let labels = segments(key, "/skydns/org/example/");
        assert_eq!(labels.len(), 2, "{key}");
        for label in labels {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(label.chars().all(legal) && label.len() <= 63, "{key}");
            assert!(!label.starts_with('-') && !label.ends_with('-'), "{key}");
        }
        let record: Value = serde_json::from_str(value).expect(value);
        let host = record["host"].as_str().expect(value);
        assert!(host.parse::<IpAddr>().is_ok(), "{value}");
        assert!(
            (1..=65535).contains(&record["port"].as_u64().expect(value)),
            "{value}"
        );
        assert!(record["ttl"].is_u64(), "{value}");
    }
}

/// No slash in front, and the operation `Add` for an address.
fn check_grpc(keys: &Keys) {
    for (key, value) in keys {
        assert_eq!(segments(key, "backends/").len(), 2, "{key}");
        let endpoint: Value = serde_json::from_str(value).expect(value);
        let address = endpoint["Addr"].as_str().expect(value);
        check_address(address);
        assert_eq!(
            endpoint,
            json!({ "Op": 0, "Addr": address, "Metadata": null })
        );
    }
}

/// A number below the client's key.
fn check_go_zero(keys: &Keys) {
    for (key, value) in keys {
        let [_, number] = segments(key, "")[..] else {
            panic!("{key} has not two segments");
        };
        assert!(is_number(number), "{key}");
        check_address(value);
    }
}

/// Only known fields, because an unknown one invalidates the whole configuration. Names are no list index, servers are
/// one. Each router has a service.
fn check_traefik(keys: &Keys) {
    let (mut services, mut routers) = (BTreeSet::new(), BTreeMap::new());
    for (key, value) in keys {
        let segments = segments(key, "traefik/");
        let (kind, name) = (segments[0], segments[2]);
        assert!(matches!(kind, "http" | "tcp" | "udp"), "{key}");
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(legal) && !is_number(name), "{key}");
        match (segments[1], &segments[3..]) {
            ("routers", ["service"]) => {
                routers.insert((kind, name), value.as_str());
            }
            ("routers", ["rule"]) => {
                assert!(kind != "udp" && value.ends_with(')'), "{key} {value}");
            }
            ("routers", ["entrypoints", "0"]) => assert!(!value.is_empty(), "{key}"),
            ("services", ["loadbalancer", "servers", n, field]) => {
                assert!(is_number(n), "{key}");
                let address = match (kind, *field) {
                    ("http", "url") => value.strip_prefix("http://"),
                    ("tcp" | "udp", "address") => Some(value.as_str()),
                    _ => None,
                };
                check_address(address.unwrap_or_else(|| panic!("{key} {value}")));
                services.insert((kind, name));
            }
            _ => panic!("Traefik knows no {key}"),
        }
    }
    for ((kind, name), service) in &routers {
        assert!(
            services.contains(&(*kind, *service)),
            "{kind} router {name} has no service {service}"
        );
        let router = format!("traefik/{kind}/routers/{name}");
        assert!(
            *kind == "udp" || keys.contains_key(&format!("{router}/rule")),
            "{router} has no rule"
        );
        // A TCP router without entrypoints would use all of them.
        assert!(
            *kind == "http" || keys.contains_key(&format!("{router}/entrypoints/0")),
            "{router}"
        );
    }
    let routed: BTreeSet<(&str, &str)> = routers.into_keys().collect();
    assert_eq!(services, routed);
}

/// The default keys in the environment's directory.
fn check_environments(keys: &Keys) {
    let default = keys.iter().map(|(key, value)| {
        let below = key.strip_prefix("/backends/staging/").expect(key);
        (format!("/backends/{below}"), value.clone())
    });
    check_default(&default.collect());
}

/// The host's key beside the default ones: the containers that have keys, and perhaps others.
fn check_host_list(keys: &Keys) {
    let (of_host, keys): (Keys, Keys) = keys
        .clone()
        .into_iter()
        .partition(|(key, _)| key.starts_with("/hosts/"));
    // A name may have a space.
    let lines: Vec<String> = of_host
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let names = lines.concat();
    let names = names.strip_prefix("/hosts/alpha ").expect("the host's key");
    let names: Vec<String> = serde_json::from_str(names).expect(names);
    assert!(names.is_sorted(), "{names:?}");
    check_default(&keys);
}

/// Values of three fields, with an address as by default.
fn check_json_value(keys: &Keys) {
    let plain = keys.iter().map(|(key, text)| {
        let value = if key.ends_with("/port") {
            text.clone()
        } else {
            let value: Value = serde_json::from_str(text).expect(text);
            assert_eq!(
                value.as_object().map(serde_json::Map::len),
                Some(3),
                "{text}"
            );
            assert!(
                value["tags"].is_array() && value["weight"].is_u64(),
                "{text}"
            );
            value["address"].as_str().expect(text).to_owned()
        };
        (key.clone(), value)
    });
    check_default(&plain.collect());
}

/// Both of them, for the same containers.
fn check_two_layouts(keys: &Keys) {
    let (default, dns): (Keys, Keys) = keys
        .clone()
        .into_iter()
        .partition(|(key, _)| key.starts_with("/backends/"));
    check_default(&default);
    check_coredns(&dns);
    let members = default.keys().filter(|key| !key.ends_with("/port"));
    assert_eq!(members.count(), dns.len());
}

/// The names of the files in a directory that have this extension, without it.
pub fn names(directory: &str, extension: &str) -> BTreeSet<String> {
    let files = fs::read_dir(directory).expect(directory);
    let paths = files.map(|file| file.expect(directory).path());
    let paths = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let stem = |path: &Path| {
        path.file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    paths.map(|path| stem(&path)).collect()
}

#[test]
fn no_example_is_forgotten() {
    let mut count = 0;
    for directory in [LAYOUTS, POLICIES] {
        let known: BTreeSet<String> = EXAMPLES
            .iter()
            .filter(|example| example.directory == directory)
            .map(|example| example.name.to_owned())
            .collect();
        count += known.len();
        let reading = reading_policies::EXAMPLES.iter();
        let reading = reading.filter(|_| directory == POLICIES);
        let reading = reading.map(|name| (*name).to_owned());
        let known: BTreeSet<String> = known.into_iter().chain(reading).collect();
        for (directory, extension) in [
            (directory.to_owned(), "lua"),
            (format!("{directory}/tests"), "lua"),
            (format!("{directory}/golden"), "txt"),
        ] {
            assert_eq!(names(&directory, extension), known, "{directory}");
        }
    }
    assert_eq!(count, EXAMPLES.len());
}

#[test]
fn an_example_is_short_and_begins_with_its_purpose() {
    for example in EXAMPLES {
        let text = fs::read_to_string(example.file()).expect(example.name);
        assert!(
            text.starts_with("-- "),
            "{} begins without a comment",
            example.file()
        );
        assert!(
            text.lines().count() <= 40,
            "{} has more than 40 lines",
            example.file()
        );
        let width = text.lines().map(|line| line.chars().count()).max();
        assert!(
            width <= Some(120),
            "{} has a line of more than 120 characters",
            example.file()
        );
        for setting in text.split("options.").skip(1) {
            let end = setting.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = &setting[..end.unwrap_or(setting.len())];
            let header: Vec<&str> = text
                .lines()
                .take_while(|line| line.starts_with("--"))
                .collect();
            let described =
                matches!(name, "host_ip" | "interfaces") || header.concat().contains(name);
            assert!(
                described,
                "the header of {} says nothing of the setting {name}",
                example.file()
            );
        }
    }
}

#[test]
fn the_keys_for_the_saved_containers() {
    for example in EXAMPLES {
        let output = example.keys(&example.file());
        let golden = example.golden();
        let wanted = fs::read_to_string(&golden).expect(&golden);
        assert!(
            output.stdout == wanted,
            "{golden} is not what is printed; see the difference with\n  docker-register keys --host-ip {HOST} \
             --containers {FLEET} --script {} {} | diff {golden} -\n{}",
            example.file(),
            example.flags,
            output.stderr
        );
        assert_eq!(
            (output.status.code(), output.stderr.as_str()),
            (Some(0), ""),
            "{golden}"
        );
        let keys = parse(&output.stdout);
        assert!(!keys.is_empty(), "{golden}");
        (example.check)(&keys);
    }
}

#[test]
fn the_tests_of_the_examples_pass() {
    for example in EXAMPLES {
        let file = example.test();
        let output = example.run("test", &[&file], "");
        let last = output.stdout.lines().last().unwrap_or_default();
        let passed = last.strip_suffix(" passed, 0 failed");
        assert!(
            output.status.success() && passed.is_some_and(|count| is_number(count) && count != "0"),
            "{file}:\n{}{}",
            output.stdout,
            output.stderr
        );
    }
}

#[test]
fn a_layout_is_known_by_its_name() {
    for example in EXAMPLES
        .iter()
        .filter(|example| example.directory == LAYOUTS)
    {
        let by_path = example.keys(&example.file());
        let by_name = example.keys(example.name);
        assert_eq!(
            by_name.stdout, by_path.stdout,
            "--script {}: {}",
            example.name, by_name.stderr
        );
        assert_eq!(by_name.status.code(), Some(0), "--script {}", example.name);
    }
}

/// A saved container that publishes TCP and UDP, in a form that all examples register.
fn container(id: usize, name: &str, labels: &Value) -> Value {
    let mut all = json!({ "com.docker.compose.project": "p", "com.docker.compose.service": "s" });
    if let (Some(all), Some(labels)) = (all.as_object_mut(), labels.as_object()) {
        all.extend(labels.clone());
    }
    json!({
        "Id": format!("{id:012x}{:052}", 0), "Name": format!("/{name}"),
        "State": { "Status": "running", "Running": true },
        "Config": { "Image": "web", "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "Labels": all },
        "NetworkSettings": {
            "Ports": {
                "80/tcp": [{ "HostIp": "2001:db8::7", "HostPort": "8000" }],
                "53/udp": [{ "HostIp": "0.0.0.0", "HostPort": "5300" }],
            },
            "Networks": { "bridge": { "IPAddress": "172.17.0.2" } },
        },
    })
}

#[test]
fn no_name_and_no_label_reaches_outside_its_place() {
    let long = "x".repeat(64);
    let hostile = [
        "..",
        ".",
        "../../up",
        "a/b",
        "/",
        "",
        "a\nb",
        "404",
        "api@internal",
        "User.RPC_",
        "größe",
        "a b",
        "*",
        "[0]",
        "-",
        long.as_str(),
    ];
    let mut containers = vec![container(
        1,
        "web-1",
        &json!({ "traefik.53.entrypoints": "dns" }),
    )];
    for text in hostile {
        let labels = json!({
            "SERVICE_NAME": text, "com.docker.compose.service": text, "com.acme.service": text,
            "SERVICE_ALIASES": text, "traefik.53.entrypoints": "dns",
        });
        containers.push(container(containers.len() + 1, "web-2", &labels));
        containers.push(container(
            containers.len() + 1,
            &format!("x{text}"),
            &json!({ "traefik.protocol": text }),
        ));
    }
    let saved = Value::Array(containers).to_string();
    for example in EXAMPLES {
        let script = example.file();
        let args = ["--script", &script, "--containers", "-", "--host-ip", HOST];
        let with_udp = [args.as_slice(), &["--set", "protocols=tcp,udp"]].concat();
        let output = example.run("keys", &with_udp, &saved);
        let keys = parse(&output.stdout);
        assert!(!keys.is_empty(), "{script}: {}", output.stderr);
        (example.check)(&keys);
        // Not one of them failed for another reason than a name.
        for line in output
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
        {
            assert!(!line.contains("attempt to"), "{script}: {line}");
        }
    }
}
