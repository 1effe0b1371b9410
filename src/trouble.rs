//! Says once what is wrong, paces the retries, and says when it is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::metrics::Partner;
use crate::status::Status;

/// The first wait before a retry; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait, so that whatever comes back is made use of within a second.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often the log is reminded of a trouble that lasts.
const REMINDER: Duration = Duration::from_secs(60);
/// How soon it is told that a trouble looks otherwise by now. Where one of several endpoints is tried after the other,
/// each says something else.
const NEWS: Duration = Duration::from_secs(10);

/// A partner that may be in trouble, and what is known of it.
#[derive(Debug)]
pub struct Trouble {
    partner: &'static str,
    consequence: &'static str,
    current: Option<Current>,
    /// Where others see it.
    shown: Option<(Arc<Status>, Partner)>,
}

#[derive(Debug)]
struct Current {
    message: String,
    since: Instant,
    said: Instant,
    wait: Duration,
}

impl Trouble {
    /// No trouble yet with `partner`; `consequence` tells an operator what becomes of the keys meanwhile.
    pub fn new(partner: &'static str, consequence: &'static str) -> Self {
        Self {
            partner,
            consequence,
            current: None,
            shown: None,
        }
    }

    /// The same, and `status` shows it.
    pub fn shown(self, status: &Arc<Status>, partner: Partner) -> Self {
        Self {
            shown: Some((Arc::clone(status), partner)),
            ..self
        }
    }

    /// Takes note of a failure, logs it if it is news, and returns how long to wait before the next try.
    pub fn with(&mut self, message: String) -> Duration {
        let now = Instant::now();
        if let Some((status, partner)) = &self.shown {
            status.condition(*partner).bad(&message);
        }
        let Some(current) = &mut self.current else {
            warn!("{message}; retrying, {}", self.consequence);
            self.current = Some(Current {
                message,
                since: now,
                said: now,
                wait: FIRST_WAIT,
            });
            return FIRST_WAIT;
        };
        let silence = now - current.said;
        if silence >= REMINDER || silence >= NEWS && current.message != message {
            let for_seconds = (now - current.since).as_secs();
            warn!(
                "{message}; retrying since {for_seconds} s, {}",
                self.consequence
            );
            current.said = now;
            current.message = message;
        } else {
            debug!("{message}");
        }
        current.wait = (current.wait * 2).min(LONGEST_WAIT);
        current.wait
    }

    /// Takes note of a success.
    pub fn over(&mut self) {
        if let Some((status, partner)) = &self.shown
            && status.condition(*partner).good()
        {
            status.metrics.count_reconnection(*partner);
        }
        if let Some(current) = self.current.take() {
            info!(
                "{} is back after {:.1} s",
                self.partner,
                current.since.elapsed().as_secs_f64()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_second_and_start_anew_after_a_success() {
        let mut trouble = Trouble::new("etcd", "the keys stay");
        let waits: Vec<_> = (0..7)
            .map(|_| trouble.with("refused".to_owned()).as_millis())
            .collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
        trouble.over();
        assert_eq!(trouble.with("refused".to_owned()).as_millis(), 50);
    }
}
