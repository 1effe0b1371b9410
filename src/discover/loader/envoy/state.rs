//! The answers of Envoy about its files: how often it has read each, and the listeners that it refuses. It is pure.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde::Deserialize;

use crate::base::text::{printable, quote};
use crate::routes::LeftOut;

/// The statistics that [`Updates`] are read from.
pub const STATS: &str = "/stats?filter=ds.update_";
/// The listeners, for [`refused`].
pub const LISTENERS: &str = "/config_dump?resource=dynamic_listeners";

/// How often Envoy has read a file since its start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Updates {
    pub attempts: u64,
    /// It took a part of the file, or nothing.
    pub rejections: u64,
    /// It could not read the file.
    pub failures: u64,
}

impl Updates {
    /// The updates under a name such as `cluster_manager.cds`, from lines such as `cluster_manager.cds.update_attempt: 1`.
    pub fn read(stats: &str, name: &str) -> Self {
        let mut updates = Self::default();
        for line in stats.lines() {
            let rest = line.strip_prefix(name);
            let rest = rest.and_then(|rest| rest.strip_prefix(".update_"));
            let Some((kind, number)) = rest.and_then(|rest| rest.split_once(':')) else {
                continue;
            };
            let number = number.trim().parse().unwrap_or_default();
            match kind {
                "attempt" => updates.attempts = number,
                "rejected" => updates.rejections = number,
                "failure" => updates.failures = number,
                _ => {}
            }
        }
        updates
    }
}

#[derive(Deserialize)]
struct Dump {
    #[serde(default)]
    configs: Vec<Listener>,
}

#[derive(Deserialize)]
struct Listener {
    #[serde(default)]
    name: String,
    error_state: Option<ErrorState>,
}

#[derive(Deserialize)]
struct ErrorState {
    #[serde(default)]
    details: String,
}

/// The listeners of the last update that Envoy refuses, with its reason.
pub fn refused(dump: &str) -> anyhow::Result<Vec<LeftOut>> {
    let dump: Dump = serde_json::from_str(dump).context("the listeners of Envoy cannot be read")?;
    // The same errors follow once more without a name.
    let named = dump.configs.into_iter().filter(|it| !it.name.is_empty());
    let refused = named.filter_map(|listener| {
        let error = listener.error_state?;
        Some(LeftOut {
            what: format!("Envoy's listener {}", quote(&listener.name)),
            why: printable(&error.details),
        })
    });
    Ok(refused.collect())
}

/// Whether resources of a file have gone and none has come. Then the listeners go first: one whose cluster is missing
/// resets its connections.
pub fn only_went(before: &str, after: &str) -> bool {
    let (before, after) = (names(before), names(after));
    after.len() < before.len() && after.is_subset(&before)
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

fn names(text: &str) -> BTreeSet<String> {
    let read = serde_json::from_str::<Resources>(text);
    let resources = read.map(|it| it.resources).unwrap_or_default();
    resources.into_iter().map(|it| it.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_updates_of_each_file_are_told_apart() {
        let stats = "cluster.web.update_attempt: 9\n\
            cluster_manager.cds.update_attempt: 3\n\
            cluster_manager.cds.update_failure: 0\n\
            cluster_manager.cds.update_rejected: 1\n\
            listener_manager.lds.update_attempt: 4\n\
            listener_manager.lds.update_failure: 2\n\
            listener_manager.lds.update_rejected: 0\n";
        let read = |attempts, rejections, failures| Updates {
            attempts,
            rejections,
            failures,
        };
        assert_eq!(Updates::read(stats, "cluster_manager.cds"), read(3, 1, 0));
        assert_eq!(Updates::read(stats, "listener_manager.lds"), read(4, 0, 2));
        assert_eq!(Updates::read("", "cluster_manager.cds"), read(0, 0, 0));
    }

    #[test]
    fn a_refused_listener_is_named_with_the_reason() {
        let dump = r#"{ "configs": [
          {
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
            "name": "web/1",
            "active_state": { "version_info": "", "listener": {}, "last_updated": "2026-11-27T14:28:45.123Z" }
          },
          {
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener",
            "name": "db/1",
            "error_state": {
              "failed_configuration": { "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "db/1" },
              "last_update_attempt": "2026-11-27T14:28:45.123Z",
              "details": "cannot bind '127.0.0.1:5432': Address already in use"
            }
          },
          { "error_state": { "details": "cannot bind '127.0.0.1:5432': Address already in use" } }
        ] }"#;
        let refused = refused(dump).unwrap();
        let shown: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "Envoy's listener `db/1` is left out: cannot bind '127.0.0.1:5432': Address already in use"
            ]
        );
        for empty in ["{}", r#"{"configs":[]}"#] {
            assert_eq!(super::refused(empty).unwrap(), []);
        }
        assert!(super::refused("no healthy upstream").is_err());
    }

    #[test]
    fn listeners_go_first_when_resources_only_went() {
        let text = |names: &[&str]| {
            let named = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#));
            let named: Vec<String> = named.collect();
            format!(r#"{{"resources":[{}]}}"#, named.join(","))
        };
        let before = text(&["a", "b"]);
        assert!(only_went(&before, &text(&["a"])));
        assert!(only_went(&before, &text(&[])));
        for after in [&["a", "b"][..], &["a", "c"], &["c"], &["a", "b", "c"]] {
            assert!(!only_went(&before, &text(after)), "{after:?}");
        }
        assert!(!only_went("", &before));
    }
}
