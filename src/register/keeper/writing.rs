//! Brings the store to the wanted state. A round plans all that differs and carries it out; between two transactions it
//! looks at the newest wanted state, so that a small change never waits for the rest of a large one.

use std::collections::VecDeque;

use anyhow::anyhow;
use tokio::time::Instant;
use tracing::warn;

use super::Keeper;
use crate::register::plan::{Batch, Plan, Refused};
use crate::store::{Store, StoreError};

/// The number of rounds, or of transactions in a round, whose guards fail in a row that counts as a failure.
const MAX_FAILURES: usize = 20;
/// The most transactions between two looks at the newest wanted state, after a look that has found a change. Others
/// than those of the change are among them, so that a stream of small changes cannot hold up a large one.
const MAX_UNTIL_LOOK: usize = 8;

impl<S: Store> Keeper<S> {
    pub(super) async fn write_changes(&mut self) -> Result<(), StoreError> {
        if self.knowledge != super::Knowledge::Whole || Instant::now() >= self.schedule.renew_at {
            self.load().await?;
        }
        let mut failures = 0;
        while failures < MAX_FAILURES {
            if self.gives_way.is_some() {
                return Ok(());
            }
            let most = self.store.limits().operations;
            let batches = self.plan.batches(most, self.one_by_one);
            self.tell_notes();
            if batches.is_empty() {
                self.one_by_one = false;
                return Ok(());
            }
            failures = if self.carry_out_all(batches).await? {
                0
            } else {
                failures + 1
            };
        }
        Err(StoreError::Failed(anyhow!(
            "the guards of {MAX_FAILURES} transactions in a row failed, because something else changes the same keys"
        )))
    }

    /// Carries out batches, and those of newer wanted states, which come first. Returns whether any was carried out.
    async fn carry_out_all(&mut self, batches: Vec<Batch>) -> Result<bool, StoreError> {
        let mut left = VecDeque::from(batches);
        let (mut refusal, mut refused) = (None, Refused::default());
        let (mut done, mut failures) = (false, 0);
        // The transactions until the next look, and those since the last read.
        let (mut until_look, mut since_read) = (1, 0);
        let mut seat_fails = false;
        while let Some(batch) = left.pop_front() {
            if !seat_fails && !self.seat().is_open() && Instant::now() >= self.schedule.seat_at {
                // The next round reports it.
                seat_fails = self.update_seat().await.is_err();
                if self.gives_way.is_some() {
                    break;
                }
            }
            if until_look == 0 && self.look() {
                left.push_front(batch);
                until_look = MAX_UNTIL_LOOK.min(1 + self.plan_further(&mut left));
                continue;
            }
            if !self.plan.is_current(&batch) {
                self.plan.put_back(&batch, &mut refused);
                continue;
            }
            if !self.plan.may_follow(&batch, &refused) {
                continue;
            }
            // At least one batch is carried out between two reads, however long a read takes.
            if since_read > 0 && Instant::now() >= self.schedule.renew_at {
                self.load().await?;
                since_read = 0;
                left.push_front(batch);
                self.plan_further(&mut left);
                continue;
            }
            since_read += 1;
            until_look = until_look.saturating_sub(1);
            match self.carry_out(&batch).await {
                Ok(true) => (done, failures) = (true, 0),
                // Deletes that depend on its puts wait for the next round. A large change is planned again as a whole,
                // because all of it may fail alike, such as when another host has just put the same shared keys.
                Ok(false) => {
                    self.plan.refuse(&batch, &mut refused);
                    self.plan.put_back(&batch, &mut refused);
                    failures += 1;
                    if batch.is_small() && refusal.is_none() && failures < MAX_FAILURES {
                        self.plan_further(&mut left);
                    }
                }
                Err(StoreError::LeaseLost) => {
                    warn!("a lease expired or was revoked: its keys are put again");
                    self.load().await?;
                    break;
                }
                // An etcd without space refuses puts and takes deletes. An etcd that denies one key refuses the whole
                // transaction, so from now on each container has its own.
                Err(StoreError::Refused(error)) => {
                    self.one_by_one = true;
                    self.plan.refuse(&batch, &mut refused);
                    let error = match batch.owners.first() {
                        Some(Some(who))
                            if batch.owners.iter().all(|owner| owner.as_ref() == Some(who)) =>
                        {
                            error.context(format!("cannot change the keys of {who}"))
                        }
                        _ => error,
                    };
                    refusal.get_or_insert(StoreError::Refused(error));
                }
                Err(error) => return Err(error),
            }
        }
        refusal.map_or(Ok(done), Err)
    }

    /// Between two calls of a long read: takes over the newest wanted state, and carries out its small changes.
    pub(super) async fn attend(&mut self) -> Result<(), StoreError> {
        if !self.plan.is_being_read() || !self.look() {
            return Ok(());
        }
        let mut left = VecDeque::new();
        self.plan_further(&mut left);
        let mut refused = Refused::default();
        while let Some(batch) = left.pop_front() {
            let is_next = batch.is_small()
                && self.plan.is_current(&batch)
                && self.plan.may_follow(&batch, &refused);
            if is_next {
                match self.carry_out(&batch).await {
                    Ok(true) => continue,
                    Ok(false) | Err(StoreError::LeaseLost | StoreError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
                self.plan.refuse(&batch, &mut refused);
            }
            // The next round carries it out, or finds out what is wrong.
            self.plan.put_back(&batch, &mut refused);
        }
        Ok(())
    }

    /// Takes over the newest wanted state. Returns whether there was one.
    pub(super) fn look(&mut self) -> bool {
        // Without a sender there is nothing newer.
        if !self.newest.has_changed().unwrap_or(false) {
            return false;
        }
        let newest = self.newest.borrow_and_update().clone();
        newest.is_some_and(|newest| {
            self.plan.want(&newest);
            true
        })
    }

    /// Plans the keys that have changed since the last planning, beside the batches that are left. Returns the number
    /// of new batches.
    fn plan_further(&mut self, left: &mut VecDeque<Batch>) -> usize {
        let most = self.store.limits().operations;
        let further = self.plan.further_batches(most, self.one_by_one);
        self.tell_notes();
        let number = further.len();
        Plan::merge(further, left);
        number
    }

    fn tell_notes(&mut self) {
        for note in self.plan.notes() {
            warn!("{note}");
        }
    }
}
