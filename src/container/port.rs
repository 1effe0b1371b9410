//! The exposed ports of a container, and where each is published on the host.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::reply::HostPort;

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
    /// The containers in this one's network that expose it too, by name: it is theirs, so it has no bindings here.
    pub guests: Option<Arc<str>>,
}

/// An address and port of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// `0.0.0.0` or `::` for all addresses.
    pub ip: String,
    pub port: u16,
}

impl Binding {
    fn new(published: &HostPort) -> Option<Self> {
        let port = published.host_port.0.parse().ok()?;
        Self::at(published.host_ip.as_deref(), port)
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

impl Port {
    /// Whether it is the same number of the same protocol.
    pub fn is_same(&self, other: &Self) -> bool {
        self.port == other.port && self.protocol == other.protocol
    }

    /// The bindings of a port in host networking: itself, at every address.
    pub fn on_host(port: u16) -> Vec<Binding> {
        let at = |ip: &str| Binding {
            ip: ip.to_owned(),
            port,
        };
        vec![at("0.0.0.0"), at("::")]
    }
}

/// All exposed ports, in order of number, then protocol: those of the image, of `--expose` and of `--publish`, which
/// Docker merges in the configuration, and any other published port.
pub fn all<'a>(
    exposed: impl Iterator<Item = &'a str>,
    published: &'a [(String, Option<Vec<HostPort>>)],
    host_network: bool,
) -> Arc<[Port]> {
    let names = exposed.chain(published.iter().map(|(name, _)| name.as_str()));
    let exposed: BTreeSet<(u16, String)> = names.flat_map(expand).collect();
    let bound = published.iter().filter_map(|(name, bound)| {
        let port = expand(name).into_iter().next()?;
        Some((port, bound.as_ref()?))
    });
    let bound: HashMap<(u16, String), &Vec<HostPort>> = bound.collect();
    let port = |(index, key): (usize, (u16, String))| {
        let mut bindings: Vec<Binding> = match bound.get(&key) {
            _ if host_network => Port::on_host(key.0),
            Some(bound) => bound.iter().filter_map(Binding::new).collect(),
            None => Vec::new(),
        };
        bindings.sort_by_key(|binding| (binding.is_loopback(), binding.ip.contains(':')));
        bindings.shrink_to_fit();
        let (port, protocol) = key;
        Port {
            port,
            protocol,
            index: index + 1,
            bindings,
            guests: None,
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
