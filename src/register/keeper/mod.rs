//! The one task that writes to the store: it brings the store to the newest wanted state, and renews the leases. While
//! a script blocks this task's thread, `late_renewal` renews them.
//!
//! Three rules keep this simple and safe:
//!
//! - After any error its view of the store is stale, and it reads the store again before it writes.
//! - Each renewal reads the keys back, so drift is mended by the same path as a change.
//! - Shared leases are renewed before owned ones and live two seconds longer, so when a registrar dies, its
//!   owned keys are removed before the shared keys that describe them.

mod apply;
mod late_renewal;
mod load;
mod seating;
mod shutdown;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use super::leases::Leases;
use super::plan::Plan;
use super::seat::Seat;
use super::settings::{Mode, OnExit, Settings};
use super::status::Status;
use super::timetable::{call_limit, lifetime, renewal_pause, seat_offset};
use crate::ops::outage::Outage;
use crate::ops::signals::ForGood;
use crate::store::{Identity, LeaseId, Store, StoreError};
use crate::wanted::Wanted;

pub use late_renewal::{renew_late, watch_expiry};
pub use seating::seat_ttl;

/// The number of leases that are renewed before another look at the newest wanted state.
const RENEWED_AT_ONCE: usize = 256;
/// The time between two log lines about another process with this identity.
const REMINDER: Duration = Duration::from_secs(60);

/// Keeps `store` in step with `wanted` until `shutdown` completes. An end for good removes the keys, whatever the settings
/// say.
pub async fn keep<S: Store>(
    store: S,
    identity: Identity,
    settings: Settings,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    status: Arc<Status>,
    shutdown: impl Future<Output = ()>,
    for_good: ForGood,
) {
    let mut keeper = Keeper::new(store, identity, settings.host.options.ttl, wanted, status);
    tokio::select! {
        () = keeper.run() => {}
        () = shutdown => {}
    }
    let Mode::Write(on_exit) = settings.mode else {
        return;
    };
    if !settings.host.store.lasts() {
        return;
    }
    match on_exit {
        _ if keeper.gives_way.is_some() => info!("ending; the keys belong to another registrar"),
        OnExit::Leave if !for_good.is_set() => keeper.leave().await,
        OnExit::Leave | OnExit::Remove => keeper.remove_all().await,
    }
}

struct Keeper<S> {
    store: S,
    identity: Identity,
    /// The default TTL, in seconds. A registrar without keys looks at the store at its pace.
    ttl: u32,
    /// The newest wanted state, which the plan takes over between two transactions at the latest.
    newest: watch::Receiver<Option<Arc<Wanted>>>,
    plan: Plan,
    /// Shared with late renewal.
    leases: Leases,
    knowledge: Knowledge,
    /// Whether each container has its own transactions, because the store refused one.
    one_by_one: bool,
    schedule: Schedule,
    /// The last log line about another process's keys on our leases.
    strangers_logged_at: Option<Instant>,
    /// The last log line about another process with this identity. While it is set, nothing is written.
    gives_way: Option<Instant>,
    /// The time by which the keys are removed, once this process is ending.
    ends_by: Option<Instant>,
    outage: Outage,
    status: Arc<Status>,
}

/// How much the plan knows of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// Nothing. The leases of an earlier process have not been looked for either.
    Unread,
    /// Read before an error, or for another wanted state. It must be read again before anything is written.
    Stale,
    /// All keys of this registrar in the store.
    Whole,
}

#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// The shortest TTL in force, in seconds.
    ttl: u32,
    renew_at: Instant,
    /// Half-way between two renewals of the keys. The renewal of the seat also shows that the store answers.
    seat_at: Instant,
}

impl<S: Store> Keeper<S> {
    fn new(
        store: S,
        identity: Identity,
        ttl: u32,
        newest: watch::Receiver<Option<Arc<Wanted>>>,
        status: Arc<Status>,
    ) -> Self {
        let now = Instant::now();
        let consequence = format!("keys in {} stay until their TTL ends", store.name());
        let outage = Outage::new(store.name(), consequence, lifetime(ttl));
        Self {
            store,
            identity,
            ttl,
            newest,
            plan: Plan::new(identity),
            leases: status.leases.clone(),
            knowledge: Knowledge::Unread,
            one_by_one: false,
            schedule: Schedule {
                ttl,
                renew_at: now,
                seat_at: now,
            },
            strangers_logged_at: None,
            gives_way: None,
            ends_by: None,
            outage: outage.shown_by(&status.store),
            status,
        }
    }

    /// Returns when the sender of the wanted state is gone, or nobody reads the store's output.
    async fn run(&mut self) {
        let (mut in_step, mut is_proven) = (false, false);
        loop {
            // Until the running containers are known, the keys of an earlier process are only kept alive.
            let newest = self.newest.borrow_and_update().clone();
            if let Some(newest) = newest {
                // The keys that have been read so far are not the wanted ones.
                if !self.plan.is_wanting() {
                    self.forget();
                }
                self.plan.want(&newest);
                is_proven = is_proven || newest.claims.iter().all(|it| it.unproven.is_empty());
            }
            let begun = Instant::now();
            let result = self.bring_in_step().await;
            if self.plan.is_wanting() {
                self.status
                    .metrics
                    .count_sync(begun.elapsed(), result.is_err());
            }
            match result {
                Ok(()) => {
                    self.outage.over();
                    // The registrar is not ready before the first keys are in the store.
                    if self.plan.is_wanting() {
                        self.show_seat();
                    }
                    if self.gives_way.is_some() {
                        in_step = false;
                    } else if self.plan.is_wanting() {
                        self.store.in_step(is_proven);
                        if !in_step {
                            let (keys, containers) =
                                (self.plan.wanted_keys().count(), self.plan.container_count());
                            info!("in step with Docker: keys: {keys}, containers: {containers}");
                        }
                        in_step = true;
                    }
                    let next_at = self.next_at();
                    let mut newest = self.newest.clone();
                    tokio::select! {
                        changed = newest.changed() => if changed.is_err() { return },
                        () = self.rest_until(next_at) => {}
                    }
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    self.forget();
                    in_step = false;
                    let wait = self.outage.failed(error.to_string());
                    self.rest_until(Instant::now() + wait).await;
                }
            }
        }
    }

    /// Waits, and meanwhile answers questions about the keys.
    async fn rest_until(&self, at: Instant) {
        let over = tokio::time::sleep_until(at);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = self.status.keys.asked(), if self.plan.is_wanting() => {
                    let mut views = self.plan.views();
                    // The known states are from before the outage, and the leases have expired since.
                    if self.gives_way.is_some() || self.leases.now().left().is_none_or(|left| left.is_zero()) {
                        for view in &mut views { view.stands = false; }
                    }
                    self.status.keys.answer(views);
                }
            }
        }
    }

    /// The time of the next renewal, or the next look at the seat while this process gives way.
    fn next_at(&self) -> Instant {
        if self.gives_way.is_some() {
            self.schedule.seat_at
        } else {
            self.schedule.seat_at.min(self.schedule.renew_at)
        }
    }

    async fn bring_in_step(&mut self) -> Result<(), StoreError> {
        // Neither may block the other: leases are renewed when the seat cannot be, and the other way round.
        let mut seat = Ok(());
        if !self.seat().is_open() && Instant::now() >= self.schedule.seat_at {
            seat = self.update_seat().await;
            if let Err(error) = &seat {
                // Reported now, because the work below may take as long again to fail.
                self.outage.failed(error.to_string());
            }
        }
        let mut work = Ok(());
        if self.gives_way.is_none() {
            work = self.write_changes().await;
        }
        // The first sync does not wait for the seat. Only deletes of keys that may be another process's do.
        if seat.is_ok() && self.seat().is_open() {
            seat = self.update_seat().await;
            if work.is_ok() && self.seat().is_ours() {
                work = self.write_changes().await;
            }
        }
        work.and(seat)
    }

    fn seat(&self) -> Seat {
        self.leases.now().seat.clone()
    }

    /// Makes the next write read everything again first.
    fn forget(&mut self) {
        if self.knowledge == Knowledge::Whole {
            self.knowledge = Knowledge::Stale;
        }
    }

    fn schedule(&mut self, from: Instant, ttl: u32) {
        let schedule = &mut self.schedule;
        schedule.ttl = ttl;
        schedule.renew_at = from + renewal_pause(ttl);
        schedule.seat_at = schedule.seat_at.min(schedule.renew_at - seat_offset(ttl));
        self.store.limit_calls(call_limit(ttl));
    }

    /// Renews leases, shared ones before owned ones.
    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        let (owned, shared): (Vec<LeaseId>, Vec<LeaseId>) =
            leases.iter().partition(|lease| self.identity.owns(**lease));
        let mut alive = BTreeMap::new();
        for some in shared.chunks(RENEWED_AT_ONCE).chain([owned.as_slice()]) {
            alive.extend(self.store.renew(some).await?);
            self.attend().await?;
            self.leases.show_progress(some.len());
        }
        Ok(alive)
    }

    /// Keeps leases alive from now on. The values are the seconds that each lives.
    fn add_leases(&mut self, alive: BTreeMap<LeaseId, u32>) {
        let now = Instant::now();
        let Some(shortest) = alive.values().min().copied() else {
            return;
        };
        self.leases.add(alive.into_keys(), now + lifetime(shortest));
        if now + renewal_pause(shortest) < self.schedule.renew_at {
            self.schedule(now, shortest);
        }
    }

    /// The longest TTL, in seconds, of our owned leases in use; 0 without one.
    fn longest_own(&self) -> u32 {
        let own = self.leases.own(self.identity);
        own.iter().map(|lease| lease.ttl()).max().unwrap_or(0)
    }
}
