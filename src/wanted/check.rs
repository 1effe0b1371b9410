//! The check of an entry: how to see whether its service answers.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// The legal intervals, in milliseconds: up to an hour.
pub const INTERVAL: RangeInclusive<u64> = 100..=3_600_000;
/// The shortest timeout, in milliseconds. The longest is the interval.
pub const MIN_TIMEOUT: u64 = 10;
/// The legal numbers of verdicts in a row.
pub const IN_A_ROW: RangeInclusive<u32> = 1..=100;
/// The longest text that is sent or expected, in bytes.
pub const MAX_TEXT: usize = 4096;
/// The default statuses of a good answer.
pub const ANY_GOOD_STATUS: [RangeInclusive<u16>; 1] = [200..=399];

/// A condition for a key: it exists only while this holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    /// How the service is asked; none if the container only has to have run for some time.
    pub probe: Option<Probe>,
    /// The shortest time that the container must have run.
    pub uptime: Duration,
    /// The time between two probes.
    pub interval: Duration,
    /// The timeout of one probe; it is not longer than the interval.
    pub timeout: Duration,
    /// The successes in a row after which an unregistered service is registered.
    pub rise: u32,
    /// The failures in a row after which a registered service is removed.
    pub fall: u32,
}

/// One question to a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe {
    /// `host:port`.
    pub address: Arc<str>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    Tcp(Tcp),
    Http(Http),
}

/// A connection must be accepted, and the answer have the expected text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tcp {
    /// The text to send first; empty is none.
    pub send: Arc<str>,
    /// The text that the answer must contain; empty is none, and then no answer is read.
    pub expect: Arc<str>,
}

/// A request must have an answer with one of these statuses, up to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Http {
    pub tls: Option<Tls>,
    /// With a slash at its beginning, and possibly a query.
    pub path: Arc<str>,
    pub method: Arc<str>,
    /// The value of the header `Host`, and the name that a certificate must have; none is the address.
    pub host: Option<Arc<str>>,
    /// Further headers.
    pub headers: Headers,
    pub status: Vec<RangeInclusive<u16>>,
}

/// Names and values.
pub type Headers = Vec<(Arc<str>, Arc<str>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tls {
    Verified,
    /// Any certificate will do.
    Insecure,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(probe) = &self.probe {
            write!(f, "{probe}")?;
        }
        if !self.uptime.is_zero() {
            let comma = if self.probe.is_some() { ", " } else { "" };
            write!(f, "{comma}uptime {} s", self.uptime.as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.kind {
            Kind::Tcp(_) => write!(f, "tcp {address}"),
            Kind::Http(http) => {
                let scheme = if http.tls.is_some() { "https" } else { "http" };
                if &*http.method != "GET" {
                    write!(f, "{} ", http.method)?;
                }
                write!(f, "{scheme}://{address}{}", http.path)
            }
        }
    }
}
