//! Where Docker is, as the environment says it, and what to do where it cannot be reached.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bollard::{API_DEFAULT_VERSION, Docker};

use super::client::explain;
use crate::base::file;
use crate::base::text::quote;

/// Where Docker's client looks if nothing is said.
const SOCKET: &str = "/var/run/docker.sock";
/// The same if TLS is asked for.
const TLS_HOST: &str = "localhost:2376";
/// How a connection ends that the daemon does not want: it sends an alert, which may be lost with the connection.
const LOST: [&str; 7] = [
    "alert",
    "reset",
    "Broken pipe",
    "closed",
    "canceled",
    "not ready",
    "not connected",
];
/// The port of `tcp://HOST`.
const TCP_PORT: u16 = 2375;

/// Where Docker is.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// As `DOCKER_HOST` has it.
    pub host: String,
    way: Way,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// The path of a socket.
    Unix(String),
    /// A host and its port.
    Tcp(String),
    /// The same, with TLS.
    Tls(String),
}

impl Access {
    /// Reads `DOCKER_HOST` and `DOCKER_TLS_VERIFY` as Docker's own client does, for which an empty variable is none. A
    /// `DOCKER_HOST` that no daemon can have is an error, which no retry mends.
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
        let way = match scheme {
            "unix" if rest.is_empty() => Some(Way::Unix(SOCKET.to_owned())),
            "unix" => Some(Way::Unix(rest.to_owned())),
            "tcp" | "http" if !verify => authority(rest, default_port).map(Way::Tcp),
            "tcp" | "http" | "https" => authority(rest, default_port).map(Way::Tls),
            "ssh" => bail!(
                "cannot use DOCKER_HOST={}: forward the socket, as by \
                 `ssh -nNT -L /tmp/docker.sock:{SOCKET} HOST`, and say unix:///tmp/docker.sock",
                quote(host)
            ),
            _ => None,
        };
        let way = way.with_context(|| {
            format!(
                "cannot use DOCKER_HOST={}: say unix:///PATH, tcp://HOST:PORT or http://HOST:PORT",
                quote(host)
            )
        })?;
        let host = format!("{scheme}://{rest}");
        Ok(Self { host, way })
    }

    /// A client, which has not yet said anything to the daemon.
    pub fn client(&self, timeout: Duration) -> anyhow::Result<Docker> {
        let seconds = timeout.as_secs();
        match &self.way {
            Way::Unix(path) => {
                self.check_socket(path)?;
                Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION)
            }
            Way::Tcp(address) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
            Way::Tls(address) => {
                let directory = certificates()?;
                let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|f| directory.join(f));
                check_readable(&ca)?;
                // A daemon need not ask for a certificate; but half of one is a mistake.
                if key.exists() || cert.exists() {
                    check_readable(&cert)?;
                    check_readable(&key)?;
                }
                Docker::connect_with_ssl(address, &key, &cert, &ca, seconds, API_DEFAULT_VERSION)
            }
        }
        .map_err(explain)
    }

    fn check_socket(&self, path: &str) -> anyhow::Result<()> {
        match fs::metadata(path) {
            // What Docker makes where a volume is to be mounted that does not exist.
            Ok(found) if found.is_dir() => {
                bail!("that is a directory; was Docker's socket mounted from where there is none?")
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(anyhow!(
                "there is no such socket; {}",
                elsewhere(path).unwrap_or_else(|| {
                    "is the daemon running, and is DOCKER_HOST right?".to_owned()
                })
            )),
            Err(error) => Err(self.explain(&error.to_string())),
            Ok(_) => Ok(()),
        }
    }

    /// What is wrong with a connection, and what to do, in the place of the innermost cause.
    pub fn explain(&self, cause: &str) -> anyhow::Error {
        let said = |words: &[&str]| words.iter().any(|word| cause.contains(word));
        match &self.way {
            Way::Unix(path) if said(&["Permission denied"]) => {
                let advice = "run as root or as a member of the group `docker`";
                match elsewhere(path) {
                    Some(elsewhere) => anyhow!("permission denied; {advice}; {elsewhere}"),
                    None => anyhow!("permission denied; {advice}"),
                }
            }
            Way::Tcp(_) if said(&["HTTPS server"]) => anyhow!(
                "it speaks TLS; set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory with its ca.pem, and \
                 your cert.pem and key.pem"
            ),
            Way::Tls(_) => {
                let Ok(directory) = certificates() else {
                    return anyhow!("{cause}");
                };
                let file = |name: &str| quote(&directory.join(name).display().to_string());
                if said(&["UnknownIssuer", "BadSignature"]) {
                    anyhow!(
                        "its certificate is not signed by {}, where the certificate of its authority should be",
                        file("ca.pem")
                    )
                } else if said(&["corrupt message"]) {
                    anyhow!("it does not speak TLS; unset DOCKER_TLS_VERIFY")
                } else if said(&LOST) {
                    anyhow!(
                        "it does not take the client certificate in {} with the key in {}: {cause}",
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

/// `HOST:PORT`, with what is not said put in its place as Docker's client does it; none if it is neither.
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

/// Where another socket is, of a daemon without root or of Podman, if Docker's usual one was meant.
fn elsewhere(path: &str) -> Option<String> {
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
        "there is another at DOCKER_HOST=unix://{}",
        socket.display()
    ))
}

/// Where Docker's client has certificates.
fn certificates() -> anyhow::Result<PathBuf> {
    variable("DOCKER_CERT_PATH")
        .or_else(|| variable("DOCKER_CONFIG"))
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".docker")))
        .context(
            "DOCKER_TLS_VERIFY is set; set DOCKER_CERT_PATH to the directory of the certificates",
        )
}

fn check_readable(path: &Path) -> anyhow::Result<()> {
    let file_quoted = quote(&path.display().to_string());
    file::open(path).map(drop).map_err(|error| {
        anyhow!(
            "cannot read {file_quoted}: {error}; DOCKER_TLS_VERIFY is set, so DOCKER_CERT_PATH is the directory with \
             ca.pem, cert.pem and key.pem"
        )
    })
}

/// A variable of the environment, unless it is empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_read_as_dockers_client_reads_it() {
        let unix = |path: &str| Way::Unix(path.to_owned());
        let tcp = |address: &str| Way::Tcp(address.to_owned());
        for (host, way) in [
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
            ("https://proxy", Way::Tls("proxy:443".to_owned())),
        ] {
            assert_eq!(Access::new(host, false).unwrap().way, way, "{host}");
        }
    }

    #[test]
    fn tls_is_for_what_is_not_a_socket() {
        let tls = |address: &str| Way::Tls(address.to_owned());
        for (host, way) in [
            ("", tls("localhost:2376")),
            ("tcp://10.0.0.1:2376", tls("10.0.0.1:2376")),
            ("http://proxy", tls("proxy:80")),
            ("unix:///docker.sock", Way::Unix("/docker.sock".to_owned())),
        ] {
            assert_eq!(Access::new(host, true).unwrap().way, way, "{host}");
        }
    }

    #[test]
    fn a_host_that_no_daemon_can_have_is_refused() {
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
            let why = Access::new(host, false).unwrap_err().to_string();
            assert_eq!(
                why,
                format!(
                    "cannot use DOCKER_HOST=`{host}`: say unix:///PATH, tcp://HOST:PORT or http://HOST:PORT"
                )
            );
        }
        let why = Access::new("ssh://host", false).unwrap_err().to_string();
        assert!(why.contains("forward the socket"), "{why}");
    }
}
