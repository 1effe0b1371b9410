//! The log line with the program's version and the partners and settings that it runs with.

use std::iter;

use super::settings::Settings;
use crate::docker::{self, Daemon};

/// The line, as words of `name=value`. A dry run has no daemon id, because it does not ask for one.
pub fn introduction(settings: &Settings, daemon: Option<&Daemon>) -> anyhow::Result<String> {
    let (options, store) = (&settings.host.options, &settings.host.store);
    let facts = [
        ("version", Some(env!("VERSION_AND_COMMIT"))),
        ("docker", Some(&docker::Endpoint::from_env()?.url)),
        ("docker_id", daemon.map(|daemon| &*daemon.id)),
        (store.label(), Some(&store.shown())),
        ("host_ip", Some(&options.host_ip)),
        ("prefix", Some(&options.prefix)),
        ("ttl", Some(&options.ttl.to_string())),
        ("instance", Some(&options.instance)),
    ];
    let words = facts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", word(value?))));
    let line: Vec<String> = iter::once("docker-register".to_owned())
        .chain(words)
        .collect();
    Ok(line.join(" "))
}

/// A value as one word: in quotes if it is empty or has spaces or quotes.
fn word(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation() && c != '"';
    if !value.is_empty() && value.chars().all(is_plain) {
        value.to_owned()
    } else {
        format!("{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_one_word() {
        for (value, wanted) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("[fd00::1]:2379", "[fd00::1]:2379"),
            ("0.1.0 (7b98e4a)", "\"0.1.0 (7b98e4a)\""),
            ("a\nINFO b", "\"a\\nINFO b\""),
            ("", "\"\""),
        ] {
            assert_eq!(word(value), wanted);
        }
    }
}
