//! The step from a changed wanted state to transactions, for `benches/micro.rs` to repeat.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;

use super::Plan;
use crate::policy::steps::Deciding;
use crate::store::etcd::MAX_OPERATIONS;
use crate::store::{Identity, Outcome};
use crate::wanted::Wanted;

/// Wanted state → transactions. It alternates between the two wanted states of [`Deciding`].
pub struct Planning {
    states: [Arc<Wanted>; 2],
    plan: Plan,
}

impl Planning {
    /// Plans for a host with this number of containers, each like the inspected one.
    pub fn new(inspected: &Value, containers: usize) -> anyhow::Result<Self> {
        let mut deciding = Deciding::new(inspected, containers)?;
        let mut state = || -> anyhow::Result<Arc<Wanted>> {
            deciding.once()?;
            deciding.wanted().context("the policy asked for nothing")
        };
        let mut planning = Self {
            states: [state()?, state()?],
            plan: Plan::new(Identity::new("", "")),
        };
        planning.plan.set_alone(true);
        planning.once();
        Ok(planning)
    }

    /// Plans one change, and records it as carried out. Returns the number of transactions.
    pub fn once(&mut self) -> usize {
        self.states.swap(0, 1);
        self.plan.want(&self.states[0]);
        let batches = self.plan.batches(MAX_OPERATIONS, false);
        for batch in &batches {
            self.plan.done(batch, &Outcome::Done { swept: Vec::new() });
        }
        batches.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_can_be_repeated() {
        let saved = include_str!("../../../examples/fleet.json");
        let saved: Vec<Value> = serde_json::from_str(saved).expect("saved containers");
        let container = saved.iter().find(|saved| saved["Name"] == "/api-1");
        let container = container.expect("one with two ports");
        let mut planning = Planning::new(container, 3).expect("a policy");
        for _ in 0..3 {
            assert_eq!(planning.once(), 1);
        }
    }
}
