//! Docker's list entries (`docker ps`), which cost less than inspections: whether one agrees with a known container,
//! and the little that it tells of an unknown one.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::loose::{Loose, Members};
use super::{Binding, Container};

/// An entry of a list, of which each part but the id may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Listed {
    pub id: Loose<String>,
    names: Loose<Vec<String>>,
    labels: Members<Loose<String>>,
    /// Docker's word.
    state: Loose<String>,
    /// For people: `Up 5 minutes (healthy)`.
    status: Loose<String>,
    ports: Loose<Vec<ListedPort>>,
    network_settings: Loose<ListedNetworks>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListedPort {
    #[serde(rename = "IP")]
    ip: Option<String>,
    #[serde(rename = "PrivatePort")]
    private: u16,
    #[serde(rename = "PublicPort")]
    public: Option<u16>,
    #[serde(rename = "Type")]
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ListedNetworks {
    networks: Members<ListedAddresses>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListedAddresses {
    #[serde(rename = "IPAddress")]
    ip: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    ip6: Option<String>,
}

impl Listed {
    /// The names, without the leading slash.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.names.0.iter().flatten();
        let names = names.map(|name| name.trim_start_matches('/'));
        // The alias of a link from another container has a second slash.
        names.filter(|name| !name.is_empty() && !name.contains('/'))
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.0.iter();
        let (_, value) = labels.find(|(known, _)| known == name)?;
        value.0.as_deref()
    }

    /// The part of [`Container::marks`] that an entry has, without the id: names, published ports and addresses.
    pub fn marks(&self) -> Vec<String> {
        let ports: BTreeSet<u16> = self.ports().filter_map(|port| port.public).collect();
        let addresses = self.networks().flat_map(|(_, at)| [&at.ip, &at.ip6]);
        let addresses = addresses.flatten().filter(|ip| !ip.is_empty());
        self.names()
            .map(str::to_owned)
            .chain(ports.into_iter().map(|port| format!(":{port}")))
            .chain(addresses.cloned())
            .collect()
    }

    fn ports(&self) -> impl Iterator<Item = &ListedPort> {
        self.ports.0.iter().flatten()
    }

    fn networks(&self) -> impl Iterator<Item = &(String, ListedAddresses)> {
        let settings = self.network_settings.0.iter();
        settings.flat_map(|settings| &settings.networks.0)
    }
}

impl Container {
    /// Whether a list entry agrees with this container in all that an entry has and that can change: the name, the
    /// state, the health, the published ports, the networks and the addresses in them.
    pub fn is_listed_as(&self, listed: &Listed) -> bool {
        let mut names = listed.names.0.iter().flatten();
        names.any(|name| name.trim_start_matches('/') == &*self.name)
            && listed.state.0.as_ref() == Some(&self.status)
            && health(listed.status.0.as_deref().unwrap_or_default()) == self.health
            && self.publishes(listed)
            && self.is_attached_to(listed)
    }

    fn publishes(&self, listed: &Listed) -> bool {
        // In host networking an entry has no ports; ours are made from the exposed ones. A guest's entry may have those
        // of the network's owner.
        if self.network_mode == "host" || self.network_reference().is_some() {
            return true;
        }
        let listed = listed.ports().filter_map(|port| {
            let binding = Binding::at(port.ip.as_deref(), port.public?)?;
            Some((port.private, port.protocol.clone(), binding))
        });
        let listed: BTreeSet<_> = listed.collect();
        let known = self.ports.iter().flat_map(|port| {
            let binding = |binding: &Binding| (port.port, port.protocol.clone(), binding.clone());
            port.bindings.iter().map(binding)
        });
        listed == known.collect()
    }

    fn is_attached_to(&self, listed: &Listed) -> bool {
        // Aliases are not compared, because an entry does not have all of them.
        let is_same = |(name, at): &(String, ListedAddresses)| {
            let present = |ip: &Option<String>| ip.clone().filter(|ip| !ip.is_empty());
            let known = self.networks.get(name);
            known.is_some_and(|known| {
                (present(&at.ip), present(&at.ip6)) == (known.ip.clone(), known.ip6.clone())
            })
        };
        listed.networks().count() == self.networks.iter().count() && listed.networks().all(is_same)
    }
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
