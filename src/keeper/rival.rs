//! Notices another process with the same identity, which only a mistake in the set-up can make: two registrars of one
//! Docker daemon with one `--instance`, or two machines with a copy of one Docker daemon's id.
//!
//! Both would delete what the other puts. What gives it away is the lease: it lives longer than our own renewals
//! explain. Whoever notices first lets go, and watches the lease until nobody renews it.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::LeaseId;

/// How often in a row a lease must be too young. Once is no proof: a new leader of the etcd cluster renews all leases.
const SIGHTINGS: u32 = 2;

/// What is known of our own renewals, and of others'.
#[derive(Debug, Default)]
pub struct Rival {
    renewed: Option<(LeaseId, Instant, u32)>,
    sightings: u32,
}

impl Rival {
    /// Takes note that we have renewed a lease for `ttl` seconds, and have had the answer now.
    pub fn renewed(&mut self, lease: LeaseId, ttl: u32) {
        self.renewed = Some((lease, Instant::now(), ttl));
    }

    /// Looks at a lease before it is renewed: `remaining` seconds are left to it, rounded down. Returns whether somebody
    /// else must have renewed it, time and again.
    pub fn is_seen(&mut self, lease: LeaseId, remaining: u32) -> bool {
        let Some((_, at, ttl)) = self.renewed.filter(|(renewed, ..)| *renewed == lease) else {
            return false;
        };
        let ours = Duration::from_secs(u64::from(ttl)).saturating_sub(at.elapsed());
        if Duration::from_secs(u64::from(remaining)) > ours {
            self.sightings += 1;
        } else {
            self.sightings = 0;
        }
        self.sightings >= SIGHTINGS
    }

    /// Forgets what it has seen.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Whether a lease of `ttl` seconds with `remaining` left is nobody's: whoever keeps one renews it every third of the
/// TTL. Processes that wait for each other come to this at different times.
pub fn is_abandoned(ttl: u32, remaining: u32) -> bool {
    let spread = ttl / 8 * (std::process::id() % 8) / 8;
    remaining < (ttl / 2).saturating_sub(spread)
}

/// How often a lease is looked at while another process renews it.
pub fn pause(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl)) / 12
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId(7);

    #[tokio::test(start_paused = true)]
    async fn our_own_renewals_are_no_rivals() {
        let mut rival = Rival::default();
        for _ in 0..5 {
            rival.renewed(LEASE, 60);
            tokio::time::advance(Duration::from_millis(20_300)).await;
            assert!(!rival.is_seen(LEASE, 39));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_too_young_twice_has_another_keeper() {
        let mut rival = Rival::default();
        let mut seen = Vec::new();
        for remaining in [59, 39, 50, 50] {
            rival.renewed(LEASE, 60);
            tokio::time::advance(Duration::from_secs(20)).await;
            seen.push(rival.is_seen(LEASE, remaining));
        }
        assert_eq!(seen, [false, false, false, true]);
    }

    #[test]
    fn a_lease_that_somebody_keeps_is_not_abandoned() {
        for remaining in 40..=60 {
            assert!(!is_abandoned(60, remaining));
        }
        assert!(is_abandoned(60, 20));
    }
}
