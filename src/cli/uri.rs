//! The URI of a store, as `--store` takes it.

use super::value::address;
use crate::store::redis::Place;

/// The ports of endpoints without one.
const ETCD_PORT: u16 = 2379;
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

const EXPECTED: &str = "expected etcd://HOST:PORT, redis://HOST:PORT/DATABASE, valkey://HOST:PORT/DATABASE or \
                        redis+sentinel://HOST:PORT/NAME/DATABASE; etcds://, rediss:// and valkeys:// use TLS; or, for `up`, \
                        memory:";

#[derive(Debug, Clone)]
pub enum StoreUri {
    /// An empty variable is no variable.
    Unset,
    /// There is a user or a password before the host, which none may have. An error here would print the password.
    HasUser,
    /// The store inside the process.
    Memory,
    Etcd {
        scheme: Scheme,
        endpoints: Vec<String>,
    },
    Redis {
        scheme: Scheme,
        place: Place,
        db: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    /// In small letters.
    pub name: String,
    pub uses_tls: bool,
}

/// The stores that a scheme stands for.
enum Kind {
    Etcd,
    Servers,
    Sentinel,
}

pub fn store(text: &str) -> Result<StoreUri, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(StoreUri::Unset);
    }
    if text.contains('@') {
        return Ok(StoreUri::HasUser);
    }
    if text.eq_ignore_ascii_case("memory:") {
        return Ok(StoreUri::Memory);
    }
    let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
    let (kind, scheme) = Scheme::read(scheme).ok_or(EXPECTED)?;
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    if path.contains(['?', '#']) || hosts.contains(['?', '#']) {
        return Err("a store's URI has no `?` and no `#`".to_owned());
    }
    match kind {
        Kind::Etcd if path.is_empty() => Ok(StoreUri::Etcd {
            scheme,
            endpoints: addresses(hosts, ETCD_PORT)?,
        }),
        Kind::Etcd => Err(format!(
            "etcd has no `/{path}`: pass the beginning of the keys as --prefix"
        )),
        Kind::Servers => Ok(StoreUri::Redis {
            scheme,
            place: Place::Servers(addresses(hosts, REDIS_PORT)?),
            db: database(path)?,
        }),
        Kind::Sentinel => {
            let (master, db) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err(
                    "expected the name that the sentinels give the primary: redis+sentinel://HOST:PORT/NAME/DATABASE"
                        .to_owned(),
                );
            }
            Ok(StoreUri::Redis {
                scheme,
                place: Place::Sentinel {
                    sentinels: addresses(hosts, SENTINEL_PORT)?,
                    master: master.to_owned(),
                },
                db: database(db)?,
            })
        }
    }
}

impl Scheme {
    fn read(text: &str) -> Option<(Kind, Self)> {
        let name = text.to_ascii_lowercase();
        let (kind, uses_tls) = match name.as_str() {
            "etcd" => (Kind::Etcd, false),
            "etcds" => (Kind::Etcd, true),
            "redis" | "valkey" => (Kind::Servers, false),
            "rediss" | "valkeys" => (Kind::Servers, true),
            "redis+sentinel" | "valkey+sentinel" => (Kind::Sentinel, false),
            "rediss+sentinel" | "valkeys+sentinel" => (Kind::Sentinel, true),
            _ => return None,
        };
        Some((kind, Self { name, uses_tls }))
    }

    /// The name of the same scheme with TLS, of one without.
    pub fn with_tls(&self) -> String {
        match self.name.split_once('+') {
            Some((store, rest)) => format!("{store}s+{rest}"),
            None => format!("{}s", self.name),
        }
    }
}

/// The endpoints in a list with commas, at least one, `host:port` each.
fn addresses(hosts: &str, port: u16) -> Result<Vec<String>, String> {
    let hosts = hosts.split(',').map(str::trim);
    let hosts = hosts.filter(|host| !host.is_empty());
    let addresses: Vec<String> = hosts
        .map(|host| address(host, port))
        .collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err("expected HOST:PORT after `://`".to_owned());
    }
    Ok(addresses)
}

/// The number of a database; 0 if there is none.
fn database(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| format!("`{text}` is not the number of a database, such as 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a URI says, in one line.
    fn read(text: &str) -> String {
        match store(text) {
            Ok(StoreUri::Unset) => "unset".to_owned(),
            Ok(StoreUri::HasUser) => "has a user".to_owned(),
            Ok(StoreUri::Memory) => "memory".to_owned(),
            Ok(StoreUri::Etcd { scheme, endpoints }) => {
                format!("etcd {} {}", scheme.uses_tls, endpoints.join(" "))
            }
            Ok(StoreUri::Redis { scheme, place, db }) => {
                let place = match place {
                    Place::Servers(servers) => servers.join(" "),
                    Place::Sentinel { sentinels, master } => {
                        format!("{} asked for {master}", sentinels.join(" "))
                    }
                };
                format!("redis {} {place} {db}", scheme.uses_tls)
            }
            Err(why) => format!("error: {why}"),
        }
    }

    #[test]
    fn a_uri_names_a_store_and_its_endpoints() {
        for (text, wanted) in [
            ("etcd://a:1,b", "etcd false a:1 b:2379"),
            ("ETCDS://a/", "etcd true a:2379"),
            ("redis://a", "redis false a:6379 0"),
            ("redis://a:1/", "redis false a:1 0"),
            ("rediss://a:1/3", "redis true a:1 3"),
            ("valkey://a, b:1,/3", "redis false a:6379 b:1 3"),
            ("valkeys://[fd00::1]", "redis true [fd00::1]:6379 0"),
            (
                "redis+sentinel://a,b:1/main",
                "redis false a:26379 b:1 asked for main 0",
            ),
            (
                "rediss+sentinel://a/main/2",
                "redis true a:26379 asked for main 2",
            ),
            (" ", "unset"),
            ("Memory:", "memory"),
            ("redis://user:p/w@a", "has a user"),
            ("user:pw@a", "has a user"),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_wrong_uri_is_refused() {
        for (text, wanted) in [
            ("10.0.0.1:6379", "expected etcd://HOST:PORT"),
            ("consul://a", "expected etcd://HOST:PORT"),
            ("memory://a", "expected etcd://HOST:PORT"),
            ("redis://", "expected HOST:PORT"),
            ("redis:///0", "expected HOST:PORT"),
            ("redis://a/x", "`x` is not the number of a database"),
            ("redis://a:x", "`x` is not a port"),
            ("redis://a?db=1", "a store's URI has no `?`"),
            ("etcd://a/backends", "etcd has no `/backends`"),
            ("redis+sentinel://a", "expected the name that the sentinels"),
        ] {
            let why = read(text);
            assert!(
                why.starts_with(&format!("error: {wanted}")),
                "{text}: {why}"
            );
        }
    }

    #[test]
    fn each_scheme_has_one_with_tls() {
        for name in [
            "etcd",
            "redis",
            "valkey",
            "redis+sentinel",
            "valkey+sentinel",
        ] {
            let (_, scheme) = Scheme::read(name).expect("a scheme");
            let (_, secure) = Scheme::read(&scheme.with_tls()).expect("a scheme");
            assert!(!scheme.uses_tls && secure.uses_tls, "{name}");
        }
    }
}
