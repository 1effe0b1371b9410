//! The containers that run and do not pass the filters: their keys are nobody's business here, but they are not gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Error;
use bollard::models::ContainerSummary;
use tokio::time::Instant;
use tracing::debug;

use super::client::Filters;
use crate::container::{SHORT_ID, listed_names};

/// How long the first snapshot waits for what runs outside.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of them. It takes two lists, one with the filters and one without, which come in any order.
pub struct Outside {
    /// Whether a list without filters is to be asked for after the next one with filters.
    is_wanted: bool,
    /// Whether both lists have yet to come.
    is_pending: bool,
    running: Option<BTreeMap<String, Vec<String>>>,
    passing: Option<BTreeSet<String>>,
    marks: Option<Arc<[String]>>,
    awaited_until: Option<Instant>,
}

impl Outside {
    /// Nothing is outside of no filters; of others, it is not known yet.
    pub fn new(filters: &Filters) -> Self {
        Self {
            is_wanted: !filters.is_empty(),
            is_pending: !filters.is_empty(),
            running: None,
            passing: None,
            marks: filters.is_empty().then(Arc::default),
            awaited_until: None,
        }
    }

    /// Their ids, short ids and names; none as long as they are not known.
    pub fn marks(&self) -> Option<Arc<[String]>> {
        self.marks.clone()
    }

    /// Begins anew, with the next list: somebody may have started others meanwhile.
    pub fn begin(&mut self, filters: &Filters) {
        *self = Self {
            marks: self.marks(),
            ..Self::new(filters)
        };
    }

    /// Whether a list without filters is to be asked for now. The answer is to be given to [`Outside::learn_running`].
    pub fn asks(&mut self) -> bool {
        let asks = std::mem::take(&mut self.is_wanted);
        if asks && self.marks.is_none() && self.awaited_until.is_none() {
            self.awaited_until = Some(Instant::now() + PATIENCE);
        }
        asks
    }

    /// Until when a first snapshot waits; none if there is nothing to wait for.
    pub fn awaited_until(&self) -> Option<Instant> {
        self.awaited_until
    }

    /// Takes note that enough time has passed.
    pub fn give_up(&mut self) {
        if self.awaited_until.is_some_and(|at| at <= Instant::now()) {
            self.awaited_until = None;
        }
    }

    /// Takes over the list without filters. If it has failed, it is asked for again with the next list.
    pub fn learn_running(&mut self, listed: Result<BTreeMap<String, ContainerSummary>, Error>) {
        match listed {
            Ok(listed) => {
                let marks = |(id, summary): (String, ContainerSummary)| {
                    let short_id = id.chars().take(SHORT_ID).collect();
                    let names = listed_names(&summary).map(str::to_owned);
                    let marks = [id.clone(), short_id].into_iter().chain(names).collect();
                    (id, marks)
                };
                self.running = Some(listed.into_iter().map(marks).collect());
            }
            Err(error) => {
                debug!("cannot list what runs beside what passes the filters: {error:#}");
                self.is_wanted = true;
            }
        }
    }

    /// Takes over the ids in the list with filters.
    pub fn learn_passing<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        if self.is_pending {
            self.passing = Some(ids.cloned().collect());
        }
    }

    /// Puts both lists together, if both are there. What was started between them `is_known` by its event. Returns whether
    /// that is new.
    pub fn settle(&mut self, is_known: impl Fn(&str) -> bool) -> bool {
        let Some(running) = self.running.take_if(|_| self.passing.is_some()) else {
            return false;
        };
        let passing = self.passing.take().unwrap_or_default();
        let is_outside = |id: &String| !passing.contains(id) && !is_known(id);
        let outside = running.into_iter().filter(|(id, _)| is_outside(id));
        let marks: Arc<[String]> = outside.flat_map(|(_, marks)| marks).collect();
        debug!("outside the filters: {}", marks.join(" "));
        self.is_pending = false;
        self.awaited_until = None;
        let is_new = self.marks.as_ref() != Some(&marks);
        self.marks = Some(marks);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use serde_json::json;

    use super::*;

    fn filters() -> Filters {
        Filters::from([("label".to_owned(), vec!["seen".to_owned()])])
    }

    fn list(ids: &[&str]) -> BTreeMap<String, ContainerSummary> {
        let summary = |id: &&str| {
            let names = [format!("/{id}-name")];
            let summary = serde_json::from_value(json!({ "Id": id, "Names": names }));
            ((*id).to_owned(), summary.expect("a summary"))
        };
        ids.iter().map(summary).collect()
    }

    fn pass(outside: &mut Outside, ids: &[&str]) {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        outside.learn_passing(ids.iter());
    }

    #[test]
    fn nothing_is_outside_of_no_filters() {
        let mut outside = Outside::new(&Filters::new());
        assert!(!outside.asks());
        assert_eq!(outside.marks().as_deref(), Some(&[][..]));
    }

    #[test]
    fn what_runs_and_does_not_pass_is_outside_in_whatever_order_the_lists_come() {
        for running_first in [true, false] {
            let mut outside = Outside::new(&filters());
            assert!(outside.asks() && !outside.asks());
            let running = list(&["0123456789abcdef", "b", "c"]);
            if running_first {
                outside.learn_running(Ok(running));
                assert!(!outside.settle(|_| false));
                pass(&mut outside, &["b"]);
            } else {
                pass(&mut outside, &["b"]);
                assert!(!outside.settle(|_| false));
                outside.learn_running(Ok(running));
            }
            assert_eq!(outside.marks(), None);
            assert!(outside.settle(|id| id == "c"));
            let marks = outside.marks().expect("both lists");
            let id = "0123456789abcdef";
            assert_eq!(*marks, [id, "0123456789ab", "0123456789abcdef-name"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_is_asked_for_again_and_is_not_an_empty_one() {
        let mut outside = Outside::new(&filters());
        assert!(outside.asks());
        pass(&mut outside, &["b"]);
        outside.learn_running(Err(anyhow!("out of memory")));
        assert!(!outside.settle(|_| false));
        assert_eq!(outside.marks(), None);
        // It is not waited for, for longer than that.
        tokio::time::advance(PATIENCE).await;
        outside.give_up();
        assert_eq!(outside.awaited_until(), None);
        assert!(outside.asks());
        outside.learn_running(Ok(list(&["b"])));
        assert!(outside.settle(|_| false));
        assert_eq!(outside.marks().as_deref(), Some(&[][..]));
        // What was known stays known while a new connection asks again.
        outside.begin(&filters());
        assert!(outside.asks());
        assert_eq!(outside.awaited_until(), None);
        assert_eq!(outside.marks().as_deref(), Some(&[][..]));
    }
}
