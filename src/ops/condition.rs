//! How a part of the program stands with a partner, and questions that one task answers for others.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::counter::Counter;

/// How long a question may wait for its answer. A loop that is waiting for etcd answers later.
const PATIENCE: Duration = Duration::from_millis(500);

/// How it stands with a partner, which others can wait for.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    state: watch::Sender<State>,
    returns: Counter,
}

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

/// Something that one loop is asked by others, and answers between two pieces of work.
#[derive(Debug)]
pub struct Question<T> {
    asked: Notify,
    answer: watch::Sender<Option<Arc<T>>>,
}

impl Condition {
    /// What is known.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// All is well.
    pub fn good(&self) {
        let mut was_bad = false;
        self.state.send_if_modified(|state| {
            if matches!(state, State::Good { .. }) {
                return false;
            }
            was_bad = matches!(state, State::Bad { .. });
            *state = State::Good {
                since: Timestamp::now(),
            };
            true
        });
        if was_bad {
            self.returns.add_one();
        }
    }

    /// How often all was well again after something was wrong.
    pub fn returns(&self) -> u64 {
        self.returns.get()
    }

    /// What was wrong is so no more, and nothing else is known.
    pub fn forget(&self) {
        self.state.send_replace(State::Unknown);
    }

    /// Something is wrong; it began when this was first said.
    pub fn bad(&self, why: &str) {
        self.state.send_if_modified(|state| {
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
        self.state.subscribe()
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
        for _ in 0..2 {
            condition.good();
            assert_eq!(condition.returns(), 1);
        }
    }
}
