//! The metrics of both roles and the alerts on them, checked by Prometheus's own tool.

use crate::common;

use std::collections::BTreeSet;
use std::process::Command;

use common::{ProxyDirectory, SOON, TestBed, eventually, free_port, get, in_step};

const ALERTS: &str = include_str!("../../examples/alerts.yaml");

/// Runs promtool; false if it is not installed.
fn promtool(arguments: &[&str]) -> bool {
    if super::listen::is_missing("promtool") {
        return false;
    }
    let output = Command::new("promtool").args(arguments).output();
    let output = output.expect("promtool runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    true
}

#[test]
fn the_rules_are_sound_and_each_fires() {
    assert_eq!(ALERTS.matches("- alert: ").count(), 9);
    let tests = include_str!("../../examples/tests/alerts.yaml");
    for line in ALERTS.lines().filter(|line| line.contains("- alert: ")) {
        let (_, name) = line.split_once("- alert: ").expect("a name");
        // Once where it does not fire, and once where it does.
        assert_eq!(
            tests.matches(&format!("alertname: {name}")).count(),
            2,
            "{name}"
        );
    }
    if promtool(&["check", "rules", "examples/alerts.yaml"]) {
        promtool(&["test", "rules", "examples/tests/alerts.yaml"]);
    }
}

/// The names of the metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_a_name(c));
    words
        .filter(|word| word.starts_with("docker_register_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn both_roles_have_the_metrics_that_the_alerts_and_the_page_name() {
    let bed = TestBed::new();
    let ports = [8005, 8006].map(|port| (format!("SERVICE_{port}_PORT"), free_port().to_string()));
    let [(one, first), (other, second)] = &ports;
    let _web = bed
        .container()
        .env(one, first)
        .env(other, second)
        .publish_all()
        .start();
    let listen = "127.0.0.1:0";
    let registrar = in_step(&bed.registrar().flag("--listen", listen));
    let directory = ProxyDirectory::new();
    let discover = bed.discover(directory.path()).flag("--listen", listen);
    let discover = discover.start_command("discover");
    let addresses = [registrar.address(), discover.address()];
    for address in &addresses {
        eventually(SOON, "readiness", || get(address, "/readyz").status == 200);
    }
    let [register, discover] = addresses.map(|address| get(&address, "/metrics").body);
    let both = [&*register, &*discover].concat();
    let known = names(&both);
    for name in names(ALERTS) {
        // A part of a pattern of names ends with a parenthesis.
        let is_known = known.contains(name) || known.iter().any(|known| known.starts_with(name));
        assert!(is_known, "{name}");
    }
    let version = env!("VERSION_AND_COMMIT");
    let (version, revision) = version.split_once(" (").expect("a version and a commit");
    let revision = revision.trim_end_matches(')');
    let build = format!("build_info{{revision=\"{revision}\",version=\"{version}\"}} 1\n");
    let (prefix, name) = (&bed.prefix, &bed.name);
    for line in [
        format!("docker_register_{build}"),
        format!("docker_register_settings_info{{instance=\"{name}\",prefix=\"{prefix}\"}} 1\n"),
        "docker_register_up{partner=\"docker\"} 1\n".to_owned(),
        "docker_register_up{partner=\"etcd\"} 1\n".to_owned(),
        "docker_register_up{partner=\"policy\"} 1\n".to_owned(),
        "docker_register_up{partner=\"seat\"} 1\n".to_owned(),
        "docker_register_lease_ttl_seconds 60\n".to_owned(),
        "docker_register_keys{kind=\"owned\",state=\"held\"} 0\n".to_owned(),
        "docker_register_call_errors_total{partner=\"docker\"} 0\n".to_owned(),
        "docker_register_call_errors_total{partner=\"etcd\"} 0\n".to_owned(),
    ] {
        assert!(register.contains(&line), "{line} in {register}");
    }
    for line in [
        format!("docker_register_discover_{build}"),
        format!("docker_register_discover_settings_info{{prefix=\"{prefix}\"}} 1\n"),
        "docker_register_discover_up{partner=\"store\"} 1\n".to_owned(),
        "docker_register_discover_up{partner=\"proxy\"} 1\n".to_owned(),
        "docker_register_discover_call_errors_total{partner=\"store\"} 0\n".to_owned(),
    ] {
        assert!(discover.contains(&line), "{line} in {discover}");
    }
    for text in [&register, &discover] {
        for name in [
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_resident_memory_bytes ",
        ] {
            let line = text.lines().find(|line| line.starts_with(name));
            let (_, value) = line.expect(name).split_once(' ').expect("a value");
            assert!(
                value.parse::<f64>().is_ok_and(|value| value > 0.0),
                "{name}{value}"
            );
        }
        // Each kind of call has been made.
        let count = |line: &&str| line.contains("_call_duration_seconds_count{");
        let counts: Vec<&str> = text.lines().filter(count).collect();
        assert!(!counts.is_empty());
        assert!(
            counts.iter().all(|line| !line.ends_with("} 0")),
            "{counts:?}"
        );
    }
}
