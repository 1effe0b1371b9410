//! The settings of a connection to Redis or Valkey: the servers, TLS, and the user.

use anyhow::Context as _;

use crate::base::calls::Calls;
use crate::base::file;
use crate::base::text::quote;
use crate::store::{Password, Tls, User};

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
    pub(super) fn endpoints(&self) -> &[String] {
        match self {
            Self::Servers(servers) => servers,
            Self::Sentinel { sentinels, .. } => sentinels,
        }
    }
}

/// The password. It is read at each connection, because its file may change.
pub(super) fn read_password(user: &User) -> anyhow::Result<String> {
    match &user.password {
        Password::Text(text) => Ok(text.clone()),
        Password::File(path) => {
            let text = file::read_text(path).with_context(|| {
                let (name, path) = (quote(&user.name), path.display());
                format!("cannot read the password of Redis's user {name} from `{path}`")
            })?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}
