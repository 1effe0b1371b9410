//! The world of a script: its options, the source of its containers, the channel of the wanted state, and the log of its
//! calls. `register/run` makes one with [`World::live`], and a command with [`World::once`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use super::verdicts::Verdicts;
use crate::docker::{Snapshot, Snapshots};
use crate::ops::condition::Condition;
use crate::ops::counter::Counter;
use crate::store::AnyStore;
use crate::wanted::Wanted;

/// Reads the store for scripts.
pub type Reader = Rc<Mutex<AnyStore>>;

/// The module `options` of a policy.
#[derive(Debug, Clone)]
pub struct Options {
    /// The beginning of every key, without a slash at its end.
    pub prefix: String,
    /// The default TTL, in seconds: that of entries without one.
    pub ttl: u32,
    /// The address under which others reach this host.
    pub host_ip: String,
    /// Tells several registrars of one Docker daemon apart.
    pub instance: String,
    /// The names and values of `--set`.
    pub set: Vec<(String, String)>,
}

/// The log lines about calls of policy functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Failures, and what is left out.
    All,
    /// Failures; what is left out, at level debug.
    Failures,
    /// Nothing, because the caller reads the verdicts afterwards.
    Nothing,
}

/// Where containers come from.
#[derive(Clone)]
pub enum Source {
    /// A running daemon.
    Live(Snapshots),
    /// Snapshots of earlier moments.
    Saved(VecDeque<Arc<Snapshot>>),
}

/// The world of a script. A clone shares everything, so that a script can be loaded again in the world of the last one.
#[derive(Clone)]
pub struct World {
    pub(super) script: Option<PathBuf>,
    pub(super) options: Options,
    pub(super) source: Source,
    pub(super) reader: Option<Reader>,
    pub(super) wanted: watch::Sender<Option<Arc<Wanted>>>,
    pub(super) report: Report,
    pub(super) verdicts: Rc<RefCell<Verdicts>>,
    pub(super) condition: Condition,
    pub(super) errors: Counter,
}

impl World {
    /// The world of a running daemon, for a script that runs for ever.
    pub fn live(options: Options, snapshots: Snapshots) -> Self {
        Self::new(options, Source::Live(snapshots), Report::Failures)
    }

    /// The world of one snapshot, for a script that runs once. The caller reads the verdicts.
    pub fn once(options: Options, snapshot: Snapshot) -> Self {
        let saved = Source::Saved([Arc::new(snapshot)].into());
        Self::new(options, saved, Report::Nothing)
    }

    fn new(options: Options, source: Source, report: Report) -> Self {
        Self {
            script: None,
            options,
            source,
            reader: None,
            wanted: watch::Sender::new(None),
            report,
            verdicts: Rc::default(),
            condition: Condition::default(),
            errors: Counter::default(),
        }
    }

    /// Sets the script: a file, or the name of a bundled one; none is the default policy.
    pub fn script(self, script: Option<PathBuf>) -> Self {
        Self { script, ..self }
    }

    /// Adds a reader for `etcd.get` and `etcd.list`, which fail without one.
    pub fn reading(self, reader: Reader) -> Self {
        Self {
            reader: Some(reader),
            ..self
        }
    }

    pub fn reporting(self, report: Report) -> Self {
        Self { report, ..self }
    }

    /// Keeps the verdicts in a place that others read too.
    pub fn keeping(self, verdicts: Rc<RefCell<Verdicts>>) -> Self {
        Self { verdicts, ..self }
    }

    /// Shows in a condition whether the policy works.
    pub fn shown_by(self, condition: &Condition) -> Self {
        Self {
            condition: condition.clone(),
            ..self
        }
    }

    /// Counts the calls that fail for a container.
    pub fn counting(self, errors: Counter) -> Self {
        Self { errors, ..self }
    }

    /// Where the wanted state appears; none before the first `etcd.sync`.
    pub fn wanted(&self) -> watch::Receiver<Option<Arc<Wanted>>> {
        self.wanted.subscribe()
    }

    pub fn verdicts(&self) -> &Rc<RefCell<Verdicts>> {
        &self.verdicts
    }
}
