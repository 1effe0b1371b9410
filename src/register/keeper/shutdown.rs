//! The end of the keeper: the keys stay or are removed, and the seat is released.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::{Keeper, Knowledge};
use crate::store::{Store, StoreError};
use crate::wanted::Wanted;

/// The pause between two attempts to remove the keys.
const PAUSE: Duration = Duration::from_millis(50);
/// The time limit for the first answer, and for the release of the seat.
const ANSWER: Duration = Duration::from_secs(3);
/// The time limits for the removal of the keys: as the plan removes them, and by the end of their leases if that takes
/// longer. Together they are less than the ten seconds after which `docker stop` kills the program.
const REMOVAL: Duration = Duration::from_secs(7);
const REVOCATION: Duration = Duration::from_secs(1);

impl<S: Store> Keeper<S> {
    /// Leaves the keys, and releases the seat, because another process may be waiting for it.
    pub(super) async fn leave(&mut self) {
        info!("ending; the keys stay until their TTL ends");
        // After an error a write may be in doubt, and may still arrive. So the seat is left to expire, and the next
        // process waits for that before it deletes keys that may be ours.
        if self.seat().is_ours() && self.knowledge == Knowledge::Whole {
            let release = self.store.revoke(self.identity.seat());
            if let Ok(Err(error)) = timeout(ANSWER, release).await {
                debug!("cannot release the seat: {error}");
            }
        }
    }

    pub(super) async fn remove_all(&mut self) {
        let deadline = Instant::now() + REMOVAL;
        if let Err(why) = self.wait_for_answer(Instant::now() + ANSWER).await {
            warn!("ending; the keys stay until their TTL ends, because {why}");
            return;
        }
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
        self.ends_by = Some(deadline + REVOCATION);
        // No other wanted state may come after this one.
        self.newest = watch::Sender::default().subscribe();
        // A transaction that the shutdown interrupted may have been carried out or not.
        self.forget();
        self.plan.want(&Arc::new(Wanted::default()));
        let mut last = None;
        let why = loop {
            match timeout_at(deadline, self.remove()).await {
                Ok(Ok(())) => return info!("ending; the keys are removed"),
                // The next attempt may use another endpoint.
                Ok(Err(error)) if Instant::now() < deadline => {
                    self.forget();
                    last = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(error)) => break error.to_string(),
                Err(_) => {
                    let last = last.map(|error| format!(" (an earlier attempt failed: {error})"));
                    let limit = REMOVAL.as_secs();
                    break format!("{limit} s were not enough{}", last.unwrap_or_default());
                }
            }
        };
        if let Ok(Ok(())) = timeout(REVOCATION, self.revoke_all()).await {
            warn!(
                "ending; the keys of this host's containers are removed, and those that hosts share stay until their \
                 TTL ends, because {why}"
            );
        } else {
            warn!("ending; the keys that are left stay until their TTL ends, because {why}");
        }
    }

    /// Waits until the store answers. The error says why it has not.
    async fn wait_for_answer(&mut self, deadline: Instant) -> Result<(), String> {
        let mut last = None;
        loop {
            match timeout_at(deadline, self.store.lookup(self.identity.seat())).await {
                Ok(Ok(_) | Err(StoreError::Refused(_) | StoreError::LeaseLost)) => return Ok(()),
                Ok(Err(error)) if Instant::now() + PAUSE < deadline => {
                    last = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => break,
            }
        }
        Err(last.map_or_else(
            || {
                let (store, limit) = (self.store.name(), ANSWER.as_secs());
                format!("{store} did not answer within {limit} s")
            },
            |error| error.to_string(),
        ))
    }

    async fn remove(&mut self) -> Result<(), StoreError> {
        self.write_changes().await?;
        self.revoke_all().await
    }

    /// Ends all leases of owned keys, and the seat last.
    async fn revoke_all(&mut self) -> Result<(), StoreError> {
        let mut leases = self.leases.own(self.identity);
        leases.extend(self.seat().is_ours().then_some(self.identity.seat()));
        for lease in leases {
            self.store.revoke(lease).await?;
        }
        Ok(())
    }
}
