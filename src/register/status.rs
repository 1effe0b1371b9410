//! What a running registrar shows of itself: how it stands with its partners, what it has counted, and what its two
//! loops answer when they are asked.
//!
//! Nothing is copied on the way from an event to a key. The lists of containers and of keys belong to the loops that
//! work with them, and are put together only when somebody asks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::wanted::entry::{Entry, Key};
use crate::register::metrics::{Metrics, Partner};
use crate::store::LeaseId;

/// How long a question may wait for its answer. A loop that is waiting for etcd answers later.
const PATIENCE: Duration = Duration::from_millis(500);

/// All of it.
#[derive(Debug, Default)]
pub struct Status {
    /// How it stands with the Docker daemon.
    pub docker: Condition,
    /// How it stands with etcd.
    pub etcd: Condition,
    /// Whether this is the one registrar of its identity.
    pub seat: Condition,
    /// Whether the policy's `run` is at work.
    pub policy: Condition,
    /// Which policy is in force: the file or the bundled name, and its digest.
    pub script: watch::Sender<String>,
    /// The leases that are kept alive.
    pub held: watch::Sender<Held>,
    /// What has been counted.
    pub metrics: Metrics,
    /// Whether the script's thread lets go.
    pub alive: Question<()>,
    /// What the policy made of each container, by name. The script's thread answers.
    pub containers: Question<Vec<Account>>,
    /// The keys that are wanted, sorted. The keeper answers.
    pub keys: Question<Vec<Standing>>,
}

/// The leases that are kept alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Those of keys.
    pub leases: BTreeSet<LeaseId>,
    /// The identity's seat and when it was last renewed, while it is ours.
    pub seat: Option<(LeaseId, Instant)>,
    /// Until when the one lives that ends first; none before there is one.
    pub until: Option<Instant>,
}

/// How it stands with a partner, which others can wait for.
#[derive(Debug, Clone, Default)]
pub struct Condition(watch::Sender<State>);

/// Good, bad, or not known yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// There has been no answer yet, good or bad.
    #[default]
    Unknown,
    /// All is well.
    Good {
        /// From when on.
        since: Timestamp,
    },
    /// Something is wrong.
    Bad {
        /// From when on.
        since: Timestamp,
        /// What, in an operator's words.
        why: Arc<str>,
    },
}

/// What the policy made of one container.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name, or its id where Docker shows neither it nor its name.
    pub name: String,
    /// What it asks for, from the last good call.
    pub entries: Arc<[Entry]>,
    /// What is left out, and why.
    pub left_out: Vec<String>,
    /// What went wrong in the last call, or in showing the container.
    pub failure: Option<String>,
    /// Since when all this is so.
    pub since: Option<Timestamp>,
}

/// How a wanted key stands in etcd.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The key.
    pub key: Key,
    /// Its wanted value.
    pub value: Arc<str>,
    /// Whether it is shared.
    pub shared: bool,
    /// The name of the container that it is for.
    pub container: Arc<str>,
    /// Whether it is there as it is wanted.
    pub stands: bool,
}

/// Something that one loop is asked by others, and answers between two pieces of work.
#[derive(Debug)]
pub struct Question<T> {
    asked: Notify,
    answer: watch::Sender<Option<Arc<T>>>,
}

impl Status {
    /// All conditions that must be good, by name.
    pub fn conditions(&self) -> [(&'static str, &Condition); 4] {
        [
            ("docker", &self.docker),
            ("etcd", &self.etcd),
            ("seat", &self.seat),
            ("policy", &self.policy),
        ]
    }

    /// What keeps this registrar from being ready, a line for each thing; none if it is.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = self
            .conditions()
            .into_iter()
            .filter_map(|(name, part)| match part.state() {
                State::Good { .. } => None,
                State::Unknown => Some(format!("{name}: nothing has come of it yet")),
                State::Bad { since, why } => Some(format!("{name}: {why}, since {since:.0}")),
            })
            .collect();
        if self.lease_left().is_some_and(|left| left.is_zero()) {
            troubles.push(
                "lease: it has run out, because etcd was not reached in time to renew it"
                    .to_owned(),
            );
        }
        troubles
    }

    /// How it stands with a partner.
    pub fn condition(&self, partner: Partner) -> &Condition {
        match partner {
            Partner::Docker => &self.docker,
            Partner::Etcd => &self.etcd,
        }
    }

    /// How long the lease lives that ends first, if nothing renews it; none before there is one.
    pub fn lease_left(&self) -> Option<Duration> {
        let until = self.held.borrow().until;
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

impl Account {
    /// Of a container that Docker lists and cannot show.
    pub fn unreadable(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entries: [].into(),
            left_out: Vec::new(),
            failure: Some("Docker lists it and cannot show it".to_owned()),
            since: None,
        }
    }
}

impl Condition {
    /// What is known.
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// All is well. Returns whether something was wrong before.
    pub fn good(&self) -> bool {
        let mut was_bad = false;
        self.0.send_if_modified(|state| {
            if matches!(state, State::Good { .. }) {
                return false;
            }
            was_bad = matches!(state, State::Bad { .. });
            *state = State::Good {
                since: Timestamp::now(),
            };
            true
        });
        was_bad
    }

    /// What was wrong is so no more, and nothing else is known.
    pub fn forget(&self) {
        self.0.send_replace(State::Unknown);
    }

    /// Something is wrong; it began when this was first said.
    pub fn bad(&self, why: &str) {
        self.0.send_if_modified(|state| {
            let since = match state {
                State::Bad { why: known, .. } if **known == *why => return false,
                State::Bad { since, .. } => *since,
                _ => Timestamp::now(),
            };
            *state = State::Bad {
                since,
                why: why.into(),
            };
            true
        });
    }

    /// Follows its changes.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}

impl<T> Question<T> {
    /// Asks, and returns the answer. If there is none in good time, that of the last time, if there was any.
    pub async fn ask(&self) -> Option<Arc<T>> {
        let fresh = self.ask_within(PATIENCE).await;
        fresh.or_else(|| self.answer.borrow().clone())
    }

    /// Asks, and returns the answer if there is one in time.
    pub async fn ask_within(&self, patience: Duration) -> Option<Arc<T>> {
        let mut answers = self.answer.subscribe();
        self.asked.notify_one();
        let answered = tokio::time::timeout(patience, answers.changed()).await;
        matches!(answered, Ok(Ok(()))).then(|| answers.borrow().clone())?
    }

    /// Until somebody asks.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Answers all who have asked.
    pub fn answer(&self, answer: T) {
        self.answer.send_replace(Some(Arc::new(answer)));
    }
}

impl<T> Default for Question<T> {
    fn default() -> Self {
        Self {
            asked: Notify::new(),
            answer: watch::Sender::new(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_answers_has_the_last_answer() {
        let question = Arc::new(Question::default());
        assert_eq!(question.ask().await, None);
        let answerer = Arc::clone(&question);
        let task = tokio::spawn(async move {
            answerer.asked().await;
            answerer.answer(1);
        });
        // What was asked before there was somebody to answer is answered first.
        assert_eq!(question.ask().await.as_deref(), Some(&1));
        task.await.expect("the answer");
        assert_eq!(question.ask().await.as_deref(), Some(&1));
        assert_eq!(question.ask_within(PATIENCE).await, None);
    }

    #[test]
    fn a_trouble_that_changes_has_lasted_since_it_began() {
        let condition = Condition::default();
        condition.bad("refused");
        let State::Bad { since, .. } = condition.state() else {
            panic!("{condition:?}");
        };
        condition.bad("timed out");
        assert!(
            matches!(condition.state(), State::Bad { since: now, why } if now == since && &*why == "timed out")
        );
        assert!(condition.good());
        assert!(!condition.good());
    }
}
