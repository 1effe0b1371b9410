//! One probe: a connection to a service, and what it must answer.

mod http;
mod tcp;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;

use crate::base::deadline::within;
use crate::wanted::Check;
use crate::wanted::check::{Kind, Probe};
use tls::Connectors;

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Why it failed.
    Failed(String),
    /// It had no answer in time.
    Silent(String),
    /// Why it could not be made, for a reason of this host's. It says nothing about the service.
    Unasked(String),
}

/// Makes probes.
#[derive(Debug, Default)]
pub struct Client {
    tls: Connectors,
}

/// Why a probe did not pass.
#[derive(Debug)]
enum Trouble {
    Failed(String),
    Unasked(String),
}

impl Outcome {
    /// Why it did not pass.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Passed => None,
            Self::Failed(why) | Self::Silent(why) => Some(why.clone()),
            Self::Unasked(why) => Some(format!("it could not be asked: {why}")),
        }
    }
}

impl Client {
    /// Makes one probe, within the timeout.
    pub async fn probe(&self, check: &Check) -> Outcome {
        let Some(probe) = &check.probe else {
            return Outcome::Passed;
        };
        let limit = check.timeout;
        let begun = Instant::now();
        let left = || limit.saturating_sub(begun.elapsed());
        let address = &probe.address;
        let addresses = match within(limit, look_up(address)).await {
            Some(Ok(addresses)) => addresses,
            Some(Err(trouble)) => return trouble.into(),
            None => {
                let limit = seconds(limit);
                return Outcome::Unasked(format!("the look-up of {address} takes over {limit}"));
            }
        };
        let stream = match within(left(), connect(&addresses)).await {
            Some(Ok(stream)) => stream,
            Some(Err(trouble)) => return trouble.into(),
            None => return Outcome::Silent(format!("no connection in {}", seconds(limit))),
        };
        match within(left(), self.ask(probe, &addresses, stream)).await {
            Some(Ok(())) => Outcome::Passed,
            Some(Err(trouble)) => trouble.into(),
            None => Outcome::Silent(format!("no whole answer in {}", seconds(limit))),
        }
    }

    async fn ask(
        &self,
        probe: &Probe,
        addresses: &[SocketAddr],
        stream: TcpStream,
    ) -> Result<(), Trouble> {
        match &probe.kind {
            Kind::Tcp(tcp) => tcp::ask(tcp, stream).await,
            Kind::Http(http) => {
                let place = http::Place {
                    address: &probe.address,
                    addresses,
                };
                http::ask(http, &place, stream, &self.tls).await
            }
        }
    }
}

/// The addresses of `host:port`, at least one.
async fn look_up(address: &str) -> Result<Vec<SocketAddr>, Trouble> {
    let found = lookup_host(address)
        .await
        .map_err(|error| Trouble::Unasked(format!("cannot look up {address}: {error}")))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() {
        let why = format!("the name of {address} has no address");
        return Err(Trouble::Unasked(why));
    }
    Ok(found)
}

/// A connection to the first of these that accepts one.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Trouble> {
    let mut last = Trouble::Failed("no address".to_owned());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Trouble::of(&error),
        }
    }
    Err(last)
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        if is_ours(error) {
            Self::Unasked(error.to_string())
        } else {
            Self::Failed(in_words(error))
        }
    }
}

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failed(why) => Self::Failed(why),
            Trouble::Unasked(why) => Self::Unasked(why),
        }
    }
}

/// Whether an error has its cause in this host: no descriptors, memory or ports are left, or its firewall forbids the
/// connection.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRNOTAVAIL
                | Errno::ACCESS
                | Errno::PERM
        )
    )
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            "it closes the connection before it has answered".to_owned()
        }
        _ => error.to_string(),
    }
}

fn seconds(duration: Duration) -> impl fmt::Display {
    format!("{} s", duration.as_secs_f64())
}
