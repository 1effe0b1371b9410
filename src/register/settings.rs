//! The settings of the writing role, checked: whoever has them can start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::timetable::lifetime;
use crate::docker::Filters;
use crate::policy::Options;
use crate::store::etcd::Access;

/// The settings of `run`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: HostSettings,
    pub mode: Mode,
    /// The time between two lists of all containers.
    pub resync: Duration,
    /// Whether the log says why something is left out.
    pub explain: bool,
    /// The address of `--listen`.
    pub listen: Option<SocketAddr>,
}

/// The settings of every command that looks at containers.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The policy: a file, or the name of a bundled one; the default one if none.
    pub script: Option<PathBuf>,
    /// The policy's `options`. `host_ip` is empty until it has been found.
    pub options: Options,
    pub etcd: Access,
    /// Docker's own container filters.
    pub filters: Filters,
}

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Changes are printed, and etcd is not needed.
    DryRun,
    Write(OnExit),
}

/// The fate of the keys when the registrar ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// They stay for their TTL, so that an upgrade of the registrar is no outage.
    Leave,
    /// They are removed before it ends.
    Remove,
}

impl Settings {
    /// The lifetime of keys whose entries name no TTL.
    pub fn lifetime(&self) -> Duration {
        lifetime(self.host.options.ttl)
    }
}
