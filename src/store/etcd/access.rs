//! How etcd is reached, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use etcd_client::{Client, ConnectOptions, Error};

use super::Tls;
use crate::base::file;
use crate::base::text::quote;

/// Where etcd is, and who we are to it.
#[derive(Debug, Clone)]
pub struct Access {
    /// The endpoints of one etcd, `host:port` each.
    pub endpoints: Vec<String>,
    /// TLS, where etcd speaks it.
    pub tls: Option<Tls>,
    /// The user, where etcd asks for one.
    pub user: Option<User>,
}

/// A user of etcd.
#[derive(Debug, Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Password,
}

/// A password, or where it is.
#[derive(Clone)]
pub enum Password {
    /// In this file, which is read at each connection, for it may change.
    File(PathBuf),
    /// This one.
    Text(String),
}

impl fmt::Debug for Password {
    /// Says where it is, and never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("***"),
        }
    }
}

/// Why there is no connection.
pub enum Unconnected {
    /// Because of what we were told.
    Here(anyhow::Error),
    /// Because of etcd or the way to it.
    There(Error),
}

impl From<Error> for Unconnected {
    fn from(error: Error) -> Self {
        Self::There(error)
    }
}

impl Access {
    /// Connects to one of the endpoints, and presents the user to it.
    pub(super) async fn connect(
        &self,
        endpoint: &str,
        timeout: Duration,
    ) -> Result<Client, Unconnected> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(timeout)
            // A member that has lost its cluster says so instead of waiting for it.
            .with_require_leader(true)
            // etcd refuses pings that come more often than every five seconds (--grpc-keepalive-min-time).
            .with_keep_alive(Duration::from_secs(10), timeout);
        if let Some(user) = &self.user {
            let password = user.read_password().map_err(Unconnected::Here)?;
            options = options.with_user(user.name.as_str(), password);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.options().map_err(Unconnected::Here)?);
        }
        Ok(Client::connect([endpoint], Some(options)).await?)
    }
}

impl User {
    fn read_password(&self) -> anyhow::Result<String> {
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
