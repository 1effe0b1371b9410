//! What each container's policy call last came to. It outlives a script, so that neither an error nor a reload takes
//! keys away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Failure;
use crate::container::Container;
use crate::wanted::entry::Entry;
use crate::register::plan::{Claim, Wanted, Who};
use crate::base::by_age::{Rank, Ranked as _, Roll};
use crate::register::status::Account;

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
pub struct Memory {
    containers: HashMap<Arc<str>, Remembered>,
    /// What each container asks for that asks for anything.
    claims: Roll<Claim>,
    /// The list of the last round and its function, if there is nothing to be tried again.
    settled: Option<(Roll<Container>, Mapper)>,
    /// How many rounds have begun.
    rounds: u64,
}

/// A round of calls, one for each container of a list.
#[derive(Debug)]
pub struct Round {
    number: u64,
    list: Roll<Container>,
    mapper: Mapper,
    /// Those that need a look.
    pub news: Vec<Arc<Container>>,
    /// Where there are none any more.
    gone: Vec<Rank>,
}

/// What is known of one container.
#[derive(Debug)]
pub struct Remembered {
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

impl Memory {
    /// Begins a round of calls.
    pub fn begin(&mut self, list: Roll<Container>, mapper: Mapper) -> Round {
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
            .is_some_and(|remembered| remembered.is_settled(container, mapper))
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
        let remembered = self.remembered(container);
        remembered.settled = Some((Arc::clone(container), mapper));
        remembered.settled_until = None;
        let mut is_news = remembered.failure.take().is_some();
        // A claim that is the same stays the same allocation, so that the plan sees that nothing has changed.
        let who = Who {
            id: Arc::clone(&container.id),
            name: Arc::clone(&container.name),
        };
        match &remembered.claim {
            Some(claim)
                if *claim.entries == *entries && claim.who == who && claim.age == container.age => {
            }
            _ => {
                is_news = true;
                remembered.claim = Some(Arc::new(Claim {
                    who,
                    age: Arc::clone(&container.age),
                    entries: entries.into(),
                }));
            }
        }
        let news = remembered.left_out != left_out;
        remembered.left_out = left_out;
        if news || is_news {
            remembered.since = Timestamp::now();
        }
        news.then_some(&remembered.left_out)
    }

    /// Takes over a failed call. If the failure is news, returns what becomes of the container's keys.
    pub fn fail(
        &mut self,
        container: &Arc<Container>,
        mapper: Mapper,
        failure: &Failure,
    ) -> Option<String> {
        let remembered = self.remembered(container);
        // What took too long is not tried again at each event: it would hold up all others.
        remembered.settled =
            (failure.message == super::TOO_LONG).then(|| (Arc::clone(container), mapper));
        remembered.settled_until = Some(Instant::now() + SECOND_TRY);
        remembered.marks = container.marks();
        let news = remembered.failure.as_ref() != Some(failure);
        if news {
            remembered.failure = Some(failure.clone());
            remembered.since = Timestamp::now();
        }
        news.then(
            || match remembered.claim.as_ref().map(|claim| claim.entries.len()) {
                Some(1) => "its key stays as it was".to_owned(),
                Some(keys) => format!("its {keys} keys stay as they were"),
                None => "it gets no keys; those that it may have in etcd stay".to_owned(),
            },
        )
    }

    /// Ends a round: what is not in its list is forgotten, and the rest is the wanted state. `unknown` tells the keys of
    /// containers that were not even in the snapshot.
    pub fn end(&mut self, round: Round, mut unknown: Vec<String>) -> Wanted {
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
            let Some(remembered) = self.containers.get(&container.id) else {
                continue;
            };
            all_settled &=
                remembered.failure.is_none() && remembered.is_settled(container, round.mapper);
            match &remembered.claim {
                Some(claim) => self.claims.insert(Arc::clone(claim)),
                None => unknown.extend_from_slice(&remembered.marks),
            }
        }
        // While another round is under way, this one cannot tell what there is.
        let is_last = round.number == self.rounds;
        self.settled = (all_settled && is_last).then_some((round.list, round.mapper));
        unknown.sort();
        Wanted {
            claims: self.claims.clone(),
            unknown,
            ..Wanted::default()
        }
    }

    /// What it came to, for others to see, by name.
    pub fn accounts(&self) -> Vec<Account> {
        let account = |remembered: &Remembered| Account {
            name: remembered.name.to_string(),
            entries: remembered
                .claim
                .as_ref()
                .map_or_else(|| [].into(), |claim| Arc::clone(&claim.entries)),
            left_out: remembered.left_out.clone(),
            failure: remembered.failure.as_ref().map(ToString::to_string),
            since: Some(remembered.since),
        };
        self.all().into_iter().map(account).collect()
    }

    /// A failure, if the last call failed for every container and there is one at all.
    pub fn failure_of_all(&self) -> Option<String> {
        let mut failures = self
            .containers
            .values()
            .map(|remembered| &remembered.failure);
        let first = failures.next()?.as_ref()?;
        failures.all(Option::is_some).then(|| first.to_string())
    }

    /// What is known of all containers, by name.
    pub fn all(&self) -> Vec<&Remembered> {
        let mut all: Vec<&Remembered> = self.containers.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn remembered(&mut self, container: &Arc<Container>) -> &mut Remembered {
        let remembered = self
            .containers
            .entry(Arc::clone(&container.id))
            .or_insert_with(|| Remembered {
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
        remembered.name = Arc::clone(&container.name);
        remembered.rank = container.rank();
        remembered
    }
}

impl Remembered {
    fn is_settled(&self, container: &Arc<Container>, mapper: Mapper) -> bool {
        let is_over = |until: Instant| Instant::now() >= until;
        !self.settled_until.is_some_and(is_over)
            && matches!(&self.settled, Some((known, by)) if Arc::ptr_eq(known, container) && *by == mapper)
    }
}
