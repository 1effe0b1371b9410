//! The last result for the host itself: its entries without a container, which a policy makes of all of its containers.
//! It outlives a script, as the verdicts on containers do.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::Failure;
use super::verdicts::{ContainerView, FunctionId, RETRY, consequence};
use crate::base::by_age::{ByAge, Rank};
use crate::container::Container;
use crate::wanted::{Claim, ContainerName, Entry};

/// The last result for the host.
#[derive(Debug, Default)]
pub struct HostVerdict {
    /// The containers and the function of the last call, unless it has to be made again.
    current: Option<(ByAge<Container>, FunctionId)>,
    /// When a failed call has to be made again although nothing has changed.
    retry_at: Option<Instant>,
    /// The entries of the last good call.
    claim: Option<Arc<Claim>>,
    /// The error of the last call, if it failed.
    pub failure: Option<Failure>,
    /// The reasons why the policy left something out.
    pub left_out: Vec<String>,
    /// When its entries, its failure or what is left out last changed.
    since: Option<Timestamp>,
}

impl HostVerdict {
    /// Whether the last call was of this function and for these containers.
    pub fn is_current(&self, list: &ByAge<Container>, function: FunctionId) -> bool {
        let is_due = self.retry_at.is_some_and(|at| Instant::now() >= at);
        let current = self.current.as_ref();
        !is_due
            && current.is_some_and(|(known, by)| *by == function && known.changes(list).is_empty())
    }

    /// Records a good call. Returns what is left out if that has changed.
    pub fn succeeded(
        &mut self,
        list: &ByAge<Container>,
        function: FunctionId,
        entries: Vec<Entry>,
        left_out: Vec<String>,
    ) -> Option<&[String]> {
        self.current = Some((list.clone(), function));
        self.retry_at = None;
        let mut is_changed = self.failure.take().is_some();
        // An equal claim stays the same allocation, by which the plan sees that nothing has changed.
        if self
            .claim
            .as_ref()
            .is_none_or(|claim| *claim.entries != *entries)
        {
            is_changed = true;
            self.claim = Some(Arc::new(Claim {
                who: ContainerName::host(),
                age: Self::rank().age,
                entries: entries.into(),
                unproven: [].into(),
            }));
        }
        let is_new = self.left_out != left_out;
        self.left_out = left_out;
        if is_new || is_changed {
            self.since = Some(Timestamp::now());
        }
        is_new.then_some(&self.left_out)
    }

    /// Records a failed call. If the failure is new, returns the consequence for the host's keys.
    pub fn failed(
        &mut self,
        list: &ByAge<Container>,
        function: FunctionId,
        failure: &Failure,
    ) -> Option<String> {
        // It is made again at the next snapshot, except one that takes long.
        self.current = failure.takes_long().then(|| (list.clone(), function));
        self.retry_at = Some(Instant::now() + RETRY);
        let is_new = self.failure.as_ref() != Some(failure);
        if is_new {
            self.failure = Some(failure.clone());
            self.since = Some(Timestamp::now());
        }
        is_new.then(|| consequence(self.claim.as_deref()))
    }

    /// The claim of the entries, if there are any.
    pub fn claim(&self) -> Option<&Arc<Claim>> {
        self.claim
            .as_ref()
            .filter(|claim| !claim.entries.is_empty())
    }

    /// Whether no call has gone well so far.
    pub fn is_unknown(&self) -> bool {
        self.failure.is_some() && self.claim.is_none()
    }

    /// The host as others are shown it; none if there is nothing to show.
    pub fn view(&self) -> Option<ContainerView> {
        let entries = self.claim().map(|claim| Arc::clone(&claim.entries));
        let is_empty = entries.is_none() && self.failure.is_none() && self.left_out.is_empty();
        (!is_empty).then(|| ContainerView {
            name: ContainerName::host().name.to_string(),
            is_host: true,
            entries: entries.unwrap_or_default(),
            left_out: self.left_out.clone(),
            failure: self.failure.as_ref().map(ToString::to_string),
            since: self.since,
        })
    }

    /// The rank of its claim, before those of all containers.
    pub fn rank() -> Rank {
        Rank {
            age: "".into(),
            id: ContainerName::host().id,
        }
    }
}
