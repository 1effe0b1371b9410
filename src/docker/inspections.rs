//! The inspections that are under way: so many at a time that Docker is kept busy, and of which none holds up the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::client::Inspected;

/// How many inspections may be under way that Docker may still answer in time.
pub const AT_ONCE: usize = 16;
/// How many may be under way in all, and how many of them for containers that could not be read before.
const MOST: usize = 64;
const MOST_REPEATED: usize = MOST - AT_ONCE;
/// How long others wait for one.
const PATIENCE: Duration = Duration::from_secs(1);

type Answer = (String, Inspected);

/// At most one inspection for each container.
#[derive(Default)]
pub struct Inspections {
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Those that others wait for, and since when.
    prompt: BTreeMap<String, Instant>,
    late: BTreeSet<String>,
}

impl Inspections {
    /// Whether another one may begin.
    pub fn have_room(&self) -> bool {
        self.prompt.len() < AT_ONCE && !self.are_full()
    }

    /// Whether another one may begin for a container that could not be read before.
    pub fn have_room_to_repeat(&self) -> bool {
        self.have_room() && self.answers.len() < MOST_REPEATED
    }

    /// Whether so many hang that no other can begin.
    pub fn are_full(&self) -> bool {
        self.answers.len() >= MOST
    }

    /// Adds the inspection of a container for which there is none.
    pub fn begin(&mut self, id: String, answer: impl Future<Output = Answer> + Send + 'static) {
        self.prompt.insert(id, Instant::now());
        self.answers.push(Box::pin(answer));
    }

    /// Whether a container is being inspected.
    pub fn contain(&self, id: &str) -> bool {
        self.prompt.contains_key(id) || self.late.contains(id)
    }

    /// Whether a container is being inspected for longer than others wait.
    pub fn is_late(&self, id: &str) -> bool {
        self.late.contains(id)
    }

    /// When the next one will be late.
    pub fn late_at(&self) -> Option<Instant> {
        self.prompt.values().min().map(|begun| *begun + PATIENCE)
    }

    /// Takes note of those that are late by now.
    pub fn note_late(&mut self) {
        let now = Instant::now();
        self.prompt.retain(|id, begun| {
            let is_late = *begun + PATIENCE <= now;
            if is_late {
                self.late.insert(id.clone());
            }
            !is_late
        });
    }

    /// The next answer, if any is to come.
    pub async fn next(&mut self) -> Option<Answer> {
        let (id, inspected) = self.answers.next().await?;
        self.prompt.remove(&id);
        self.late.remove(&id);
        Some((id, inspected))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::advance;

    use super::*;

    fn hang(inspections: &mut Inspections, ids: std::ops::Range<usize>) {
        for id in ids {
            inspections.begin(id.to_string(), pending());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_hang_leave_room_for_others() {
        let mut inspections = Inspections::default();
        let mut begun = 0;
        for room in [true, true, true, false] {
            hang(&mut inspections, begun..begun + AT_ONCE);
            begun += AT_ONCE;
            assert!(!inspections.have_room());
            advance(PATIENCE).await;
            inspections.note_late();
            assert_eq!(inspections.have_room(), room, "{begun}");
            assert_eq!(inspections.have_room_to_repeat(), begun < MOST_REPEATED);
            assert!(inspections.is_late("0"));
            assert_eq!(inspections.late_at(), None);
        }
        assert_eq!(begun, MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_answered_is_neither_late_nor_under_way() {
        let mut inspections = Inspections::default();
        hang(&mut inspections, 0..1);
        let answer = async { ("1".to_owned(), Inspected::Gone) };
        inspections.begin("1".to_owned(), answer);
        assert!(inspections.contain("1"));
        assert!(matches!(inspections.next().await, Some((id, _)) if id == "1"));
        assert!(!inspections.contain("1"));
        advance(PATIENCE).await;
        inspections.note_late();
        assert!(inspections.is_late("0") && !inspections.is_late("1"));
    }
}
