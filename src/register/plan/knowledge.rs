//! The plan's view of the store, brought up to date by each read and each transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Batch, Plan};
use crate::base::key::Key;
use crate::store::{Found, LeaseId, Outcome, Step};
use crate::wanted::Who;

/// The most keys that are remembered as perhaps put.
const MOST_DOUBTFUL: usize = 10_000;

/// The state of one key in the store, and our part in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub state: State,
    /// The container that last claimed it, for as long as we hold it.
    pub owner: Option<Who>,
    /// For a shared key: the value that we last put or saw standing as we wanted it.
    pub settled: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Missing,
    /// On one of our owned leases, or on the key's shared lease.
    Held { value: Arc<str>, lease: LeaseId },
    /// On no lease.
    Loose { revision: i64 },
    /// On a lease of somebody else.
    Foreign { lease: LeaseId },
}

/// Differences between the store and the state in which this process left it.
#[derive(Debug, Default)]
pub struct Surprises {
    /// Wanted keys that were there and are not.
    pub missing: Vec<Key>,
    /// Keys on our own leases that we neither want nor knew.
    pub strange: Vec<Key>,
}

impl Plan {
    /// Replaces the set of shared leases that nobody renews any more.
    pub fn set_abandoned(&mut self, leases: BTreeSet<LeaseId>) {
        self.abandoned = leases;
        if self.abandoned.is_empty() {
            return;
        }
        let is_on_one = |(key, known): (&Key, &Known)| match &known.state {
            State::Held { lease, .. } if self.is_abandoned(*lease) => Some(Arc::clone(key)),
            _ => None,
        };
        let keys: Vec<Key> = self.known.iter().filter_map(is_on_one).collect();
        self.dirty.extend(keys);
    }

    /// Replaces all knowledge of the store by these keys, which are all that were found. Returns the differences.
    pub fn learn(&mut self, found: Vec<Found>) -> Surprises {
        let mut surprises = Surprises::default();
        let before: Vec<Key> = self.known.keys().cloned().collect();
        let mut states: HashMap<Key, State> = found
            .into_iter()
            .map(|found| (Arc::clone(&found.key), self.state_of(found)))
            .collect();
        for key in before {
            let state = states.remove(&key).unwrap_or_default();
            let was_held = matches!(self.known_mut(&key).state, State::Held { .. });
            if was_held && state == State::Missing && self.wants.contains(&key) {
                surprises.missing.push(Arc::clone(&key));
            }
            self.set_state(&key, state);
        }
        for (key, state) in states {
            let is_own = matches!(&state, State::Held { lease, .. } if self.identity.owns(*lease));
            if is_own && !self.wants.contains(&key) && !self.doubtful.contains(&key) {
                surprises.strange.push(Arc::clone(&key));
            }
            self.set_state(&key, state);
        }
        // A wanted key that nobody has is in neither list.
        let missing = self
            .wants
            .keys()
            .filter(|key| !self.known.contains_key(*key));
        self.dirty.extend(missing.cloned());
        surprises
    }

    /// Notes that a batch may have been carried out, or will be yet.
    pub fn doubt(&mut self, batch: &Batch) {
        if self.doubtful.len() > MOST_DOUBTFUL {
            self.doubtful.clear();
        }
        for key in batch.puts() {
            // If another value is found there, it may be the one that we wanted a moment ago, and nobody else's.
            if let Some(known) = self.known.get_mut(key) {
                known.settled = None;
            }
            self.doubtful.insert(Arc::clone(key));
        }
    }

    /// Replaces the knowledge of these keys. One that was not found does not exist.
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

    /// Notes that a batch was carried out.
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
                Step::Sweep(_) => {}
            }
        }
        for key in swept {
            self.set_state(key, State::Missing);
        }
    }

    pub(super) fn is_abandoned(&self, lease: LeaseId) -> bool {
        self.abandoned.contains(&lease)
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
    pub(super) fn settle(&mut self, key: &Key) {
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
