//! Compares the wanted keys with the store, and plans changes for `keeper`. Pure: it reads no clock and does no I/O.
//!
//! The decision table for one key. If several containers want the key, the oldest one's entry counts:
//!
//! | wanted | in the store | decision |
//! | --- | --- | --- |
//! | either | nothing                            | put, if still missing |
//! | owned  | ours, same value and lease         | nothing |
//! | owned  | ours, another value or TTL         | put, if still ours |
//! | owned  | on its shared lease                | a warning, while anybody renews that lease; then put, if still on it |
//! | shared | on its shared lease, same value    | nothing; but moved to our lease, if the other is shorter, or is longer and nobody renews it |
//! | shared | on its shared lease, another value | put once for each new value that *we* want; after that a warning, so that two registrars never fight |
//! | shared | on one of our owned leases         | put on the shared lease, if still ours |
//! | either | on no lease                        | put, if it still has that value and no lease, with a warning: a leftover |
//! | either | on a lease of our former identity  | put, if still on it |
//! | either | on somebody else's lease           | a warning, until it is free |
//! | unproven | ours, same value                 | nothing, until its check has a verdict |
//! | no     | ours, owned, claimed since the start | delete, if still ours, with or after the puts of its container |
//! | no     | ours, owned, never claimed         | delete, if still ours: at once if its container is known to be gone, else after all puts; but see [`Wanted::protected`] and [`Plan::set_alone`] |
//! | no     | on its shared lease                | delete together with the last owned key in its directory; else it is left to the registrars that renew its lease |
//! | no     | anything else                      | nothing: it is not ours |

mod batch;
mod decision;
mod idle;
mod knowledge;
mod marks;
mod note;
mod pack;
mod planning;
pub mod steps;
#[cfg(test)]
mod tests;
mod unproven;
mod view;
mod want;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use crate::base::key::Key;
use crate::register::timetable::{self, SHARED_MARGIN};
use crate::store::{Identity, LeaseId, Step};
use crate::wanted::{Claim, ContainerName, Entry, Wanted};

pub use batch::Batch;
use batch::Order;
use idle::Idle;
pub use knowledge::Surprises;
use knowledge::{InStore, Record};
use marks::Marks;
pub use note::Note;
use unproven::Unproven;
pub use view::KeyView;
use want::Wants;

/// The state of one registrar: the wanted keys, its view of the store, and the keys to decide again.
#[derive(Debug)]
pub struct Plan {
    identity: Identity,
    /// None until the first wanted state. Nothing is planned until then, because the running containers are not known.
    wanted: Option<Arc<Wanted>>,
    /// Whether no other process of this identity is running.
    alone: bool,
    /// The marks of the containers whose entries are not known.
    protected: Marks,
    /// The marks of the running containers, made when they are first needed.
    running: OnceLock<Marks>,
    /// Shared leases, of keys that we hold, that nobody renews any more.
    abandoned: BTreeSet<LeaseId>,
    /// The claims of `wanted`, by container.
    claims: HashMap<Arc<str>, Arc<Claim>>,
    wants: Wants,
    unproven: Unproven,
    known: HashMap<Key, Record>,
    /// The known keys that no container wants.
    unclaimed: HashSet<Key>,
    /// Keys to decide, because their wants or their state have changed.
    dirty: BTreeSet<Key>,
    /// Keys that have been decided and not changed yet, each with the number of the planning whose batch changes it; 0
    /// if it waits for the next whole planning.
    planned: BTreeMap<Key, u64>,
    /// The number of the last planning.
    planning: u64,
    /// The containers whose claims have changed since the last planning.
    changed: HashSet<Arc<str>>,
    /// While the store is being read: the keys that have been touched since the read began.
    since_read: Option<BTreeSet<Key>>,
    idle: Idle,
    notes: HashMap<Key, Note>,
    fresh_notes: Vec<Note>,
    /// Keys of puts without an answer: we may have put them.
    doubtful: BTreeSet<Key>,
}

impl Plan {
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            wanted: None,
            alone: false,
            protected: Marks::default(),
            running: OnceLock::new(),
            abandoned: BTreeSet::new(),
            claims: HashMap::new(),
            wants: Wants::default(),
            unproven: Unproven::default(),
            known: HashMap::new(),
            unclaimed: HashSet::new(),
            dirty: BTreeSet::new(),
            planned: BTreeMap::new(),
            planning: 0,
            changed: HashSet::new(),
            since_read: None,
            idle: Idle::default(),
            notes: HashMap::new(),
            fresh_notes: Vec::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// Takes over a new wanted state. Its cost grows with the changes, not with the state.
    pub fn want(&mut self, wanted: &Arc<Wanted>) {
        let before = self.wanted.replace(Arc::clone(wanted)).unwrap_or_default();
        let changes = before.claims.changes(&wanted.claims);
        for change in &changes {
            if let Some(old) = before.claims.get(&change.rank) {
                self.claims.remove(&old.who.id);
                self.wants.remove(old);
                self.unproven.remove(old);
                self.touch(old);
            }
        }
        for claim in changes.iter().filter_map(|change| change.new.as_ref()) {
            self.claims
                .insert(Arc::clone(&claim.who.id), Arc::clone(claim));
            self.changed.insert(Arc::clone(&claim.who.id));
            self.wants.add(claim);
            self.unproven.add(claim);
            self.touch(claim);
            for entry in claim.entries.iter().chain(claim.unproven.iter()) {
                self.idle.remove(&entry.key);
            }
        }
        if before.protected != wanted.protected {
            self.protected = wanted.protected.iter().cloned().collect();
            self.touch_unclaimed();
        }
        if before.host_is_unknown != wanted.host_is_unknown {
            self.touch_unclaimed();
        }
        self.running = OnceLock::new();
        if !self.alone {
            self.touch_unclaimed();
        }
    }

    /// Sets whether this process is known to be the only one of its identity. Until it is, keys on its leases may be
    /// another process's, so a running container's keys stay unless this process has claimed them.
    pub fn set_alone(&mut self, alone: bool) {
        if self.alone == alone {
            return;
        }
        self.alone = alone;
        self.touch_unclaimed();
    }

    /// Whether this registrar renews a shared lease of a key. It does not if it wants the key as an owned one, or with
    /// a much shorter TTL: then the lease is left to the registrars that need it. `longest` is the longest TTL of our
    /// own leases in use, in seconds.
    pub fn tends(&self, key: &str, lease: LeaseId, longest: u32) -> bool {
        let Some(want) = self.wants.winner(key) else {
            return true;
        };
        // The lease must outlive ours even when so little is left of it that it counts as abandoned.
        let ours = self
            .lease_of(&want.entry)
            .ttl()
            .max(longest + SHARED_MARGIN);
        want.entry.shared && !timetable::is_abandoned(lease, ours)
    }

    /// Whether a key is wanted as a shared one.
    pub fn wants_shared(&self, key: &str) -> bool {
        self.wants.winner(key).is_some_and(|want| want.entry.shared)
    }

    /// Whether a batch may be carried out after refusals. A delete of a container's key waits for the puts of that
    /// container; a delete of a key that no container has claimed waits for all puts.
    pub fn may_follow(&self, batch: &Batch, refused: &Refused) -> bool {
        if !refused.any || batch.order == Order::Unclaimed {
            return !refused.any;
        }
        let steps = batch.transaction.steps.iter().zip(&batch.owners);
        let mut deletes = steps.filter(|(step, _)| matches!(step, Step::Delete(_)));
        !deletes.any(|(_, owner)| {
            let id = owner.as_ref().map(|owner| &owner.id);
            id.is_some_and(|id| refused.containers.contains(id) && self.claims.contains_key(id))
        })
    }

    /// Records that the puts of a batch were refused.
    pub fn refuse(&self, batch: &Batch, refused: &mut Refused) {
        batch.puts().for_each(|key| self.refuse_key(key, refused));
    }

    fn refuse_key(&self, key: &Key, refused: &mut Refused) {
        refused.any = true;
        let wants = self.wants.all(key).iter();
        let containers = wants.map(|want| Arc::clone(&want.who.id));
        refused.containers.extend(containers);
    }

    /// Whether a wanted state is known, even an empty one.
    pub fn is_wanting(&self) -> bool {
        self.wanted.is_some()
    }

    pub fn wanted_keys(&self) -> impl Iterator<Item = &Key> {
        self.wants.keys()
    }

    /// The keys whose check has no verdict yet.
    pub fn unproven_keys(&self) -> impl Iterator<Item = &Key> {
        self.unproven.keys()
    }

    /// The entry that counts for each wanted key, with its container.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry, &ContainerName)> {
        self.wants.winners().map(|want| (&want.entry, &want.who))
    }

    /// The states of the wanted keys, sorted by key.
    pub fn views(&self) -> Vec<KeyView> {
        let view = |(entry, who): (&Entry, &ContainerName)| {
            let state = self.known.get(&entry.key).map(|known| &known.state);
            let has_value = |state: &InStore| matches!(state, InStore::Ours { value, .. } if *value == entry.value);
            KeyView {
                key: Arc::clone(&entry.key),
                value: Arc::clone(&entry.value),
                shared: entry.shared,
                container: Arc::clone(&who.name),
                stands: state.is_some_and(has_value),
                held: matches!(state, Some(InStore::Foreign { .. })),
            }
        };
        let mut views: Vec<KeyView> = self.entries().map(view).collect();
        views.sort_by(|a, b| a.key.cmp(&b.key));
        views
    }

    /// The number of containers that want at least one key.
    pub fn container_count(&self) -> usize {
        self.claims
            .values()
            .filter(|claim| !claim.who.is_host() && !claim.entries.is_empty())
            .count()
    }

    /// The notes since the last call.
    pub fn notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.fresh_notes)
    }

    pub fn wants(&self, key: &str) -> bool {
        self.wants.contains(key)
    }

    /// The marks of the running containers. They are rarely needed, except after a start.
    fn running(&self) -> &Marks {
        self.running.get_or_init(|| {
            let running = self.wanted.iter().flat_map(|wanted| wanted.running.iter());
            let outside = self.wanted.iter().flat_map(|wanted| &wanted.outside);
            let outside = outside.flat_map(|outside| outside.iter().cloned());
            running
                .flat_map(|container| container.marks())
                .chain(outside)
                .collect()
        })
    }

    /// Marks the keys that no container wants for another decision.
    fn touch_unclaimed(&mut self) {
        debug_assert!(self.knows_unclaimed());
        for key in &self.unclaimed {
            self.planned.remove(key);
            self.dirty.insert(Arc::clone(key));
        }
    }

    /// Whether `unclaimed` is right, by a look at all keys.
    fn knows_unclaimed(&self) -> bool {
        let unclaimed = self.known.keys().filter(|key| !self.wants.contains(key));
        unclaimed.collect::<HashSet<_>>() == self.unclaimed.iter().collect()
    }

    /// Marks the keys of a claim for another decision.
    fn touch(&mut self, claim: &Claim) {
        for entry in claim.entries.iter().chain(claim.unproven.iter()) {
            self.touch_key(&entry.key);
        }
    }

    /// Marks a key, whose state or wants have changed, for another decision. A batch that changes it is out of date from
    /// now on.
    fn touch_key(&mut self, key: &Key) {
        if self.known.contains_key(key) && !self.wants.contains(key) {
            self.unclaimed.insert(Arc::clone(key));
        } else {
            self.unclaimed.remove(key);
        }
        self.planned.remove(key);
        self.dirty.insert(Arc::clone(key));
        if let Some(touched) = &mut self.since_read {
            touched.insert(Arc::clone(key));
        }
    }
}

/// The puts that have not been carried out as planned, since the last whole planning.
#[derive(Debug, Default)]
pub struct Refused {
    any: bool,
    /// The containers that want their keys.
    containers: HashSet<Arc<str>>,
}
