//! The settings of the writing role. `cli` checks them, so a registrar can start with any `Settings`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::timetable::{call_limit, lifetime};
use crate::docker::Filters;
use crate::policy::{Options, Reader};
use crate::store::{self, AnyStore};

#[derive(Debug, Clone)]
pub struct Settings {
    pub host: HostSettings,
    pub mode: Mode,
    /// The time between two lists of all containers.
    pub resync: Duration,
    /// Whether the log has the reason for each container and port that is left out.
    pub explain: bool,
    pub listen: Option<SocketAddr>,
    /// Where the Docker daemon's id is remembered; none is nowhere.
    pub state_directory: Option<PathBuf>,
    /// The file that names the drained containers while it exists.
    pub drain_file: Option<PathBuf>,
}

/// The settings of every command that looks at containers.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The policy: a file, or the name of a bundled one; none is the default policy.
    pub script: Option<PathBuf>,
    /// The policy's `options`. `host_ip` is empty until it has been found.
    pub options: Options,
    pub store: store::Settings,
    /// Docker's own container filters.
    pub filters: Filters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Changes are printed, and no store is needed.
    DryRun,
    Write(OnExit),
}

/// `--on-exit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// The keys stay until their TTL ends, so an upgrade of the registrar is no outage.
    Leave,
    /// The keys are removed before the registrar ends.
    Remove,
}

impl Settings {
    /// The default TTL.
    pub fn lifetime(&self) -> Duration {
        lifetime(self.host.options.ttl)
    }

    /// The time limit of one call to Docker or to the store.
    pub fn call_limit(&self) -> Duration {
        call_limit(self.host.options.ttl)
    }
}

impl HostSettings {
    /// The connection that a policy reads the store over. It connects at its first call.
    pub fn reader(&self) -> Reader {
        Rc::new(self.connect().into())
    }

    /// A new connection to the store of the keys. It connects at its first call.
    pub fn connect(&self) -> AnyStore {
        self.store.open(call_limit(self.options.ttl))
    }
}
