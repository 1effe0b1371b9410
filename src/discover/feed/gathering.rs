//! The pace of publications: the first change goes out at once, and those of a burst together.

use std::time::Duration;

use tokio::time::Instant;

/// A burst is over after a pause of this length.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest time that a change waits for others.
const LONGEST: Duration = Duration::from_millis(200);

/// The changes that have not been published yet.
#[derive(Debug, Default)]
pub struct Gathering {
    published: Option<Instant>,
    waiting: Option<Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// The times of the first change that waits and of the last one.
    first: Instant,
    last: Instant,
}

impl Gathering {
    /// Records a change.
    pub fn add(&mut self) {
        let last = Instant::now();
        let first = self.waiting.map_or(last, |waiting| waiting.first);
        self.waiting = Some(Waiting { first, last });
    }

    /// Records that everything is published.
    pub fn clear(&mut self) {
        self.published = Some(Instant::now());
        self.waiting = None;
    }

    /// The time to publish; none while nothing waits.
    pub fn due(&self) -> Option<Instant> {
        let Waiting { first, last } = self.waiting?;
        match self.published {
            Some(published) if first < published + PAUSE => {
                Some((last + PAUSE).min(first + LONGEST))
            }
            _ => Some(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    /// The times of publication, in milliseconds, of changes at these times.
    async fn published(changes: impl IntoIterator<Item = u64>) -> Vec<u128> {
        let begun = Instant::now();
        let mut gathering = Gathering::default();
        let mut published = Vec::new();
        let ms = |ms| begun + Duration::from_millis(ms);
        for change in changes.into_iter().map(Some).chain([None]) {
            while let Some(due) = gathering.due()
                && change.is_none_or(|change| due <= ms(change))
            {
                sleep_until(due).await;
                published.push(begun.elapsed().as_millis());
                gathering.clear();
            }
            if let Some(change) = change {
                sleep_until(ms(change)).await;
                gathering.add();
            }
        }
        published
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_does_not_wait_and_a_burst_is_published_together() {
        assert_eq!(published([0]).await, [0]);
        assert_eq!(published([0, 30, 60]).await, [0, 30, 60]);
        assert_eq!(published([0, 5, 10, 15]).await, [0, 35]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_change_waits_longer_than_the_limit() {
        advance(LONGEST).await;
        let churn = (0..60).map(|number| number * 10);
        assert_eq!(published(churn).await, [0, 210, 410, 610]);
    }
}
