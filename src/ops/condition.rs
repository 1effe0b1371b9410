//! The state of a partner (Docker, etcd, the policy), shared between tasks, and questions that one task answers for
//! others. The loops of a role report here; HTTP and systemd read it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::counter::Counter;

/// The time limit for a fresh answer. A loop that is waiting for etcd answers later.
const PATIENCE: Duration = Duration::from_millis(500);

/// The state of a partner; others can wait for its changes.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    state: watch::Sender<State>,
    losses: Counter,
}

/// Good, bad, or not known yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// The partner has not answered yet.
    #[default]
    Unknown,
    Good {
        since: Timestamp,
    },
    Bad {
        since: Timestamp,
        /// The message for an operator.
        why: Arc<str>,
    },
}

/// A question that other tasks ask a loop, which answers between two pieces of work.
#[derive(Debug)]
pub struct Question<T> {
    asked: Notify,
    answer: watch::Sender<Option<Arc<T>>>,
}

impl Condition {
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub fn good(&self) {
        self.state.send_if_modified(|state| {
            let is_new = !matches!(state, State::Good { .. });
            if is_new {
                *state = State::Good {
                    since: Timestamp::now(),
                };
            }
            is_new
        });
    }

    /// The number of changes from good to bad.
    pub fn losses(&self) -> u64 {
        self.losses.get()
    }

    /// Back to unknown: the last error no longer holds.
    pub fn forget(&self) {
        self.state.send_replace(State::Unknown);
    }

    /// Sets the state to bad. `since` is the time of the first call, also when the reason changes.
    pub fn bad(&self, why: &str) {
        self.state.send_if_modified(|state| {
            let since = match state {
                State::Bad { why: known, .. } if **known == *why => return false,
                State::Bad { since, .. } => *since,
                State::Good { .. } => {
                    self.losses.add_one();
                    Timestamp::now()
                }
                State::Unknown => Timestamp::now(),
            };
            *state = State::Bad {
                since,
                why: why.into(),
            };
            true
        });
    }

    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}

impl<T> Question<T> {
    /// Asks, and returns the answer. After the time limit it returns the last answer, if there was one.
    pub async fn ask(&self) -> Option<Arc<T>> {
        let fresh = self.ask_within(PATIENCE).await;
        fresh.or_else(|| self.answer.borrow().clone())
    }

    /// Asks, and returns the answer, or none after `patience`.
    pub async fn ask_within(&self, patience: Duration) -> Option<Arc<T>> {
        let mut answers = self.answer.subscribe();
        self.asked.notify_one();
        let answered = tokio::time::timeout(patience, answers.changed()).await;
        matches!(answered, Ok(Ok(()))).then(|| answers.borrow().clone())?
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Answers everybody who has asked.
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
        // The question of the first call is still open, so it is answered at once.
        assert_eq!(question.ask().await.as_deref(), Some(&1));
        task.await.expect("the answer");
        assert_eq!(question.ask().await.as_deref(), Some(&1));
        assert_eq!(question.ask_within(PATIENCE).await, None);
    }

    #[test]
    fn an_error_that_changes_keeps_its_start_time() {
        let condition = Condition::default();
        condition.bad("refused");
        let State::Bad { since, .. } = condition.state() else {
            panic!("{condition:?}");
        };
        condition.bad("timed out");
        assert!(
            matches!(condition.state(), State::Bad { since: now, why } if now == since && &*why == "timed out")
        );
    }

    #[test]
    fn a_loss_is_counted_when_it_happens() {
        let condition = Condition::default();
        // It was not reached yet, so it is not lost.
        condition.bad("refused");
        condition.good();
        assert_eq!(condition.losses(), 0);
        condition.bad("refused");
        condition.bad("timed out");
        assert_eq!(condition.losses(), 1);
    }
}
