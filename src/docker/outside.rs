//! The running containers that do not pass the filters. This program does not register them, but their keys must not be
//! taken for those of containers that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Error;
use tokio::time::Instant;
use tracing::debug;

use super::client::Filters;
use crate::container::{Listed, SHORT_ID};

/// How long the first snapshot waits for the list without filters.
const PATIENCE: Duration = Duration::from_secs(1);

/// Finds them out once in a session, from two lists that come in any order: one with the filters, and one without. Where
/// the filters can be applied here, both are one list.
pub struct Outside {
    /// Whether to ask for the list without filters after the next one with them.
    is_wanted: bool,
    /// Whether they have yet to be found out.
    is_pending: bool,
    /// The list without filters: by id, the ids and names of each.
    running: Option<BTreeMap<String, Vec<String>>>,
    /// The ids in the list with filters.
    passing: Option<BTreeSet<String>>,
    awaited_until: Option<Instant>,
}

impl Outside {
    /// Without filters there is nothing to find out.
    pub fn new(filters: &Filters) -> Self {
        Self {
            is_wanted: !filters.is_empty(),
            is_pending: !filters.is_empty(),
            running: None,
            passing: None,
            awaited_until: None,
        }
    }

    /// Whether to ask for a list without filters now, whose answer goes to [`Outside::on_running`].
    ///
    /// `is_first`: whether there has been no such list yet. The first snapshot waits for the first one.
    pub fn should_ask(&mut self, is_first: bool) -> bool {
        let should_ask = std::mem::take(&mut self.is_wanted);
        if should_ask && is_first && self.awaited_until.is_none() {
            self.awaited_until = Some(Instant::now() + PATIENCE);
        }
        should_ask
    }

    /// Until when the first snapshot waits; none if it need not.
    pub fn awaited_until(&self) -> Option<Instant> {
        self.awaited_until
    }

    /// Ends the wait if it has lasted long enough.
    pub fn give_up(&mut self) {
        if self.awaited_until.is_some_and(|at| at <= Instant::now()) {
            self.awaited_until = None;
        }
    }

    /// Takes the list without filters. If it has failed, it is asked for again after the next list.
    pub fn on_running(&mut self, listed: Result<&BTreeMap<String, Listed>, Error>) {
        match listed {
            Ok(listed) => {
                let marks = |(id, summary): (&String, &Listed)| {
                    let short_id = id.chars().take(SHORT_ID).collect();
                    let names = summary.names().map(str::to_owned);
                    let marks = [id.clone(), short_id].into_iter().chain(names).collect();
                    (id.clone(), marks)
                };
                self.running = Some(listed.iter().map(marks).collect());
            }
            Err(error) => {
                debug!("the containers outside the filters stay unknown: {error:#}");
                self.is_wanted = true;
            }
        }
    }

    /// Takes the ids in the list with filters.
    pub fn on_passing<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        if self.is_pending {
            self.passing = Some(ids.cloned().collect());
        }
    }

    /// The marks of the running containers that do not pass the filters: ids, short ids and names. None until both
    /// lists are there.
    ///
    /// `is_known`: whether an event has told of a container; one may start between the lists.
    pub fn take(&mut self, is_known: impl Fn(&str) -> bool) -> Option<Arc<[String]>> {
        let running = self.running.take_if(|_| self.passing.is_some())?;
        let passing = self.passing.take().unwrap_or_default();
        let is_outside = |id: &String| !passing.contains(id) && !is_known(id);
        let outside = running.into_iter().filter(|(id, _)| is_outside(id));
        let marks: Arc<[String]> = outside.flat_map(|(_, marks)| marks).collect();
        debug!("outside the filters: {}", marks.join(" "));
        self.is_pending = false;
        self.awaited_until = None;
        Some(marks)
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

    fn list(ids: &[&str]) -> BTreeMap<String, Listed> {
        let summary = |id: &&str| {
            let names = [format!("/{id}-name")];
            let summary = serde_json::from_value(json!({ "Id": id, "Names": names }));
            ((*id).to_owned(), summary.expect("a summary"))
        };
        ids.iter().map(summary).collect()
    }

    fn pass(outside: &mut Outside, ids: &[&str]) {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        outside.on_passing(ids.iter());
    }

    #[test]
    fn without_filters_nothing_is_asked() {
        assert!(!Outside::new(&Filters::new()).should_ask(true));
    }

    #[test]
    fn running_containers_that_do_not_pass_are_outside_in_whatever_order_the_lists_come() {
        for running_first in [true, false] {
            let mut outside = Outside::new(&filters());
            assert!(outside.should_ask(true) && !outside.should_ask(true));
            let running = list(&["0123456789abcdef", "b", "c"]);
            if running_first {
                outside.on_running(Ok(&running));
                assert_eq!(outside.take(|_| false), None);
                pass(&mut outside, &["b"]);
            } else {
                pass(&mut outside, &["b"]);
                assert_eq!(outside.take(|_| false), None);
                outside.on_running(Ok(&running));
            }
            assert!(outside.awaited_until().is_some());
            let marks = outside.take(|id| id == "c").expect("both lists");
            let id = "0123456789abcdef";
            assert_eq!(*marks, [id, "0123456789ab", "0123456789abcdef-name"]);
            assert_eq!(outside.awaited_until(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_is_asked_for_again_and_is_not_an_empty_one() {
        let mut outside = Outside::new(&filters());
        assert!(outside.should_ask(true));
        pass(&mut outside, &["b"]);
        outside.on_running(Err(anyhow!("out of memory")));
        assert_eq!(outside.take(|_| false), None);
        tokio::time::advance(PATIENCE).await;
        outside.give_up();
        assert_eq!(outside.awaited_until(), None);
        assert!(outside.should_ask(true));
        outside.on_running(Ok(&list(&["b"])));
        assert_eq!(outside.take(|_| false).as_deref(), Some(&[][..]));
        // A later session asks again, and no snapshot waits for it.
        let mut outside = Outside::new(&filters());
        assert!(outside.should_ask(false));
        assert_eq!(outside.awaited_until(), None);
    }
}
