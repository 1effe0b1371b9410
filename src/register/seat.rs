//! Whether another process of the same identity is running. Pure: callers pass the time.
//!
//! Two registrars of one identity would each delete the other's keys as leftovers of its own, for ever. So the one that
//! runs renews a lease without keys, the identity's *seat*. A process that finds the seat taken cannot tell at once by
//! whom. The seat may be left over from a killed process, and then the new process must take care of the old one's keys
//! without delay. A seat that is left over expires; a seat that does not expire is renewed by somebody.

use std::time::Duration;

use tokio::time::Instant;

use super::timetable::seat_is_sure_for;
use crate::store::{Lease, LeaseId};

/// The number of observed renewals that prove another process. A single one may be our own, which arrived late.
const PROOF: u32 = 2;

/// The seat of this process's identity, as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The seat's TTL, in seconds.
    ttl: u32,
    holder: Holder,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// Free, or not looked at yet.
    Open,
    /// Ours; `renewed` is when the last renewal's call began.
    Ours { lease: LeaseId, renewed: Instant },
    /// Taken by a process that may have ended.
    Taken { since: Sighting, renewals: u32 },
}

/// The seat as one look found it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sighting {
    answered: Instant,
    remaining: u32,
    term: u64,
}

impl Seat {
    /// A seat that nobody has looked at, with a TTL in seconds.
    pub fn new(ttl: u32) -> Self {
        Self {
            ttl,
            holder: Holder::Open,
        }
    }

    /// Whether it is certainly ours for long enough to renew it. A later renewal might renew another process's seat.
    pub fn may_renew(&self, now: Instant) -> bool {
        matches!(self.holder, Holder::Ours { renewed, .. } if now < renewed + seat_is_sure_for(self.ttl))
    }

    /// The seat's TTL, in seconds.
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

    /// Records that we have claimed or renewed it by a call that began at `asked`.
    pub fn hold(&mut self, lease: LeaseId, asked: Instant) {
        self.holder = Holder::Ours {
            lease,
            renewed: asked,
        };
    }

    /// Records that nobody has it.
    pub fn open(&mut self) {
        self.holder = Holder::Open;
    }

    /// Records that somebody has it: the answer to a look from `asked` to `answered`.
    pub fn sight(&mut self, seat: &Lease, asked: Instant, answered: Instant) {
        let sighting = Sighting {
            answered,
            remaining: seat.remaining,
            term: seat.term,
        };
        self.holder = match std::mem::replace(&mut self.holder, Holder::Open) {
            // Not across an election, because a new leader gives every lease its whole TTL.
            Holder::Taken { since, renewals } if since.term == sighting.term => {
                // The most that is left if nobody has renewed it: `remaining` is rounded down, and etcd's leader has
                // counted at least the time between the two looks.
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
            // The proof of another process outlasts an election.
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

    /// Whether nobody is known to have it.
    pub fn is_open(&self) -> bool {
        matches!(self.holder, Holder::Open)
    }

    /// Whether another process has it, even one that has ended.
    pub fn is_taken(&self) -> bool {
        matches!(self.holder, Holder::Taken { .. })
    }

    /// Whether another process of this identity is proven to be running.
    pub fn is_anothers(&self) -> bool {
        matches!(self.holder, Holder::Taken { renewals, .. } if renewals >= PROOF)
    }

    /// The time by which it has expired unless it is renewed, if another process has it.
    pub fn runs_out(&self) -> Option<Instant> {
        match &self.holder {
            Holder::Taken { since, .. } => {
                Some(since.answered + Duration::from_secs(u64::from(since.remaining) + 1))
            }
            _ => None,
        }
    }

    pub fn is_ours(&self) -> bool {
        matches!(self.holder, Holder::Ours { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second. `remaining` gives the seconds left and the term at each second. Returns the second of the
    /// proof.
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
                granted: 60,
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
    fn a_seat_that_expires_is_left_over() {
        for part in [0.0, 0.3, 0.99] {
            assert_eq!(
                look(60, |second| (60.0 + part - f64::from(second), 2)),
                None
            );
        }
    }

    #[test]
    fn a_seat_that_is_renewed_belongs_to_another_process() {
        assert_eq!(
            look(60, |second| (59.9 - f64::from(second % 20), 2)),
            Some(40)
        );
        // A seat that is renewed several times a second never falls by a second.
        assert_eq!(look(60, |_| (2.3, 2)), Some(4));
    }

    #[test]
    fn a_new_leader_is_not_taken_for_a_renewal() {
        assert_eq!(
            look(60, |second| (
                59.9 - f64::from(second % 20),
                u64::from(second / 20)
            )),
            None
        );
    }

    #[test]
    fn a_seat_that_may_have_expired_is_not_renewed() {
        let start = Instant::now();
        let mut seat = Seat::new(60);
        assert!(!seat.may_renew(start));
        seat.hold(LeaseId(1), start);
        assert!(seat.may_renew(start + Duration::from_secs(39)));
        assert!(!seat.may_renew(start + Duration::from_secs(41)));
    }
}
