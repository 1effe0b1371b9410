//! Addresses of this host that several containers claim. Only one of them can have the connections, so one of the claims
//! is wrong: two containers in host networking listen on one port, or one of them has the ports of another.
//!
//! A claim is an owned entry whose value is `ip:port`, if a port of the container is bound to that address. Any other
//! value says nothing about this host. TCP and UDP are different addresses. Containers in one network, by
//! `--network container:NAME`, have the same ports on purpose, and count as one.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use super::status::Status;
use crate::base::by_age::Rank;
use crate::base::text::quote;
use crate::container::Binding;
use crate::wanted::{ContainerName, Wanted};

/// The most containers that are named in a message.
const MOST_NAMES: usize = 4;

/// An address that several containers claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    address: SocketAddr,
    protocol: Arc<str>,
    /// At least two, the oldest first.
    claimed_by: Vec<ContainerName>,
}

/// The claims of one wanted state, and their collisions.
#[derive(Debug, Default)]
pub struct Collisions {
    wanted: Arc<Wanted>,
    /// The containers that claim an address with a port.
    by_port: HashMap<u16, Vec<Rank>>,
    collisions: BTreeMap<Address, Collision>,
}

/// An address with a port, and the protocol.
type Address = (SocketAddr, Arc<str>);

/// Logs and shows the collisions of each wanted state, until there is none any more.
pub async fn follow(mut wanted: watch::Receiver<Option<Arc<Wanted>>>, status: Arc<Status>) {
    let mut collisions = Collisions::default();
    loop {
        let newest = wanted.borrow_and_update().clone();
        if let Some(newest) = newest {
            for new in collisions.want(&newest) {
                warn!("{new}");
            }
            let all = collisions.all();
            status.collisions.send_if_modified(|shown| {
                let is_new = *shown != all;
                *shown = all;
                is_new
            });
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

impl Collisions {
    /// Takes over a new wanted state, and returns the collisions that are new or have changed. Its cost grows with the
    /// changes, not with the state.
    pub fn want(&mut self, wanted: &Arc<Wanted>) -> Vec<Collision> {
        let before = std::mem::replace(&mut self.wanted, Arc::clone(wanted));
        let claims = before.claims.changes(&wanted.claims).into_iter();
        let claims = claims.map(|change| change.rank);
        let containers = before.running.changes(&wanted.running).into_iter();
        let changed: BTreeSet<Rank> = claims.chain(containers.map(|change| change.rank)).collect();
        let mut ports = BTreeSet::new();
        for rank in changed {
            for port in ports_of(&before, &rank) {
                ports.insert(port);
                if let Some(ranks) = self.by_port.get_mut(&port) {
                    ranks.retain(|other| *other != rank);
                    if ranks.is_empty() {
                        self.by_port.remove(&port);
                    }
                }
            }
            for port in ports_of(wanted, &rank) {
                ports.insert(port);
                // Most ports are claimed by one container.
                let ranks = self.by_port.entry(port);
                let ranks = ranks.or_insert_with(|| Vec::with_capacity(1));
                ranks.push(rank.clone());
            }
        }
        self.judge(&ports)
    }

    /// All collisions, by address.
    pub fn all(&self) -> Vec<Collision> {
        self.collisions.values().cloned().collect()
    }

    /// Decides on all addresses with these ports, and returns the collisions that are new or have changed.
    fn judge(&mut self, ports: &BTreeSet<u16>) -> Vec<Collision> {
        let ranks = ports.iter().filter_map(|port| self.by_port.get(port));
        let ranks: BTreeSet<&Rank> = ranks.filter(|ranks| ranks.len() > 1).flatten().collect();
        let mut found: BTreeMap<Address, Vec<&ContainerName>> = BTreeMap::new();
        // The oldest first.
        for rank in ranks {
            let Some(claim) = self.wanted.claims.get(rank) else {
                continue;
            };
            let addresses = addresses_of(&self.wanted, rank).into_iter();
            for address in addresses.filter(|(address, _)| ports.contains(&address.port())) {
                found.entry(address).or_default().push(&claim.who);
            }
        }
        let several = found.into_iter().filter(|(_, claims)| claims.len() > 1);
        let collisions: BTreeMap<Address, Collision> = several
            .map(|((address, protocol), claims)| {
                let collision = Collision {
                    address,
                    protocol: Arc::clone(&protocol),
                    claimed_by: claims.into_iter().cloned().collect(),
                };
                ((address, protocol), collision)
            })
            .collect();
        let is_new = |(at, now): &(&_, &Collision)| self.collisions.get(*at) != Some(*now);
        let news = collisions.iter().filter(is_new);
        let news = news.map(|(_, collision)| collision.clone()).collect();
        self.collisions
            .retain(|(at, _), _| !ports.contains(&at.port()));
        self.collisions.extend(collisions);
        news
    }
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            protocol,
            claimed_by,
        } = self;
        let names = claimed_by.iter().take(MOST_NAMES);
        let mut names: Vec<String> = names.map(|who| quote(&who.name)).collect();
        if claimed_by.len() > MOST_NAMES {
            names.push(format!("{} more", claimed_by.len() - MOST_NAMES));
        }
        let last = names.pop().unwrap_or_default();
        write!(
            f,
            "{} and {last} claim one address of this host, {address} ({protocol}), and only one of them can have its \
             connections: give each a port of its own, or let the policy leave out all but one",
            names.join(", ")
        )
    }
}

/// The ports of the addresses that a container claims.
fn ports_of(wanted: &Wanted, rank: &Rank) -> BTreeSet<u16> {
    let addresses = addresses_of(wanted, rank).into_iter();
    addresses.map(|(address, _)| address.port()).collect()
}

/// The addresses of this host that a container claims, with their protocols.
fn addresses_of(wanted: &Wanted, rank: &Rank) -> BTreeSet<Address> {
    let mut addresses = BTreeSet::new();
    let (Some(claim), Some(container)) = (wanted.claims.get(rank), wanted.running.get(rank)) else {
        return addresses;
    };
    let mut bound: HashMap<u16, Vec<(&Binding, &str)>> = HashMap::new();
    for port in container.ports.iter() {
        for binding in &port.bindings {
            let at = bound.entry(binding.port).or_default();
            at.push((binding, &port.protocol));
        }
    }
    for entry in claim.entries.iter().filter(|entry| !entry.shared) {
        let Ok(address) = entry.value.parse::<SocketAddr>() else {
            continue;
        };
        let is_at = |binding: &Binding| {
            let ip = binding.ip.parse::<IpAddr>();
            ip.is_ok_and(|ip| ip.is_unspecified() || ip == address.ip())
        };
        let bound = bound.get(&address.port()).into_iter().flatten();
        let bound = bound.filter(|(binding, _)| is_at(binding));
        addresses.extend(bound.map(|(_, protocol)| (address, Arc::from(*protocol))));
    }
    addresses
}
