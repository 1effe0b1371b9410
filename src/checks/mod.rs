//! Active checks: an entry with a check is handed on only while the check passes. They stand between the policy's wanted
//! state and the keeper. The `gate` decides, on the script's thread; the `prober` asks the services, on the second one.

mod gate;
mod once;
mod probe;
mod prober;
mod tally;
mod timetable;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::ops::condition::{Condition, Question};
use crate::ops::counter::Counter;
use crate::wanted::{Check, ContainerName, Entry, Wanted, WantedReceiver};
use gate::Gate;
use prober::Prober;

pub use once::{ask_once, unproven};

/// The most verdicts that the gate takes over at once.
const MOST_VERDICTS: usize = 1024;

/// The state of the checks, for the page, the metrics and the readiness check. A clone is the same state.
#[derive(Debug, Clone, Default)]
pub struct ChecksStatus {
    /// Bad while probes cannot be made for a reason of this host's.
    pub condition: Condition,
    /// Probes that a service passed.
    pub passed: Counter,
    /// Probes that a service failed.
    pub failed: Counter,
    /// Probes that could not be made for a reason of this host's.
    pub unasked: Counter,
    /// The state of each check, in the order of the containers' names. The prober answers.
    pub views: Arc<Question<Vec<CheckView>>>,
}

/// One check as the page and the metrics show it.
#[derive(Debug, Clone)]
pub struct CheckView {
    pub who: ContainerName,
    pub check: Arc<Check>,
    pub verdict: Verdict,
    /// Why the last probe failed, or could not be made.
    pub trouble: Option<String>,
    /// When the verdict last changed.
    pub since: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There have not been enough probes yet. A key in the store stays, and no other is put.
    Unproven,
    Passes,
    Fails,
}

/// One check of one run of a container, or of the host.
#[derive(Debug, Clone)]
struct Target {
    who: ContainerName,
    check: Arc<Check>,
    /// The time that the container must still run before the first probe.
    not_before: Duration,
}

/// Names a target to gate and prober. No two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TargetId(u64);

/// An order for the prober.
#[derive(Debug)]
enum Order {
    /// Probes from now on: the first time at once, or spread over the interval.
    Begin {
        id: TargetId,
        target: Target,
        at_once: bool,
    },
    End(TargetId),
}

/// The prober's verdict on a target has changed: whether it passes.
#[derive(Debug, Clone, Copy)]
struct Judged {
    id: TargetId,
    passes: bool,
}

impl CheckView {
    /// The views of a container, among all views in the order of names.
    pub fn of<'a>(all: &'a [Self], name: &str) -> &'a [Self] {
        let begin = all.partition_point(|view| *view.who.name < *name);
        let its = &all[begin..];
        &its[..its.partition_point(|view| *view.who.name == *name)]
    }

    /// The verdict on an entry, among the views of its container; none if it has no check.
    pub fn verdict_on(its: &[Self], entry: &Entry) -> Option<Verdict> {
        let check = entry.check.as_ref()?;
        let view = its.iter().find(|view| view.check == *check);
        view.map(|view| view.verdict)
    }

    /// Whether a container with these views has no key, because each of them hangs on a check that fails.
    pub fn fail_all(its: &[Self], entries: &[Entry]) -> bool {
        let fails = |entry| Self::verdict_on(its, entry) == Some(Verdict::Fails);
        !entries.is_empty() && entries.iter().all(fails)
    }
}

impl Target {
    /// Why it fails without a probe; none once its container has run for long enough.
    fn too_young(&self) -> Option<String> {
        let uptime = self.check.uptime.as_secs_f64();
        (!self.not_before.is_zero()).then(|| format!("it has not run for {uptime} s yet"))
    }
}

impl Verdict {
    /// The word of the page, the metrics and `keys`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Passes => "passing",
            Self::Fails => "failing",
        }
    }
}

/// The two sides of the checks. The prober runs on any thread, the gate on that of the script.
pub struct Checks {
    prober: Prober,
    orders: mpsc::UnboundedSender<Vec<Order>>,
    judged: mpsc::UnboundedReceiver<Judged>,
}

impl Checks {
    /// With `explain`, the log has each check that begins.
    pub fn new(status: ChecksStatus, explain: bool) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        let (judge, judged) = mpsc::unbounded_channel();
        Self {
            prober: Prober::new(status, received, judge, explain),
            orders,
            judged,
        }
    }

    /// Starts the gate in this task's runtime, and the prober by `spawn`. Returns the wanted state without the entries
    /// whose check does not pass.
    pub fn start(
        self,
        wanted: WantedReceiver,
        spawn: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
    ) -> WantedReceiver {
        let left = watch::Sender::new(None);
        let receiver = left.subscribe();
        spawn(Box::pin(self.prober.run()));
        tokio::spawn(follow(wanted, left, self.orders, self.judged));
        receiver
    }
}

/// Hands on each wanted state, and once more at each verdict that changes it.
async fn follow(
    mut wanted: WantedReceiver,
    left: watch::Sender<Option<Arc<Wanted>>>,
    orders: mpsc::UnboundedSender<Vec<Order>>,
    mut judged: mpsc::UnboundedReceiver<Judged>,
) {
    let mut gate = Gate::default();
    let mut verdicts = Vec::new();
    loop {
        tokio::select! {
            biased;
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let newest = wanted.borrow_and_update().clone();
                let Some(newest) = newest else { continue };
                let new = gate.want(&newest, Timestamp::now());
                if !new.is_empty() && orders.send(new).is_err() {
                    return;
                }
                left.send_replace(Some(gate.left()));
            }
            number = judged.recv_many(&mut verdicts, MOST_VERDICTS) => {
                if number == 0 {
                    return;
                }
                let mut is_new = false;
                for verdict in verdicts.drain(..) {
                    is_new |= gate.judge(verdict);
                }
                if is_new {
                    left.send_replace(Some(gate.left()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
