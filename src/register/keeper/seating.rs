//! Claims the seat, renews it, and gives way to another process that has it.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info};

use super::{Keeper, Knowledge, REMINDER};
use crate::ops::condition::State;
use crate::register::seat::Seat;
use crate::register::timetable::{renewal_pause, seat_offset};
use crate::store::{Store, StoreError};

/// The seat's condition while this process gives way.
const GIVES_WAY: &str =
    "another registrar of this Docker daemon and --instance is running, so this one writes nothing";

/// The longest TTL of a seat, in seconds. For so long after its start, a process cannot tell whether the one before it
/// was killed.
const LONGEST_SEAT: u32 = 60;
/// The pause before another look at a seat that should have expired: etcd ends leases twice a second.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// The seat's TTL, in seconds. `ttl` is the default TTL, in seconds.
pub fn seat_ttl(ttl: u32) -> u32 {
    ttl.min(LONGEST_SEAT)
}

impl<S: Store> Keeper<S> {
    /// Shows in the seat's condition who has the seat.
    pub(super) fn show_seat(&self) {
        let seat = &self.status.seat;
        if self.gives_way.is_some() {
            seat.bad(GIVES_WAY);
        } else if self.seat().is_ours() {
            seat.good();
        } else if matches!(seat.state(), State::Unknown) {
            // Only before the first claim: a seat that was ours counts as ours until another process is seen in it.
            let store = self.store.name();
            let why = if self.seat().is_taken() {
                format!(
                    "another process of this Docker daemon and --instance was running and may still be; this is known \
                     once its seat in {store} has expired or is renewed"
                )
            } else {
                format!(
                    "{store} grants no lease, so it is not known whether another process of this Docker daemon and \
                     --instance is running"
                )
            };
            seat.bad(&why);
        }
    }

    /// Renews the seat, claims it, or finds out whether another process has it.
    pub(super) async fn update_seat(&mut self) -> Result<(), StoreError> {
        self.renew_or_claim_seat().await?;
        if self.seat().is_anothers() {
            self.give_way();
        } else if self.gives_way.is_some() && !self.seat().is_taken() {
            info!("the other registrar has ended: this one writes again");
            self.gives_way = None;
            self.forget();
        }
        let seat = self.seat();
        self.plan.set_alone(seat.is_ours());
        let now = Instant::now();
        let pause = renewal_pause(self.schedule.ttl);
        let half_way = self.schedule.renew_at - seat_offset(self.schedule.ttl);
        let next = if self.gives_way.is_some() {
            now + pause
        } else if now < half_way {
            half_way
        } else {
            half_way + pause
        };
        let mut soonest = now + renewal_pause(seat.ttl());
        if let Some(runs_out) = seat.runs_out() {
            soonest = soonest.min(runs_out.max(now + SECOND_LOOK));
        }
        self.schedule.seat_at = next.min(soonest);
        Ok(())
    }

    async fn renew_or_claim_seat(&mut self) -> Result<(), StoreError> {
        let lease = self.identity.seat();
        let asked = Instant::now();
        let may_renew = self.seat().may_renew(asked);
        if may_renew && self.store.renew(&[lease]).await?.contains_key(&lease) {
            self.leases.set_seat(|seat| seat.hold(lease, asked));
            return Ok(());
        }
        let asked = Instant::now();
        if let Some(found) = self.store.lookup(lease).await? {
            let answered = Instant::now();
            self.leases
                .set_seat(|seat| seat.sight(&found, asked, answered));
            return Ok(());
        }
        self.leases.set_seat(Seat::open);
        match self.store.grant_new(lease, seat_ttl(self.ttl)).await {
            Ok(true) => self.leases.set_seat(|seat| seat.hold(lease, asked)),
            Ok(false) => {}
            // An etcd without space grants no lease.
            Err(StoreError::Refused(error)) => debug!("cannot take the seat: {error:#}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Leaves all keys to the other process of this identity, and logs it.
    fn give_way(&mut self) {
        let now = Instant::now();
        if self.gives_way.is_some_and(|said| now < said + REMINDER) {
            return;
        }
        error!(
            "another registrar of this Docker daemon and --instance is running, and each would delete the other's \
             keys: this one writes nothing until that one ends; stop one of them, or give it an --instance of its own \
             (cloned machines may have one Docker id)"
        );
        self.gives_way = Some(now);
        self.knowledge = Knowledge::Unread;
        self.plan.set_alone(false);
        self.leases.give_up();
    }
}
