//! What each container's policy call last came to. It outlives a script, so that neither an error nor a reload takes
//! keys away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Failure;
use crate::base::by_age::{ByAge, Rank, Ranked as _};
use crate::container::Container;
use crate::wanted::Entry;
use crate::wanted::{Claim, Wanted, Who};

/// After how long a call that took too long is tried again, though nothing has changed.
const SECOND_TRY: Duration = Duration::from_secs(60);

/// Which function of which script made the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapper(u64);

impl Mapper {
    /// One that no function has had yet.
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The last good entries of each container, and the last failure.
#[derive(Debug, Default)]
pub struct Verdicts {
    containers: HashMap<Arc<str>, Verdict>,
    /// What each container asks for that asks for anything.
    claims: ByAge<Claim>,
    /// The list of the last round and its function, if there is nothing to be tried again.
    settled: Option<(ByAge<Container>, Mapper)>,
    /// How many rounds have begun.
    rounds: u64,
}

/// A round of calls, one for each container of a list.
#[derive(Debug)]
pub struct Round {
    number: u64,
    list: ByAge<Container>,
    mapper: Mapper,
    /// Those that need a look.
    pub news: Vec<Arc<Container>>,
    /// Where there are none any more.
    gone: Vec<Rank>,
}

/// What is known of one container.
#[derive(Debug)]
pub struct Verdict {
    /// The container and the function of the last call that need not be made again.
    settled: Option<(Arc<Container>, Mapper)>,
    /// Until when that holds, if not for ever.
    settled_until: Option<Instant>,
    /// What it asks for, from the last good call.
    claim: Option<Arc<Claim>>,
    /// Why the last call failed, if it did.
    pub failure: Option<Failure>,
    /// What the policy left out, and why.
    pub left_out: Vec<String>,
    /// The container's name.
    pub name: Arc<str>,
    rank: Rank,
    /// What tells its keys, for as long as it has no claim.
    marks: Vec<String>,
    /// Since when it is so.
    since: Timestamp,
}

/// What the policy made of one container.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its name, or its id where Docker shows neither it nor its name.
    pub name: String,
    /// What it asks for, from the last good call.
    pub entries: Arc<[Entry]>,
    /// What is left out, and why.
    pub left_out: Vec<String>,
    /// What went wrong in the last call, or in showing the container.
    pub failure: Option<String>,
    /// Since when all this is so.
    pub since: Option<Timestamp>,
}

impl Verdicts {
    /// Begins a round of calls.
    pub fn begin(&mut self, list: ByAge<Container>, mapper: Mapper) -> Round {
        let (mut news, mut gone) = (Vec::new(), Vec::new());
        match self.settled.take() {
            Some((before, by)) if by == mapper => {
                for change in before.changes(&list) {
                    match change.new {
                        Some(new) => news.push(new),
                        None => gone.push(change.rank),
                    }
                }
            }
            _ => {
                news.extend(list.iter().cloned());
                let known = self.containers.values().map(|known| &known.rank);
                gone.extend(known.filter(|rank| list.get(rank).is_none()).cloned());
            }
        }
        self.rounds += 1;
        Round {
            number: self.rounds,
            list,
            mapper,
            news,
            gone,
        }
    }

    /// Whether this function need not be called for this container again.
    pub fn is_settled(&self, container: &Arc<Container>, mapper: Mapper) -> bool {
        self.containers
            .get(&container.id)
            .is_some_and(|verdict| verdict.is_settled(container, mapper))
    }

    /// Takes over a good call. Returns what is left out if that is news.
    pub fn succeed(
        &mut self,
        container: &Arc<Container>,
        mapper: Mapper,
        entries: Vec<Entry>,
        left_out: Vec<String>,
    ) -> Option<&[String]> {
        // Its place in the order does not change; but if Docker said otherwise, it would be there twice.
        let known = self.containers.get(&container.id);
        if let Some(claim) = known.and_then(|known| known.claim.as_ref())
            && claim.age != container.age
        {
            self.claims.remove(&claim.rank());
        }
        let verdict = self.verdict(container);
        verdict.settled = Some((Arc::clone(container), mapper));
        verdict.settled_until = None;
        let mut is_news = verdict.failure.take().is_some();
        // A claim that is the same stays the same allocation, so that the plan sees that nothing has changed.
        let who = Who {
            id: Arc::clone(&container.id),
            name: Arc::clone(&container.name),
        };
        match &verdict.claim {
            Some(claim)
                if *claim.entries == *entries && claim.who == who && claim.age == container.age => {
            }
            _ => {
                is_news = true;
                verdict.claim = Some(Arc::new(Claim {
                    who,
                    age: Arc::clone(&container.age),
                    entries: entries.into(),
                }));
            }
        }
        let news = verdict.left_out != left_out;
        verdict.left_out = left_out;
        if news || is_news {
            verdict.since = Timestamp::now();
        }
        news.then_some(&verdict.left_out)
    }

    /// Takes over a failed call. If the failure is news, returns what becomes of the container's keys.
    pub fn fail(
        &mut self,
        container: &Arc<Container>,
        mapper: Mapper,
        failure: &Failure,
    ) -> Option<String> {
        let verdict = self.verdict(container);
        // What took too long is not tried again at each event: it would hold up all others.
        verdict.settled =
            (failure.message == super::TOO_LONG).then(|| (Arc::clone(container), mapper));
        verdict.settled_until = Some(Instant::now() + SECOND_TRY);
        verdict.marks = container.marks();
        let news = verdict.failure.as_ref() != Some(failure);
        if news {
            verdict.failure = Some(failure.clone());
            verdict.since = Timestamp::now();
        }
        news.then(
            || match verdict.claim.as_ref().map(|claim| claim.entries.len()) {
                Some(1) => "its key stays as it was".to_owned(),
                Some(keys) => format!("its {keys} keys stay as they were"),
                None => "it gets no keys; those that it may have in etcd stay".to_owned(),
            },
        )
    }

    /// Ends a round: what is not in its list is forgotten, and the rest is the wanted state. `protected` tells the keys of
    /// containers that were not even in the snapshot.
    pub fn end(&mut self, round: Round, mut protected: Vec<String>) -> Wanted {
        for rank in round.gone {
            self.claims.remove(&rank);
            // One whose age is another now is there all the same.
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
        let mut all_settled = true;
        for container in &round.news {
            let Some(verdict) = self.containers.get(&container.id) else {
                continue;
            };
            all_settled &= verdict.failure.is_none() && verdict.is_settled(container, round.mapper);
            match &verdict.claim {
                Some(claim) => self.claims.insert(Arc::clone(claim)),
                None => protected.extend_from_slice(&verdict.marks),
            }
        }
        // While another round is under way, this one cannot tell what there is.
        let is_last = round.number == self.rounds;
        self.settled = (all_settled && is_last).then_some((round.list, round.mapper));
        protected.sort();
        Wanted {
            claims: self.claims.clone(),
            protected,
            ..Wanted::default()
        }
    }

    /// What it came to, for others to see, by name.
    pub fn views(&self) -> Vec<ContainerView> {
        let view = |verdict: &Verdict| ContainerView {
            name: verdict.name.to_string(),
            entries: verdict
                .claim
                .as_ref()
                .map_or_else(|| [].into(), |claim| Arc::clone(&claim.entries)),
            left_out: verdict.left_out.clone(),
            failure: verdict.failure.as_ref().map(ToString::to_string),
            since: Some(verdict.since),
        };
        self.all().into_iter().map(view).collect()
    }

    /// A failure, if the last call failed for every container and there is one at all.
    pub fn failure_of_all(&self) -> Option<String> {
        let mut failures = self.containers.values().map(|verdict| &verdict.failure);
        let first = failures.next()?.as_ref()?;
        failures.all(Option::is_some).then(|| first.to_string())
    }

    /// What is known of all containers, by name.
    pub fn all(&self) -> Vec<&Verdict> {
        let mut all: Vec<&Verdict> = self.containers.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn verdict(&mut self, container: &Arc<Container>) -> &mut Verdict {
        let verdict = self
            .containers
            .entry(Arc::clone(&container.id))
            .or_insert_with(|| Verdict {
                settled: None,
                settled_until: None,
                claim: None,
                failure: None,
                left_out: Vec::new(),
                name: Arc::clone(&container.name),
                rank: container.rank(),
                marks: Vec::new(),
                since: Timestamp::now(),
            });
        verdict.name = Arc::clone(&container.name);
        verdict.rank = container.rank();
        verdict
    }
}

impl Verdict {
    fn is_settled(&self, container: &Arc<Container>, mapper: Mapper) -> bool {
        let is_over = |until: Instant| Instant::now() >= until;
        !self.settled_until.is_some_and(is_over)
            && matches!(&self.settled, Some((known, by)) if Arc::ptr_eq(known, container) && *by == mapper)
    }
}

impl ContainerView {
    /// Of a container that Docker lists and cannot show.
    pub fn unreadable(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entries: [].into(),
            left_out: Vec::new(),
            failure: Some("Docker lists it and cannot show it".to_owned()),
            since: None,
        }
    }
}
