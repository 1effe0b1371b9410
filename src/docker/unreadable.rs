//! The containers that Docker lists and cannot show: what tells their keys, and when they are asked for again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Error;
use bollard::models::ContainerSummary;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::base::text::quote;
use crate::container::{Container, SHORT_ID, listed_marks, listed_names};

/// When Docker is asked again for a container that it could not show: its answer may only have come at a bad moment,
/// such as in a state on the way to another, of which no event tells. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause, for one that stays unreadable.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A container that Docker lists and has not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id, or the name by which another container refers to it.
    pub id: String,
    /// Its name, or its id where the name is not known.
    pub name: String,
    /// As [`Container::marks`], as far as a list tells them.
    pub marks: Vec<String>,
}

impl Unreadable {
    /// One that no list shows.
    pub fn unlisted(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            marks: vec![id.to_owned(), id.chars().take(SHORT_ID).collect()],
        }
    }

    /// One that was shown once.
    pub fn shown(container: &Container) -> Self {
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

    fn listed(id: &str, summary: &ContainerSummary) -> Self {
        let mut listed = Self::unlisted(id);
        if let Some(name) = listed_names(summary).next() {
            name.clone_into(&mut listed.name);
        }
        listed.marks.extend(listed_marks(summary));
        listed
    }
}

/// The containers whose inspection has failed or is overdue.
#[derive(Default)]
pub struct Waiting {
    containers: BTreeMap<String, Wait>,
    /// What the last list shows of containers that are not known.
    listed: HashMap<String, Arc<Unreadable>>,
}

struct Wait {
    container: Arc<Unreadable>,
    since: Instant,
    /// Whether the log has told of it.
    said: bool,
    pause: Duration,
    /// When it is asked for again; none while it is being asked for.
    again_at: Option<Instant>,
}

impl Waiting {
    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Unreadable>> {
        self.containers.values().map(|wait| &wait.container)
    }

    /// Whether a container is among them.
    pub fn contains(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    /// Begins to take over a list.
    pub fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// Takes note of what the list shows of a container that is not known.
    pub fn describe(&mut self, id: &str, summary: &ContainerSummary) {
        let listed = Arc::new(Unreadable::listed(id, summary));
        if let Some(wait) = self.containers.get_mut(id) {
            wait.container = Arc::clone(&listed);
        }
        self.listed.insert(id.to_owned(), listed);
    }

    /// The name of a container that is not known, or its id where a list does not show it.
    pub fn name_of(&self, id: &str) -> String {
        self.what_is_listed(id).name.clone()
    }

    /// Takes note that a container is not waited for any longer, though its answer may still come.
    pub fn overdue(&mut self, id: &str) {
        let container = self.what_is_listed(id);
        debug!("no answer about container {} yet", quote(&container.name));
        self.wait(id, container);
    }

    /// Takes note that a container, which was `known` before or not, could not be read. Returns whether that is new.
    pub fn fail(&mut self, id: &str, known: Option<&Arc<Container>>, why: &Error) -> bool {
        let is_new = !self.contains(id);
        let container = known.map_or_else(
            || self.what_is_listed(id),
            |known| Arc::new(Unreadable::shown(known)),
        );
        let wait = self.wait(id, container);
        let name = quote(&wait.container.name);
        if wait.said || wait.since.elapsed() < FIRST_PAUSE {
            debug!("cannot read container {name}: {why:#}");
        } else {
            warn!("cannot read container {name}, whose keys stay as they are: {why:#}");
            wait.said = true;
        }
        wait.again_at = Some(Instant::now() + wait.pause);
        wait.pause = (2 * wait.pause).min(LONGEST_PAUSE);
        is_new
    }

    /// Takes note that Docker has shown a container, or that there is none any more. Returns whether it was waited for.
    pub fn end(&mut self, id: &str) -> bool {
        self.listed.remove(id);
        let Some(wait) = self.containers.remove(id) else {
            return false;
        };
        if wait.said {
            let seconds = wait.since.elapsed().as_secs_f64();
            let name = quote(&wait.container.name);
            info!("Docker answers about container {name} again, after {seconds:.1} s");
        }
        true
    }

    /// When the next one is to be asked for again.
    pub fn next_at(&self) -> Option<Instant> {
        let waits = self.containers.values();
        waits.filter_map(|wait| wait.again_at).min()
    }

    /// Those that are to be asked for again by now.
    pub fn due(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (id, wait) in &mut self.containers {
            if wait.again_at.is_some_and(|at| at <= now) {
                wait.again_at = None;
                due.push(id.clone());
            }
        }
        due
    }

    fn wait(&mut self, id: &str, container: Arc<Unreadable>) -> &mut Wait {
        self.containers
            .entry(id.to_owned())
            .or_insert_with(|| Wait {
                container,
                since: Instant::now(),
                said: false,
                pause: FIRST_PAUSE,
                again_at: None,
            })
    }

    fn what_is_listed(&self, id: &str) -> Arc<Unreadable> {
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
    async fn pauses_grow_to_half_a_minute_and_start_anew_once_it_was_shown() {
        let mut waiting = Waiting::default();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            waiting.fail("a", None, &anyhow!("no layer"));
            let at = waiting.next_at().expect("a second look");
            pauses.push((at - Instant::now()).as_secs());
            assert!(waiting.due().is_empty(), "it is not time yet");
            advance(at - Instant::now()).await;
            assert_eq!(waiting.due(), ["a"]);
            assert_eq!(waiting.next_at(), None, "it is being asked for");
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
        assert!(waiting.end("a"));
        assert!(waiting.fail("a", None, &anyhow!("no layer")));
        assert_eq!(
            waiting.next_at(),
            Some(Instant::now() + Duration::from_secs(2))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_of_one_that_stays_unreadable() {
        let mut waiting = Waiting::default();
        let said = |waiting: &Waiting| waiting.containers["a"].said;
        // An event may have it asked for at once, which may be in the same bad moment.
        for _ in 0..3 {
            waiting.fail("a", None, &anyhow!("strange"));
            assert!(!said(&waiting));
        }
        advance(FIRST_PAUSE).await;
        waiting.fail("a", None, &anyhow!("strange"));
        assert!(said(&waiting));
    }

    #[test]
    fn what_a_list_shows_tells_its_keys() {
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
        let mut waiting = Waiting::default();
        waiting.describe("0123456789abcdef", &summary);
        waiting.overdue("0123456789abcdef");
        let containers: Vec<_> = waiting.iter().collect();
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
