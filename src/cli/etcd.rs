//! The flags for etcd: endpoints, TLS, and the user.

use std::path::PathBuf;

use clap::Args;
use clap::error::ErrorKind;

use super::{Wrong, value};
use crate::base::calls::Calls;
use crate::store::etcd::{Password, Settings, Tls, User};

/// The variable with the password. It has no flag, because others can read the command line.
pub(super) const PASSWORD: &str = "DOCKER_REGISTER_ETCD_PASSWORD";

/// The endpoint if none is set, or an empty one.
const DEFAULT: &str = "127.0.0.1:2379";

/// The flags of every command that may reach etcd. The names are `etcdctl`'s.
#[derive(Debug, Args)]
#[command(next_help_heading = "etcd")]
pub struct EtcdArgs {
    /// Endpoints, with commas between them
    ///
    /// `https://` before one turns on TLS. Each address of a name is tried in turn.
    #[arg(long, env = "ETCD_HOST", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT, value_parser = value::endpoint)]
    pub etcd: Vec<value::Endpoint>,

    /// The CA certificate that etcd's certificate is checked against
    ///
    /// Turns on TLS. Default: the authorities that this system trusts.
    #[arg(long, env = "DOCKER_REGISTER_ETCD_CACERT", value_name = "FILE")]
    pub etcd_cacert: Option<PathBuf>,

    /// The client certificate
    ///
    /// Turns on TLS.
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_CERT",
        value_name = "FILE",
        requires = "etcd_key"
    )]
    pub etcd_cert: Option<PathBuf>,

    /// The private key of the client certificate
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_KEY",
        value_name = "FILE",
        requires = "etcd_cert"
    )]
    pub etcd_key: Option<PathBuf>,

    /// The name that etcd's certificate must have
    ///
    /// Turns on TLS. Default: the endpoint's name.
    #[arg(long, env = "DOCKER_REGISTER_ETCD_SERVER_NAME", value_name = "NAME", value_parser = value::server_name)]
    pub etcd_server_name: Option<String>,

    /// The user of etcd
    ///
    /// The password is read from a file, or from the environment as `DOCKER_REGISTER_ETCD_PASSWORD`.
    #[arg(long, env = "DOCKER_REGISTER_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// The file with the user's password
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_user"
    )]
    pub etcd_password_file: Option<PathBuf>,
}

impl EtcdArgs {
    /// The settings, or an error if the user has no password or is part of an endpoint, or if some flags turn TLS on and
    /// others off.
    pub(super) fn check(&self) -> Result<Settings, Wrong> {
        if self.etcd.iter().any(|one| one.has_user) {
            return Err((
                ErrorKind::ValueValidation,
                format!(
                    "an endpoint of etcd (--etcd, ETCD_HOST) has no user: leave out everything up to `@`, pass \
                     --etcd-user NAME, and pass --etcd-password-file FILE or set {PASSWORD}"
                ),
            ));
        }
        let password = match (&self.etcd_password_file, std::env::var(PASSWORD)) {
            (Some(file), _) => Some(Password::File(file.clone())),
            (None, Ok(text)) => Some(Password::Text(text)),
            (None, Err(_)) => None,
        };
        let user = match (self.etcd_user.clone(), password) {
            (Some(name), Some(password)) => Some(User { name, password }),
            (None, _) => None,
            (Some(_), None) => {
                return Err((
                    ErrorKind::MissingRequiredArgument,
                    format!(
                        "--etcd-user needs a password: pass --etcd-password-file FILE, or set {PASSWORD}"
                    ),
                ));
            }
        };
        Ok(Settings {
            endpoints: self.endpoints(),
            tls: self.tls()?,
            user,
            calls: Calls::default(),
        })
    }

    fn endpoints(&self) -> Vec<String> {
        let addresses = self.etcd.iter().map(|one| one.address.clone());
        let mut endpoints: Vec<String> = addresses.filter(|one| !one.is_empty()).collect();
        if endpoints.is_empty() {
            endpoints.push(DEFAULT.to_owned());
        }
        endpoints
    }

    fn tls(&self) -> Result<Option<Tls>, Wrong> {
        let identity = self.etcd_cert.clone().zip(self.etcd_key.clone());
        let asked_by = [
            ("--etcd-cacert", self.etcd_cacert.is_some()),
            ("--etcd-cert", identity.is_some()),
            ("--etcd-server-name", self.etcd_server_name.is_some()),
        ];
        let flag = asked_by.iter().find(|(_, given)| *given);
        let secure = self.etcd.iter().find(|one| one.tls == Some(true));
        let plain = self.etcd.iter().find(|one| one.tls == Some(false));
        let conflict = match (plain, secure, flag) {
            (Some(plain), Some(secure), _) => format!(
                "etcd's endpoints must all use TLS, or none of them: `{}` begins with http:// and `{}` with https://",
                plain.address, secure.address
            ),
            (Some(plain), None, Some((flag, _))) => format!(
                "{flag} turns on TLS, but etcd's endpoint `{}` begins with http://: write https://",
                plain.address
            ),
            (None | Some(_), None, None) => return Ok(None),
            (None, _, _) => {
                return Ok(Some(Tls {
                    authorities: self.etcd_cacert.clone(),
                    identity,
                    server_name: self.etcd_server_name.clone(),
                }));
            }
        };
        Err((ErrorKind::ArgumentConflict, conflict))
    }
}
