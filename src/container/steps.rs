//! The step from Docker's reply to a container, for `benches/micro.rs` to measure.

use serde_json::Value;

use super::read_saved;

/// Reads an inspect object as often as it is asked to.
pub struct Reading(String);

impl Reading {
    /// Takes an object that `docker inspect` has printed.
    #[must_use]
    pub fn new(inspected: &Value) -> Self {
        Self(inspected.to_string())
    }

    /// Reads it once. Returns how many ports the container has.
    pub fn once(&mut self) -> anyhow::Result<usize> {
        let containers = read_saved(&self.0)?.whole()?;
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
    fn an_object_is_read_again_and_again() {
        let object = serde_json::json!({
            "Id": "a", "Name": "/a", "Config": { "ExposedPorts": { "80/tcp": {}, "81/tcp": {} } },
        });
        let mut reading = Reading::new(&object);
        for _ in 0..3 {
            assert_eq!(reading.once().expect("a container"), 2);
        }
    }
}
