//! Makes services of the keys that a policy has located. A malformed key costs itself alone.

mod places;

pub use places::Places;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::address::{read_address, read_port};
use super::{LeftOut, Member, Protocol, Service, ServiceId};
use crate::base::key::check_segment;
use crate::base::text::quote;
use crate::store::Found;

/// Where a key belongs, as the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The service's name.
    pub service: Arc<str>,
    /// The place of the port among the ports of its containers, from 1.
    pub index: u32,
    pub part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The service's port: `8005`, or `53/udp`.
    Port(String),
    Member {
        name: Arc<str>,
        /// `host:port`, an IPv6 address in brackets.
        address: Arc<str>,
        /// The service's port, in a layout that has no key for it.
        port: Option<String>,
    },
    Attribute {
        name: Arc<str>,
        value: Arc<str>,
    },
}

/// The services of the last snapshot. They outlive the places that they were made of, because an unchanged service
/// stays the same allocation, and keeps a port that is known.
#[derive(Debug, Default)]
pub struct Services {
    known: BTreeMap<ServiceId, Arc<Service>>,
    /// The keys and members that are left out, by service.
    left_out: BTreeMap<ServiceId, Vec<LeftOut>>,
}

/// A service whose keys are being read.
#[derive(Debug, Default)]
struct Draft {
    port: Option<Port>,
    members: BTreeMap<Arc<str>, MemberDraft>,
    attributes: BTreeMap<Arc<str>, Arc<str>>,
    revision: i64,
}

/// A member, and the service's port if its key tells it.
#[derive(Debug)]
struct MemberDraft {
    member: Member,
    port: Option<Port>,
}

#[derive(Debug, Clone, Copy)]
struct Port {
    number: u16,
    protocol: Protocol,
    created: i64,
}

impl Services {
    /// The services of a snapshot, sorted by id, and everything that belongs to none. An unchanged service is the same
    /// allocation as before. Only services whose keys have changed are made anew.
    ///
    /// Without a `port` key, a service has the port that its oldest member tells. A `port` key may expire before the
    /// members beside it. They keep the known port meanwhile.
    pub fn update(&mut self, places: &mut Places) -> (Vec<Arc<Service>>, Vec<LeftOut>) {
        let touched = places.take_touched().unwrap_or_else(|| {
            let left = self.known.keys().chain(self.left_out.keys());
            left.chain(places.services()).cloned().collect()
        });
        for id in touched {
            self.make(id, places);
        }
        let of_services = self.left_out.values().flatten().cloned();
        let mut left_out: Vec<LeftOut> = places.left_out().chain(of_services).collect();
        left_out.sort();
        (self.known.values().cloned().collect(), left_out)
    }

    /// Makes a service of its keys.
    fn make(&mut self, id: ServiceId, places: &Places) {
        let mut draft = Draft::default();
        let mut left_out = Vec::new();
        for (found, part) in places.of(&id) {
            if let Err(why) = draft.add(&id, found, part) {
                let what = format!("key {}", quote(&found.key));
                left_out.push(LeftOut { what, why });
            }
        }
        left_out.extend(draft.take_members_port(&id));
        let known = self.known.get(&id);
        if let Some(port) = draft.port(known) {
            let service = draft.finish(id.clone(), port);
            if known.is_none_or(|known| **known != service) {
                self.known.insert(id.clone(), Arc::new(service));
            }
        } else {
            if !draft.members.is_empty() {
                left_out.push(LeftOut {
                    what: format!("service {id}"),
                    why: "it has members, and no port is registered beside them".to_owned(),
                });
            }
            self.known.remove(&id);
        }
        if left_out.is_empty() {
            self.left_out.remove(&id);
        } else {
            self.left_out.insert(id, left_out);
        }
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    check_segment(what, name, None).map_err(|error| error.to_string())
}

/// A policy may locate two keys at one place. The first one counts.
fn is_first(is_first: bool, part: impl FnOnce() -> String) -> Result<(), String> {
    if is_first {
        return Ok(());
    }
    Err(format!("another key is its service's {} already", part()))
}

impl Port {
    /// `8005`, or `53/udp`.
    fn read(text: &str, found: &Found) -> Result<Self, String> {
        let (number, protocol) = read_port(text)?;
        Ok(Self {
            number,
            protocol,
            created: found.created,
        })
    }

    fn is_same(self, other: Self) -> bool {
        (self.number, self.protocol) == (other.number, other.protocol)
    }
}

/// As a `port` key has it.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "`{}`", self.number),
            protocol => write!(f, "`{}/{}`", self.number, protocol.name()),
        }
    }
}

impl Draft {
    /// Adds a key. A malformed one changes nothing.
    fn add(&mut self, id: &ServiceId, found: &Found, part: &Part) -> Result<(), String> {
        check_name("the service name", &id.name)?;
        match part {
            Part::Port(text) => {
                let told = Port::read(text, found)?;
                is_first(self.port.is_none(), || "port".to_owned())?;
                self.port = Some(told);
            }
            Part::Member {
                name,
                address,
                port,
            } => {
                check_name("the member", name)?;
                let told = port.as_deref().map(|text| Port::read(text, found));
                let told = told.transpose()?;
                let (host, number) = read_address(address)?;
                is_first(!self.members.contains_key(name), || {
                    format!("member {}", quote(name))
                })?;
                let member = Member {
                    name: Arc::clone(name),
                    host: host.into(),
                    port: number,
                    address: Arc::clone(address),
                    created: found.created,
                };
                self.members
                    .insert(Arc::clone(name), MemberDraft { member, port: told });
            }
            Part::Attribute { name, value } => {
                check_name("the attribute", name)?;
                is_first(!self.attributes.contains_key(name), || {
                    format!("attribute {}", quote(name))
                })?;
                self.attributes.insert(Arc::clone(name), Arc::clone(value));
            }
        }
        self.revision = self.revision.max(found.revision);
        Ok(())
    }

    /// Without a `port` key, takes the port that the oldest member tells, and leaves the members out that tell another.
    fn take_members_port(&mut self, id: &ServiceId) -> Vec<LeftOut> {
        if self.port.is_some() {
            return Vec::new();
        }
        let drafts = self.members.values();
        let told = drafts.filter_map(|draft| Some((draft.port?, &draft.member.name)));
        // The first by name among those of one age.
        let Some((port, eldest)) = told.min_by_key(|(port, _)| port.created) else {
            return Vec::new();
        };
        let eldest = Arc::clone(eldest);
        self.port = Some(port);
        let mut left_out = Vec::new();
        self.members.retain(|name, draft| {
            let Some(other) = draft.port.filter(|other| !other.is_same(port)) else {
                return true;
            };
            left_out.push(LeftOut {
                what: format!("member {} of service {id}", quote(name)),
                why: format!(
                    "its port is {other}, and that of the service's oldest member, {}, is {port}: give one of them \
                     another service name",
                    quote(&eldest)
                ),
            });
            false
        });
        left_out
    }

    /// Its own port, or the one that its members are known to have had.
    fn port(&self, known: Option<&Arc<Service>>) -> Option<Port> {
        let known = known.filter(|_| !self.members.is_empty());
        self.port.or(known.map(|known| Port {
            number: known.port,
            protocol: known.protocol,
            created: known.created,
        }))
    }

    fn finish(self, id: ServiceId, port: Port) -> Service {
        Service {
            id,
            port: port.number,
            protocol: port.protocol,
            members: self
                .members
                .into_values()
                .map(|draft| draft.member)
                .collect(),
            attributes: self.attributes,
            created: port.created,
            revision: self.revision,
        }
    }
}

#[cfg(test)]
mod tests;
