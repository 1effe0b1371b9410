//! A service as it is registered: its port, and its members on all hosts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::base::text::quote;

/// Names a service's port: `<name>/<index>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    pub name: Arc<str>,
    /// From 1: the place of the port among the ports of its containers.
    pub index: u32,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub id: ServiceId,
    /// The port that its containers expose.
    pub port: u16,
    pub protocol: Protocol,
    /// In the order of their names.
    pub members: Vec<Member>,
    /// What else is registered beside the port, such as `http`.
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// The store's revision at the first put of the port's key, which tells the service's age.
    pub created: i64,
    /// The store's revision at its last change.
    pub revision: i64,
}

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The last segment of its key.
    pub name: Arc<str>,
    /// The IP address, or a name.
    pub host: Arc<str>,
    pub port: u16,
    /// `host:port` as it is registered; an IPv6 address is in brackets.
    pub address: Arc<str>,
    /// The store's revision at the first put of its key.
    pub created: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A key, a member or a service that no proxy learns of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Such as "service `web/1`".
    pub what: String,
    pub why: String,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quote(&format!("{}/{}", self.name, self.index)))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is left out: {}", self.what, self.why)
    }
}

impl Protocol {
    /// The protocol of this name, as the value of a `port` key has it.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Tcp, Self::Udp, Self::Sctp];
        all.into_iter().find(|protocol| protocol.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
