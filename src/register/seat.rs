//! Whether another process works under the same identity. Pure: whoever calls it brings the time.
//!
//! Two registrars of one identity would each take the other's keys for leftovers of its own and delete them, for ever.
//! So the one at work keeps a lease alive that has no keys, the identity's *seat*. A process that finds the seat taken
//! cannot tell at once by whom: it may be left over from a process that was killed, whose keys it has to take care of
//! without delay. But a seat that is left over only runs out, and one that does not has somebody who renews it.

use std::time::Duration;

use tokio::time::Instant;

use super::timetable::seat_is_sure_for;
use crate::store::{Lease, LeaseId};

/// How many renewals by somebody else are proof. One may be our own, made before we lost the seat and late to arrive.
const PROOF: u32 = 2;

/// The seat of this process's identity, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The TTL in seconds, while we hold it.
    ttl: u32,
    holder: Holder,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// Nobody's, or not known.
    Open,
    /// Ours; last renewed by a call that began then.
    Ours { lease: LeaseId, renewed: Instant },
    /// Taken by a process that has ended, or has not.
    Taken { since: Sighting, renewals: u32 },
}

/// The seat as it was at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sighting {
    answered: Instant,
    remaining: u32,
    term: u64,
}

impl Seat {
    /// A seat that is held for `ttl` seconds at a time, and that nobody has looked at.
    pub fn new(ttl: u32) -> Self {
        Self {
            ttl,
            holder: Holder::Open,
        }
    }

    /// Whether it is ours, beyond doubt, for long enough for a renewal. What is renewed later may be another's by then.
    pub fn may_renew(&self, now: Instant) -> bool {
        matches!(self.holder, Holder::Ours { renewed, .. } if now < renewed + seat_is_sure_for(self.ttl))
    }

    /// The TTL in seconds, while we hold it.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// When it was last renewed, if it is ours.
    pub fn renewed(&self) -> Option<(LeaseId, Instant)> {
        match self.holder {
            Holder::Ours { lease, renewed } => Some((lease, renewed)),
            _ => None,
        }
    }

    /// Takes note that we have claimed or renewed it by a call that began at `asked`.
    pub fn hold(&mut self, lease: LeaseId, asked: Instant) {
        self.holder = Holder::Ours {
            lease,
            renewed: asked,
        };
    }

    /// Takes note that nobody has it.
    pub fn open(&mut self) {
        self.holder = Holder::Open;
    }

    /// Takes note that somebody has it: that was the answer to a look from `asked` to `answered`.
    pub fn sight(&mut self, seat: &Lease, asked: Instant, answered: Instant) {
        let sighting = Sighting {
            answered,
            remaining: seat.remaining,
            term: seat.term,
        };
        self.holder = match std::mem::replace(&mut self.holder, Holder::Open) {
            // A new leader gives every lease its whole TTL, whoever renews it or not.
            Holder::Taken { since, renewals } if since.term == sighting.term => {
                // Had nobody renewed it, it would have less left: `remaining` is rounded down, and at least this much
                // time has passed for the leader of etcd.
                let most = Duration::from_secs(u64::from(since.remaining) + 1)
                    .saturating_sub(asked - since.answered);
                if Duration::from_secs(u64::from(sighting.remaining)) > most {
                    Holder::Taken {
                        since: sighting,
                        renewals: renewals + 1,
                    }
                } else {
                    Holder::Taken { since, renewals }
                }
            }
            // Who has once been seen at work is so after an election too.
            Holder::Taken { renewals, .. } if renewals >= PROOF => Holder::Taken {
                since: sighting,
                renewals,
            },
            _ => Holder::Taken {
                since: sighting,
                renewals: 0,
            },
        };
    }

    /// Whether nobody has it, as far as we know.
    pub fn is_open(&self) -> bool {
        matches!(self.holder, Holder::Open)
    }

    /// Whether somebody has it, be it a process that has ended.
    pub fn is_taken(&self) -> bool {
        matches!(self.holder, Holder::Taken { .. })
    }

    /// Whether another process is proven to be at work under this identity.
    pub fn is_anothers(&self) -> bool {
        matches!(self.holder, Holder::Taken { renewals, .. } if renewals >= PROOF)
    }

    /// When it runs out, if another process has it and does not renew it; never before.
    pub fn runs_out(&self) -> Option<Instant> {
        match &self.holder {
            Holder::Taken { since, .. } => {
                Some(since.answered + Duration::from_secs(u64::from(since.remaining) + 1))
            }
            _ => None,
        }
    }

    /// Whether it is ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.holder, Holder::Ours { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second for as many seconds; `remaining` tells what is left then, in seconds.
    fn look(seconds: u32, remaining: impl Fn(u32) -> (f64, u64)) -> Option<u32> {
        let start = Instant::now();
        let mut seat = Seat::new(60);
        for second in 0..seconds {
            let at = start + Duration::from_secs(u64::from(second));
            let (remaining, term) = remaining(second);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let remaining = remaining as u32;
            let lease = Lease {
                keys: Vec::new(),
                remaining,
                term,
            };
            seat.sight(&lease, at, at + Duration::from_millis(20));
            if seat.is_anothers() {
                return Some(second);
            }
        }
        None
    }

    #[test]
    fn a_seat_that_runs_out_is_left_over() {
        for part in [0.0, 0.3, 0.99] {
            assert_eq!(
                look(60, |second| (60.0 + part - f64::from(second), 2)),
                None
            );
        }
    }

    #[test]
    fn one_that_somebody_renews_is_anothers() {
        assert_eq!(
            look(60, |second| (59.9 - f64::from(second % 20), 2)),
            Some(40)
        );
        // What is renewed so often that it never falls by a second is seen to stand still.
        assert_eq!(look(60, |_| (2.3, 2)), Some(4));
    }

    #[test]
    fn a_new_leader_is_no_renewal() {
        assert_eq!(
            look(60, |second| (
                59.9 - f64::from(second % 20),
                u64::from(second / 20)
            )),
            None
        );
    }

    #[test]
    fn what_may_have_run_out_is_not_renewed() {
        let start = Instant::now();
        let mut seat = Seat::new(60);
        assert!(!seat.may_renew(start));
        seat.hold(LeaseId(1), start);
        assert!(seat.may_renew(start + Duration::from_secs(39)));
        assert!(!seat.may_renew(start + Duration::from_secs(41)));
    }
}
