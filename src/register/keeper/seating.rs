//! Takes the seat, keeps it, and gives way to another process that has it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info};

use super::{Keeper, REMINDER, third};
use crate::ops::condition::State;
use crate::register::status::Held;
use crate::store::{Store, StoreError};

/// The seat's condition while this process gives way.
const GIVES_WAY: &str =
    "another registrar of this Docker daemon and --instance is at work, so this one writes nothing";

/// The seat's condition after a start, while the seat of an earlier or another process stands.
const NOT_SEATED: &str = "another process of this Docker daemon and --instance was at work and may still be; it is known \
                          once its seat in etcd has run out or is renewed";
/// The same, where nobody has the seat.
const NO_SEAT: &str = "etcd grants no lease, so that it is not known whether another process of this Docker daemon and \
                       --instance is at work";
/// The longest life of a seat, in seconds: for so long a process cannot tell whether one before it was killed.
const LONGEST_SEAT: u32 = 60;
/// How soon to look again at a seat that should have run out: etcd ends leases twice a second.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// For how many seconds the seat lives where keys that name no TTL live for `ttl`.
pub(super) fn seat_ttl(ttl: u32) -> u32 {
    ttl.min(LONGEST_SEAT)
}

impl<S: Store> Keeper<S> {
    /// Shows whose seat it is.
    pub(super) fn show_seat(&self) {
        let seat = &self.status.seat;
        if self.gives_way.is_some() {
            seat.bad(GIVES_WAY);
        } else if self.seat.is_ours() {
            seat.good();
        } else if matches!(seat.state(), State::Unknown) {
            // Who has had it keeps it until somebody else is seen in it.
            seat.bad(if self.seat.is_taken() {
                NOT_SEATED
            } else {
                NO_SEAT
            });
        }
    }

    /// Renews the seat, takes it, or finds out whether it is another's.
    pub(super) async fn see_to_seat(&mut self) -> Result<(), StoreError> {
        self.take_seat().await?;
        if self.seat.is_anothers() {
            self.give_way();
        } else if self.gives_way.is_some() && !self.seat.is_taken() {
            info!("the other registrar has ended: this one is at work again");
            self.gives_way = None;
            self.loaded = false;
        }
        self.plan.set_alone(self.seat.is_ours());
        let (now, pause) = (Instant::now(), third(self.pace));
        let half_way = self.renew_at - pause / 2;
        let next = if self.gives_way.is_some() {
            now + pause
        } else if now < half_way {
            half_way
        } else {
            half_way + pause
        };
        let mut soonest = now + third(seat_ttl(self.ttl));
        if let Some(runs_out) = self.seat.runs_out() {
            soonest = soonest.min(runs_out.max(now + SECOND_LOOK));
        }
        self.probe_at = next.min(soonest);
        Ok(())
    }

    async fn take_seat(&mut self) -> Result<(), StoreError> {
        // It may have been renewed for us.
        let renewed = self.status.held.borrow().seat.map(|(_, renewed)| renewed);
        if self.seat.is_ours()
            && let Some(renewed) = renewed
        {
            self.seat.hold(renewed);
        }
        let taken = self.renew_or_claim_seat().await;
        let seat = self.seat.renewed();
        let seat = seat.map(|renewed| (self.identity.seat(), renewed));
        self.status.held.send_modify(|held| held.seat = seat);
        taken
    }

    async fn renew_or_claim_seat(&mut self) -> Result<(), StoreError> {
        let seat = self.identity.seat();
        let asked = Instant::now();
        if self.seat.may_renew(asked) && self.store.renew(&[seat]).await?.contains_key(&seat) {
            self.seat.hold(asked);
            return Ok(());
        }
        let asked = Instant::now();
        if let Some(lease) = self.store.lookup(seat).await? {
            self.seat.sight(&lease, asked, Instant::now());
            return Ok(());
        }
        self.seat.open();
        match self.store.claim(seat, seat_ttl(self.ttl)).await {
            Ok(true) => self.seat.hold(asked),
            Ok(false) => {}
            // An etcd that is out of space grants no lease.
            Err(StoreError::Refused(error)) => debug!("cannot take the seat: {error:#}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Leaves all keys to the process that is at work in our place, and says so.
    fn give_way(&mut self) {
        let now = Instant::now();
        if self.gives_way.is_some_and(|said| now < said + REMINDER) {
            return;
        }
        error!(
            "another registrar of this Docker daemon and --instance is at work, and each would delete the other's \
             keys: this one writes nothing until that one ends; stop one of them, or give it an --instance of its own \
             (cloned machines may have one Docker id)"
        );
        self.gives_way = Some(now);
        self.loaded = false;
        self.adopted = false;
        self.plan.set_alone(false);
        self.leases.clear();
        self.status.held.send_replace(Held::default());
    }
}
