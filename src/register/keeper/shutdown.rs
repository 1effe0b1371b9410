//! The end of the keeper: the keys stay or are removed, and the seat is released.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::{Keeper, Knowledge};
use crate::store::{Store, StoreError};
use crate::wanted::Wanted;

/// The pause between two attempts to remove the keys.
const PAUSE: Duration = Duration::from_millis(50);
/// The time limit for the last calls to the store.
const FAREWELL: Duration = Duration::from_secs(3);

impl<S: Store> Keeper<S> {
    /// Leaves the keys, and releases the seat, because another process may be waiting for it.
    pub(super) async fn leave(&mut self) {
        info!("ending; the keys stay until their TTL ends");
        // After an error a write may be in doubt, and may still arrive. So the seat is left to expire, and the next
        // process waits for that before it deletes keys that may be ours.
        if self.seat().is_ours() && self.knowledge == Knowledge::Whole {
            let release = self.store.revoke(self.identity.seat());
            if let Ok(Err(error)) = timeout(FAREWELL, release).await {
                debug!("cannot release the seat: {error}");
            }
        }
    }

    pub(super) async fn remove_all(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        if !self.seat().is_ours() {
            let looked = timeout_at(deadline, self.update_seat()).await;
            if let Ok(Err(error)) = looked {
                debug!("cannot take the seat: {error}");
            }
        }
        if !self.seat().is_ours() {
            warn!(
                "ending; the keys stay until their TTL ends, because another process of this identity may be running"
            );
            return;
        }
        // A transaction that the shutdown interrupted may have been carried out or not.
        self.forget();
        self.plan.want(&Arc::new(Wanted::default()));
        let mut last = None;
        loop {
            match timeout_at(deadline, self.remove()).await {
                Ok(Ok(())) => return info!("ending; the keys are removed"),
                // The next attempt may use another endpoint.
                Ok(Err(error)) if Instant::now() < deadline => {
                    self.forget();
                    last = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                _ => break,
            }
        }
        let why = last.map_or_else(
            || format!("etcd did not answer within {} s", FAREWELL.as_secs()),
            |error| error.to_string(),
        );
        warn!("ending; the keys stay until their TTL ends, because {why}");
    }

    async fn remove(&mut self) -> Result<(), StoreError> {
        self.write_changes().await?;
        let mut leases = self.leases.own(self.identity);
        leases.extend(self.seat().is_ours().then_some(self.identity.seat()));
        for lease in leases {
            self.store.revoke(lease).await?;
        }
        Ok(())
    }
}
