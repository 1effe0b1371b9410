//! The commands of the reading role that change nothing: `discover files`, `discover --dry-run` and `services`; and what
//! the default policies of both roles agree on.

use crate::common;
use crate::discover::Site;

use common::{Registrar, SOON, TestBed, eventually, processes};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// What `keys` prints of the saved containers makes a configuration that HAProxy accepts.
#[test]
fn the_keys_of_saved_containers_become_a_configuration() {
    let directory = TempDir::new().expect("a temporary directory");
    let keys = Registrar::command()
        .flag("--containers", "examples/fleet.json")
        .flag("--host-ip", "10.0.0.1")
        .run("keys");
    let saved = directory.path().join("keys.txt");
    fs::write(&saved, &keys.stdout).expect("a file can be written");
    let arguments = ["files", "--explain", "--set", "bind=127.0.0.1", "--keys"];
    let files = arguments
        .iter()
        .fold(Registrar::command(), |files, argument| files.arg(*argument));
    let files = files
        .arg(saved)
        .arg("--directory")
        .arg(directory.path())
        .run("discover");
    assert_eq!(files.status.code(), Some(0), "{}", files.stderr);
    // Three of its services want port 8080.
    assert!(files.stderr.contains(":8080"), "{}", files.stderr);
    let configuration = directory.path().join("haproxy.cfg");
    fs::write(&configuration, &files.stdout).expect("a file can be written");
    let check = Command::new("haproxy")
        .arg("-c")
        .arg("-f")
        .arg(&configuration)
        .output();
    let check = check.expect("haproxy can be run");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
}

#[test]
fn a_set_that_no_reading_policy_reads_is_told_with_the_nearest_name() {
    let directory = TempDir::new().expect("a temporary directory");
    let saved = directory.path().join("keys.txt");
    fs::write(&saved, "/backends/web/1/port 8005\n").expect("a file can be written");
    let arguments = ["files", "--set", "bnid=127.0.0.1", "--keys"];
    let files = arguments
        .iter()
        .fold(Registrar::command(), |files, argument| files.arg(*argument));
    let files = files.arg(saved).run("discover");
    let told = "--set bnid=… is never read; did you mean `bind`?";
    assert!(files.stderr.contains(told), "{}", files.stderr);
}

#[test]
fn a_dry_run_prints_the_file_and_then_the_changes() {
    let site = Site::new();
    let port = site.service("web");
    site.put("web/1/a", "10.0.0.1:32768");
    let discover = site.command().arg("--dry-run").start_command("discover");
    discover.wait_for_stdout(&format!("bind 127.0.0.1:{port}"), SOON);
    site.put("web/1/b", "10.0.0.2:32768");
    discover.wait_for_stdout("add server `web.1/b_10.0.0.2:32768`", SOON);
    assert_eq!(site.configuration(), "");
    assert_eq!(processes(site.directory.path()), [""; 0]);
}

#[test]
fn services_are_printed_with_their_members() {
    let site = Site::new();
    site.put("web/1/port", "8005");
    site.put("web/1/a", "10.0.0.1:32768");
    site.put("web/1/bad", "10.0.0.1");
    site.put("empty/2/port", "53/udp");
    let command = Registrar::command()
        .flag("--etcd", site.bed.etcd.endpoint())
        .flag("--prefix", &site.bed.prefix);
    let output = command.run("services");
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(
        output.stderr.contains("`10.0.0.1` has no port"),
        "{}",
        output.stderr
    );
    let lines: Vec<Vec<&str>> = output
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["SERVICE", "PORT", "MEMBERS"],
            vec!["empty/2", "53/udp", "none"],
            vec!["web/1", "8005/tcp", "a", "10.0.0.1:32768"],
        ]
    );
    let json = command
        .clone()
        .flag("--format", "json")
        .run("services")
        .stdout;
    let services: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(services[1]["members"][0]["host"], "10.0.0.1");
    let watch = command.arg("--watch").start_command("services");
    watch.wait_for_stdout("web/1", SOON);
    site.put("web/1/c", "10.0.0.3:32768");
    watch.wait_for_stdout("c 10.0.0.3:32768", SOON);
}

#[test]
fn host_names_and_another_port_are_registered() {
    let bed = TestBed::new();
    let web = bed
        .container()
        .env("SERVICE_HTTP", "a.example.com")
        .env("SERVICE_8005_PORT", "80");
    let web = web.env("SERVICE_NAME", "web").publish_all().start();
    let _registrar = bed.registrar().start();
    eventually(SOON, "the keys of web", || bed.keys().len() == 6);
    let keys = bed.keys();
    assert_eq!(keys["web/1/http"], "a.example.com");
    assert_eq!(keys["web/1/port"], "80");
    assert_eq!(keys["web/2/http"], "a.example.com");
    drop(web);
}
