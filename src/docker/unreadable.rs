//! The containers that Docker lists but does not inspect: the marks by which their keys are kept, and the retries.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Error;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::base::text::quote;
use crate::container::{Container, Listed, SHORT_ID};

/// The pause before the first retry; each further one is twice as long. A failure may be due to a state on the way to
/// another, of which no event tells, so it is logged only if a retry fails too.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause before a retry.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A container that is listed, but could not be inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id, or the name by which another container refers to it.
    pub id: String,
    /// Its name, or its id if the name is not known.
    pub name: String,
    /// As [`Container::marks`], as far as they are known.
    pub marks: Vec<String>,
}

impl Unreadable {
    /// A container that is in no list and was never inspected.
    pub fn unlisted(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            marks: vec![id.to_owned(), id.chars().take(SHORT_ID).collect()],
        }
    }

    /// A container that was inspected before.
    pub fn known(container: &Container) -> Self {
        Self {
            id: container.id.to_string(),
            name: container.name.to_string(),
            marks: container.marks(),
        }
    }

    /// Whether a reference is its id, the beginning of its id, or its name.
    pub fn is_called(&self, reference: &str) -> bool {
        self.id.starts_with(reference) || self.name == reference
    }

    fn listed(id: &str, summary: &Listed) -> Self {
        let mut listed = Self::unlisted(id);
        if let Some(name) = summary.names().next() {
            name.clone_into(&mut listed.name);
        }
        listed.marks.extend(summary.marks());
        listed
    }
}

/// The containers whose last inspection has failed or is overdue, and when each is retried.
#[derive(Default)]
pub struct Retries {
    failing: BTreeMap<String, Retry>,
    /// The entries of unknown containers in the last list.
    listed: HashMap<String, Arc<Unreadable>>,
}

struct Retry {
    container: Arc<Unreadable>,
    since: Instant,
    is_logged: bool,
    pause: Duration,
    /// None while an inspection is under way.
    at: Option<Instant>,
}

impl Retries {
    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Unreadable>> {
        self.failing.values().map(|retry| &retry.container)
    }

    pub fn contains(&self, id: &str) -> bool {
        self.failing.contains_key(id)
    }

    /// Forgets the last list, because a new one follows.
    pub fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// Notes the list entry of a container that is not known.
    pub fn describe(&mut self, id: &str, summary: &Listed) {
        let listed = Arc::new(Unreadable::listed(id, summary));
        if let Some(retry) = self.failing.get_mut(id) {
            retry.container = Arc::clone(&listed);
        }
        self.listed.insert(id.to_owned(), listed);
    }

    /// The name of a container that is not known, or its id if no list has shown it.
    pub fn name_of(&self, id: &str) -> String {
        self.entry_of(id).name.clone()
    }

    /// Counts a container as unreadable until its inspection is answered.
    pub fn overdue(&mut self, id: &str) {
        let container = self.entry_of(id);
        debug!(
            "no answer yet to the inspection of container {}",
            quote(&container.name)
        );
        self.retry(id, container);
    }

    /// Notes a failed inspection of a container, which is `known` from an earlier one or not. Returns whether the
    /// container was readable before.
    pub fn fail(&mut self, id: &str, known: Option<&Arc<Container>>, why: &Error) -> bool {
        let is_new = !self.contains(id);
        let container = known.map_or_else(
            || self.entry_of(id),
            |known| Arc::new(Unreadable::known(known)),
        );
        let retry = self.retry(id, container);
        let name = quote(&retry.container.name);
        if retry.is_logged || retry.since.elapsed() < FIRST_PAUSE {
            debug!("cannot inspect container {name}: {why:#}");
        } else {
            warn!("cannot inspect container {name}, so its keys stay as they are: {why:#}");
            retry.is_logged = true;
        }
        retry.at = Some(Instant::now() + retry.pause);
        retry.pause = (2 * retry.pause).min(LONGEST_PAUSE);
        is_new
    }

    /// Notes that a container was inspected, or is gone. Returns whether it was unreadable.
    pub fn end(&mut self, id: &str) -> bool {
        self.listed.remove(id);
        let Some(retry) = self.failing.remove(id) else {
            return false;
        };
        if retry.is_logged {
            let seconds = retry.since.elapsed().as_secs_f64();
            let name = quote(&retry.container.name);
            info!("Docker answers inspections of container {name} again, after {seconds:.1} s");
        }
        true
    }

    pub fn next_at(&self) -> Option<Instant> {
        self.failing.values().filter_map(|retry| retry.at).min()
    }

    /// The containers to inspect again by now, each once.
    pub fn take_due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, retry) in &mut self.failing {
            if retry.at.take_if(|at| *at <= now).is_some() {
                due.push(id.clone());
            }
        }
        due
    }

    fn retry(&mut self, id: &str, container: Arc<Unreadable>) -> &mut Retry {
        self.failing.entry(id.to_owned()).or_insert_with(|| Retry {
            container,
            since: Instant::now(),
            is_logged: false,
            pause: FIRST_PAUSE,
            at: None,
        })
    }

    fn entry_of(&self, id: &str) -> Arc<Unreadable> {
        let listed = self.listed.get(id).cloned();
        listed.unwrap_or_else(|| Arc::new(Unreadable::unlisted(id)))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_half_a_minute_and_start_over_after_a_success() {
        let mut retries = Retries::default();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            retries.fail("a", None, &anyhow!("no layer"));
            let at = retries.next_at().expect("a retry");
            pauses.push((at - Instant::now()).as_secs());
            assert!(retries.take_due().is_empty(), "it is not time yet");
            advance(at - Instant::now()).await;
            assert_eq!(retries.take_due(), ["a"]);
            assert_eq!(retries.next_at(), None, "it is under way");
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
        assert!(retries.end("a"));
        assert!(retries.fail("a", None, &anyhow!("no layer")));
        assert_eq!(
            retries.next_at(),
            Some(Instant::now() + Duration::from_secs(2))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_is_logged_once_it_stays_unreadable() {
        let mut retries = Retries::default();
        let is_logged = |retries: &Retries| retries.failing["a"].is_logged;
        // An event may lead to a retry at once, in the same bad moment.
        for _ in 0..3 {
            retries.fail("a", None, &anyhow!("strange"));
            assert!(!is_logged(&retries));
        }
        advance(FIRST_PAUSE).await;
        retries.fail("a", None, &anyhow!("strange"));
        assert!(is_logged(&retries));
    }

    #[test]
    fn a_listed_container_has_marks_before_its_first_inspection() {
        let summary = serde_json::json!({
            "Id": "0123456789abcdef", "Names": ["/other/alias", "/web"], "State": "running",
            "Ports": [
                { "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp" },
                { "IP": "::", "PrivatePort": 80, "PublicPort": 32768, "Type": "tcp" },
                { "PrivatePort": 81, "Type": "tcp" },
            ],
            "NetworkSettings": { "Networks": {
                "bridge": { "IPAddress": "172.17.0.2", "GlobalIPv6Address": "" },
            } },
        });
        let summary = serde_json::from_value(summary).expect("a summary");
        let mut retries = Retries::default();
        retries.describe("0123456789abcdef", &summary);
        retries.overdue("0123456789abcdef");
        let containers: Vec<_> = retries.iter().collect();
        assert_eq!(containers[0].name, "web");
        assert_eq!(
            containers[0].marks,
            [
                "0123456789abcdef",
                "0123456789ab",
                "web",
                ":32768",
                "172.17.0.2"
            ]
        );
    }
}
