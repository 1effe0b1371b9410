//! The settings of a connection to etcd: endpoints, TLS, and the user.

use crate::base::calls::Calls;
use crate::store::{Tls, User};

/// The default has no endpoint.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The endpoints of one etcd, `host:port` each.
    pub endpoints: Vec<String>,
    /// None if etcd does not use TLS.
    pub tls: Option<Tls>,
    /// None if etcd has no users.
    pub user: Option<User>,
    /// Is told of each call.
    pub calls: Calls,
}
