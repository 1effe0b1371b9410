//! The settings of a connection to Redis or Valkey: the servers, TLS, and the user.

use crate::base::calls::Calls;
use crate::store::{Tls, User};

#[derive(Debug, Clone)]
pub struct Settings {
    pub place: Place,
    /// The number of the database.
    pub db: u32,
    /// None if the servers do not use TLS. The sentinels use it if the servers do.
    pub tls: Option<Tls>,
    /// None if Redis has no passwords. A password without a user is that of the user `default`.
    pub user: Option<User>,
    /// Is told of each call.
    pub calls: Calls,
}

#[derive(Debug, Clone)]
pub enum Place {
    /// Servers, `host:port` each. The first one that answers as a primary is used.
    Servers(Vec<String>),
    /// Sentinels, `host:port` each, which know the primary by this name.
    Sentinel {
        sentinels: Vec<String>,
        master: String,
    },
}

impl Place {
    /// The endpoints that are known by name, `host:port` each.
    pub fn endpoints(&self) -> &[String] {
        match self {
            Self::Servers(servers) => servers,
            Self::Sentinel { sentinels, .. } => sentinels,
        }
    }
}
