//! The exposed ports of a container, and where each is published on the host.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use bollard::models::{ContainerConfig, PortBinding, PortMap};

/// An exposed port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Inside the container.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its place among all exposed ports, from 1.
    pub index: usize,
    /// Where it is published. Loopback comes last, and IPv4 before IPv6, so the first suits other hosts best.
    pub bindings: Vec<Binding>,
}

/// An address and port of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// `0.0.0.0` or `::` for all addresses.
    pub ip: String,
    pub port: u16,
}

impl Binding {
    fn new(binding: PortBinding) -> Option<Self> {
        Self::at(binding.host_ip.as_deref(), binding.host_port?.parse().ok()?)
    }

    /// An empty address means all of them. None if the address or the port is invalid.
    pub fn at(ip: Option<&str>, port: u16) -> Option<Self> {
        let ip = ip.filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
        // An address with a zone of this host is refused too, because it is of no use on another host.
        let ip: IpAddr = ip.parse().ok()?;
        (port != 0).then(|| Self {
            ip: ip.to_string(),
            port,
        })
    }

    fn is_loopback(&self) -> bool {
        self.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// All exposed ports, in order of number, then protocol: those of the image, of `--expose` and of `--publish`, which
/// Docker merges in the configuration, and any other published port.
pub fn all(
    config: Option<&ContainerConfig>,
    mut published: PortMap,
    host_network: bool,
) -> Arc<[Port]> {
    let exposed = config.and_then(|config| config.exposed_ports.as_ref());
    let names: Vec<String> = exposed
        .into_iter()
        .flatten()
        .chain(published.keys())
        .cloned()
        .collect();
    let exposed: BTreeSet<(u16, String)> = names.iter().flat_map(|name| expand(name)).collect();
    let bindings: HashMap<(u16, String), Vec<PortBinding>> = published
        .drain()
        .filter_map(|(name, bindings)| Some((expand(&name).into_iter().next()?, bindings?)))
        .collect();
    let port = |(index, (port, protocol)): (usize, (u16, String))| {
        let mut bindings: Vec<Binding> = if host_network {
            ["0.0.0.0", "::"]
                .map(|ip| Binding {
                    ip: ip.to_owned(),
                    port,
                })
                .to_vec()
        } else {
            let bound = bindings
                .get(&(port, protocol.clone()))
                .cloned()
                .unwrap_or_default();
            bound.into_iter().filter_map(Binding::new).collect()
        };
        bindings.sort_by_key(|binding| (binding.is_loopback(), binding.ip.contains(':')));
        Port {
            port,
            protocol,
            index: index + 1,
            bindings,
        }
    };
    exposed.into_iter().enumerate().map(port).collect()
}

/// The ports in `8005/tcp`, `8005` or `8000-8010/udp`; none in a malformed text, and never port 0.
fn expand(name: &str) -> Vec<(u16, String)> {
    let (numbers, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first.max(1)..=last)
            .map(|port| (port, protocol.to_ascii_lowercase()))
            .collect(),
        _ => Vec::new(),
    }
}
