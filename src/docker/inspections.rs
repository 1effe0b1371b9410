//! The inspections under way in one session: enough to keep Docker busy, and none that hangs holds up the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::client::Inspection;

/// The most inspections under way that are not late.
pub const AT_ONCE: usize = 16;
/// The limit of inspections under way, late ones included.
const MOST: usize = 64;
/// The limit for retries; the remaining places are for first inspections.
const MOST_REPEATED: usize = MOST - AT_ONCE;
/// From when on an inspection is late: no other waits for it any longer.
const LATE: Duration = Duration::from_secs(1);

/// At most one inspection of each container.
#[derive(Default)]
pub struct Inspections {
    pending: FuturesUnordered<BoxFuture<'static, (String, Inspection)>>,
    /// The start of each that is not late, by container.
    prompt: BTreeMap<String, Instant>,
    /// The containers of those that are.
    late: BTreeSet<String>,
}

impl Inspections {
    pub fn has_room(&self) -> bool {
        self.prompt.len() < AT_ONCE && !self.is_full()
    }

    /// Whether one may begin for a container that could not be inspected before.
    pub fn has_room_to_repeat(&self) -> bool {
        self.has_room() && self.pending.len() < MOST_REPEATED
    }

    /// Whether so many hang that no other can begin.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= MOST
    }

    /// Adds the inspection of a container that has none.
    pub fn begin(
        &mut self,
        id: String,
        inspection: impl Future<Output = (String, Inspection)> + Send + 'static,
    ) {
        self.prompt.insert(id, Instant::now());
        self.pending.push(Box::pin(inspection));
    }

    pub fn contains(&self, id: &str) -> bool {
        self.prompt.contains_key(id) || self.late.contains(id)
    }

    /// The containers whose inspections are late.
    pub fn late(&self) -> impl Iterator<Item = &str> {
        self.late.iter().map(String::as_str)
    }

    /// When the next one will be late.
    pub fn late_at(&self) -> Option<Instant> {
        self.prompt.values().min().map(|begun| *begun + LATE)
    }

    /// Counts those as late that are by now.
    pub fn note_late(&mut self) {
        let now = Instant::now();
        self.prompt.retain(|id, begun| {
            let is_late = *begun + LATE <= now;
            if is_late {
                self.late.insert(id.clone());
            }
            !is_late
        });
    }

    /// The next that is answered; none if none is under way.
    pub async fn next(&mut self) -> Option<(String, Inspection)> {
        let (id, inspection) = self.pending.next().await?;
        self.prompt.remove(&id);
        self.late.remove(&id);
        Some((id, inspection))
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
    async fn inspections_that_hang_leave_room_for_others() {
        let mut inspections = Inspections::default();
        let mut begun = 0;
        for room in [true, true, true, false] {
            hang(&mut inspections, begun..begun + AT_ONCE);
            begun += AT_ONCE;
            assert!(!inspections.has_room());
            advance(LATE).await;
            inspections.note_late();
            assert_eq!(inspections.has_room(), room, "{begun}");
            assert_eq!(inspections.has_room_to_repeat(), begun < MOST_REPEATED);
            assert!(inspections.late().any(|id| id == "0"));
            assert_eq!(inspections.late_at(), None);
        }
        assert_eq!(begun, MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn an_inspection_that_is_answered_is_neither_late_nor_under_way() {
        let mut inspections = Inspections::default();
        hang(&mut inspections, 0..1);
        let answer = async { ("1".to_owned(), Inspection::Gone) };
        inspections.begin("1".to_owned(), answer);
        assert!(inspections.contains("1"));
        assert!(matches!(inspections.next().await, Some((id, _)) if id == "1"));
        assert!(!inspections.contains("1"));
        advance(LATE).await;
        inspections.note_late();
        assert_eq!(inspections.late().collect::<Vec<_>>(), ["0"]);
    }
}
