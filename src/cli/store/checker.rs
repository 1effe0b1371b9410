//! The settings of a store that is reached over the network, made of the flags.

use clap::error::ErrorKind;

use super::{DEFAULT, Flags, PASSWORDS, REDIS_USER};
use crate::base::calls::Calls;
use crate::cli::Wrong;
use crate::cli::uri::Scheme;
use crate::store::{Password, Settings, Tls, User, etcd};

/// Makes settings of the flags. Messages call them by one of their names.
pub(super) struct Checker<'a> {
    pub(super) flags: &'a Flags,
    /// The beginning of the flags' names in messages.
    pub(super) prefix: &'static str,
    pub(super) is_etcd: bool,
}

impl Checker<'_> {
    pub(super) fn etcd_by_endpoints(&self) -> Result<Settings, Wrong> {
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

    pub(super) fn tls_of(&self, scheme: &Scheme) -> Result<Option<Tls>, Wrong> {
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

    pub(super) fn user(&self) -> Result<Option<User>, Wrong> {
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
