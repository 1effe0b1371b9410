//! The settings of a connection to etcd: endpoints, TLS, and the user.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use etcd_client::{Client, ConnectOptions, Error};

use super::Tls;
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

/// The error of a call, or of the connection that it needs.
pub(super) enum CallError {
    /// An error in our own files, so no other endpoint can help.
    Settings(anyhow::Error),
    /// An error of etcd, or of the network.
    Etcd(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Etcd(error)
    }
}

impl Settings {
    /// Connects to an endpoint, and authenticates the user.
    pub(super) async fn connect(
        &self,
        endpoint: &str,
        limit: Duration,
    ) -> Result<Client, CallError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(limit)
            // A member that has lost its cluster says so instead of waiting for it.
            .with_require_leader(true)
            // etcd refuses pings that come more often than every five seconds (--grpc-keepalive-min-time).
            .with_keep_alive(Duration::from_secs(10), limit);
        if let Some(user) = &self.user {
            let password = user.read_password().map_err(CallError::Settings)?;
            options = options.with_user(user.name.as_str(), password);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.options().map_err(CallError::Settings)?);
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
