//! The way from an inspect object to a container, as one step that `benches/micro.rs` can repeat.

use serde_json::Value;

use crate::container;

/// Inspect object → container.
pub struct Reading(String);

impl Reading {
    /// Of an object that `docker inspect` has printed.
    #[must_use]
    pub fn new(inspected: &Value) -> Self {
        Self(inspected.to_string())
    }

    /// Reads it once. Returns how many ports the container has.
    pub fn once(&mut self) -> anyhow::Result<usize> {
        let containers = container::read_saved(&self.0)?;
        Ok(containers
            .iter()
            .map(|container| container.ports.len())
            .sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_can_be_repeated() {
        let saved = include_str!("../../examples/fleet.json");
        let saved: Vec<Value> = serde_json::from_str(saved).expect("saved containers");
        let container = saved.iter().find(|saved| saved["Name"] == "/api-1");
        let container = container.expect("one with two ports");
        let mut reading = Reading::new(container);
        for _ in 0..3 {
            assert_eq!(reading.once().expect("a container"), 2);
        }
    }
}
