//! The world of a reading policy: its options, the source of the keys, the owner of each address, and the channel of the
//! wanted routes.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use super::listeners::Listeners;
use crate::ops::condition::Condition;
use crate::ops::counter::Counter;
use crate::policy::Report;
use crate::routes::{Claim, Keys, Registered, Routes, Services};

/// The module `options` of a reading policy, and the fields of its module `proxy`.
#[derive(Debug, Clone, Default)]
pub struct RoutingOptions {
    /// The beginning of every key, without a slash at its end.
    pub prefix: String,
    /// The layout of the keys; none for this program's own.
    pub layout: Option<String>,
    /// The names and values of `--set`.
    pub set: Vec<(String, String)>,
    pub proxy: ProxyOptions,
}

/// The fields of the module `proxy`. All are there for each proxy, because a policy may make files of several.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// As `--proxy` has it.
    pub name: String,
    /// Where the files are: absolute, without a slash at its end.
    pub directory: String,
    /// The socket on which HAProxy takes run-time commands, or Envoy's admin socket.
    pub socket: String,
    /// The file with the states of HAProxy's servers over a reload.
    pub state_file: String,
    /// The file with the process id of nginx.
    pub pid_file: String,
}

/// Where keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// A store that is watched.
    Live(watch::Receiver<Option<Arc<Keys>>>),
    /// The keys of one moment.
    Once(Arc<Keys>),
}

/// Decides which claims get their address, and gives the reason why one does not.
pub type Owners = Rc<dyn Fn(&[Claim]) -> Vec<Result<(), String>>>;

/// A clone shares everything, so that a script can be loaded again in the world of the last one.
#[derive(Clone)]
pub struct RoutingWorld {
    pub(super) script: Option<PathBuf>,
    pub(super) options: RoutingOptions,
    pub(super) source: KeySource,
    pub(super) owners: Owners,
    pub(super) routes: watch::Sender<Option<Arc<Routes>>>,
    pub(super) registered: watch::Sender<Option<Arc<Registered>>>,
    pub(super) report: Report,
    pub(super) condition: Condition,
    pub(super) errors: Counter,
    /// What the policy said of each service, also before its script was loaded again.
    pub(super) listeners: Rc<RefCell<Listeners>>,
    pub(super) services: Rc<RefCell<Services>>,
}

impl RoutingWorld {
    /// The world of a script that runs until its source ends.
    pub fn new(options: RoutingOptions, source: KeySource, owners: Owners) -> Self {
        Self {
            script: None,
            options,
            source,
            owners,
            routes: watch::Sender::new(None),
            registered: watch::Sender::new(None),
            report: Report::Failures,
            condition: Condition::default(),
            errors: Counter::default(),
            listeners: Rc::default(),
            services: Rc::default(),
        }
    }

    /// Sets the script: a file, or the name of a bundled one; none is the default policy.
    pub fn script(self, script: Option<PathBuf>) -> Self {
        Self { script, ..self }
    }

    pub fn reporting(self, report: Report) -> Self {
        Self { report, ..self }
    }

    /// Shows in a condition whether the policy works.
    pub fn shown_by(self, condition: &Condition) -> Self {
        Self {
            condition: condition.clone(),
            ..self
        }
    }

    /// Counts the calls that fail.
    pub fn counting(self, errors: Counter) -> Self {
        Self { errors, ..self }
    }

    /// Where the wanted routes appear; none before the first `proxy.sync`.
    pub fn routes(&self) -> watch::Receiver<Option<Arc<Routes>>> {
        self.routes.subscribe()
    }

    /// Where the registered services appear; none before the first list.
    pub fn registered(&self) -> watch::Receiver<Option<Arc<Registered>>> {
        self.registered.subscribe()
    }
}
