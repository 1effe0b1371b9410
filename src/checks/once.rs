//! Checks that are made once, for commands.

use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::gate::Gate;
use super::probe::Outcome;
use super::prober::Slots;
use super::{Judged, Order};
use crate::wanted::{Check, ContainerName, Wanted};

/// A check that did not pass.
#[derive(Debug)]
pub struct NotPassed {
    pub who: ContainerName,
    pub check: Arc<Check>,
    pub why: String,
}

/// The wanted state before any check has a verdict: the entries with a check are unproven.
pub fn unproven(wanted: &Arc<Wanted>) -> Arc<Wanted> {
    let mut gate = Gate::default();
    gate.want(wanted, Timestamp::now());
    gate.left()
}

/// Makes each check once. Returns the wanted state without the entries whose check fails, and the checks that did not
/// pass. The entries of a check that could not be made are unproven.
pub async fn ask_once(wanted: &Arc<Wanted>) -> (Arc<Wanted>, Vec<NotPassed>) {
    let mut gate = Gate::default();
    let slots = Slots::new();
    let orders = gate.want(wanted, Timestamp::now());
    let asked = orders.into_iter().filter_map(|order| match order {
        Order::Begin { id, target, .. } => Some((id, target)),
        Order::End(_) => None,
    });
    let asked = asked.map(async |(id, target)| {
        let outcome = match target.too_young() {
            Some(why) => Outcome::Failed(why),
            None => slots.probe(&target.check, false).await.1,
        };
        (id, target, outcome)
    });
    let mut not_passed = Vec::new();
    for (id, target, outcome) in join_all(asked).await {
        let passes = outcome == Outcome::Passed;
        if !matches!(outcome, Outcome::Unasked(_)) {
            gate.judge(Judged { id, passes });
        }
        let its = outcome.trouble().map(|why| NotPassed {
            who: target.who,
            check: target.check,
            why,
        });
        not_passed.extend(its);
    }
    not_passed.sort_by(|a, b| a.who.cmp(&b.who));
    (gate.left(), not_passed)
}

impl fmt::Display for NotPassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: its check does not pass: {}: {}",
            self.who, self.check, self.why
        )
    }
}
