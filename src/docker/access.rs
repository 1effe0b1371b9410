//! The address of Docker, read from the environment as Docker's own client reads it, and advice for an operator when
//! the connection fails. Each connection begins here; a role also reads the address at its start, to refuse a malformed
//! one.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyperlocal::UnixConnector;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::client::explain;
use super::undecoded::Connection;
use crate::base::file;
use crate::base::text::quote;

/// The default of Docker's client.
const SOCKET: &str = "/var/run/docker.sock";
/// The same with `DOCKER_TLS_VERIFY`.
const TLS_HOST: &str = "localhost:2376";
/// Parts of the errors that follow when a daemon refuses a client certificate. It sends an alert, which may be lost
/// with the connection.
const LOST: [&str; 7] = [
    "alert",
    "reset",
    "Broken pipe",
    "closed",
    "canceled",
    "not ready",
    "not connected",
];
/// The default port of `tcp://HOST`.
const TCP_PORT: u16 = 2375;

/// The address of a Docker daemon.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As `DOCKER_HOST` has it, but always with a scheme.
    pub url: String,
    transport: Transport,
}

#[derive(Debug, PartialEq, Eq)]
enum Transport {
    /// The path of a socket.
    Unix(String),
    /// `HOST:PORT`, without TLS.
    Tcp(String),
    /// `HOST:PORT`, with TLS.
    Tls(String),
}

impl Endpoint {
    /// Reads `DOCKER_HOST` and `DOCKER_TLS_VERIFY`. An empty variable counts as unset. Fails only if `DOCKER_HOST` is
    /// malformed, so that a retry is useless.
    pub fn from_env() -> anyhow::Result<Self> {
        let host = variable("DOCKER_HOST").unwrap_or_default();
        Self::new(host.trim(), variable("DOCKER_TLS_VERIFY").is_some())
    }

    fn new(host: &str, verify: bool) -> anyhow::Result<Self> {
        let (scheme, rest) = match host.split_once("://") {
            Some(parts) => parts,
            None if host.is_empty() && verify => ("tcp", TLS_HOST),
            None if host.is_empty() => ("unix", SOCKET),
            None if host.starts_with(['/', '.']) => ("unix", host),
            None => ("tcp", host),
        };
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => TCP_PORT,
        };
        let transport = match scheme {
            "unix" if rest.is_empty() => Some(Transport::Unix(SOCKET.to_owned())),
            "unix" => Some(Transport::Unix(rest.to_owned())),
            "tcp" | "http" if !verify => authority(rest, default_port).map(Transport::Tcp),
            "tcp" | "http" | "https" => authority(rest, default_port).map(Transport::Tls),
            "ssh" => bail!(
                "cannot use DOCKER_HOST={}: forward the socket with \
                 `ssh -nNT -L /tmp/docker.sock:{SOCKET} HOST`, and set it to unix:///tmp/docker.sock",
                quote(host)
            ),
            _ => None,
        };
        let transport = transport.with_context(|| {
            format!(
                "cannot use DOCKER_HOST={}: it must be unix:///PATH, tcp://HOST:PORT or http://HOST:PORT",
                quote(host)
            )
        })?;
        let url = format!("{scheme}://{rest}");
        Ok(Self { url, transport })
    }

    /// A connection that has not sent a request yet.
    pub fn connection(&self, timeout: Duration) -> anyhow::Result<Connection> {
        match &self.transport {
            Transport::Unix(path) => {
                self.check_socket(path)?;
                // Its host is the path in hex digits.
                let url: hyper::Uri = hyperlocal::Uri::new(path, "").into();
                let host = url.host().unwrap_or_default();
                Connection::new(UnixConnector, &format!("unix://{host}"), timeout)
            }
            Transport::Tcp(address) => {
                let url = format!("http://{address}");
                Connection::new(HttpConnector::new(), &url, timeout)
            }
            Transport::Tls(address) => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                let tls = HttpsConnector::from((tcp, tls_config()?));
                Connection::new(tls, &format!("https://{address}"), timeout)
            }
        }
        .map_err(explain)
    }

    fn check_socket(&self, path: &str) -> anyhow::Result<()> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => bail!(
                "it is a directory, which Docker creates if the mounted path does not exist on the host; mount the \
                 host's Docker socket"
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(anyhow!(
                "there is no such socket; {}",
                other_socket(path).unwrap_or_else(|| {
                    "is the daemon running, and is DOCKER_HOST right?".to_owned()
                })
            )),
            Err(error) => Err(self.explain(&error.to_string())),
            Ok(_) => Ok(()),
        }
    }

    /// Turns the innermost cause of a failed connection into advice.
    pub fn explain(&self, cause: &str) -> anyhow::Error {
        let has = |words: &[&str]| words.iter().any(|word| cause.contains(word));
        match &self.transport {
            Transport::Unix(path) if has(&["Permission denied"]) => {
                let advice = "run as root or as a member of the group `docker`";
                match other_socket(path) {
                    Some(other) => anyhow!("permission denied; {advice}; {other}"),
                    None => anyhow!("permission denied; {advice}"),
                }
            }
            Transport::Tcp(_) if has(&["HTTPS server"]) => anyhow!(
                "the daemon expects TLS; set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory with its ca.pem \
                 and your cert.pem and key.pem"
            ),
            Transport::Tls(_) => {
                let Ok(directory) = certificates() else {
                    return anyhow!("{cause}");
                };
                let file = |name: &str| quote(&directory.join(name).display().to_string());
                if has(&["UnknownIssuer", "BadSignature"]) {
                    anyhow!(
                        "the daemon's certificate is not signed by the CA in {}",
                        file("ca.pem")
                    )
                } else if has(&["corrupt message"]) {
                    anyhow!("the daemon does not use TLS; unset DOCKER_TLS_VERIFY")
                } else if has(&LOST) {
                    anyhow!(
                        "the daemon refuses the client certificate in {} with the key in {}: {cause}",
                        file("cert.pem"),
                        file("key.pem")
                    )
                } else {
                    anyhow!("{cause}")
                }
            }
            _ => anyhow!("{cause}"),
        }
    }
}

/// Completes `HOST:PORT` with the defaults of Docker's client; none if it is malformed.
fn authority(text: &str, default_port: u16) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = if port.is_empty() {
        default_port
    } else {
        port.parse().ok()?
    };
    let is_name = |name: &str| {
        name.chars()
            .all(|c| c.is_alphanumeric() || "-._".contains(c))
    };
    let ip6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = ip6.map_or_else(|| is_name(host), |ip| ip.parse::<Ipv6Addr>().is_ok());
    is_host.then(|| format!("{host}:{port}"))
}

/// Advice to try another socket, of a rootless daemon or of Podman, if one exists and `path` is the default.
fn other_socket(path: &str) -> Option<String> {
    if path != SOCKET {
        return None;
    }
    let of_user = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let of_user =
        ["docker.sock", "podman/podman.sock"].map(|name| Some(of_user.as_ref()?.join(name)));
    let podman = Some(PathBuf::from("/run/podman/podman.sock"));
    let mut sockets = of_user.into_iter().chain([podman]).flatten();
    let socket = sockets.find(|socket| socket.exists())?;
    Some(format!(
        "another socket exists: DOCKER_HOST=unix://{}",
        socket.display()
    ))
}

/// The directory in which Docker's client has certificates.
fn certificates() -> anyhow::Result<PathBuf> {
    variable("DOCKER_CERT_PATH")
        .or_else(|| variable("DOCKER_CONFIG"))
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".docker")))
        .context(
            "DOCKER_TLS_VERIFY is set; set DOCKER_CERT_PATH to the directory of the certificates",
        )
}

/// The CA and the client's certificate, as Docker's client reads them from their directory.
fn tls_config() -> anyhow::Result<ClientConfig> {
    let directory = certificates()?;
    let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|file| directory.join(file));
    check_readable(&ca)?;
    let bad = |path: &Path, why: &dyn std::fmt::Display| {
        anyhow!("cannot use {}: {why}", quote(&path.display().to_string()))
    };
    let certificates = |path: &Path| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        read.map_err(|why| bad(path, &why))
    };
    let mut trusted = RootCertStore::empty();
    for certificate in certificates(&ca)? {
        trusted.add(certificate).map_err(|why| bad(&ca, &why))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted);
    // A daemon need not ask for a certificate; but one without its key is a mistake.
    if !key.exists() && !cert.exists() {
        return Ok(config.with_no_client_auth());
    }
    check_readable(&cert)?;
    check_readable(&key)?;
    let private = PrivateKeyDer::from_pem_file(&key).map_err(|why| bad(&key, &why))?;
    let config = config.with_client_auth_cert(certificates(&cert)?, private);
    config.map_err(|why| bad(&cert, &why))
}

fn check_readable(path: &Path) -> anyhow::Result<()> {
    let file_quoted = quote(&path.display().to_string());
    file::open(path).map(drop).map_err(|error| {
        anyhow!(
            "cannot read {file_quoted}: {error}; DOCKER_TLS_VERIFY is set, so DOCKER_CERT_PATH must be the directory with \
             ca.pem, cert.pem and key.pem"
        )
    })
}

/// A variable of the environment, unless it is unset or empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_read_as_dockers_client_reads_it() {
        let unix = |path: &str| Transport::Unix(path.to_owned());
        let tcp = |address: &str| Transport::Tcp(address.to_owned());
        for (host, transport) in [
            ("", unix("/var/run/docker.sock")),
            ("unix://", unix("/var/run/docker.sock")),
            (
                "unix:///run/user/1000/docker.sock",
                unix("/run/user/1000/docker.sock"),
            ),
            ("/run/docker.sock", unix("/run/docker.sock")),
            ("tcp://10.0.0.1:2375", tcp("10.0.0.1:2375")),
            ("tcp://docker.example", tcp("docker.example:2375")),
            ("docker:1234", tcp("docker:1234")),
            ("tcp://[fd00::1]", tcp("[fd00::1]:2375")),
            ("tcp://", tcp("localhost:2375")),
            ("http://proxy/", tcp("proxy:80")),
            ("https://proxy", Transport::Tls("proxy:443".to_owned())),
        ] {
            assert_eq!(
                Endpoint::new(host, false).unwrap().transport,
                transport,
                "{host}"
            );
        }
    }

    #[test]
    fn tls_verify_applies_to_every_host_but_a_socket() {
        let tls = |address: &str| Transport::Tls(address.to_owned());
        for (host, transport) in [
            ("", tls("localhost:2376")),
            ("tcp://10.0.0.1:2376", tls("10.0.0.1:2376")),
            ("http://proxy", tls("proxy:80")),
            (
                "unix:///docker.sock",
                Transport::Unix("/docker.sock".to_owned()),
            ),
        ] {
            assert_eq!(
                Endpoint::new(host, true).unwrap().transport,
                transport,
                "{host}"
            );
        }
    }

    #[test]
    fn a_malformed_host_is_refused() {
        for host in [
            "npipe:////./pipe/docker_engine",
            "fd://",
            "tcp://host:port",
            "tcp://host:2375/prefix",
            "tcp://::1:2375",
            "tcp://user@host",
            "two words",
            "unix:/var/run/docker.sock",
        ] {
            let why = Endpoint::new(host, false).unwrap_err().to_string();
            assert_eq!(
                why,
                format!(
                    "cannot use DOCKER_HOST=`{host}`: it must be unix:///PATH, tcp://HOST:PORT or http://HOST:PORT"
                )
            );
        }
        let why = Endpoint::new("ssh://host", false).unwrap_err().to_string();
        assert!(why.contains("forward the socket"), "{why}");
    }
}
