//! Where etcd is, and how this registrar and etcd prove to each other who they are.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _};

use super::{Cli, value};
use crate::ops::log;
use crate::store::etcd::{Password, Settings, Tls, User};

/// Where the password may be. It has no flag, for others can read the command line.
pub(super) const PASSWORD: &str = "DOCKER_REGISTER_ETCD_PASSWORD";

/// The flags of all commands that may reach etcd. The names are `etcdctl`'s.
#[derive(Debug, Args)]
#[command(next_help_heading = "etcd")]
pub struct EtcdArgs {
    /// Its endpoints, with commas between them
    ///
    /// `https://` before them asks for TLS.
    #[arg(long, env = "ETCD_HOST", value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:2379", value_parser = value::endpoint)]
    pub etcd: Vec<value::Endpoint>,

    /// The certificate of the authority that signed its own
    ///
    /// It asks for TLS. Without it, the authorities count that this system trusts.
    #[arg(long, env = "DOCKER_REGISTER_ETCD_CACERT", value_name = "FILE")]
    pub etcd_cacert: Option<PathBuf>,

    /// The certificate to show to it
    ///
    /// It asks for TLS.
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_CERT",
        value_name = "FILE",
        requires = "etcd_key"
    )]
    pub etcd_cert: Option<PathBuf>,

    /// The key of that certificate
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_KEY",
        value_name = "FILE",
        requires = "etcd_cert"
    )]
    pub etcd_key: Option<PathBuf>,

    /// The name that its certificate must have
    ///
    /// It asks for TLS. Without it, the name is the endpoint's.
    #[arg(long, env = "DOCKER_REGISTER_ETCD_SERVER_NAME", value_name = "NAME", value_parser = value::server_name)]
    pub etcd_server_name: Option<String>,

    /// The user that it knows this registrar as
    ///
    /// The user's password is in a file, or in the environment as `DOCKER_REGISTER_ETCD_PASSWORD`.
    #[arg(long, env = "DOCKER_REGISTER_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// The file with the password of that user
    #[arg(
        long,
        env = "DOCKER_REGISTER_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_user"
    )]
    pub etcd_password_file: Option<PathBuf>,
}

impl EtcdArgs {
    /// Where etcd is, and as whom it is reached. Prints usage and exits with 2 if the user has no password, or if it is
    /// not clear whether to speak TLS.
    pub fn access(&self) -> Settings {
        self.checked().unwrap_or_else(|(kind, message)| {
            log::flush();
            Cli::command().error(kind, message).exit()
        })
    }

    fn checked(&self) -> Result<Settings, (ErrorKind, String)> {
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
                        "--etcd-user needs a password: say --etcd-password-file FILE, or set {PASSWORD}"
                    ),
                ));
            }
        };
        Ok(Settings {
            endpoints: self.etcd.iter().map(|one| one.address.clone()).collect(),
            tls: self.tls()?,
            user,
        })
    }

    fn tls(&self) -> Result<Option<Tls>, (ErrorKind, String)> {
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
                "one etcd speaks TLS at all its endpoints or at none: `{}` begins with http:// and `{}` with https://",
                plain.address, secure.address
            ),
            (Some(plain), None, Some((flag, _))) => format!(
                "{flag} asks for TLS, and etcd's endpoint `{}` begins with http://: write https://",
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
