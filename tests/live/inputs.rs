//! Saved containers as people have them: after public bug reports in `tests/inputs`, and as other projects show them in
//! `tests/inspected`. Each `NAME.txt` has the keys for `NAME.json`, and each `NAME.VARIANT.txt` those with other flags.

use crate::common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::Registrar;

const REPORTED: &str = "tests/inputs";
const INSPECTED: &str = "tests/inspected";

/// The keys that `discover` reads have no containers.
const KEYS_ALONE: &str = "services";

/// The files with keys that are made with flags, or without containers that are refused: the file's name, the flags,
/// and the names of the refused.
const SPECIAL: [(&str, &str, &str); 24] = [
    (
        "08-swarm-ingress.tasks",
        "--script examples/swarm_tasks.lua --set network=shop_default",
        "",
    ),
    (
        "09-image-by-id",
        "",
        "by-12 by-12-noprefix by-6 by-64-noprefix by-full",
    ),
    ("10-quotes-and-cr", "", "cr"),
    ("11-odd-names", "", "dots slash"),
    ("22-traefik-own-labels.traefik", "--script traefik", ""),
    ("24-names-that-merge.coredns", "--script coredns", "a b c e"),
    ("24-names-that-merge.traefik", "--script traefik", "a b c e"),
    (
        "25-one-name-two-ports.docker_discover",
        "--script docker_discover",
        "np",
    ),
    (
        "26-tcp-udp-sctp-one-number",
        "--set protocols=tcp,udp,sctp",
        "",
    ),
    (
        "26-tcp-udp-sctp-one-number.coredns",
        "--script coredns --set protocols=tcp,udp,sctp",
        "",
    ),
    (
        "26-tcp-udp-sctp-one-number.docker_discover",
        "--script docker_discover --set protocols=tcp,udp,sctp",
        "",
    ),
    (
        "26-tcp-udp-sctp-one-number.registrator",
        "--script registrator --set protocols=tcp,udp,sctp",
        "",
    ),
    (
        "29-macvlan-addresses.network",
        "--script examples/network_address.lua --set network=lan",
        "",
    ),
    ("35-sctp-traefik", "--set protocols=tcp,udp,sctp", ""),
    (
        "35-sctp-traefik.traefik",
        "--script traefik --set protocols=tcp,udp,sctp",
        "",
    ),
    (
        "37-compose-run-one-off.names",
        "--script examples/compose_names.lua",
        "",
    ),
    (
        "37-compose-run-one-off.network",
        "--script examples/network_address.lua --set network=overlay0",
        "",
    ),
    (
        "38-network-with-both-families",
        "--script examples/network_address.lua --set network=v6net",
        "",
    ),
    (
        "38-network-with-both-families.ip6",
        "--script examples/network_address.lua --set network=v6net --host-ip 2001:db8::1",
        "",
    ),
    ("37-pouch", "", "08ee44"),
    ("40-null-as-text", "", "search_platform-15"),
    ("49-docker29-no-id", "", "welcome-to-docker"),
    ("53-api-list", "", "1 2 3"),
    ("54-ecs-metadata", "", "fargateapp"),
];

/// The names of the files in a directory that end like this, without the ending.
fn names(directory: &str, ending: &str) -> BTreeSet<String> {
    let files = fs::read_dir(directory).expect(directory);
    let names = files.map(|file| file.expect(directory).file_name());
    let name = |name: &str| name.strip_suffix(ending).map(str::to_owned);
    names
        .filter_map(|file| name(file.to_str().expect("ASCII")))
        .collect()
}

/// The name of the file with the containers, for that of a file with keys.
fn input<'a>(directory: &str, name: &'a str) -> &'a str {
    let is_variant = !Path::new(&format!("{directory}/{name}.json")).exists();
    match name.rsplit_once('.').filter(|_| is_variant) {
        Some((input, _variant)) => input,
        None => name,
    }
}

/// Why a run does not print the keys, or refuses other containers; none if it is right.
fn fault(directory: &str, name: &str) -> Option<String> {
    let special = SPECIAL.iter().find(|(special, ..)| *special == name);
    let (_, flags, refused) = special.unwrap_or(&("", "", ""));
    let file = format!("{directory}/{}.json", input(directory, name));
    let mut command = Registrar::command().flag("--containers", &file);
    if !flags.contains("--host-ip") {
        command = command.flag("--host-ip", "10.0.0.1");
    }
    let flags = flags.split_whitespace();
    let output = flags
        .fold(command, common::RegistrarBuilder::arg)
        .run("keys");
    let errors = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "));
    let errors: BTreeSet<&str> = errors
        .map(|line| refused_name(line).unwrap_or(line))
        .collect();
    let keys = fs::read_to_string(format!("{directory}/{name}.txt")).expect(name);
    let is_right = output.stdout == keys
        && errors == refused.split_whitespace().collect()
        && output.status.code() == Some(i32::from(!refused.is_empty()));
    (!is_right).then(|| {
        format!(
            "{name}: {}\nnot\n{keys}but\n{}{}",
            output.status, output.stdout, output.stderr
        )
    })
}

/// The container's name in an error, or its place in the file.
fn refused_name(line: &str) -> Option<&str> {
    match line.strip_prefix("error: object ") {
        Some(rest) => rest.split(',').next(),
        None => line.split('`').nth(1),
    }
}

#[track_caller]
fn check(directory: &str) {
    let (inputs, mut goldens) = (names(directory, ".json"), names(directory, ".txt"));
    goldens.remove(KEYS_ALONE);
    assert!(!inputs.is_empty());
    let with_keys = goldens.iter().map(|name| input(directory, name).to_owned());
    let with_keys: BTreeSet<String> = with_keys.collect();
    assert_eq!(inputs, with_keys, "each file has keys");
    let faults: Vec<String> = goldens
        .iter()
        .filter_map(|name| fault(directory, name))
        .collect();
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        goldens.len(),
        faults.join("\n")
    );
}

#[test]
fn each_reported_container_has_its_keys() {
    check(REPORTED);
}

#[test]
fn each_container_of_another_project_is_read() {
    check(INSPECTED);
}

#[test]
fn each_file_with_flags_or_refused_containers_exists() {
    let goldens = [REPORTED, INSPECTED].map(|directory| names(directory, ".txt"));
    let exists = |name: &&str| goldens.iter().any(|goldens| goldens.contains(*name));
    let forgotten = SPECIAL
        .iter()
        .map(|(name, ..)| *name)
        .find(|name| !exists(name));
    assert_eq!(forgotten, None);
}
