//! The containers that were sent a signal that should end them, which an inspection does not show.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Containers that are about to end.
#[derive(Default)]
pub struct Stopping {
    /// By id, the time at which the container should have ended.
    ends: HashMap<String, Instant>,
    /// Signals to containers that were not known yet, by id. Only an inspection tells which signals are fatal.
    early_signals: HashMap<String, Vec<String>>,
}

impl Stopping {
    /// Notes a fatal signal to a container that may take `grace` to end.
    pub fn begin(&mut self, id: &str, grace: Duration) {
        self.ends.insert(id.to_owned(), Instant::now() + grace);
    }

    /// Notes a signal to a container that is not known.
    pub fn signal_early(&mut self, id: &str, signal: &str) {
        let signals = self.early_signals.entry(id.to_owned()).or_default();
        signals.push(signal.to_owned());
    }

    pub fn take_early_signals(&mut self, id: &str) -> Vec<String> {
        self.early_signals.remove(id).unwrap_or_default()
    }

    pub fn contains(&self, id: &str) -> bool {
        self.ends.contains_key(id)
    }

    /// Forgets a container, which has ended or was started again.
    pub fn forget(&mut self, id: &str) {
        self.ends.remove(id);
        self.early_signals.remove(id);
    }

    pub fn next_end(&self) -> Option<Instant> {
        self.ends.values().min().copied()
    }

    /// Removes the containers that should have ended by now.
    pub fn take_ended(&mut self) -> Vec<String> {
        let now = Instant::now();
        let ended = self.ends.extract_if(|_, end| *end <= now);
        ended.map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_container_has_its_own_grace_period() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut stopping = Stopping::default();
        stopping.begin("a", SECOND);
        stopping.begin("b", 3 * SECOND);
        assert_eq!(stopping.next_end(), Some(Instant::now() + SECOND));
        assert!(stopping.take_ended().is_empty());
        advance(SECOND).await;
        assert_eq!(stopping.take_ended(), ["a"]);
        assert!(!stopping.contains("a") && stopping.contains("b"));
    }

    #[test]
    fn early_signals_are_taken_once_and_are_void_after_a_start() {
        let mut stopping = Stopping::default();
        stopping.signal_early("a", "1");
        stopping.signal_early("a", "15");
        stopping.signal_early("b", "15");
        stopping.forget("b");
        assert_eq!(stopping.take_early_signals("a"), ["1", "15"]);
        assert!(stopping.take_early_signals("a").is_empty());
        assert!(stopping.take_early_signals("b").is_empty());
    }
}
