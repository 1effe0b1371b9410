//! What is held and what is wanted → what changes. Pure: it reads no clock and does no I/O.
//!
//! For one key, the winner of those who want it (the oldest container) meets what the store has:
//!
//! | wanted | the store has | what follows |
//! | --- | --- | --- |
//! | either | nothing                            | put, if still missing |
//! | owned  | ours, same value and lease         | nothing |
//! | owned  | ours, another value or TTL         | put, if still ours |
//! | shared | on its shared lease, same value    | nothing; but a lease that is shorter than ours is left for ours |
//! | shared | on its shared lease, another value | put once for each value that *we* come to want; after that a warning, so that two registrars never fight |
//! | shared | on one of our owned leases         | put on the shared lease, if still ours |
//! | either | on no lease                        | put, if unchanged, with a warning: a leftover |
//! | either | on anybody else's lease            | a warning, until it is free |
//! | no     | ours, owned                        | delete, if still ours; but see [`Wanted::unknown`] |
//! | no     | on its shared lease                | delete together with the last owned key in its directory; else leave it to those who keep its lease alive |
//! | no     | anything else                      | nothing: it is not ours |

mod batch;
mod decision;
mod note;
#[cfg(test)]
mod tests;
mod want;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::entry::{Entry, Key, quote};
use crate::roll::{Rank, Ranked, Roll};
use crate::status::Standing;
use crate::store::{Found, Identity, LeaseId, Outcome, Step};

pub use batch::Batch;
use batch::{Change, Group};
use decision::Decision;
pub use note::Note;
use want::Wants;

/// Names a container in messages, and tells two of one name apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The whole id.
    pub id: Arc<str>,
    /// The name, for people.
    pub name: Arc<str>,
}

/// What one container asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The container.
    pub who: Who,
    /// Its age: of two that claim one key, the one that sorts first keeps it.
    pub age: Arc<str>,
    /// Its entries.
    pub entries: Arc<[Entry]>,
}

/// All that should exist.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What each container asks for. A claim that is the same allocation as before has not changed.
    pub claims: Roll<Claim>,
    /// What tells the keys of the containers whose entries are not known, because their policy failed or Docker could
    /// not show them: ids, names, addresses. A held key that no container has claimed since the start, and that has
    /// one of these in it or in its value, may be such a container's, and is left alone.
    pub unknown: Vec<String>,
}

/// The state of one registrar: what it wants, what it knows of the store, and which keys need a look.
#[derive(Debug)]
pub struct Plan {
    identity: Identity,
    wanted: Arc<Wanted>,
    /// The claims of `wanted`, by container.
    claims: HashMap<Arc<str>, Arc<Claim>>,
    wants: Wants,
    known: HashMap<Key, Known>,
    /// Keys whose wants or state changed since they were last settled.
    dirty: BTreeSet<Key>,
    /// Shared keys that we held and no longer want, with their leases: each goes with the last owned key in its
    /// directory.
    idle: BTreeMap<Key, LeaseId>,
    notes: HashMap<Key, Note>,
    fresh_notes: Vec<Note>,
}

/// What is known of one key in the store, and what we had to do with it.
#[derive(Debug, Clone, Default)]
struct Known {
    state: State,
    /// The container that last claimed it, for as long as we hold it.
    owner: Option<Who>,
    /// For a shared key: the value that we last put or saw standing as we wanted it.
    settled: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    #[default]
    Missing,
    /// On one of our owned leases, or on the key's shared lease.
    Held { value: Arc<str>, lease: LeaseId },
    /// On no lease.
    Loose { revision: i64 },
    /// On a lease of somebody else.
    Foreign { lease: LeaseId },
}

impl Plan {
    /// A plan that wants nothing and knows nothing.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            wanted: Arc::default(),
            claims: HashMap::new(),
            wants: Wants::default(),
            known: HashMap::new(),
            dirty: BTreeSet::new(),
            idle: BTreeMap::new(),
            notes: HashMap::new(),
            fresh_notes: Vec::new(),
        }
    }

    /// Takes over a new wanted state. This costs what has changed.
    pub fn want(&mut self, wanted: &Arc<Wanted>) {
        let before = std::mem::replace(&mut self.wanted, Arc::clone(wanted));
        let changes = before.claims.changes(&wanted.claims);
        for change in &changes {
            if let Some(old) = before.claims.get(&change.rank) {
                self.claims.remove(&old.who.id);
                self.wants.remove(old);
                self.touch(old);
            }
        }
        for claim in changes.iter().filter_map(|change| change.new.as_ref()) {
            self.claims
                .insert(Arc::clone(&claim.who.id), Arc::clone(claim));
            self.wants.add(claim);
            self.touch(claim);
            for entry in claim.entries.iter() {
                self.idle.remove(&entry.key);
            }
        }
        if before.unknown != wanted.unknown {
            // Keys that were kept because they might have been an unknown container's are looked at again.
            let unclaimed = self.known.keys().filter(|key| !self.wants.contains(key));
            self.dirty.extend(unclaimed.cloned());
        }
    }

    /// The keys that are wanted.
    pub fn wanted_keys(&self) -> impl Iterator<Item = &Key> {
        self.wants.keys()
    }

    /// The entries that stand: for each wanted key that of its winner, with the container that it is for.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry, &Who)> {
        self.wants.winners().map(|want| (&want.entry, &want.who))
    }

    /// How the wanted keys stand, sorted.
    pub fn standings(&self) -> Vec<Standing> {
        let standing = |(entry, who): (&Entry, &Who)| Standing {
            key: Arc::clone(&entry.key),
            value: Arc::clone(&entry.value),
            shared: entry.shared,
            container: Arc::clone(&who.name),
            stands: self.known.get(&entry.key).is_some_and(
                |known| matches!(&known.state, State::Held { value, .. } if *value == entry.value),
            ),
        };
        let mut standings: Vec<Standing> = self.entries().map(standing).collect();
        standings.sort_by(|a, b| a.key.cmp(&b.key));
        standings
    }

    /// How many containers want a key.
    pub fn container_count(&self) -> usize {
        self.claims
            .values()
            .filter(|claim| !claim.entries.is_empty())
            .count()
    }

    /// Forgets all it knew of the store and takes over what was read of it.
    pub fn learn(&mut self, found: Vec<Found>) {
        let before: Vec<Key> = self.known.keys().cloned().collect();
        let mut states: HashMap<Key, State> = found
            .into_iter()
            .map(|found| (Arc::clone(&found.key), self.state_of(found)))
            .collect();
        for key in before {
            let state = states.remove(&key).unwrap_or_default();
            self.set_state(&key, state);
        }
        for (key, state) in states {
            self.set_state(&key, state);
        }
        // A wanted key that nobody has is in neither list.
        let missing = self
            .wants
            .keys()
            .filter(|key| !self.known.contains_key(*key));
        self.dirty.extend(missing.cloned());
    }

    /// Takes over what was read of these keys; one that was not found does not exist.
    pub fn observe<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>, found: Vec<Found>) {
        let states: HashMap<Key, State> = found
            .into_iter()
            .map(|found| (Arc::clone(&found.key), self.state_of(found)))
            .collect();
        // Several guards may be on one key.
        for key in keys {
            let state = states.get(key).cloned().unwrap_or_default();
            self.set_state(key, state);
            self.dirty.insert(Arc::clone(key));
        }
    }

    /// The transactions that bring the store to the wanted state, in order: puts before deletes, all of one container
    /// in one transaction wherever it fits into `max_operations`; if `one_by_one`, no two containers in one.
    pub fn batches(&mut self, max_operations: usize, one_by_one: bool) -> Vec<Batch> {
        let mut groups: HashMap<Option<Who>, Group> = HashMap::new();
        let mut shared: HashMap<Key, Change> = HashMap::new();
        let mut settled = Vec::new();
        for key in &self.dirty {
            let (decision, note) = self.decide(key);
            if note.as_ref() != self.notes.get(key) {
                match note {
                    Some(note) => {
                        self.fresh_notes.push(note.clone());
                        self.notes.insert(Arc::clone(key), note);
                    }
                    None => drop(self.notes.remove(key)),
                }
            }
            match decision {
                Decision::Nothing => settled.push(Arc::clone(key)),
                Decision::Idle(lease) => {
                    self.idle.insert(Arc::clone(key), lease);
                    settled.push(Arc::clone(key));
                }
                Decision::Change(change) => {
                    let group = groups.entry(change.who.clone()).or_default();
                    if change.shared_lease().is_some() {
                        shared.insert(Arc::clone(key), change);
                    } else {
                        group.push(change);
                    }
                }
            }
        }
        for key in settled {
            self.dirty.remove(&key);
            self.settle(&key);
        }
        let groups = self.with_shared(groups, shared);
        batch::pack(groups, &self.idle, max_operations, one_by_one)
    }

    /// The groups in the order in which they are carried out, each shared key with the first that wants it. Whatever
    /// puts an owned key also makes sure that the shared keys which its container wants are there: an earlier
    /// transaction may not have put them after all, and another host may just be deleting them with what it believes
    /// to be the last owned key of the directory.
    fn with_shared(
        &self,
        groups: HashMap<Option<Who>, Group>,
        mut shared: HashMap<Key, Change>,
    ) -> Vec<Group> {
        let wanted = |who: &Option<Who>| {
            let claim = who.as_ref().and_then(|who| self.claims.get(&who.id));
            let entries = claim.map_or(&[][..], |claim| &*claim.entries);
            entries.iter().filter(|entry| entry.shared)
        };
        // Groups with a put go before those that only delete; within these, by container, so that the same changes
        // always make the same transactions.
        let mut groups: Vec<(bool, Option<Who>, Group)> = groups
            .into_iter()
            .map(|(who, group)| {
                let puts = !group.only_deletes()
                    || wanted(&who).any(|entry| shared.contains_key(&entry.key));
                (!puts, who, group)
            })
            .collect();
        groups.sort_by(|(a, who_a, _), (b, who_b, _)| (a, who_a).cmp(&(b, who_b)));
        let mut placed: HashMap<&Key, LeaseId> = HashMap::new();
        let mut ordered = Vec::with_capacity(groups.len());
        for (_, who, mut group) in groups {
            let puts_owned = group.puts_owned();
            for entry in wanted(&who) {
                let lease = if let Some(change) = shared.remove(&entry.key) {
                    placed.extend(change.shared_lease().map(|lease| (&entry.key, lease)));
                    group.push(change);
                    continue;
                } else if let Some(lease) = placed.get(&entry.key) {
                    *lease
                } else if let Some(State::Held { lease, .. }) =
                    self.known.get(&entry.key).map(|known| &known.state)
                    && lease.is_shared()
                {
                    *lease
                } else {
                    continue;
                };
                if puts_owned {
                    group.require(&entry.key, lease);
                }
            }
            if !group.is_empty() {
                ordered.push(group);
            }
        }
        ordered
    }

    /// Takes over that a batch was carried out.
    pub fn done(&mut self, batch: &Batch, outcome: &Outcome) {
        let Outcome::Done { swept } = outcome else {
            return;
        };
        for step in &batch.transaction.steps {
            match step {
                Step::Put(key, value, lease) => {
                    let (value, lease) = (Arc::clone(value), *lease);
                    self.set_state(key, State::Held { value, lease });
                    // Ours has had its say, even where theirs was only moved to a longer lease.
                    let ours = self.wants.winner(key);
                    let ours = ours.map(|want| Arc::clone(&want.entry.value));
                    self.known_mut(key).settled = ours;
                }
                Step::Delete(key) => self.set_state(key, State::Missing),
                Step::Sweep { .. } => {}
            }
        }
        for key in swept {
            self.set_state(key, State::Missing);
        }
    }

    /// What has come up since this was last asked.
    pub fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.fresh_notes)
    }

    /// Whether a key is wanted.
    pub fn wants(&self, key: &str) -> bool {
        self.wants.contains(key)
    }

    /// Has the keys of a claim looked at.
    fn touch(&mut self, claim: &Claim) {
        let keys = claim.entries.iter().map(|entry| Arc::clone(&entry.key));
        self.dirty.extend(keys);
    }

    fn state_of(&self, found: Found) -> State {
        match found.lease {
            None => State::Loose {
                revision: found.revision,
            },
            Some(lease) if lease.is_shared_for(&found.key) || self.identity.owns(lease) => {
                State::Held {
                    value: found.value,
                    lease,
                }
            }
            Some(lease) => State::Foreign { lease },
        }
    }

    fn set_state(&mut self, key: &Key, state: State) {
        let known = self.known.entry(Arc::clone(key)).or_default();
        if known.state != state {
            known.state = state;
            self.dirty.insert(Arc::clone(key));
        }
        self.settle(key);
    }

    /// Brings the memory of a key in line with its wants and its state, and drops what need not be remembered.
    fn settle(&mut self, key: &Key) {
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        if let Some(want) = self.wants.winner(key) {
            known.owner = Some(want.who.clone());
            if let State::Held { value, .. } = &known.state
                && *value == want.entry.value
            {
                known.settled = Some(Arc::clone(value));
            }
        } else {
            known.settled = None;
            if !matches!(known.state, State::Held { .. }) {
                self.known.remove(key);
                self.idle.remove(key);
                self.notes.remove(key);
            }
        }
    }

    fn known_mut(&mut self, key: &Key) -> &mut Known {
        self.known.entry(Arc::clone(key)).or_default()
    }
}

impl Ranked for Claim {
    fn rank(&self) -> Rank {
        Rank {
            age: Arc::clone(&self.age),
            id: Arc::clone(&self.who.id),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quote(&self.name))
    }
}
