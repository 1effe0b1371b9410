//! The flags for the store of the keys: which one it is, its endpoints, TLS, and the user.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::uri::{self, Scheme, StoreUri};
use super::{Wrong, value};
use crate::base::calls::Calls;
use crate::store::{Password, Settings, Tls, User, etcd, redis};

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
#[derive(Debug)]
pub struct StoreArgs {
    flags: Flags,
    named: Named,
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
        Ok(Self {
            flags: Flags::from_arg_matches(matches)?,
            named: Named::of(matches),
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

/// Makes settings of the flags. Messages call them by one of their names.
struct Checker<'a> {
    flags: &'a Flags,
    /// The beginning of the flags' names in messages.
    prefix: &'static str,
    is_etcd: bool,
}

impl Checker<'_> {
    fn etcd_by_endpoints(&self) -> Result<Settings, Wrong> {
        if self.flags.etcd.iter().any(|one| one.has_user) {
            return Err((
                ErrorKind::ValueValidation,
                format!(
                    "an endpoint of etcd (--etcd, ETCD_HOST) has no user: leave out everything up to `@`, pass \
                     --etcd-user NAME, and pass --etcd-password-file FILE or set {}",
                    PASSWORDS[1]
                ),
            ));
        }
        Ok(Settings::Etcd(etcd::Settings {
            endpoints: self.endpoints(),
            user: self.user()?,
            tls: self.tls_of_endpoints()?,
            calls: Calls::default(),
        }))
    }

    fn endpoints(&self) -> Vec<String> {
        let addresses = self.flags.etcd.iter().map(|one| one.address.clone());
        let mut endpoints: Vec<String> = addresses.filter(|one| !one.is_empty()).collect();
        if endpoints.is_empty() {
            endpoints.push(DEFAULT.to_owned());
        }
        endpoints
    }

    fn tls_of_endpoints(&self) -> Result<Option<Tls>, Wrong> {
        let (tls, flag) = self.tls()?;
        let secure = self.flags.etcd.iter().find(|one| one.tls == Some(true));
        let plain = self.flags.etcd.iter().find(|one| one.tls == Some(false));
        let conflict = match (plain, secure, flag) {
            (Some(plain), Some(secure), _) => format!(
                "etcd's endpoints must all use TLS, or none of them: `{}` begins with http:// and `{}` with https://",
                plain.address, secure.address
            ),
            (Some(plain), None, Some(flag)) => format!(
                "{flag} turns on TLS, but etcd's endpoint `{}` begins with http://: write https://",
                plain.address
            ),
            (None | Some(_), None, None) => return Ok(None),
            (None, _, _) => return Ok(Some(tls)),
        };
        Err((ErrorKind::ArgumentConflict, conflict))
    }

    fn tls_of(&self, scheme: &Scheme) -> Result<Option<Tls>, Wrong> {
        let (tls, flag) = self.tls()?;
        match flag {
            _ if scheme.uses_tls => Ok(Some(tls)),
            None => Ok(None),
            Some(flag) => Err((
                ErrorKind::ArgumentConflict,
                format!(
                    "{flag} is about TLS, which {}:// does not use: write {}://",
                    scheme.name,
                    scheme.with_tls()
                ),
            )),
        }
    }

    /// The certificates, and the first flag that asks for TLS.
    fn tls(&self) -> Result<(Tls, Option<String>), Wrong> {
        let Flags {
            store_cacert,
            store_cert,
            store_key,
            store_server_name,
            ..
        } = self.flags;
        let prefix = self.prefix;
        let without = |flag: &str, missing: &str| {
            let message = format!("{prefix}-{flag} needs {prefix}-{missing} <FILE>: pass both");
            Err((ErrorKind::MissingRequiredArgument, message))
        };
        let identity = match (store_cert.clone(), store_key.clone()) {
            (Some(_), None) => return without("cert", "key"),
            (None, Some(_)) => return without("key", "cert"),
            (cert, key) => cert.zip(key),
        };
        let asked_by = [
            ("cacert", store_cacert.is_some()),
            ("cert", identity.is_some()),
            ("server-name", store_server_name.is_some()),
        ];
        let flag = asked_by.iter().find(|(_, given)| *given);
        let tls = Tls {
            authorities: store_cacert.clone(),
            identity,
            server_name: store_server_name.clone(),
        };
        Ok((tls, flag.map(|(flag, _)| format!("{prefix}-{flag}"))))
    }

    fn user(&self) -> Result<Option<User>, Wrong> {
        let Flags {
            store_user,
            store_password_file,
            ..
        } = self.flags;
        let (prefix, is_etcd) = (self.prefix, self.is_etcd);
        let variables = &PASSWORDS[..if is_etcd { 2 } else { 1 }];
        let text = || variables.iter().find_map(|name| std::env::var(name).ok());
        let file = store_password_file.clone().map(Password::File);
        let needs = |what: String| Err((ErrorKind::MissingRequiredArgument, what));
        let named = |name: String, password| Ok(Some(User { name, password }));
        match (store_user.clone(), file, text()) {
            (Some(name), Some(password), _) => named(name, password),
            (Some(name), None, Some(text)) => named(name, Password::Text(text)),
            (Some(_), None, None) => {
                let variable = PASSWORDS[usize::from(prefix == "--etcd")];
                needs(format!(
                    "{prefix}-user needs a password: pass {prefix}-password-file FILE, or set {variable}"
                ))
            }
            (None, Some(_), _) if is_etcd => needs(format!(
                "{prefix}-password-file needs {prefix}-user <NAME>: pass both"
            )),
            (None, Some(password), _) => named(REDIS_USER.to_owned(), password),
            (None, None, Some(text)) if !is_etcd => {
                named(REDIS_USER.to_owned(), Password::Text(text))
            }
            (None, None, _) => Ok(None),
        }
    }
}
