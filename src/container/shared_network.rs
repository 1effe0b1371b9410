//! Networks that containers share (`--network container:ID`): which of them each published port belongs to.
//!
//! Docker publishes a port for the owner of a network, and any of its guests may listen on it. A port belongs to the
//! guests whose own configuration exposes it; else to the owner. The ports of an infra container, which serves nothing,
//! go to the guests of which no exposed port is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Container, Port};

/// A container in the network of another.
#[derive(Debug, Clone)]
pub struct Guest {
    /// As it was inspected.
    pub container: Arc<Container>,
    /// As [`Container::cut_off`].
    pub cut_off: bool,
}

/// The end of the chain of networks that begins at a guest, which may be the guest of a guest.
pub enum Chain<'a> {
    /// The owner of the network.
    Owner {
        owner: &'a Arc<Container>,
        cut_off: bool,
    },
    /// A container of this id or name is not known.
    Missing(&'a str),
}

/// A network's owner with all of its guests.
#[derive(Debug)]
pub struct SharedNetwork {
    owner: Arc<Container>,
    guests: Vec<Guest>,
    /// The owner, then the guests, each with the ports that belong to it.
    shown: Vec<Arc<Container>>,
}

impl<'a> Chain<'a> {
    /// Follows the chain from a guest. `find` finds a container by its id or name.
    pub fn follow(
        guest: &'a Arc<Container>,
        find: impl Fn(&str) -> Option<&'a Arc<Container>>,
    ) -> Self {
        let (mut last, mut cut_off, mut passed) = (guest, false, BTreeSet::new());
        while let Some(reference) = last.network_reference() {
            let Some(next) = find(reference).filter(|_| passed.insert(&last.id)) else {
                return Self::Missing(reference);
            };
            cut_off |= next.network_mode != "host" && has_started_before(last, next);
            last = next;
        }
        Self::Owner {
            owner: last,
            cut_off,
        }
    }
}

impl SharedNetwork {
    /// Assigns the ports.
    pub fn new(owner: Arc<Container>, guests: Vec<Guest>) -> Self {
        let mut exposed: BTreeMap<(u16, &str), Vec<&str>> = BTreeMap::new();
        for guest in &guests {
            for port in guest.container.ports.iter() {
                let names = exposed.entry((port.port, &port.protocol)).or_default();
                names.push(&guest.container.name);
            }
        }
        // The ports of an infra container that no guest is known to expose.
        let is_free = |port: &&Port| {
            !port.bindings.is_empty() && !exposed.contains_key(&(port.port, &port.protocol))
        };
        let free: Vec<Port> = match owner.infra {
            Some(_) => owner.ports.iter().filter(is_free).cloned().collect(),
            None => Vec::new(),
        };
        let takers = || guests.iter().filter(|it| it.container.ports.is_empty());
        for port in &free {
            let names = takers().map(|guest| &*guest.container.name).collect();
            exposed.insert((port.port, &port.protocol), names);
        }
        let shown = guests.iter().map(|guest| {
            let own = &guest.container.ports;
            let ports = match &own[..] {
                [] => free.clone(),
                own => own.iter().map(|port| bound(port, &owner)).collect(),
            };
            Arc::new(Container {
                ports: ports.into(),
                networks: owner.networks.clone(),
                hostname: owner.hostname.clone(),
                network_owner: Some(Arc::clone(&owner.name)),
                cut_off: guest.cut_off,
                ..(*guest.container).clone()
            })
        });
        let ports = owner.ports.iter().map(|port| {
            match exposed.get(&(port.port, port.protocol.as_str())) {
                Some(names) if !names.is_empty() => Port {
                    bindings: Vec::new(),
                    guests: Some(names.join(", ").into()),
                    ..port.clone()
                },
                _ => port.clone(),
            }
        });
        let without_those_of_guests = Arc::new(Container {
            ports: ports.collect(),
            ..(*owner).clone()
        });
        let shown = std::iter::once(without_those_of_guests)
            .chain(shown)
            .collect();
        Self {
            owner,
            guests,
            shown,
        }
    }

    /// The containers of all networks that are shared, as policies see them, with the networks that they were made of.
    /// Guests of an unknown container are in none.
    pub fn all(containers: &[Arc<Container>]) -> Vec<Self> {
        let mut networks: BTreeMap<&str, (&Arc<Container>, Vec<Guest>)> = BTreeMap::new();
        for guest in containers {
            let find = |reference: &str| super::find(containers, reference);
            if guest.network_reference().is_some()
                && let Chain::Owner { owner, cut_off } = Chain::follow(guest, find)
            {
                let container = Arc::clone(guest);
                let guest = Guest { container, cut_off };
                let network = networks.entry(&owner.id);
                network.or_insert((owner, Vec::new())).1.push(guest);
            }
        }
        let networks = networks.into_values();
        networks
            .map(|(owner, guests)| Self::new(Arc::clone(owner), guests))
            .collect()
    }

    /// Whether it was made of these containers.
    pub fn is_of(&self, owner: &Arc<Container>, guests: &[Guest]) -> bool {
        let is_same = |(a, b): (&Guest, &Guest)| {
            Arc::ptr_eq(&a.container, &b.container) && a.cut_off == b.cut_off
        };
        Arc::ptr_eq(&self.owner, owner)
            && self.guests.len() == guests.len()
            && self.guests.iter().zip(guests).all(is_same)
    }

    /// The containers with the ports that belong to them, the owner first.
    pub fn shown(&self) -> &[Arc<Container>] {
        &self.shown
    }
}

/// A guest's own exposed port, with the bindings that the owner of the network has for it.
fn bound(port: &Port, owner: &Container) -> Port {
    let bindings = if owner.network_mode == "host" {
        Port::on_host(port.port)
    } else {
        let published = owner.ports.iter().find(|other| other.is_same(port));
        published.map_or(Vec::new(), |port| port.bindings.clone())
    };
    Port {
        bindings,
        ..port.clone()
    }
}

/// Whether a guest still runs in a network that ended when its owner was started again.
fn has_started_before(guest: &Container, owner: &Container) -> bool {
    let times = [guest, owner].map(|container| container.started.parse::<Timestamp>());
    matches!(times, [Ok(guest), Ok(owner)] if guest < owner)
}
