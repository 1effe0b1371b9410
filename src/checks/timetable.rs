//! When each target is probed next. Pure: it reads no clock.
//!
//! Each target has a place of its own in its interval, so that the probes of all of them are spread evenly.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::TargetId;

#[derive(Debug)]
pub(super) struct Timetable {
    /// The moment from which the places are reckoned.
    epoch: Instant,
    due: BTreeSet<(Instant, TargetId)>,
}

impl Timetable {
    pub fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            due: BTreeSet::new(),
        }
    }

    /// Adds a probe of a target at `at`.
    pub fn add(&mut self, id: TargetId, at: Instant) {
        self.due.insert((at, id));
    }

    pub fn remove(&mut self, id: TargetId, at: Instant) {
        self.due.remove(&(at, id));
    }

    /// The moment of the next probe.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out a target that is due at `now`.
    pub fn take(&mut self, now: Instant) -> Option<TargetId> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(id)
    }

    /// The first place of a target after `from`.
    pub fn place_after(&self, id: TargetId, interval: Duration, from: Instant) -> Instant {
        let interval = nanos(interval).max(1);
        let since = nanos(from.saturating_duration_since(self.epoch));
        let place = place(id, interval);
        let behind = (since + interval - place) % interval;
        from + Duration::from_nanos(interval - behind)
    }

    /// The next probe after one at `last`: at least half an interval later, so that a first probe at once is not followed
    /// by another one.
    pub fn place_after_probe(&self, id: TargetId, interval: Duration, last: Instant) -> Instant {
        self.place_after(id, interval, last + interval / 2)
    }
}

/// The place of a target in its interval. Multiples of the golden ratio are spread evenly, however many there are.
fn place(id: TargetId, interval: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = id.0.wrapping_mul(GOLDEN);
    let place = (u128::from(fraction) * u128::from(interval)) >> 64;
    u64::try_from(place).unwrap_or_default()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_thousand_targets_are_spread_evenly() {
        let epoch = Instant::now();
        let timetable = Timetable::new(epoch);
        let from = epoch + Duration::from_secs(77);
        let mut tenths = [0; 10];
        for id in 0..1000 {
            let at = timetable.place_after(TargetId(id), INTERVAL, from);
            let wait = at - from;
            assert!(wait > Duration::ZERO && wait <= INTERVAL, "{wait:?}");
            tenths[usize::try_from(wait.as_micros() / 200_001).expect("a tenth")] += 1;
        }
        assert!(
            tenths.iter().all(|number| (95..=105).contains(number)),
            "{tenths:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_keeps_its_place() {
        let epoch = Instant::now();
        let timetable = Timetable::new(epoch);
        for id in (0..50).map(TargetId) {
            let first = timetable.place_after(id, INTERVAL, epoch);
            // However late each probe is.
            let late = first + INTERVAL / 3;
            assert_eq!(
                timetable.place_after_probe(id, INTERVAL, late),
                first + INTERVAL
            );
            assert_eq!(
                timetable.place_after_probe(id, INTERVAL, first),
                first + INTERVAL
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn targets_come_when_they_are_due() {
        let now = Instant::now();
        let mut timetable = Timetable::new(now);
        timetable.add(TargetId(1), now + INTERVAL);
        timetable.add(TargetId(2), now);
        timetable.add(TargetId(3), now + INTERVAL);
        timetable.remove(TargetId(3), now + INTERVAL);
        assert_eq!(timetable.take(now), Some(TargetId(2)));
        assert_eq!(timetable.take(now), None);
        assert_eq!(timetable.next(), Some(now + INTERVAL));
        assert_eq!(timetable.take(now + 2 * INTERVAL), Some(TargetId(1)));
        assert_eq!(timetable.next(), None);
    }
}
