//! What a running registrar shows of itself: how it stands with its partners, what it has counted, and what its two
//! loops answer when they are asked.
//!
//! Nothing is copied on the way from an event to a key. The lists of containers and of keys belong to the loops that
//! work with them, and are put together only when somebody asks.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::metrics::{Counts, Metrics};
use super::plan::KeyView;
use crate::ops::condition::{Condition, Question, State};
use crate::ops::counter::Counter;
use crate::ops::log;
use crate::policy::ContainerView;
use crate::store::LeaseId;

/// All of it.
#[derive(Debug, Default)]
pub struct Status {
    /// How it stands with the Docker daemon.
    pub docker: Condition,
    /// How it stands with etcd.
    pub etcd: Condition,
    /// Whether this is the one registrar of its identity.
    pub seat: Condition,
    /// Whether the policy's `run` is at work.
    pub policy: Condition,
    /// Which policy is in force: the file or the bundled name, and its digest.
    pub script: watch::Sender<String>,
    /// The leases that are kept alive.
    pub held: watch::Sender<Held>,
    /// Events of Docker that may change a container's keys.
    pub events: Counter,
    /// Calls of the policy that failed for a container.
    pub policy_errors: Counter,
    /// What has been counted.
    pub metrics: Metrics,
    /// Whether the script's thread lets go.
    pub alive: Question<()>,
    /// What the policy made of each container, by name. The script's thread answers.
    pub containers: Question<Vec<ContainerView>>,
    /// The keys that are wanted, sorted. The keeper answers.
    pub keys: Question<Vec<KeyView>>,
}

/// The leases that are kept alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Those of keys.
    pub leases: BTreeSet<LeaseId>,
    /// The identity's seat and when it was last renewed, while it is ours.
    pub seat: Option<(LeaseId, Instant)>,
    /// Until when the one lives that ends first; none before there is one.
    pub until: Option<Instant>,
}

impl Status {
    /// All conditions that must be good, by name.
    pub fn conditions(&self) -> [(&'static str, &Condition); 4] {
        [
            ("docker", &self.docker),
            ("etcd", &self.etcd),
            ("seat", &self.seat),
            ("policy", &self.policy),
        ]
    }

    /// What keeps this registrar from being ready, a line for each thing; none if it is.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = self
            .conditions()
            .into_iter()
            .filter_map(|(name, part)| match part.state() {
                State::Good { .. } => None,
                State::Unknown => Some(format!("{name}: nothing has come of it yet")),
                State::Bad { since, why } => Some(format!("{name}: {why}, since {since:.0}")),
            })
            .collect();
        if self.lease_left().is_some_and(|left| left.is_zero()) {
            troubles.push(
                "lease: it has run out, because etcd was not reached in time to renew it"
                    .to_owned(),
            );
        }
        troubles
    }

    /// The counts that are kept beside the metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            events: self.events.get(),
            reconnections: [self.docker.returns(), self.etcd.returns()],
            policy_errors: self.policy_errors.get(),
            log_lines_dropped: log::dropped_lines(),
        }
    }

    /// How long the lease lives that ends first, if nothing renews it; none before there is one.
    pub fn lease_left(&self) -> Option<Duration> {
        let until = self.held.borrow().until;
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}
