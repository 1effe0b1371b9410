//! Asks the services. One loop holds the state of all targets; each probe is a task, so that one that hangs holds up no
//! other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::probe::{Client, Outcome};
use super::tally::Tally;
use super::timetable::Timetable;
use super::{CheckView, ChecksStatus, Judged, Order, Target, TargetId};
use crate::wanted::Check;

/// The most probes at a time.
const SLOTS: usize = 64;
/// The most at a time of services that did not answer the last time, so that there is room for the others.
const SILENT_SLOTS: usize = 32;

/// The state of all targets.
pub(super) struct Prober {
    status: ChecksStatus,
    orders: mpsc::UnboundedReceiver<Vec<Order>>,
    judge: mpsc::UnboundedSender<Judged>,
    /// Whether the log has each check that begins.
    explain: bool,
    slots: Slots,
    timetable: Timetable,
    targets: HashMap<TargetId, Watched>,
    /// Why the last probe of a target could not be made.
    unasked: BTreeMap<TargetId, String>,
}

/// The client of all probes, and their slots. A clone is the same.
#[derive(Clone)]
pub(super) struct Slots {
    client: Arc<Client>,
    all: Arc<Semaphore>,
    silent: Arc<Semaphore>,
}

struct Watched {
    target: Target,
    tally: Tally,
    next: Next,
    /// Whether the last probe had no answer in time.
    is_silent: bool,
    /// Why the last probe failed, or could not be made.
    trouble: Option<String>,
    since: Timestamp,
}

enum Next {
    Probe(Instant),
    Result(AbortHandle),
    /// Nothing can change its verdict.
    Nothing,
}

/// The result of one probe.
struct Answer {
    id: TargetId,
    begun: Instant,
    outcome: Outcome,
}

impl Prober {
    pub fn new(
        status: ChecksStatus,
        orders: mpsc::UnboundedReceiver<Vec<Order>>,
        judge: mpsc::UnboundedSender<Judged>,
        explain: bool,
    ) -> Self {
        Self {
            status,
            orders,
            judge,
            explain,
            slots: Slots::new(),
            timetable: Timetable::new(Instant::now()),
            targets: HashMap::new(),
            unasked: BTreeMap::new(),
        }
    }

    /// Returns when nobody gives orders any more.
    pub async fn run(mut self) {
        let (answer, mut answers) = mpsc::unbounded_channel();
        let views = Arc::clone(&self.status.views);
        loop {
            let next = self.timetable.next();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                orders = self.orders.recv() => match orders {
                    Some(orders) => orders.into_iter().for_each(|order| self.follow(order)),
                    None => return,
                },
                () = views.asked() => views.answer(self.views()),
                Some(answer) = answers.recv() => self.take(answer),
                () = due => self.probe_due(&answer),
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Begin {
                id,
                target,
                at_once,
            } => self.begin(id, target, at_once),
            Order::End(id) => self.end(id),
        }
    }

    fn begin(&mut self, id: TargetId, target: Target, at_once: bool) {
        if self.explain {
            info!("{}: its keys hang on a check: {}", target.who, target.check);
        }
        let from = Instant::now() + target.not_before;
        let at = if at_once || !target.not_before.is_zero() {
            from
        } else {
            let interval = target.check.interval;
            self.timetable.place_after(id, interval, from)
        };
        self.timetable.add(id, at);
        let trouble = target.too_young();
        let tally = match trouble {
            Some(_) => Tally::failing(),
            None => Tally::default(),
        };
        let watched = Watched {
            target,
            tally,
            next: Next::Probe(at),
            is_silent: false,
            trouble,
            since: Timestamp::now(),
        };
        self.targets.insert(id, watched);
    }

    fn end(&mut self, id: TargetId) {
        match self.targets.remove(&id).map(|watched| watched.next) {
            Some(Next::Probe(at)) => self.timetable.remove(id, at),
            Some(Next::Result(task)) => task.abort(),
            Some(Next::Nothing) | None => {}
        }
        self.settle(id, None);
    }

    /// Starts the probes that are due.
    fn probe_due(&mut self, answers: &mpsc::UnboundedSender<Answer>) {
        let now = Instant::now();
        while let Some(id) = self.timetable.take(now) {
            let Some(watched) = self.targets.get_mut(&id) else {
                continue;
            };
            let (slots, answers) = (self.slots.clone(), answers.clone());
            let (check, is_silent) = (Arc::clone(&watched.target.check), watched.is_silent);
            let task = tokio::spawn(async move {
                let (begun, outcome) = slots.probe(&check, is_silent).await;
                let _ = answers.send(Answer { id, begun, outcome });
            });
            watched.next = Next::Result(task.abort_handle());
        }
    }

    fn take(&mut self, answer: Answer) {
        let Answer { id, begun, outcome } = answer;
        let Some(watched) = self.targets.get_mut(&id) else {
            return; // It has ended meanwhile.
        };
        let check = Arc::clone(&watched.target.check);
        watched.is_silent = matches!(outcome, Outcome::Silent(_));
        watched.trouble = outcome.trouble();
        let (passed, unasked, counter) = match outcome {
            Outcome::Passed => (Some(true), None, &self.status.passed),
            Outcome::Failed(_) | Outcome::Silent(_) => (Some(false), None, &self.status.failed),
            Outcome::Unasked(why) => (None, Some(why), &self.status.unasked),
        };
        counter.add_one();
        if let Some(passed) = passed
            && let Some(passes) = watched.judge(passed, self.explain)
        {
            let _ = self.judge.send(Judged { id, passes });
        }
        watched.next = if check.probe.is_none() {
            Next::Nothing
        } else {
            let interval = check.interval;
            let next = self.timetable.place_after_probe(id, interval, begun);
            let at = next.max(self.timetable.place_after(id, interval, Instant::now()));
            self.timetable.add(id, at);
            Next::Probe(at)
        };
        self.settle(id, unasked);
    }

    /// Shows whether all targets can be asked.
    fn settle(&mut self, id: TargetId, unasked: Option<String>) {
        let were_asked = self.unasked.is_empty();
        match unasked {
            Some(why) => drop(self.unasked.insert(id, why)),
            None => drop(self.unasked.remove(&id)),
        }
        let condition = &self.status.condition;
        match self.unasked.values().next() {
            None => {
                if !were_asked {
                    info!("all checks can be made again");
                }
                condition.good();
            }
            Some(why) => {
                let number = self.unasked.len();
                if were_asked {
                    error!("checks cannot be made, and their keys stay as they are: {why}");
                }
                condition.bad(&format!(
                    "{number} of the checks cannot be made, and their keys stay as they are: {why}"
                ));
            }
        }
    }

    fn views(&self) -> Vec<CheckView> {
        let mut targets: Vec<(&TargetId, &Watched)> = self.targets.iter().collect();
        targets.sort_by_key(|(id, watched)| (&watched.target.who.name, **id));
        let view = |(_, watched): (&TargetId, &Watched)| CheckView {
            who: watched.target.who.clone(),
            check: Arc::clone(&watched.target.check),
            verdict: watched.tally.verdict(),
            trouble: watched.trouble.clone(),
            since: watched.since,
        };
        targets.into_iter().map(view).collect()
    }
}

impl Watched {
    /// Adds a result. Returns the verdict, whether the service passes, if it has changed.
    fn judge(&mut self, result: bool, explain: bool) -> Option<bool> {
        let Target { who, check, .. } = &self.target;
        let verdict_before = self.tally.verdict();
        // A container has run for long enough once and for all.
        let times = if check.probe.is_some() { 1 } else { check.rise };
        let mut changed = None;
        for _ in 0..times {
            changed = changed.or(self.tally.add(result, check));
        }
        let passes = changed?;
        self.since = Timestamp::now();
        let is_first = verdict_before == super::Verdict::Unproven;
        match (passes, &self.trouble) {
            (true, _) if is_first && !explain => debug!("{who}: its check passes: {check}"),
            (true, _) => info!("{who}: its check passes, and its keys are put: {check}"),
            (false, why) => {
                let why = why.as_deref().unwrap_or_default();
                let keys = if is_first {
                    "it has no keys"
                } else {
                    "its keys are removed"
                };
                warn!("{who}: its check fails, and {keys}: {check}: {why}");
            }
        }
        Some(passes)
    }
}

impl Slots {
    pub fn new() -> Self {
        Self {
            client: Arc::default(),
            all: Arc::new(Semaphore::new(SLOTS)),
            silent: Arc::new(Semaphore::new(SILENT_SLOTS)),
        }
    }

    /// Waits for a slot and makes a probe. Returns its outcome, and when it began.
    pub async fn probe(&self, check: &Check, is_silent: bool) -> (Instant, Outcome) {
        // The semaphores are never closed, so both are always permits.
        let _silent = if is_silent {
            self.silent.acquire().await.ok()
        } else {
            None
        };
        let _slot = self.all.acquire().await.ok();
        let begun = Instant::now();
        (begun, self.client.probe(check).await)
    }
}
