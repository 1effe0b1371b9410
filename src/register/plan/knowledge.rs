//! The plan's view of the store, brought up to date by each read and each transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Batch, Plan};
use crate::base::key::Key;
use crate::store::{Found, LeaseId, On, Outcome, Step};
use crate::wanted::ContainerName;

/// The most keys that are remembered as doubtful.
const MOST_DOUBTFUL: usize = 10_000;

/// The state of one key in the store, with its owner and the agreed value.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub state: InStore,
    /// The container that last claimed the key, while we hold the key.
    pub owner: Option<ContainerName>,
    /// For a shared key: the value of ours that the store last had.
    pub agreed: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum InStore {
    #[default]
    Missing,
    /// On one of our owned leases, or on the key's shared lease.
    Ours { value: Arc<str>, lease: LeaseId },
    /// On no lease.
    Loose { value: Arc<str> },
    /// On a lease of our former identity, which nothing renews any more.
    Former { lease: LeaseId },
    /// On somebody else's lease, or a stranger's in another way.
    Foreign { on: On },
}

/// Differences between the store and the state in which this process left it.
#[derive(Debug, Default)]
pub struct Surprises {
    /// Wanted keys that were held and are missing now.
    pub missing: Vec<Key>,
    /// Keys on our own leases that we neither want nor knew of.
    pub strange: Vec<Key>,
}

impl Plan {
    /// Replaces the set of shared leases that nobody renews any more.
    pub fn set_abandoned(&mut self, leases: BTreeSet<LeaseId>) {
        self.abandoned = leases;
        if self.abandoned.is_empty() {
            return;
        }
        let is_on_one = |(key, known): (&Key, &Record)| match &known.state {
            InStore::Ours { lease, .. } if self.is_abandoned(*lease) => Some(Arc::clone(key)),
            _ => None,
        };
        let keys: Vec<Key> = self.known.iter().filter_map(is_on_one).collect();
        for key in &keys {
            self.touch_key(key);
        }
    }

    /// From now on the store is read, while changes go on. The view of their keys is newer than the read.
    pub fn begin_read(&mut self) {
        self.since_read = Some(BTreeSet::new());
    }

    pub fn end_read(&mut self) {
        self.since_read = None;
    }

    /// Whether changes go on while the store is read.
    pub fn is_being_read(&self) -> bool {
        self.since_read.is_some()
    }

    /// Replaces the whole view of the store: it has these keys and no others. Returns the differences.
    pub fn learn(&mut self, found: Vec<Found>) -> Surprises {
        let mut surprises = Surprises::default();
        let newer = self.since_read.take().unwrap_or_default();
        let before = self.known.keys().filter(|key| !newer.contains(*key));
        let before: Vec<Key> = before.cloned().collect();
        let mut states: HashMap<Key, InStore> = found
            .into_iter()
            .filter(|found| !newer.contains(&found.key))
            .map(|found| (Arc::clone(&found.key), self.state_of(found)))
            .collect();
        for key in before {
            let state = states.remove(&key).unwrap_or_default();
            let was_held = matches!(self.known_mut(&key).state, InStore::Ours { .. });
            if was_held && state == InStore::Missing && self.wants.contains(&key) {
                surprises.missing.push(Arc::clone(&key));
            }
            self.set_state(&key, state);
        }
        for (key, state) in states {
            let is_own =
                matches!(&state, InStore::Ours { lease, .. } if self.identity.owns(*lease));
            if is_own && !self.wants.contains(&key) && !self.doubtful.contains(&key) {
                surprises.strange.push(Arc::clone(&key));
            }
            self.set_state(&key, state);
        }
        // Wanted keys that were and are missing are in neither list. Batches that are planned already may put them.
        let missing = self
            .wants
            .keys()
            .filter(|key| !self.known.contains_key(*key) && !self.planned.contains_key(*key));
        self.dirty.extend(missing.cloned());
        surprises
    }

    /// Records that a batch may have been carried out, or may still be.
    pub fn doubt(&mut self, batch: &Batch) {
        if self.doubtful.len() > MOST_DOUBTFUL {
            self.doubtful.clear();
        }
        for key in batch.puts() {
            // A different value that is found later may be our own former one, and not another registrar's.
            if let Some(known) = self.known.get_mut(key) {
                known.agreed = None;
            }
            self.doubtful.insert(Arc::clone(key));
        }
    }

    /// Replaces the view of these keys. One that was not found does not exist.
    pub fn observe<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>, found: Vec<Found>) {
        let states: HashMap<Key, InStore> = found
            .into_iter()
            .map(|found| (Arc::clone(&found.key), self.state_of(found)))
            .collect();
        // Several guards may be on one key.
        for key in keys {
            let state = states.get(key).cloned().unwrap_or_default();
            self.set_state(key, state);
            self.touch_key(key);
        }
    }

    /// Records that a batch was carried out.
    pub fn done(&mut self, batch: &Batch, outcome: &Outcome) {
        let Outcome::Done { swept } = outcome else {
            return;
        };
        for step in &batch.transaction.steps {
            // Decided once more, for the case that its wants have changed meanwhile.
            if let Step::Put(key, ..) | Step::Delete(key) = step {
                self.touch_key(key);
            }
            match step {
                Step::Put(key, value, lease) => {
                    let (value, lease) = (Arc::clone(value), *lease);
                    self.set_state(key, InStore::Ours { value, lease });
                    // Our value counts as put, even if another registrar's was only moved to a longer lease.
                    let ours = self.wants.winner(key);
                    let ours = ours.map(|want| Arc::clone(&want.entry.value));
                    self.known_mut(key).agreed = ours;
                }
                Step::Delete(key) => self.set_state(key, InStore::Missing),
                Step::Sweep(_) => {}
            }
        }
        for key in swept {
            self.set_state(key, InStore::Missing);
        }
    }

    pub(super) fn is_abandoned(&self, lease: LeaseId) -> bool {
        self.abandoned.contains(&lease)
    }

    fn state_of(&self, found: Found) -> InStore {
        match found.on {
            On::Nothing => InStore::Loose { value: found.value },
            On::Lease(lease) if lease.is_shared_for(&found.key) || self.identity.owns(lease) => {
                InStore::Ours {
                    value: found.value,
                    lease,
                }
            }
            On::Lease(lease) if self.identity.owned_before(lease) => InStore::Former { lease },
            on => InStore::Foreign { on },
        }
    }

    fn set_state(&mut self, key: &Key, state: InStore) {
        let known = self.known.entry(Arc::clone(key)).or_default();
        if known.state != state {
            known.state = state;
            self.touch_key(key);
        }
        self.refresh(key);
    }

    /// Updates the owner and the agreed value of a key, and forgets a key that is neither wanted nor held.
    pub(super) fn refresh(&mut self, key: &Key) {
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        if let Some(want) = self.wants.winner(key) {
            known.owner = Some(want.who.clone());
            if let InStore::Ours { value, .. } = &known.state
                && *value == want.entry.value
            {
                known.agreed = Some(Arc::clone(value));
            }
        } else {
            known.agreed = None;
            if let InStore::Ours { value, .. } = &known.state
                && let Some(who) = self.unproven.owner(key, value)
            {
                known.owner = Some(who.clone());
            }
            if !matches!(known.state, InStore::Ours { .. }) {
                self.known.remove(key);
                self.unclaimed.remove(key);
                self.idle.remove(key);
                self.notes.remove(key);
            }
        }
    }

    fn known_mut(&mut self, key: &Key) -> &mut Record {
        self.known.entry(Arc::clone(key)).or_default()
    }
}
