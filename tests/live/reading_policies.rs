//! Each target of `discover`, and each example of a policy for it: its files for saved keys, and its own tests.

use crate::common;
use crate::examples::names;

use common::{Output, Registrar};
use std::collections::BTreeSet;
use std::fs;

/// The saved keys, some with hostile names.
const KEYS: &str = "scripts/proxies/tests/keys.txt";
/// The directory that the files name.
const DIRECTORY: &str = "/run/discover";

const TARGETS: &str = "scripts/proxies";
/// The policies in `examples` that are `discover`'s.
pub const EXAMPLES: [&str; 1] = ["two_targets"];

/// A target or an example, with the flags that choose it.
const POLICIES: [(&str, &str, &str); 6] = [
    (TARGETS, "envoy", "--proxy envoy"),
    (TARGETS, "file_sd", "--proxy none --set target=file_sd"),
    (TARGETS, "haproxy", "--set bind=127.0.0.1"),
    (
        TARGETS,
        "hosts",
        "--proxy none --set target=hosts --set bind=loopback",
    ),
    (TARGETS, "nginx", "--proxy nginx"),
    ("examples", EXAMPLES[0], "--script examples/two_targets.lua"),
];

/// The files of a policy.
fn files(flags: &str) -> Output {
    let all = ["files", "--keys", KEYS, "--directory", DIRECTORY];
    // Of two settings with one name the last counts.
    let all = all.into_iter().chain(["--set", "bind=127.0.0.1"]);
    let all = all.chain(flags.split_whitespace());
    all.fold(Registrar::command(), common::RegistrarBuilder::arg)
        .run("discover")
}

#[test]
fn the_files_for_the_saved_keys() {
    for (directory, name, flags) in POLICIES {
        let output = files(flags);
        let golden = format!("{directory}/golden/{name}.txt");
        let wanted = fs::read_to_string(&golden).expect(&golden);
        assert!(
            output.stdout == wanted,
            "{golden} is not what is printed; see the difference with\n  docker-register discover files --keys {KEYS} \
             --directory {DIRECTORY} --set bind=127.0.0.1 {flags} | diff {golden} -\n{}",
            output.stderr
        );
        assert_eq!(
            (output.status.code(), output.stderr.as_str()),
            (Some(0), ""),
            "{golden}"
        );
    }
}

#[test]
fn the_tests_of_the_reading_policies_pass() {
    for (directory, name, _) in POLICIES {
        let file = format!("{directory}/tests/{name}.lua");
        let output = Registrar::command().arg(&file).run("test");
        assert_eq!(
            output.status.code(),
            Some(0),
            "{file}:\n{}{}",
            output.stdout,
            output.stderr
        );
    }
}

#[test]
fn no_target_is_forgotten() {
    let targets = POLICIES
        .iter()
        .filter(|(directory, _, _)| *directory == TARGETS);
    let known: BTreeSet<String> = targets.map(|(_, name, _)| (*name).to_owned()).collect();
    for (directory, extension) in [("", "lua"), ("/tests", "lua"), ("/golden", "txt")] {
        let directory = format!("{TARGETS}{directory}");
        assert_eq!(names(&directory, extension), known, "{directory}");
    }
}

#[test]
fn a_target_begins_with_its_purpose_and_a_command() {
    for (directory, name, _) in POLICIES {
        let file = format!("{directory}/{name}.lua");
        let text = fs::read_to_string(&file).expect(&file);
        let header: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with("--"))
            .collect();
        assert!(
            header.concat().contains("docker-register discover"),
            "{file}"
        );
        let width = text.lines().map(|line| line.chars().count()).max();
        assert!(width <= Some(120), "{file}");
    }
}

#[test]
fn without_a_proxy_a_target_is_named() {
    let output = files("--proxy none");
    assert_eq!(output.status.code(), Some(2), "{}", output.stdout);
    assert!(
        output.stderr.contains("pass --set target=file_sd"),
        "{}",
        output.stderr
    );
}
