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
mod seat;
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

use crate::ops::outage::Outage;
use crate::register::plan::{Batch, Plan};
use crate::register::status::Status;
use crate::register::timetable;
use crate::store::{Identity, LeaseId, Store, StoreError};
use crate::wanted::Wanted;
use seat::Seat;
use seating::seat_ttl;

pub use late_renewal::{relieve, watch_expiry};

/// How often a plan may be refused in a row before it is taken for a failure.
const MAX_ROUNDS: usize = 20;
/// How often the log is reminded that another process is at work in our place.
const REMINDER: Duration = Duration::from_secs(60);
/// What becomes of the keys when the registrar ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// They stay for their TTL, so that a registrar can be upgraded without an outage.
    Leave,
    /// They are removed before it ends.
    Remove,
}

/// Keeps `store` in step with what is `wanted` until `shutdown` is over. `ttl` is that of entries that name none, in
/// seconds. A store that keeps nothing has nothing to be done `on_exit`.
pub async fn keep<S: Store>(
    store: S,
    identity: Identity,
    ttl: u32,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    on_exit: Option<OnExit>,
    status: Arc<Status>,
    shutdown: impl Future<Output = ()>,
) {
    let mut keeper = Keeper::new(store, identity, ttl);
    keeper.outage = keeper.outage.shown_by(&status.etcd);
    keeper.status = status;
    tokio::select! {
        () = keeper.run(wanted) => {}
        () = shutdown => {}
    }
    match on_exit {
        _ if keeper.gives_way.is_some() => info!("ending; the keys are another registrar's"),
        Some(OnExit::Leave) => keeper.leave().await,
        Some(OnExit::Remove) => keeper.remove_all().await,
        None => {}
    }
}

struct Keeper<S> {
    store: S,
    identity: Identity,
    /// The TTL of entries that name none, in seconds, which paces a registrar that has no keys.
    ttl: u32,
    plan: Plan,
    /// The leases that we keep alive.
    leases: BTreeSet<LeaseId>,
    /// Whether the leases of an earlier process have been looked for.
    adopted: bool,
    /// Whether the plan knows what the store has.
    loaded: bool,
    /// Whether each container has transactions of its own, because one was refused.
    one_by_one: bool,
    /// The shortest TTL in force, in seconds.
    pace: u32,
    renew_at: Instant,
    /// When to see to the seat, half-way to the next renewal. It shows too whether the store still answers.
    probe_at: Instant,
    seat: Seat,
    /// When the log was last told of keys of somebody else on our leases.
    told_of_strangers: Option<Instant>,
    /// When the log was last told that another process is at work in our place; nothing is written then.
    gives_way: Option<Instant>,
    outage: Outage,
    status: Arc<Status>,
}

impl<S: Store> Keeper<S> {
    fn new(store: S, identity: Identity, ttl: u32) -> Self {
        let now = Instant::now();
        Self {
            store,
            identity,
            ttl,
            plan: Plan::new(identity),
            leases: BTreeSet::new(),
            adopted: false,
            loaded: false,
            one_by_one: false,
            pace: ttl,
            renew_at: now,
            probe_at: now,
            seat: Seat::new(seat_ttl(ttl)),
            told_of_strangers: None,
            gives_way: None,
            outage: Outage::new("etcd", "keys in etcd stay until their TTL", lifetime(ttl)),
            status: Arc::default(),
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
                self.loaded &= self.plan.is_wanting();
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
                        info!("in step with Docker: keys: {keys}, of containers: {containers}");
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
                    self.loaded = false;
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
                    if self.gives_way.is_some() || self.status.lease_left().is_none_or(|left| left.is_zero()) {
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
            self.probe_at
        } else {
            self.probe_at.min(self.renew_at)
        }
    }

    async fn bring_in_step(&mut self) -> Result<(), StoreError> {
        // Neither holds up the other: leases are renewed while the seat cannot be, and the other way round.
        let mut seat = Ok(());
        if !self.seat.is_open() && Instant::now() >= self.probe_at {
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
        if seat.is_ok() && self.seat.is_open() {
            seat = self.see_to_seat().await;
            if work.is_ok() && self.seat.is_ours() {
                work = self.make_it_so().await;
            }
        }
        work.and(seat)
    }

    async fn make_it_so(&mut self) -> Result<(), StoreError> {
        if !self.loaded || Instant::now() >= self.renew_at {
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
            if index > 0 && Instant::now() >= self.renew_at {
                self.load().await?;
                break;
            }
            match self.carry_out(batch).await {
                Ok(true) => done = true,
                // Where something was refused before, deletes that wait for nothing still follow.
                Ok(false) if refusal.is_some() => refused.extend(batch.puts().cloned()),
                Ok(false) => break,
                Err(StoreError::LeaseLost) => {
                    warn!("a lease expired or was revoked: what was on it is put again");
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

    fn schedule(&mut self, from: Instant, ttl: u32) {
        self.pace = ttl;
        self.renew_at = from + third(ttl);
        self.probe_at = self.probe_at.min(self.renew_at - third(ttl) / 2);
        self.store.limit_calls(timetable::call_limit(ttl));
    }

    /// Renews leases, shared ones before owned ones.
    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        let (owned, shared): (Vec<LeaseId>, Vec<LeaseId>) =
            leases.iter().partition(|lease| self.identity.owns(**lease));
        let mut alive = self.store.renew(&shared).await?;
        alive.extend(self.store.renew(&owned).await?);
        Ok(alive)
    }

    /// Takes note that these leases are kept alive from now on; the number of seconds is how long each lives.
    fn keep(&mut self, alive: BTreeMap<LeaseId, u32>) {
        let now = Instant::now();
        let Some(shortest) = alive.values().min().copied() else {
            return;
        };
        self.leases.extend(alive.into_keys());
        let until = now + lifetime(shortest);
        self.status.held.send_modify(|held| {
            held.leases.clone_from(&self.leases);
            held.until = Some(held.until.map_or(until, |known| known.min(until)));
        });
        if now + third(shortest) < self.renew_at {
            self.schedule(now, shortest);
        }
    }
}

/// How often what lives for `ttl` seconds is renewed.
fn third(ttl: u32) -> Duration {
    lifetime(ttl) / 3
}

fn lifetime(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}
