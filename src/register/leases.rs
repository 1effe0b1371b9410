//! The leases that this registrar keeps alive: those of keys, the seat, and when the first of them ends. The keeper and
//! late renewal hold the same `Leases`, on two threads; other parts only read it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::seat::Seat;
use crate::store::{Identity, LeaseId};

/// The kept leases, shared by the keeper and late renewal.
#[derive(Debug, Clone)]
pub struct Leases(Arc<watch::Sender<Kept>>);

/// The state of the kept leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The leases that the keeper renews.
    pub renewed: BTreeSet<LeaseId>,
    /// Leases that only late renewal keeps alive: those of an earlier process until they have been read, and other
    /// registrars' shared leases of keys that are wanted here.
    pub guarded: BTreeSet<LeaseId>,
    pub seat: Seat,
    /// The end of the lease that ends first, if nothing renews it; none before there is one.
    pub until: Option<Instant>,
    /// The last renewal of a part of the leases, which shows that the keeper is renewing the others.
    pub progress: Option<Instant>,
    /// Set when late renewal has lost the seat. From then on only the keeper may renew.
    pub keeper_only: bool,
}

impl Leases {
    /// No leases yet. `seat_ttl` is in seconds.
    pub fn new(seat_ttl: u32) -> Self {
        Self(Arc::new(watch::Sender::new(Kept {
            renewed: BTreeSet::new(),
            guarded: BTreeSet::new(),
            seat: Seat::new(seat_ttl),
            until: None,
            progress: None,
            keeper_only: false,
        })))
    }

    /// A view of the moment. It holds a lock, so it must not live across an `await`.
    pub fn now(&self) -> watch::Ref<'_, Kept> {
        self.0.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Kept> {
        self.0.subscribe()
    }

    /// Whether the keeper renews a lease.
    pub fn contains(&self, lease: LeaseId) -> bool {
        self.now().renewed.contains(&lease)
    }

    /// The leases that the keeper renews.
    pub fn renewed(&self) -> Vec<LeaseId> {
        self.now().renewed.iter().copied().collect()
    }

    /// The renewed leases of this registrar's owned keys.
    pub fn own(&self, identity: Identity) -> Vec<LeaseId> {
        let mut own = self.renewed();
        own.retain(|lease| identity.owns(*lease));
        own
    }

    /// Guards an earlier process's leases while they are read, because the read may take longer than their TTL.
    pub fn guard(&self, leases: &[LeaseId], until: Option<Instant>) {
        self.0.send_modify(|kept| {
            kept.guarded.extend(leases);
            kept.until = until;
            kept.keeper_only = false;
        });
    }

    /// Adds leases that have just been granted or renewed, and end at `until`.
    pub fn add(&self, leases: impl IntoIterator<Item = LeaseId>, until: Instant) {
        self.0.send_modify(|kept| {
            kept.renewed.extend(leases);
            kept.until = Some(kept.until.map_or(until, |known| known.min(until)));
            kept.keeper_only = false;
        });
    }

    /// Shows that the keeper has just renewed a number of leases.
    pub fn show_progress(&self, leases: usize) {
        if leases > 0 {
            self.0
                .send_modify(|kept| kept.progress = Some(Instant::now()));
        }
    }

    /// Records that all of so many leases have been renewed, and none ends before `until`. One that has been granted
    /// meanwhile may end sooner.
    pub fn prolong(&self, number: usize, until: Instant) {
        self.0.send_if_modified(|kept| {
            let is_all = kept.renewed.len() == number;
            if is_all {
                kept.until = Some(until);
            }
            is_all
        });
    }

    /// Replaces all but the seat.
    pub fn replace(
        &self,
        renewed: BTreeSet<LeaseId>,
        guarded: BTreeSet<LeaseId>,
        until: Option<Instant>,
    ) {
        self.0.send_modify(|kept| {
            kept.renewed = renewed;
            kept.guarded = guarded;
            kept.until = until;
            kept.keeper_only = false;
        });
    }

    /// Gives up all but the seat, because the keys are another process's.
    pub fn give_up(&self) {
        self.replace(BTreeSet::new(), BTreeSet::new(), None);
    }

    pub fn set_seat(&self, change: impl FnOnce(&mut Seat)) {
        self.0.send_modify(|kept| change(&mut kept.seat));
    }

    /// Replaces `before` by `after`, unless the keeper has changed anything meanwhile, which is newer. Its progress does
    /// not count.
    pub fn replace_if_same(&self, before: &Kept, after: Kept) {
        self.0.send_if_modified(|kept| {
            let progress = kept.progress;
            kept.progress = before.progress;
            let is_same = kept == before;
            if is_same {
                *kept = after;
            }
            kept.progress = progress;
            is_same
        });
    }
}

impl Kept {
    /// The shortest TTL of the leases that the keeper renews, in seconds.
    pub fn shortest_ttl(&self) -> Option<u32> {
        self.renewed.iter().map(|lease| lease.ttl()).min()
    }

    /// The time until the first lease ends, if nothing renews it; none before there is one.
    pub fn left(&self) -> Option<Duration> {
        let until = self.until?;
        Some(until.saturating_duration_since(Instant::now()))
    }
}
