//! Docker's list entries (`docker ps`), which cost less than inspections: whether one agrees with a known container,
//! and the little that it tells of an unknown one.

use std::collections::{BTreeSet, HashMap};

use bollard::models::ContainerSummary;

use super::{Binding, Container, Network};

impl Container {
    /// Whether a list entry agrees with this container in all that an entry has and that can change: the name, the
    /// state, the health, the published ports, the networks and the addresses in them.
    pub fn is_listed_as(&self, summary: &ContainerSummary) -> bool {
        let mut names = summary.names.iter().flatten();
        names.any(|name| name.trim_start_matches('/') == &*self.name)
            && summary
                .state
                .is_some_and(|state| state.to_string() == self.status)
            && health(summary.status.as_deref().unwrap_or_default()) == self.health
            && self.publishes(summary)
            && self.is_attached_to(summary)
    }

    fn publishes(&self, summary: &ContainerSummary) -> bool {
        // In host networking an entry has no ports; ours are made from the exposed ones.
        if self.network_mode == "host" {
            return true;
        }
        let listed = summary.ports.iter().flatten().filter_map(|port| {
            let protocol = port.typ?.to_string();
            let binding = Binding::at(port.ip.as_deref(), port.public_port?)?;
            Some((port.private_port, protocol, binding))
        });
        let listed: BTreeSet<_> = listed.collect();
        let known = self.ports.iter().flat_map(|port| {
            let binding = |binding: &Binding| (port.port, port.protocol.clone(), binding.clone());
            port.bindings.iter().map(binding)
        });
        listed == known.collect()
    }

    fn is_attached_to(&self, summary: &ContainerSummary) -> bool {
        let settings = summary.network_settings.as_ref();
        let listed = settings.and_then(|settings| settings.networks.as_ref());
        let is_same = |(name, known): (&str, &Network)| {
            let endpoint = listed.and_then(|listed| listed.get(name));
            // Aliases are not compared, because an entry does not have all of them.
            endpoint
                .map(Network::new)
                .is_some_and(|listed| (&listed.ip, &listed.ip6) == (&known.ip, &known.ip6))
        };
        listed.map_or(0, HashMap::len) == self.networks.iter().count()
            && self.networks.iter().all(is_same)
    }
}

/// The names in a list entry, without the leading slash.
pub fn listed_names(summary: &ContainerSummary) -> impl Iterator<Item = &str> {
    let names = summary.names.iter().flatten();
    let names = names.map(|name| name.trim_start_matches('/'));
    // The alias of a link from another container has a second slash.
    names.filter(|name| !name.is_empty() && !name.contains('/'))
}

/// The part of [`Container::marks`] that a list entry has, without the id: names, published ports and addresses.
pub fn listed_marks(summary: &ContainerSummary) -> Vec<String> {
    let ports = summary.ports.iter().flatten();
    let ports: BTreeSet<u16> = ports.filter_map(|port| port.public_port).collect();
    let settings = summary.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    let addresses = networks
        .into_iter()
        .flat_map(HashMap::values)
        .map(|endpoint| {
            let network = Network::new(endpoint);
            [network.ip, network.ip6]
        });
    listed_names(summary)
        .map(str::to_owned)
        .chain(ports.into_iter().map(|port| format!(":{port}")))
        .chain(addresses.flatten().flatten())
        .collect()
}

/// The health, which an entry has only in its text for people: `Up 5 minutes (health: starting)` (`String` in Docker's
/// `container/state.go`). A paused container has `(Paused)` in that place.
fn health(status: &str) -> &str {
    match status.rsplit_once('(').map(|(_, last)| last) {
        Some("healthy)") => "healthy",
        Some("unhealthy)") => "unhealthy",
        Some("health: starting)") => "starting",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::container;
    use super::*;

    fn web() -> Container {
        container(json!({
            "Id": "a", "Name": "/web",
            "State": { "Status": "running", "Running": true, "Health": { "Status": "healthy" } },
            "Config": { "ExposedPorts": { "80/tcp": {}, "81/tcp": {} } },
            "NetworkSettings": {
                "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }, { "HostIp": "::", "HostPort": "32768" }] },
                "Networks": { "bridge": { "IPAddress": "172.17.0.2", "GlobalIPv6Address": "", "Aliases": ["web"] } },
            },
        }))
    }

    fn listed() -> Value {
        json!({
            "Id": "a", "Names": ["/other/alias", "/web"],
            "State": "running", "Status": "Up 2 hours (healthy)",
            "Ports": [
                { "IP": "::", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp" },
                { "PrivatePort": 81, "Type": "tcp" },
                { "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp" },
            ],
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "172.17.0.2", "Aliases": null } } },
        })
    }

    fn is_listed_as(container: &Container, listed: Value) -> bool {
        container.is_listed_as(&serde_json::from_value(listed).expect("a summary"))
    }

    #[test]
    fn a_container_that_has_not_changed_agrees_with_its_list_entry() {
        assert!(is_listed_as(&web(), listed()));
        let well = "Up 3 hours";
        for (health, status) in [
            ("none", well.to_owned()),
            ("starting", format!("{well} (health: starting)")),
            ("unhealthy", format!("{well} (unhealthy)")),
        ] {
            let container = Container {
                health: health.to_owned(),
                ..web()
            };
            let mut listed = listed();
            assert!(!is_listed_as(&container, listed.clone()), "{health}");
            listed["Status"] = status.into();
            assert!(is_listed_as(&container, listed), "{health}");
        }
    }

    #[test]
    fn each_difference_in_a_list_entry_is_seen() {
        for (path, value) in [
            ("/Names", json!(["/web2"])),
            ("/State", json!("paused")),
            ("/Status", json!("Up 2 hours (unhealthy)")),
            ("/Status", json!("Up 2 hours (Paused)")),
            ("/Ports", json!([])),
            ("/Ports/0/PublicPort", json!(32769)),
            ("/Ports/0/IP", json!("127.0.0.1")),
            ("/Ports/0/Type", json!("udp")),
            ("/Ports/1/PublicPort", json!(1)),
            ("/NetworkSettings/Networks", json!({})),
            (
                "/NetworkSettings/Networks/bridge/IPAddress",
                json!("172.17.0.3"),
            ),
            (
                "/NetworkSettings/Networks/bridge/GlobalIPv6Address",
                json!("fd00::2"),
            ),
            (
                "/NetworkSettings/Networks",
                json!({ "bridge": { "IPAddress": "172.17.0.2" }, "more": {} }),
            ),
        ] {
            let mut listed = listed();
            if let Some(part) = listed.pointer_mut(path) {
                *part = value;
            } else {
                let (parent, field) = path.rsplit_once('/').expect("a path");
                listed.pointer_mut(parent).expect("a parent")[field] = value;
            }
            assert!(!is_listed_as(&web(), listed), "{path}");
        }
        assert!(!is_listed_as(&web(), json!({ "Id": "a" })));
    }
}
