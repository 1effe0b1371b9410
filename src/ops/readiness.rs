//! Whether a role is ready, and if not, why. A role makes one from its conditions; HTTP and systemd ask those of all
//! roles of the process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;

use super::condition::{Condition, Question, State};

/// The timeout for an answer of the script's thread. A call of the policy may take a second.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// The conditions of a role that must be good, and the check for a script that hangs. A clone is the same.
#[derive(Clone)]
pub struct Readiness {
    /// By name.
    pub conditions: Vec<(&'static str, Condition)>,
    /// Conditions that an operator is told of while they are bad, and that do not make the role unready.
    pub notices: Vec<(&'static str, Condition)>,
    /// A further problem, of the role itself.
    pub problem: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Answered by the script's thread.
    pub alive: Arc<Question<()>>,
}

/// The readiness of all roles of the process. A clone is the same.
#[derive(Clone)]
pub struct Roles(Arc<[(String, Readiness)]>);

impl Roles {
    /// The roles by their names, which begin the lines if there are several.
    pub fn new(roles: Vec<(&'static str, Readiness)>) -> Self {
        let is_alone = roles.len() == 1;
        let begin = |name: &str| {
            if is_alone {
                String::new()
            } else {
                format!("{name}: ")
            }
        };
        let roles = roles.into_iter();
        Self(roles.map(|(name, it)| (begin(name), it)).collect())
    }

    /// The problems of all roles. It does not check for a hang.
    pub fn problems(&self) -> Vec<String> {
        self.lines(self.0.iter().map(|(_, role)| role.problems()))
    }

    /// The notices of all roles.
    pub fn notices(&self) -> Vec<String> {
        self.lines(self.0.iter().map(|(_, role)| role.notices()))
    }

    /// The problems, and checks whether a script hangs.
    pub async fn ask(&self) -> Vec<String> {
        let asked = join_all(self.0.iter().map(|(_, role)| role.ask())).await;
        self.lines(asked)
    }

    /// Whether the scripts' thread answers all roles in time.
    pub async fn is_alive(&self) -> bool {
        self.is_alive_within(SIGN_OF_LIFE).await
    }

    /// Whether the scripts' thread answers all roles within `limit`.
    pub async fn is_alive_within(&self, limit: Duration) -> bool {
        let roles = self.0.iter().map(|(_, role)| role.is_alive_within(limit));
        join_all(roles).await.into_iter().all(|is_alive| is_alive)
    }

    /// Receivers of the changes of all conditions.
    pub fn subscribe(&self) -> Vec<watch::Receiver<State>> {
        self.0
            .iter()
            .flat_map(|(_, role)| role.subscribe())
            .collect()
    }

    fn lines(&self, of_roles: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
        let named = self.0.iter().zip(of_roles);
        let lines = named.flat_map(|((begin, _), lines)| {
            lines.into_iter().map(move |line| format!("{begin}{line}"))
        });
        lines.collect()
    }
}

impl Readiness {
    /// The reasons why the role is not ready, one line each; empty if it is ready. It does not check for a hang.
    pub fn problems(&self) -> Vec<String> {
        let of_condition = |(name, condition): &(&str, Condition)| match condition.state() {
            State::Good { .. } => None,
            State::Unknown => Some(format!("{name}: no answer yet")),
            State::Bad { since, why } => Some(line(name, &why, since)),
        };
        let problems = self.conditions.iter().filter_map(of_condition);
        problems.chain((self.problem)()).collect()
    }

    /// Notices for an operator besides, one line each.
    pub fn notices(&self) -> Vec<String> {
        let notices = self.notices.iter();
        let notices = notices.filter_map(|(name, condition)| match condition.state() {
            State::Bad { since, why } => Some(line(name, &why, since)),
            State::Good { .. } | State::Unknown => None,
        });
        notices.collect()
    }

    /// The problems, and checks whether the script hangs.
    pub async fn ask(&self) -> Vec<String> {
        let mut problems = self.problems();
        if !self.is_alive_within(SIGN_OF_LIFE).await {
            problems.push("policy: the script hangs".to_owned());
        }
        problems
    }

    /// Whether the script's thread answers within `limit`.
    async fn is_alive_within(&self, limit: Duration) -> bool {
        self.alive.ask_within(limit).await.is_some()
    }

    /// Receivers of the changes of all conditions.
    fn subscribe(&self) -> Vec<watch::Receiver<State>> {
        let conditions = self.conditions.iter().chain(&self.notices);
        conditions
            .map(|(_, condition)| condition.subscribe())
            .collect()
    }
}

fn line(name: &str, why: &str, since: Timestamp) -> String {
    format!("{name}: {why}, since {since:.0}")
}
