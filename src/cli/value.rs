//! Parsers for the values of flags.

use std::path::PathBuf;

use crate::base::key::check_key;
use crate::store::{LeaseId, is_server_name};
use crate::wanted::TTL;

/// The port of an endpoint without one.
const ETCD_PORT: u16 = 2379;
/// Fields of `options` that have flags of their own.
const RESERVED: [&str; 4] = ["prefix", "ttl", "host_ip", "instance"];
/// The field of `options` that comes from the host.
const INTERFACES: &str = "interfaces";
/// The layouts that the default policy reads beside this program's own.
const LAYOUTS: [&str; 2] = ["docker_discover", "registrator"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`; empty for an empty text.
    pub address: String,
    /// Whether its scheme is https; none without a scheme.
    pub tls: Option<bool>,
    /// Whether there is a user before the host, which no endpoint may have. An error here would print the password.
    pub has_user: bool,
}

/// A lease's id in hexadecimal digits, as etcdctl prints it.
pub fn lease(text: &str) -> Result<LeaseId, String> {
    match i64::from_str_radix(text, 16) {
        Ok(id) if id > 0 => Ok(LeaseId(id)),
        _ => Err("expected hexadecimal digits, as `docker-register leases` prints them".to_owned()),
    }
}

pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (scheme, bare) = match text.trim().split_once("://") {
        None => (String::new(), text.trim()),
        Some((scheme, bare)) => (scheme.to_ascii_lowercase(), bare),
    };
    let tls = match scheme.as_str() {
        "" => None,
        "http" => Some(false),
        "https" => Some(true),
        // The keys are for other hosts, which cannot reach it.
        "unix" | "unixs" => {
            return Err(
                "a Unix socket of etcd is not used, because other hosts cannot read the keys there: \
                 expected HOST:PORT"
                    .to_owned(),
            );
        }
        _ => return Err("expected HOST:PORT, after http://, https:// or nothing".to_owned()),
    };
    if bare.contains('@') {
        let address = String::new();
        return Ok(Endpoint {
            address,
            tls,
            has_user: true,
        });
    }
    let bare = bare.trim_end_matches('/');
    if bare.is_empty() && tls.is_none() {
        // A list may end with a comma, and an empty variable is no variable.
        let address = String::new();
        return Ok(Endpoint {
            address,
            tls,
            has_user: false,
        });
    }
    Ok(Endpoint {
        address: address(bare, ETCD_PORT)?,
        tls,
        has_user: false,
    })
}

/// `host:port`, of a host that may have no port.
pub fn address(bare: &str, port: u16) -> Result<String, String> {
    if bare.is_empty() || bare.contains(['/', ' ']) {
        return Err(format!("expected HOST:PORT, such as 10.0.0.1:{port}"));
    }
    let given = bare
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    Ok(match given {
        Some((_, given)) if given.parse::<u16>().is_err() => {
            return Err(format!("`{given}` is not a port"));
        }
        Some(_) => bare.to_owned(),
        // A bare IPv6 address needs brackets before a port.
        None if bare.contains(':') && !bare.starts_with('[') => format!("[{bare}]:{port}"),
        None => format!("{bare}:{port}"),
    })
}

pub fn server_name(text: &str) -> Result<String, String> {
    if is_server_name(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a host's name or address, without a port".to_owned())
    }
}

/// The beginning of every key, without a slash at its end.
pub fn prefix(text: &str) -> Result<String, String> {
    let prefix = text.trim_end_matches('/');
    if !prefix.is_empty() {
        check_key(prefix).map_err(|why| why.to_string())?;
    }
    Ok(prefix.to_owned())
}

/// The name of a layout that the default reading policy knows.
pub fn layout(text: &str) -> Result<String, String> {
    if LAYOUTS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected `{}`; for any other layout, a policy overrides `discover.service`",
        LAYOUTS.join("` or `")
    ))
}

/// A time to live in seconds.
pub fn ttl(text: &str) -> Result<u32, String> {
    text.parse::<u32>()
        .ok()
        .filter(|ttl| TTL.contains(ttl))
        .ok_or_else(|| {
            format!(
                "expected a number of seconds from {} to {}",
                TTL.start(),
                TTL.end()
            )
        })
}

/// `NAME=VALUE`; two empty texts for an empty line.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        // The environment's list may end with an empty line.
        None if text.trim().is_empty() => Ok((String::new(), String::new())),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// A path from the root, without a slash at its end: HAProxy takes others for something else.
pub fn path(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    Ok(path.components().collect())
}

/// A command for `sh -c`, which takes an empty one for a success.
pub fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected a command".to_owned());
    }
    Ok(text.to_owned())
}

/// `NAME=VALUE`, except for names that have a flag or come from the host.
pub fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!(
            "`{name}` has a flag of its own: --{}",
            name.replace('_', "-")
        ));
    }
    if name == INTERFACES {
        return Err(format!(
            "`{name}` is read from this host, and cannot be set"
        ));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_be_written_in_several_ways() {
        let address = |text| endpoint(text).unwrap().address;
        assert_eq!(address("1.2.3.4:4001"), "1.2.3.4:4001");
        assert_eq!(address("http://etcd:2379/"), "etcd:2379");
        assert_eq!(address("https://etcd"), "etcd:2379");
        assert_eq!(address("etcd"), "etcd:2379");
        assert_eq!(address("[::1]:2379"), "[::1]:2379");
        assert_eq!(address("::1"), "[::1]:2379");
        assert_eq!(address("[::1]"), "[::1]:2379");
        let tls = ["etcd", "http://etcd", "https://etcd"].map(|text| endpoint(text).unwrap().tls);
        assert_eq!(tls, [None, Some(false), Some(true)]);
        assert_eq!(address("HTTP://etcd:1"), "etcd:1");
        assert_eq!(endpoint("HTTPS://etcd").unwrap().tls, Some(true));
        assert_eq!(address(" "), "");
        for wrong in [
            "http://",
            "etcd:x",
            "ftp://etcd:1",
            "a b",
            "etcd/x",
            "unix:///run/etcd",
        ] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert!(endpoint("http://user:p@ss@etcd:1").unwrap().has_user);
        assert!(endpoint("user@etcd").unwrap().has_user);
    }

    #[test]
    fn a_path_is_absolute_and_ends_with_a_name() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(path("a").unwrap(), here.join("a"));
        for text in ["/a/b", "/a/b/", "/a//b/./"] {
            assert_eq!(path(text).unwrap().to_str(), Some("/a/b"));
        }
    }

    #[test]
    fn a_prefix_is_a_legal_key_without_a_slash_at_its_end() {
        assert_eq!(prefix("/backends/").unwrap(), "/backends");
        assert_eq!(prefix("traefik").unwrap(), "traefik");
        assert_eq!(prefix("/").unwrap(), "");
        assert!(prefix("/a//b").is_err());
        assert!(prefix("/../b").is_err());
    }
}
