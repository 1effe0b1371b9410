//! The flags for the store of the keys: which one it is, its endpoints, TLS, and the user.

mod checker;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::uri::{self, StoreUri};
use super::{Wrong, value};
use crate::base::calls::Calls;
use crate::store::memory::MemoryStore;
use crate::store::{Settings, etcd, redis};
use checker::Checker;

/// The variables with the password, the second only for etcd. It has no flag, because others can read the command line.
pub(super) const PASSWORDS: [&str; 2] = [
    "DOCKER_REGISTER_STORE_PASSWORD",
    "DOCKER_REGISTER_ETCD_PASSWORD",
];

/// Other names of the variables of `--store-cacert` and the flags after it, in their order. They are for etcd only.
pub(super) const OTHER_NAMES: [&str; 6] = [
    "DOCKER_REGISTER_ETCD_CACERT",
    "DOCKER_REGISTER_ETCD_CERT",
    "DOCKER_REGISTER_ETCD_KEY",
    "DOCKER_REGISTER_ETCD_SERVER_NAME",
    "DOCKER_REGISTER_ETCD_USER",
    "DOCKER_REGISTER_ETCD_PASSWORD_FILE",
];

/// The endpoint of etcd if none is set, or an empty one.
const DEFAULT: &str = "127.0.0.1:2379";

/// The user of a Redis that has one password and no names.
const REDIS_USER: &str = "default";

/// The flags of every command that may reach the store, with the places that they come from.
#[derive(Debug, Clone)]
pub struct StoreArgs {
    flags: Flags,
    named: Named,
    /// Whether an endpoint of etcd is set, and not only the default.
    names_etcd: bool,
}

/// The flag or variable that says which store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    ByUri,
    ByEtcd,
    /// Both flags are on the command line.
    Twice,
}

/// The flags. The names of those for etcd are `etcdctl`'s.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store")]
struct Flags {
    /// The store of the keys, such as `redis://10.0.0.1:6379/0`
    ///
    /// `etcd://HOST:PORT`, `redis://HOST:PORT/DATABASE` or `valkey://HOST:PORT/DATABASE`, with commas between several
    /// endpoints; `etcds://`, `rediss://` and `valkeys://` turn on TLS. `redis+sentinel://HOST:PORT/NAME/DATABASE` asks
    /// sentinels for the primary that they know as NAME. For etcd, the flags and variables below have other names, with
    /// `etcd` in the place of `store`: `--etcd-user` and `DOCKER_REGISTER_ETCD_USER`.
    #[arg(long, env = "DOCKER_REGISTER_STORE", value_name = "URI", value_parser = uri::store)]
    store: Option<StoreUri>,

    /// Endpoints of etcd, with commas
    ///
    /// `https://` before one turns on TLS. Each address of a name is tried in turn.
    #[arg(long, env = "ETCD_HOST", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT, value_parser = value::endpoint)]
    etcd: Vec<value::Endpoint>,

    /// The CA certificate that the store's is checked against
    ///
    /// Turns on TLS for endpoints of etcd. Default: the authorities that this system trusts.
    #[arg(
        long,
        alias = "etcd-cacert",
        env = "DOCKER_REGISTER_STORE_CACERT",
        value_name = "FILE"
    )]
    store_cacert: Option<PathBuf>,

    /// The client certificate
    ///
    /// Turns on TLS for endpoints of etcd.
    #[arg(
        long,
        alias = "etcd-cert",
        env = "DOCKER_REGISTER_STORE_CERT",
        value_name = "FILE"
    )]
    store_cert: Option<PathBuf>,

    /// The private key of the client certificate
    #[arg(
        long,
        alias = "etcd-key",
        env = "DOCKER_REGISTER_STORE_KEY",
        value_name = "FILE"
    )]
    store_key: Option<PathBuf>,

    /// The name that the store's certificate must have
    ///
    /// Turns on TLS for endpoints of etcd. Default: the endpoint's name.
    #[arg(long, alias = "etcd-server-name", env = "DOCKER_REGISTER_STORE_SERVER_NAME", value_name = "NAME", value_parser = value::server_name)]
    store_server_name: Option<String>,

    /// The user of the store
    ///
    /// The password is read from a file, or from the environment as `DOCKER_REGISTER_STORE_PASSWORD`. A password of
    /// Redis without a user is that of its user `default`.
    #[arg(
        long,
        alias = "etcd-user",
        env = "DOCKER_REGISTER_STORE_USER",
        value_name = "NAME"
    )]
    store_user: Option<String>,

    /// The file with the user's password
    #[arg(
        long,
        alias = "etcd-password-file",
        env = "DOCKER_REGISTER_STORE_PASSWORD_FILE",
        value_name = "FILE"
    )]
    store_password_file: Option<PathBuf>,
}

impl StoreArgs {
    /// The settings, or an error if the user has no password or is part of an endpoint, if some flags turn TLS on and
    /// others off, or if two stores are named.
    pub(super) fn check(&self) -> Result<Settings, Wrong> {
        let uri = match self.named {
            Named::ByUri => self.flags.store.as_ref(),
            Named::ByEtcd => None,
            Named::Twice => {
                let message = "--store and --etcd name two stores: pass one of them".to_owned();
                return Err((ErrorKind::ArgumentConflict, message));
            }
        };
        match uri {
            None | Some(StoreUri::Unset) => {
                let flags = self.flags.clone().with_other_names()?;
                let by_etcd = Checker {
                    flags: &flags,
                    prefix: "--etcd",
                    is_etcd: true,
                };
                by_etcd.etcd_by_endpoints()
            }
            Some(StoreUri::HasUser) => Err((
                ErrorKind::ValueValidation,
                format!(
                    "the URI of the store (--store, DOCKER_REGISTER_STORE) has no user and no password, because others \
                     can read the command line: leave out everything up to `@`, pass --store-user NAME, and pass \
                     --store-password-file FILE or set {}",
                    PASSWORDS[0]
                ),
            )),
            Some(StoreUri::Memory) => Err((
                ErrorKind::ValueValidation,
                "memory: is a store inside one process, so no other command reaches it: run `docker-register up`, or name \
                 a store that several programs reach"
                    .to_owned(),
            )),
            Some(StoreUri::Etcd { scheme, endpoints }) => {
                let flags = self.flags.clone().with_other_names()?;
                let by_uri = Checker {
                    flags: &flags,
                    prefix: "--store",
                    is_etcd: true,
                };
                Ok(Settings::Etcd(etcd::Settings {
                    endpoints: endpoints.clone(),
                    tls: by_uri.tls_of(scheme)?,
                    user: by_uri.user()?,
                    calls: Calls::default(),
                }))
            }
            Some(StoreUri::Redis { scheme, place, db }) => {
                let by_uri = Checker {
                    flags: &self.flags,
                    prefix: "--store",
                    is_etcd: false,
                };
                Ok(Settings::Redis(redis::Settings {
                    place: place.clone(),
                    db: *db,
                    tls: by_uri.tls_of(scheme)?,
                    user: by_uri.user()?,
                    calls: Calls::default(),
                }))
            }
        }
    }

    /// The settings for `up`: the store in memory is possible, and the default.
    pub(super) fn check_or_memory(&self) -> Result<Settings, Wrong> {
        let is_memory = match (self.named, &self.flags.store) {
            (Named::ByUri, Some(StoreUri::Memory)) => true,
            (Named::ByUri, Some(StoreUri::Unset) | None) | (Named::ByEtcd, _) => !self.names_etcd,
            _ => false,
        };
        if !is_memory {
            return self.check();
        }
        if let Some(flag) = self.flags.first_of_network() {
            let message = format!(
                "{flag} is about a store in the network, and `up` without --store and --etcd has its own: name a store, \
                 or leave it out"
            );
            return Err((ErrorKind::ArgumentConflict, message));
        }
        Ok(Settings::Memory(MemoryStore::default()))
    }
}

impl Args for StoreArgs {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for StoreArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Flags::from_arg_matches(matches)?;
        let is_default = matches.value_source("etcd") == Some(ValueSource::DefaultValue);
        let is_set = flags.etcd.iter().any(|one| !one.address.is_empty());
        Ok(Self {
            names_etcd: !is_default && is_set,
            named: Named::of(matches),
            flags,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Named {
    /// The command line comes before the environment, and a URI before endpoints of etcd.
    fn of(matches: &ArgMatches) -> Self {
        let rank = |flag| match matches.value_source(flag) {
            Some(ValueSource::CommandLine) => 2,
            Some(ValueSource::EnvVariable) => 1,
            _ => 0,
        };
        match (rank("store"), rank("etcd")) {
            (2, 2) => Self::Twice,
            (by_uri, by_etcd) if by_uri > 0 && by_uri >= by_etcd => Self::ByUri,
            _ => Self::ByEtcd,
        }
    }
}

impl Flags {
    /// The first flag that is set and that a store in memory has no use for.
    fn first_of_network(&self) -> Option<&'static str> {
        let set = [
            ("--store-cacert", self.store_cacert.is_some()),
            ("--store-cert", self.store_cert.is_some()),
            ("--store-key", self.store_key.is_some()),
            ("--store-server-name", self.store_server_name.is_some()),
            ("--store-user", self.store_user.is_some()),
            ("--store-password-file", self.store_password_file.is_some()),
        ];
        let first = set.into_iter().find(|(_, is_set)| *is_set);
        first.map(|(flag, _)| flag)
    }

    /// The same, with the variables of etcd's other names where nothing else is set.
    fn with_other_names(mut self) -> Result<Self, Wrong> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let [cacert, cert, key, server_name, user, password_file] = OTHER_NAMES.map(set);
        let text = |value: OsString| value.to_string_lossy().into_owned();
        if self.store_server_name.is_none()
            && let Some(name) = server_name.map(text)
        {
            let wrong = |why| {
                let message = format!("{}={name}: {why}", OTHER_NAMES[3]);
                (ErrorKind::ValueValidation, message)
            };
            self.store_server_name = Some(value::server_name(&name).map_err(wrong)?);
        }
        self.store_cacert = self.store_cacert.or(cacert.map(PathBuf::from));
        self.store_cert = self.store_cert.or(cert.map(PathBuf::from));
        self.store_key = self.store_key.or(key.map(PathBuf::from));
        self.store_user = self.store_user.or(user.map(text));
        self.store_password_file = self
            .store_password_file
            .or(password_file.map(PathBuf::from));
        Ok(self)
    }
}
