//! The settings of the reading role. `cli` checks them, so it can start with any `Settings`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::feed::Feed;
use super::haproxy::Sockets;
use super::status::Status;
use crate::ops::outage::Outage;
use crate::policy::RoutingOptions;
use crate::routes::{Keys, Protocol};
use crate::store::{self, AnyStore};

/// The time limit of one call to the store.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// The time between two looks at somebody else's proxy.
const OTHERS: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Settings {
    pub routing: RoutingSettings,
    pub proxy: ProxySettings,
    pub commands: Commands,
    pub mode: Mode,
    /// The time between two listings of all keys.
    pub resync: Duration,
    /// The time between two reloads.
    pub reload_interval: Duration,
    /// How long a server's open connections may go on after it has been removed.
    pub drain: Duration,
    /// Whether new addresses are tried before the proxy gets them.
    pub probes: bool,
    /// Whether the log has the reason for everything that is left out.
    pub explain: bool,
    pub listen: Option<SocketAddr>,
}

/// The settings of every command that makes routes.
#[derive(Debug, Clone)]
pub struct RoutingSettings {
    /// The policy: a file, or the name of a bundled one; none is the default policy.
    pub script: Option<PathBuf>,
    pub options: RoutingOptions,
    pub store: store::Settings,
    /// Where the files are.
    pub directory: PathBuf,
}

/// The proxy, and who starts it.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    pub proxy: Proxy,
    pub starter: Starter,
}

#[derive(Debug, Clone)]
pub enum Proxy {
    Haproxy(Sockets),
    Nginx {
        pid_file: PathBuf,
    },
    Envoy {
        /// The Unix socket of its admin interface.
        admin: PathBuf,
    },
    /// Any other reader of the files. It is known by its commands alone.
    None,
}

#[derive(Debug, Clone)]
pub enum Starter {
    /// A process of ours; an empty command is the proxy's program with the right flags.
    Us { command: Vec<OsString> },
    /// Somebody else starts and stops it.
    Others,
}

/// The commands about the files beside the proxy's own. They are run by `sh -c`.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    pub check: Option<String>,
    pub reload: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Files and run-time commands are printed.
    DryRun,
    Write(OnExit),
}

/// `--on-exit` of `discover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// The proxy goes on, and the next process uses it.
    Leave,
    /// Our own proxy ends too.
    Stop,
}

impl Settings {
    /// The time between two looks at a proxy that is in step. Nothing tells of the restart of somebody else's.
    pub fn pause(&self) -> Duration {
        if self.proxy.is_ours() {
            self.resync
        } else {
            self.resync.min(OTHERS)
        }
    }
}

impl RoutingSettings {
    /// A new connection to the store. It connects at its first call.
    pub fn connect(&self) -> AnyStore {
        self.store.open(CALL_LIMIT)
    }

    /// A feed of all keys below the prefix.
    pub fn feed(
        &self,
        resync: Duration,
        status: &Status,
        keys: watch::Sender<Option<Arc<Keys>>>,
    ) -> Feed {
        let store = self.store.name();
        let outage = Outage::new(store, "all routes stay as they are", 2 * resync);
        Feed {
            store,
            prefix: self.options.prefix.clone(),
            resync,
            outage: outage.shown_by(&status.store),
            keys,
            freshness: status.freshness.clone(),
        }
    }
}

impl Proxy {
    /// The protocols of the addresses that it listens on. Those of others are some other program's.
    pub fn protocols(&self) -> &'static [Protocol] {
        match self {
            Self::Haproxy(_) => &[Protocol::Tcp],
            Self::Nginx { .. } | Self::Envoy { .. } => &[Protocol::Tcp, Protocol::Udp],
            Self::None => &[],
        }
    }
}

impl ProxySettings {
    /// Whether the proxy is a process of ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.starter, Starter::Us { .. })
    }

    /// The proxy's name in messages.
    pub fn name(&self) -> &'static str {
        match self.proxy {
            Proxy::Haproxy(_) => "HAProxy",
            Proxy::Nginx { .. } => "nginx",
            Proxy::Envoy { .. } => "Envoy",
            Proxy::None => "the proxy",
        }
    }
}
