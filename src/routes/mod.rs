//! What a reading policy sees and asks for: services as they are registered, and the routes to them.

mod address;
mod file;
mod keys;
mod listener;
mod service;
mod services;

pub use address::read_address;
pub use file::{File, Piece, Servers};
pub use keys::Keys;
pub use listener::{Bound, Claim, Listener, Server};
pub use service::{LeftOut, Member, Protocol, Service, ServiceId};
pub use services::{Located, Part, Places, Services};

use std::collections::BTreeSet;
use std::sync::Arc;

/// The wanted state of a proxy: what a policy makes of all services of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub services: Vec<Route>,
    pub files: Arc<[File]>,
    /// Everything that no proxy learns of, with the reason.
    pub left_out: Vec<LeftOut>,
    /// The store's revision of the services.
    pub revision: i64,
}

/// All services of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// Sorted by name and index.
    pub services: Vec<Arc<Service>>,
    /// The keys that belong to none, with the reason.
    pub left_out: Vec<LeftOut>,
}

/// A service, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub service: Arc<Service>,
    /// With the addresses that the service has got.
    pub listener: Arc<Listener>,
    /// The policy's failure. What it said before it failed is still in force.
    pub failure: Option<String>,
}

impl Routes {
    /// All addresses that services have got.
    pub fn addresses(&self) -> BTreeSet<Bound> {
        let addresses = self.services.iter().flat_map(|route| {
            let Route {
                service, listener, ..
            } = route;
            let all = listener.listen.iter().chain(&listener.shared);
            all.map(move |address| Bound {
                protocol: service.protocol,
                address: *address,
            })
        });
        addresses.collect()
    }
}
