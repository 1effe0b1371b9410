//! The state of a running registrar, for the page, the metrics and the readiness check: conditions, counts, leases, and
//! the questions that its loops answer.
//!
//! Nothing is copied on the way from an event to a key. The lists of containers and keys belong to the loops that use
//! them, and are put together only when somebody asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::collisions::Collision;
use super::keeper::seat_ttl;
use super::leases::Leases;
use super::metrics::{Counts, Metrics};
use super::plan::KeyView;
use crate::checks::ChecksStatus;
use crate::ops::condition::{Condition, Question};
use crate::ops::counter::Counter;
use crate::ops::loads::Loads;
use crate::ops::readiness::Readiness;
use crate::policy::ContainerView;
use crate::store;

#[derive(Debug)]
pub struct Status {
    pub docker: Condition,
    pub store: Condition,
    /// The store's name in messages, and that of its condition.
    store_name: &'static str,
    store_label: &'static str,
    /// Good while this is the only registrar of its identity.
    pub seat: Condition,
    /// Good while the policy's `run` works.
    pub policy: Condition,
    /// Bad while containers are drained, or while the drain file cannot be read. The registrar is ready all the same.
    pub drain: Condition,
    /// The names of the drained containers.
    pub drained: watch::Sender<BTreeSet<Arc<str>>>,
    /// The active checks. The registrar is ready although some cannot be made.
    pub checks: ChecksStatus,
    /// The policy in force, and whether the last load failed.
    pub loads: Loads,
    pub leases: Leases,
    /// Docker events that may change a container's keys.
    pub events: Counter,
    /// Policy calls that failed for a container.
    pub policy_errors: Counter,
    pub metrics: Metrics,
    /// Addresses of this host that several containers claim.
    pub collisions: watch::Sender<Vec<Collision>>,
    /// The script's thread answers, unless the script hangs.
    pub alive: Arc<Question<()>>,
    /// The policy's decision on each container, by name. The script's thread answers.
    pub containers: Question<Vec<ContainerView>>,
    /// The wanted keys, sorted. The keeper answers.
    pub keys: Question<Vec<KeyView>>,
}

impl Status {
    /// Nothing is known yet. `ttl` is the default TTL, in seconds.
    pub fn new(ttl: u32, store: &store::Settings) -> Self {
        Self {
            docker: Condition::default(),
            store: Condition::default(),
            store_name: store.name(),
            store_label: store.label(),
            seat: Condition::default(),
            policy: Condition::default(),
            drain: Condition::default(),
            drained: watch::Sender::default(),
            checks: ChecksStatus::default(),
            loads: Loads::default(),
            leases: Leases::new(seat_ttl(ttl)),
            events: Counter::default(),
            policy_errors: Counter::default(),
            metrics: Metrics::new(store.label()),
            collisions: watch::Sender::default(),
            alive: Arc::default(),
            containers: Question::default(),
            keys: Question::default(),
        }
    }

    /// Ready while all conditions are good, no lease has expired, and the script's thread answers.
    pub fn readiness(&self) -> Readiness {
        let (leases, store) = (self.leases.clone(), self.store_name);
        Readiness {
            conditions: vec![
                ("docker", self.docker.clone()),
                (self.store_label, self.store.clone()),
                ("seat", self.seat.clone()),
                ("policy", self.policy.clone()),
            ],
            notices: vec![
                ("drain", self.drain.clone()),
                ("checks", self.checks.condition.clone()),
            ],
            problem: Arc::new(move || {
                let is_over = leases.now().left().is_some_and(|left| left.is_zero());
                is_over.then(|| {
                    format!(
                        "lease: it has expired, because {store} was not reached in time to renew it"
                    )
                })
            }),
            alive: Arc::clone(&self.alive),
        }
    }

    /// The store's name in messages.
    pub fn store_name(&self) -> &'static str {
        self.store_name
    }

    /// The counts that are kept outside the metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            events: self.events.get(),
            reconnections: [self.docker.losses(), self.store.losses()],
            policy_errors: self.policy_errors.get(),
            probes: [
                self.checks.passed.get(),
                self.checks.failed.get(),
                self.checks.unasked.get(),
            ],
        }
    }

    /// The time until the first lease ends, if nothing renews it; none before there is one.
    pub fn lease_left(&self) -> Option<Duration> {
        self.leases.now().left()
    }
}
