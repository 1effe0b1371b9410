//! The settings of a connection to etcd: endpoints, TLS, and the user.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use super::Tls;
use crate::base::calls::Calls;
use crate::base::file;
use crate::base::text::quote;

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

#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub password: Password,
}

#[derive(Clone)]
pub enum Password {
    /// In a file that is read at each connection, because it may change.
    File(PathBuf),
    Text(String),
}

impl fmt::Debug for Password {
    /// Shows the file, and never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("***"),
        }
    }
}

impl User {
    pub(super) fn read_password(&self) -> anyhow::Result<String> {
        match &self.password {
            Password::Text(text) => Ok(text.clone()),
            Password::File(path) => {
                let text = file::read_text(path).with_context(|| {
                    let (name, path) = (quote(&self.name), path.display());
                    format!("cannot read the password of etcd's user {name} from `{path}`")
                })?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}
