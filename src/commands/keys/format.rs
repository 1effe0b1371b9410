//! The formats in which `keys` prints keys.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::base::text::printable;
use crate::wanted::{ContainerName, Entry};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `KEY VALUE`, one per line.
    Text,
    /// All facts about each key.
    Json,
    /// A shell script of `etcdctl` calls that has the same effect.
    Etcdctl,
}

impl Format {
    /// Formats the entries, each with its container, in their order.
    pub fn print(self, entries: &[(&Entry, &ContainerName)]) -> String {
        match self {
            Self::Text => text(entries),
            Self::Json => json(entries),
            Self::Etcdctl => etcdctl(entries),
        }
    }
}

fn text(entries: &[(&Entry, &ContainerName)]) -> String {
    let mut text = String::new();
    for (entry, _) in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", entry.key, printable(&entry.value));
    }
    text
}

fn json(entries: &[(&Entry, &ContainerName)]) -> String {
    let list = entries.iter().map(|(entry, who)| {
        let container = (!who.is_host()).then(|| json!({ "id": &*who.id, "name": &*who.name }));
        json!({
            "key": &*entry.key,
            "value": &*entry.value,
            "ttl": entry.ttl,
            "shared": entry.shared,
            "check": entry.check.as_ref().map(ToString::to_string),
            "container": container,
        })
    });
    format!("{:#}\n", list.collect::<serde_json::Value>())
}

fn etcdctl(entries: &[(&Entry, &ContainerName)]) -> String {
    let mut script = "#!/bin/sh\n# Puts the keys on leases that nobody renews: they expire after their TTL.\nset -eu\n\
                      export ETCDCTL_API=3\n\
                      grant() { etcdctl lease grant \"$1\" | cut -d ' ' -f 2; }\n"
        .to_owned();
    let mut owned: BTreeMap<u32, Vec<&Entry>> = BTreeMap::new();
    for (entry, _) in entries.iter().filter(|(entry, _)| !entry.shared) {
        owned.entry(entry.ttl).or_default().push(entry);
    }
    // Shared keys first, so that no owned key ever exists without the shared keys that describe it.
    for (entry, _) in entries.iter().filter(|(entry, _)| entry.shared) {
        put_on_a_lease(&mut script, entry.ttl, &[entry]);
    }
    for (ttl, entries) in &owned {
        put_on_a_lease(&mut script, *ttl, entries);
    }
    script
}

fn put_on_a_lease(script: &mut String, ttl: u32, entries: &[&Entry]) {
    let _ = writeln!(script, "\nlease=$(grant {ttl})");
    for entry in entries {
        let (key, value) = (quoted(&entry.key), quoted(&entry.value));
        let _ = writeln!(
            script,
            "etcdctl put --lease=\"$lease\" -- {key} {value} >/dev/null"
        );
    }
}

/// The text quoted as one word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
