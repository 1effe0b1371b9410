//! The types for editors, compared with the real API.

use std::collections::BTreeSet;

use super::*;
use crate::container::fields::Record;
use crate::container::{Binding, Container, Image, Network, Port};

const TYPES: &str = include_str!("../../../scripts/types.lua");

/// The fields and functions that the types give to a class.
fn documented(class: &str) -> BTreeSet<String> {
    let (mut names, mut current) = (BTreeSet::new(), "");
    for line in TYPES.lines() {
        if let Some(rest) = line.strip_prefix("---@class ") {
            let class = rest.trim_start_matches("(exact) ");
            // Behind a colon stands the class that it extends.
            current = class.split(':').next().unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("---@field ") {
            let name = rest.split(' ').next().unwrap_or_default();
            if current == class && !name.starts_with('[') {
                names.insert(name.trim_end_matches('?').to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("function ")
            && let Some((of, rest)) = rest.split_once('.')
            && of == class
        {
            names.insert(rest.split('(').next().unwrap_or_default().to_owned());
        }
    }
    assert!(!names.is_empty(), "no class {class}");
    names
}

/// The names that a table of the real API has, as a test file sees it.
fn real(table: &str) -> BTreeSet<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("names.lua");
    let script = format!(
        "local test = require 'test'\n\
         local container = test.container {{\n\
           image = 'registry.example.org:5000/team/app:1.2@sha256:{digest}',\n\
           ports = {{ {{ port = 80, host_port = 1, guests = 'a' }} }}, network_owner = 'b', infra = 'c',\n\
           networks = {{ n = {{ ip = '1.1.1.1', ip6 = '::1', gateway = '1.1.1.2', gateway6 = '::2' }} }},\n\
         }}\n\
         local names = {{}}\n\
         for name in pairs({table}) do names[#names + 1] = name end\n\
         table.sort(names)\n\
         error(table.concat(names, ' '))\n",
        digest = "0".repeat(64)
    );
    fs::write(&file, script).expect("the test file");
    let tests = test_file(&file, Site::new(&[]).world.options);
    let (_, failure) = tests.failed.first().expect("it raises the names");
    failure.message.split(' ').map(str::to_owned).collect()
}

/// The lines that describe the fields of a class.
fn lines(class: &str) -> Vec<&'static str> {
    let head = format!("---@class {class}");
    let lines = TYPES.lines().skip_while(|line| *line != head).skip(1);
    let lines = lines.map_while(|line| line.strip_prefix("---@field "));
    lines.collect()
}

/// The same lines, from the table that makes the fields.
fn rows<R: Record>() -> Vec<String> {
    let rows = R::FIELDS.iter();
    rows.map(|row| {
        format!("{} {} {}", row.name, row.lua_type, row.meaning)
            .trim_end()
            .to_owned()
    })
    .collect()
}

#[test]
fn each_field_has_the_type_and_the_meaning_of_its_row() {
    assert_eq!(lines("Container"), rows::<Container>());
    assert_eq!(lines("Image"), rows::<Image>());
    assert_eq!(lines("Port"), rows::<Port>());
    assert_eq!(lines("Binding"), rows::<Binding>());
    assert_eq!(lines("Network"), rows::<Network>());
}

#[test]
fn the_types_are_those_of_the_api() {
    for (class, table) in [
        ("decisions", "require 'decisions'"),
        ("docker", "require 'docker'"),
        ("etcd", "require 'etcd'"),
        ("etcd", "require 'store'"),
        ("json", "require 'json'"),
        ("log", "require 'log'"),
        ("test", "test"),
        ("register", "getmetatable(require 'register').decisions"),
        ("discover", "getmetatable(require 'discover').decisions"),
        ("proxy", "require 'proxy'"),
        ("Container", "container"),
        ("Image", "container.image"),
        ("Port", "container.ports[1]"),
        ("Binding", "container.ports[1].bindings[1]"),
        ("Network", "container.networks.n"),
    ] {
        assert_eq!(documented(class), real(table), "{class}");
    }
    // Some of a target's fields are optional, and most targets have more.
    let of_all = documented("Target");
    for (target, own) in [
        ("haproxy", true),
        ("nginx", true),
        ("envoy", true),
        ("file_sd", false),
        ("hosts", true),
    ] {
        let names = real(&format!("require '{target}'"));
        for needed in ["accept", "identifier", "files"] {
            assert!(names.contains(needed), "{target}.{needed}");
        }
        let more: BTreeSet<String> = names.difference(&of_all).cloned().collect();
        let wanted = if own {
            documented(target)
        } else {
            BTreeSet::new()
        };
        assert_eq!(wanted, more, "{target}");
    }
    // The fields of `--set` have no type here.
    let mut options = real("require 'options'");
    assert!(options.remove("color"));
    assert_eq!(documented("options"), options);
    let entry = ["key", "value", "ttl", "shared", "check"].map(str::to_owned);
    assert_eq!(documented("Entry"), BTreeSet::from(entry));
    let check = crate::policy::api::check::FIELDS.map(str::to_owned);
    assert_eq!(documented("Check"), BTreeSet::from(check));
}
