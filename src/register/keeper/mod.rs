//! The one task that owns the store: it brings it to the newest wanted state, and keeps the leases alive. Where a script
//! holds it up, `late_renewal` renews them.
//!
//! Three rules keep this simple and safe:
//!
//! - After any error it forgets what it believes of the store and reads it again before it writes.
//! - Each renewal reads back what is there, so every drift is mended by the same path as a change.
//! - Shared leases are renewed before owned ones and live two seconds longer, so that when a registrar dies its
//!   owned keys go before the shared keys that describe them.

mod apply;
mod late_renewal;
mod load;
mod seating;
mod shutdown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::leases::Leases;
use super::plan::{Batch, Plan};
use super::seat::Seat;
use super::settings::{Mode, OnExit};
use super::status::Status;
use super::timetable::{call_limit, lifetime, renewal_pause, seat_offset};
use crate::ops::outage::Outage;
use crate::store::{Identity, LeaseId, Store, StoreError};
use crate::wanted::Wanted;

pub use late_renewal::{renew_late, watch_expiry};
pub use seating::seat_ttl;

/// How often a plan may be refused in a row before it is taken for a failure.
const MAX_ROUNDS: usize = 20;
/// How often the log is reminded that another process is at work in our place.
const REMINDER: Duration = Duration::from_secs(60);

/// Keeps `store` in step with what is `wanted` until `shutdown` is over. `ttl` is that of entries that name none, in
/// seconds.
pub async fn keep<S: Store>(
    store: S,
    identity: Identity,
    ttl: u32,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    mode: Mode,
    status: Arc<Status>,
    shutdown: impl Future<Output = ()>,
) {
    let mut keeper = Keeper::new(store, identity, ttl, status);
    tokio::select! {
        () = keeper.run(wanted) => {}
        () = shutdown => {}
    }
    match mode {
        _ if keeper.gives_way.is_some() => info!("ending; the keys belong to another registrar"),
        Mode::Write(OnExit::Leave) => keeper.leave().await,
        Mode::Write(OnExit::Remove) => keeper.remove_all().await,
        Mode::DryRun => {}
    }
}

struct Keeper<S> {
    store: S,
    identity: Identity,
    /// The TTL of entries that name none, in seconds, which paces a registrar that has no keys.
    ttl: u32,
    plan: Plan,
    /// Shared with late renewal.
    leases: Leases,
    picture: Picture,
    /// Whether each container has transactions of its own, because one was refused.
    one_by_one: bool,
    schedule: Schedule,
    /// When the log last told of somebody else's keys on our leases.
    told_of_strangers: Option<Instant>,
    /// When the log last told that another process is at work in our place; nothing is written then.
    gives_way: Option<Instant>,
    outage: Outage,
    status: Arc<Status>,
}

/// How much the plan knows of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    /// Nothing, and the leases of an earlier process have not been looked for.
    Unread,
    /// It was read before an error, or for another purpose, and has to be read again before anything is written.
    Stale,
    /// All that the store has of ours.
    Whole,
}

/// When the next renewals are due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// The shortest TTL in force, in seconds.
    ttl: u32,
    renew_at: Instant,
    /// Half-way between two renewals. Seeing to the seat shows too whether the store still answers.
    seat_at: Instant,
}

impl<S: Store> Keeper<S> {
    fn new(store: S, identity: Identity, ttl: u32, status: Arc<Status>) -> Self {
        let now = Instant::now();
        let outage = Outage::new("etcd", "keys in etcd stay until their TTL ends", lifetime(ttl));
        Self {
            store,
            identity,
            ttl,
            plan: Plan::new(identity),
            leases: status.leases.clone(),
            picture: Picture::Unread,
            one_by_one: false,
            schedule: Schedule {
                ttl,
                renew_at: now,
                seat_at: now,
            },
            told_of_strangers: None,
            gives_way: None,
            outage: outage.shown_by(&status.etcd),
            status,
        }
    }

    /// Returns when nobody can want anything any more.
    async fn run(&mut self, mut wanted: watch::Receiver<Option<Arc<Wanted>>>) {
        let mut in_step = false;
        loop {
            // Until it is known what runs, what an earlier process held is kept alive.
            let newest = wanted.borrow_and_update().clone();
            if let Some(newest) = newest {
                // What has been read so far is not what is looked for now.
                if !self.plan.is_wanting() {
                    self.forget();
                }
                self.plan.want(&newest);
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
                    // Nobody is ready before the first keys are in etcd.
                    if self.plan.is_wanting() {
                        self.show_seat();
                    }
                    if self.gives_way.is_some() {
                        in_step = false;
                    } else if !in_step && self.plan.is_wanting() {
                        let (keys, containers) =
                            (self.plan.wanted_keys().count(), self.plan.container_count());
                        info!("in step with Docker: keys: {keys}, containers: {containers}");
                        in_step = true;
                    }
                    let next_at = self.next_at();
                    tokio::select! {
                        changed = wanted.changed() => if changed.is_err() { return },
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

    /// Waits, and tells meanwhile whoever asks how the keys stand.
    async fn rest_until(&self, at: Instant) {
        let over = tokio::time::sleep_until(at);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = self.status.keys.asked(), if self.plan.is_wanting() => {
                    let mut views = self.plan.views();
                    // What is known is from before the outage, and has ended with its lease.
                    if self.gives_way.is_some() || self.leases.now().left().is_none_or(|left| left.is_zero()) {
                        for view in &mut views { view.stands = false; }
                    }
                    self.status.keys.answer(views);
                }
            }
        }
    }

    /// When there is something to do though nothing new is wanted.
    fn next_at(&self) -> Instant {
        if self.gives_way.is_some() {
            self.schedule.seat_at
        } else {
            self.schedule.seat_at.min(self.schedule.renew_at)
        }
    }

    async fn bring_in_step(&mut self) -> Result<(), StoreError> {
        // Neither holds up the other: leases are renewed while the seat cannot be, and the other way round.
        let mut seat = Ok(());
        if !self.seat().is_open() && Instant::now() >= self.schedule.seat_at {
            seat = self.see_to_seat().await;
            if let Err(error) = &seat {
                // What follows may take as long again to fail.
                self.outage.failed(error.to_string());
            }
        }
        let mut work = Ok(());
        if self.gives_way.is_none() {
            work = self.make_it_so().await;
        }
        // The first sync does not wait for the seat, but for what may be the keys of a process that has it.
        if seat.is_ok() && self.seat().is_open() {
            seat = self.see_to_seat().await;
            if work.is_ok() && self.seat().is_ours() {
                work = self.make_it_so().await;
            }
        }
        work.and(seat)
    }

    async fn make_it_so(&mut self) -> Result<(), StoreError> {
        if self.picture != Picture::Whole || Instant::now() >= self.schedule.renew_at {
            self.load().await?;
        }
        let mut rounds = 0;
        while rounds < MAX_ROUNDS {
            let batches = self.plan.batches(S::MAX_OPERATIONS, self.one_by_one);
            for note in self.plan.notes() {
                warn!("{note}");
            }
            if batches.is_empty() {
                self.one_by_one = false;
                return Ok(());
            }
            rounds = if self.carry_out_all(&batches).await? {
                0
            } else {
                rounds + 1
            };
        }
        Err(StoreError::Failed(anyhow!(
            "etcd refused {MAX_ROUNDS} transactions in a row, because something else changes the same keys"
        )))
    }

    /// Carries out batches up to the first that shows that the plan was wrong. Returns whether any was carried out.
    async fn carry_out_all(&mut self, batches: &[Batch]) -> Result<bool, StoreError> {
        let (mut refusal, mut done) = (None, false);
        // The keys whose puts are not in.
        let mut refused = BTreeSet::new();
        for (index, batch) in batches.iter().enumerate() {
            if !self.plan.may_follow(batch, &refused) {
                continue;
            }
            // One at least, however long it takes to read back what is there.
            if index > 0 && Instant::now() >= self.schedule.renew_at {
                self.load().await?;
                break;
            }
            match self.carry_out(batch).await {
                Ok(true) => done = true,
                // Where something was refused before, deletes that wait for nothing still follow.
                Ok(false) if refusal.is_some() => refused.extend(batch.puts().cloned()),
                Ok(false) => break,
                Err(StoreError::LeaseLost) => {
                    warn!("a lease expired or was revoked: its keys are put again");
                    self.load().await?;
                    break;
                }
                // An etcd that is out of space takes no put, and deletes all the same. One that denies a single key
                // denies the whole transaction, so that from now on each container has its own.
                Err(StoreError::Refused(error)) => {
                    self.one_by_one = true;
                    refused.extend(batch.puts().cloned());
                    let error = match batch.owners.first() {
                        Some(Some(who))
                            if batch.owners.iter().all(|owner| owner.as_ref() == Some(who)) =>
                        {
                            error.context(format!("cannot change the keys of {who}"))
                        }
                        _ => error,
                    };
                    refusal.get_or_insert(StoreError::Refused(error));
                }
                Err(error) => return Err(error),
            }
        }
        refusal.map_or(Ok(done), Err)
    }

    /// The seat as far as it is known.
    fn seat(&self) -> Seat {
        self.leases.now().seat.clone()
    }

    /// Has everything read again before the next write.
    fn forget(&mut self) {
        if self.picture == Picture::Whole {
            self.picture = Picture::Stale;
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
        let mut alive = self.store.renew(&shared).await?;
        alive.extend(self.store.renew(&owned).await?);
        Ok(alive)
    }

    /// Keeps leases alive from now on. Each lives for this number of seconds.
    fn keep(&mut self, alive: BTreeMap<LeaseId, u32>) {
        let now = Instant::now();
        let Some(shortest) = alive.values().min().copied() else {
            return;
        };
        self.leases.add(alive.into_keys(), now + lifetime(shortest));
        if now + renewal_pause(shortest) < self.schedule.renew_at {
            self.schedule(now, shortest);
        }
    }

    /// The TTL of the longest own lease in use, in seconds.
    fn longest_own(&self) -> u32 {
        let own = self.leases.own(self.identity);
        own.iter().map(|lease| lease.ttl()).max().unwrap_or(0)
    }
}
