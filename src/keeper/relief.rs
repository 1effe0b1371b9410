//! The keeper works in the script's thread, so that nothing waits for another thread between an event and its keys. Here is
//! what becomes of the leases while a script does not let go of it.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::lifetime;
use crate::status::{Held, Status};
use crate::store::{LeaseId, Store, patience};

/// Renews leases where the keeper is late with it, in another thread and over a connection of its own. Nothing else is
/// done to the store here: what the keys are to be only the keeper knows.
pub async fn relieve<S: Store>(mut store: S, status: Arc<Status>) -> Infallible {
    let mut held = status.held.subscribe();
    let mut not_before = Instant::now();
    loop {
        let Some((ttl, late_at)) = late_at(&held.borrow_and_update()) else {
            // The sender is in `status`, so that there is always a next time.
            let _ = held.changed().await;
            continue;
        };
        tokio::select! {
            _ = held.changed() => continue,
            () = sleep_until(late_at.max(not_before)) => {}
        }
        let now = Instant::now();
        store.pace(ttl);
        not_before = now + patience(ttl);
        // Shared ones have the higher ids, and go first.
        let leases: Vec<LeaseId> = held.borrow().leases.iter().rev().copied().collect();
        match store.renew(&leases).await {
            Ok(alive) => {
                debug!(
                    "the keeper is late: leases renewed without it: {}",
                    alive.len()
                );
                status.held.send_modify(|held| {
                    let all_live = held.leases.iter().all(|lease| alive.contains_key(lease));
                    if all_live {
                        held.until = held.until.max(Some(now + lifetime(ttl)));
                    }
                });
            }
            // The keeper meets the same, and tells.
            Err(error) => debug!("cannot renew leases for the keeper, which is late: {error}"),
        }
    }
}

/// When the keeper, which renews each third of a lease's life, is late by half as long again; and that life, in seconds.
/// None if there is nothing to renew.
fn late_at(held: &Held) -> Option<(u32, Instant)> {
    let ttl = held.leases.iter().map(|lease| lease.ttl()).min()?;
    Some((ttl, held.until?.checked_sub(lifetime(ttl) / 2)?))
}
