//! The last result for each container: the entries of the last good call, and the last failure. It outlives a script,
//! so that neither an error nor a reload takes keys away. `etcd.sync` writes it; the status page and the commands read
//! it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Failure;
use super::host::HostVerdict;
use crate::base::by_age::{ByAge, Rank, Ranked as _};
use crate::container::Container;
use crate::wanted::{Claim, ContainerName, Entry, Wanted};

/// The shortest pause before a failed call that takes long is tried again; the next snapshot retries.
pub const RETRY: Duration = Duration::from_secs(60);

/// Tells the policy function that made entries from that of another script, or of the same script loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionId(u64);

impl FunctionId {
    /// An id that no function has had.
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The last result for each container.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// In boxes, because half of a map's places may be empty.
    containers: HashMap<Arc<str>, Box<Verdict>>,
    /// The claims of all containers that have one.
    claims: ByAge<Claim>,
    /// The containers and the function of the last pass, unless a call of it has to be tried again.
    complete: Option<(ByAge<Container>, FunctionId)>,
    /// How many passes have begun.
    passes: u64,
    /// The last result for the host itself.
    pub host: HostVerdict,
}

/// One pass over the containers of a snapshot, as one call of `etcd.sync` makes it.
#[derive(Debug)]
pub struct Pass {
    number: u64,
    list: ByAge<Container>,
    function: FunctionId,
    /// The containers that may need a call.
    pub changed: Vec<Arc<Container>>,
    removed: Vec<Rank>,
}

/// The last result for one container.
#[derive(Debug)]
pub struct Verdict {
    /// The container and the function of the last call, unless it has to be made again.
    current: Option<(Arc<Container>, FunctionId)>,
    /// When the last call has to be made again although nothing has changed.
    retry_at: Option<Instant>,
    /// The entries of the last good call.
    claim: Option<Arc<Claim>>,
    /// The error of the last call, if it failed.
    pub failure: Option<Failure>,
    /// The reasons why the policy left out the container, or some of its ports.
    pub left_out: Vec<String>,
    pub name: Arc<str>,
    rank: Rank,
    /// The marks of its keys in etcd, which protect them while it has no claim.
    marks: Vec<String>,
    /// When its entries, its failure or what is left out last changed.
    since: Timestamp,
}

/// The last result for one container, or for the host, as the page and the metrics show it.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its name, or its id if the name is not known.
    pub name: String,
    /// Whether it is the host itself, with its entries without a container.
    pub is_host: bool,
    /// The entries of the last good call.
    pub entries: Arc<[Entry]>,
    /// The reasons why the container, or some of its ports, are left out.
    pub left_out: Vec<String>,
    /// The error of the last call, or of Docker.
    pub failure: Option<String>,
    /// When it last changed.
    pub since: Option<Timestamp>,
}

impl Verdicts {
    /// Begins a pass. After a complete pass of the same function, it costs what has changed.
    pub fn begin(&mut self, list: ByAge<Container>, function: FunctionId) -> Pass {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        match self.complete.take() {
            Some((before, by)) if by == function => {
                for change in before.changes(&list) {
                    match change.new {
                        Some(new) => changed.push(new),
                        None => removed.push(change.rank),
                    }
                }
            }
            _ => {
                changed.extend(list.iter().cloned());
                let known = self.containers.values().map(|known| &known.rank);
                removed.extend(known.filter(|rank| list.get(rank).is_none()).cloned());
            }
        }
        self.passes += 1;
        Pass {
            number: self.passes,
            list,
            function,
            changed,
            removed,
        }
    }

    /// Whether the last call for this container was of this function and need not be made again.
    pub fn is_current(&self, container: &Arc<Container>, function: FunctionId) -> bool {
        self.containers
            .get(&container.id)
            .is_some_and(|verdict| verdict.is_current(container, function))
    }

    /// Records a good call. Returns what is left out if that has changed.
    pub fn succeeded(
        &mut self,
        container: &Arc<Container>,
        function: FunctionId,
        entries: Vec<Entry>,
        left_out: Vec<String>,
    ) -> Option<&[String]> {
        // A container's age does not change. If Docker did change it, the container would have two claims.
        let known = self.containers.get(&container.id);
        if let Some(claim) = known.and_then(|known| known.claim.as_ref())
            && claim.age != container.age
        {
            self.claims.remove(&claim.rank());
        }
        let verdict = self.verdict(container);
        verdict.current = Some((Arc::clone(container), function));
        verdict.retry_at = None;
        let mut is_changed = verdict.failure.take().is_some();
        // An equal claim stays the same allocation, by which the plan sees that nothing has changed.
        let who = ContainerName {
            id: Arc::clone(&container.id),
            name: Arc::clone(&container.name),
        };
        match &verdict.claim {
            Some(claim)
                if *claim.entries == *entries && claim.who == who && claim.age == container.age => {
            }
            _ => {
                is_changed = true;
                verdict.claim = Some(Arc::new(Claim {
                    who,
                    age: Arc::clone(&container.age),
                    entries: entries.into(),
                    unproven: [].into(),
                }));
            }
        }
        let is_new = verdict.left_out != left_out;
        verdict.left_out = left_out;
        if is_new || is_changed {
            verdict.since = Timestamp::now();
        }
        is_new.then_some(&verdict.left_out)
    }

    /// Records a failed call. If the failure is new, returns the consequence for the container's keys.
    pub fn failed(
        &mut self,
        container: &Arc<Container>,
        function: FunctionId,
        failure: &Failure,
    ) -> Option<String> {
        let verdict = self.verdict(container);
        // A failed call is made again at each event, except one that takes long: it would hold up all other containers.
        verdict.current = failure
            .takes_long()
            .then(|| (Arc::clone(container), function));
        verdict.retry_at = Some(Instant::now() + RETRY);
        verdict.marks = container.marks();
        let is_new = verdict.failure.as_ref() != Some(failure);
        if is_new {
            verdict.failure = Some(failure.clone());
            verdict.since = Timestamp::now();
        }
        is_new.then(|| consequence(verdict.claim.as_deref()))
    }

    /// Ends a pass: forgets the containers that are not in its list, and returns the wanted state. `protected` has the
    /// marks of containers that Docker could not show.
    pub fn end(&mut self, pass: Pass, mut protected: Vec<String>) -> Wanted {
        for rank in pass.removed {
            self.claims.remove(&rank);
            // A container whose age has changed is still there, with another rank.
            if self
                .containers
                .get(&rank.id)
                .is_some_and(|known| known.rank == rank)
                && let Some(known) = self.containers.remove(&rank.id)
                && let Some(claim) = known.claim
            {
                self.claims.remove(&claim.rank());
            }
        }
        let mut is_complete = true;
        for container in &pass.changed {
            let Some(verdict) = self.containers.get(&container.id) else {
                continue;
            };
            is_complete &=
                verdict.failure.is_none() && verdict.is_current(container, pass.function);
            match &verdict.claim {
                Some(claim) => self.claims.insert(Arc::clone(claim)),
                None => protected.extend_from_slice(&verdict.marks),
            }
        }
        // If another pass has begun meanwhile, this list is not the newest.
        let is_last = pass.number == self.passes;
        self.complete = (is_complete && is_last).then_some((pass.list, pass.function));
        protected.sort();
        match self.host.claim() {
            Some(claim) => self.claims.insert(Arc::clone(claim)),
            None => self.claims.remove(&HostVerdict::rank()),
        }
        Wanted {
            claims: self.claims.clone(),
            protected,
            host_is_unknown: self.host.is_unknown(),
            ..Wanted::default()
        }
    }

    /// All verdicts as others are shown them, by name.
    pub fn views(&self) -> Vec<ContainerView> {
        let view = |verdict: &Verdict| ContainerView {
            name: verdict.name.to_string(),
            is_host: false,
            entries: verdict
                .claim
                .as_ref()
                .map_or_else(|| [].into(), |claim| Arc::clone(&claim.entries)),
            left_out: verdict.left_out.clone(),
            failure: verdict.failure.as_ref().map(ToString::to_string),
            since: Some(verdict.since),
        };
        let views = self.all().into_iter().map(view);
        views.chain(self.host.view()).collect()
    }

    /// A failure, if the last call failed for each container, or for the host if there is none.
    pub fn failure_of_all(&self) -> Option<String> {
        let mut failures = self.containers.values().map(|verdict| &verdict.failure);
        let first = failures.next().unwrap_or(&self.host.failure).as_ref()?;
        failures.all(Option::is_some).then(|| first.to_string())
    }

    pub fn all(&self) -> Vec<&Verdict> {
        let mut all: Vec<&Verdict> = self.containers.values().map(|verdict| &**verdict).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn verdict(&mut self, container: &Arc<Container>) -> &mut Verdict {
        let verdict = self
            .containers
            .entry(Arc::clone(&container.id))
            .or_insert_with(|| {
                Box::new(Verdict {
                    current: None,
                    retry_at: None,
                    claim: None,
                    failure: None,
                    left_out: Vec::new(),
                    name: Arc::clone(&container.name),
                    rank: container.rank(),
                    marks: Vec::new(),
                    since: Timestamp::now(),
                })
            });
        verdict.name = Arc::clone(&container.name);
        verdict.rank = container.rank();
        verdict
    }
}

/// The fate of the last good call's keys after a failed one.
pub fn consequence(claim: Option<&Claim>) -> String {
    match claim.map(|claim| claim.entries.len()) {
        Some(1) => "its key stays as it was".to_owned(),
        Some(keys) => format!("its {keys} keys stay as they were"),
        None => "it gets no keys; those that it may have in the store stay".to_owned(),
    }
}

impl Verdict {
    fn is_current(&self, container: &Arc<Container>, function: FunctionId) -> bool {
        let is_due = |retry_at: Instant| Instant::now() >= retry_at;
        !self.retry_at.is_some_and(is_due)
            && matches!(&self.current, Some((known, by)) if Arc::ptr_eq(known, container) && *by == function)
    }
}

impl ContainerView {
    /// The view of a container that Docker lists but cannot show. It has no verdict.
    pub fn unreadable(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_host: false,
            entries: [].into(),
            left_out: Vec::new(),
            failure: Some("Docker lists it but cannot show it".to_owned()),
            since: None,
        }
    }
}
