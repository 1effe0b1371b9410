//! Several ways to one store, such as endpoints: they are tried one after another, and an operator is told of those that
//! fail although another one works.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Store, StoreError};

/// The time after which a failure is told of once more.
const REMINDER: Duration = Duration::from_secs(3600);
/// The most messages that are remembered.
const MOST_MESSAGES: usize = 100;

/// When each message was last logged. It is one for all connections, because each of them tries the ways anew.
static SAID: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// Asks a store over one way after another until it answers.
pub async fn ask_any<S: Store, T>(
    store: &mut S,
    mut ask: impl AsyncFnMut(&mut S) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut failures = Vec::new();
    loop {
        match ask(store).await {
            Err(StoreError::Failed(error)) if failures.len() + 1 < store.ways() => {
                failures.push(error);
            }
            Err(StoreError::Failed(error)) => return Err(StoreError::Failed(error)),
            answer => {
                mention(&failures);
                return answer;
            }
        }
    }
}

/// Logs the failures of ways, each once, because another way has answered.
pub(super) fn mention(failures: &[anyhow::Error]) {
    for error in failures {
        let message = format!("{error:#}");
        // Nothing that holds it can leave it half-done.
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = said.get(&message).is_none_or(|at| at.elapsed() >= REMINDER);
        if is_new {
            warn!("{message}; another endpoint answers");
            if said.len() >= MOST_MESSAGES {
                said.clear();
            }
            said.insert(message, Instant::now());
        }
    }
}
