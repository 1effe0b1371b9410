//! What a policy says of a service: the addresses that it is reached at, and the servers behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Protocol, ServiceId};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listener {
    /// The service's own addresses.
    pub listen: Vec<SocketAddr>,
    /// Addresses that it shares with other services, which a proxy tells apart by a request's host name.
    pub shared: Vec<SocketAddr>,
    pub servers: Vec<Server>,
}

/// A container behind a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Of one member at one address: a container that restarts keeps its name and gets another port.
    pub name: Arc<str>,
    pub address: SocketAddr,
    /// The proxy's options for it, in the proxy's own language.
    pub options: Arc<str>,
}

/// An address of one protocol: TCP and UDP are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bound {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

/// A service's wish for an address. Each address has one owner, or is shared by all that claim it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub service: ServiceId,
    /// The service's age: the store's revision at its first put.
    pub created: i64,
    pub bound: Bound,
    pub is_shared: bool,
}

impl Listener {
    pub fn has_address(&self) -> bool {
        !self.listen.is_empty() || !self.shared.is_empty()
    }
}
