//! Carries out the planned batches.

use std::sync::Arc;

use tracing::info;

use super::Keeper;
use crate::base::key::Key;
use crate::register::plan::Batch;
use crate::store::{Found, LeaseId, Outcome, Step, Store, StoreError};

impl<S: Store> Keeper<S> {
    /// Grants the leases that a batch needs and the keeper does not renew yet.
    async fn grant(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let new: Vec<LeaseId> = batch
            .leases
            .iter()
            .copied()
            .filter(|lease| !self.leases.contains(*lease))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let granted = self.store.grant(&new).await?;
        self.add_leases(granted);
        Ok(())
    }

    /// Returns whether the transaction was carried out. If it was not, the plan now has the state that refused it.
    pub(super) async fn carry_out(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        self.grant(batch).await?;
        let outcome = self.store.transact(&batch.transaction).await;
        if let Err(StoreError::Failed(_)) = outcome {
            self.plan.doubt(batch);
        }
        let outcome = outcome?;
        match outcome {
            Outcome::GuardFailed => {
                // A separate read: refusals are rare, and reads within the transactions would make all of them longer.
                let guards = batch.transaction.guards.iter();
                let guarded: Vec<Key> = guards.map(|guard| Arc::clone(guard.key())).collect();
                let mut found = self.store.read(&guarded).await?;
                let longest = self.longest_own();
                // Other registrars' shared leases of keys that we want. They are renewed at once, because the other
                // registrar may just have died.
                let met = |found: &Found| {
                    found.lease().filter(|lease| {
                        lease.is_shared_for(&found.key)
                            && self.plan.wants(&found.key)
                            && self.plan.tends(&found.key, *lease, longest)
                            && !self.leases.contains(*lease)
                    })
                };
                let leases: Vec<LeaseId> = found.iter().filter_map(met).collect();
                let alive = self.store.renew(&leases).await?;
                found.retain(|found| {
                    found
                        .lease()
                        .is_none_or(|lease| alive.contains_key(&lease) || !leases.contains(&lease))
                });
                self.add_leases(alive);
                self.plan.observe(&guarded, found);
                Ok(false)
            }
            Outcome::Done { ref swept } => {
                let metrics = &self.status.metrics;
                for (step, who) in batch.transaction.steps.iter().zip(&batch.owners) {
                    let container = who.as_ref().map_or("-", |who| &who.name);
                    match step {
                        Step::Put(key, value, _) => {
                            info!(container, key = %key, value = %value, "put");
                            metrics.count_put();
                        }
                        Step::Delete(key) => {
                            info!(container, key = %key, "delete");
                            metrics.count_delete();
                        }
                        Step::Sweep(_) => {}
                    }
                }
                for key in swept {
                    let container = batch.owner_beside(key).map_or("-", |who| &who.name);
                    info!(container, key = %key, "delete");
                    metrics.count_delete();
                }
                self.plan.done(batch, &outcome);
                Ok(true)
            }
        }
    }
}
