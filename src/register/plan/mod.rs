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
//! | either | on no lease                        | put, if unchanged, with a warning: a leftover |
//! | either | on somebody else's lease           | a warning, until it is free |
//! | no     | ours, owned, claimed since the start | delete, if still ours, with or after the puts of its container |
//! | no     | ours, owned, never claimed         | delete, if still ours: at once if its container is known to be gone, else after all puts; but see [`Wanted::protected`] and [`Plan::set_alone`] |
//! | no     | on its shared lease                | delete together with the last owned key in its directory; else it is left to the registrars that renew its lease |
//! | no     | anything else                      | nothing: it is not ours |

mod batch;
mod decision;
mod knowledge;
mod marks;
mod note;
pub mod steps;
#[cfg(test)]
mod tests;
mod view;
mod want;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use crate::base::key::Key;
use crate::register::timetable::{self, SHARED_MARGIN};
use crate::store::{Identity, LeaseId, Step};
use crate::wanted::{Claim, ContainerName, Entry, Wanted};

pub use batch::Batch;
use batch::{Group, KeyChange, Order};
use decision::Decision;
pub use knowledge::Surprises;
use knowledge::{InStore, Record};
use marks::Marks;
pub use note::Note;
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
    known: HashMap<Key, Record>,
    /// Keys to decide again, because their wants or their state have changed.
    dirty: BTreeSet<Key>,
    /// Shared keys that we hold and no longer want, with their leases. Each is deleted with the last owned key in its
    /// directory.
    idle: BTreeMap<Key, LeaseId>,
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
            known: HashMap::new(),
            dirty: BTreeSet::new(),
            idle: BTreeMap::new(),
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
        if before.protected != wanted.protected {
            self.protected = wanted.protected.iter().cloned().collect();
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
    /// container; a delete of a key that no container has claimed waits for all puts. `refused` has the keys of this
    /// round's refused puts.
    pub fn may_follow(&self, batch: &Batch, refused: &BTreeSet<Key>) -> bool {
        if refused.is_empty() || batch.order == Order::Unclaimed {
            return refused.is_empty();
        }
        let mut owners = BTreeSet::new();
        for (step, owner) in batch.transaction.steps.iter().zip(&batch.owners) {
            if matches!(step, Step::Delete(_)) {
                owners.extend(owner.as_ref().map(|owner| &owner.id));
            }
        }
        owners.into_iter().all(|id| {
            let claim = self.claims.get(id);
            let mut entries = claim.iter().flat_map(|claim| claim.entries.iter());
            !entries.any(|entry| refused.contains(&entry.key))
        })
    }

    /// Whether a wanted state is known, even an empty one.
    pub fn is_wanting(&self) -> bool {
        self.wanted.is_some()
    }

    pub fn wanted_keys(&self) -> impl Iterator<Item = &Key> {
        self.wants.keys()
    }

    /// The entry that counts for each wanted key, with its container.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry, &ContainerName)> {
        self.wants.winners().map(|want| (&want.entry, &want.who))
    }

    /// The states of the wanted keys, sorted by key.
    pub fn views(&self) -> Vec<KeyView> {
        let view = |(entry, who): (&Entry, &ContainerName)| {
            KeyView {
            key: Arc::clone(&entry.key),
            value: Arc::clone(&entry.value),
            shared: entry.shared,
            container: Arc::clone(&who.name),
            stands: self.known.get(&entry.key).is_some_and(
                |known| matches!(&known.state, InStore::Ours { value, .. } if *value == entry.value),
            ),
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
            .filter(|claim| !claim.entries.is_empty())
            .count()
    }

    /// The transactions that bring the store to the wanted state, in order: puts before deletes. A container that fits
    /// into `max_operations` is in one transaction; if `one_by_one`, no two containers share one.
    pub fn batches(&mut self, max_operations: usize, one_by_one: bool) -> Vec<Batch> {
        if self.wanted.is_none() {
            return Vec::new();
        }
        let mut groups: HashMap<Option<Arc<str>>, Group> = HashMap::new();
        let mut shared: HashMap<Key, KeyChange> = HashMap::new();
        let (mut after_puts, mut decided) = (Group::default(), Vec::new());
        // Wanted keys first, because a container's deletes depend on the obstacles to its puts.
        let is_wanted = |key: &&Key| self.wants.contains(key);
        let (wanted, unwanted): (Vec<&Key>, Vec<&Key>) = self.dirty.iter().partition(is_wanted);
        for key in wanted.into_iter().chain(unwanted) {
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
                Decision::Nothing => decided.push(Arc::clone(key)),
                Decision::Later => {}
                Decision::Idle(lease) => {
                    self.idle.insert(Arc::clone(key), lease);
                    decided.push(Arc::clone(key));
                }
                Decision::AfterPuts(change) => after_puts.push(change),
                Decision::Change(change) => {
                    let id = change.who.as_ref().map(|who| Arc::clone(&who.id));
                    let group = groups.entry(id).or_default();
                    if change.shared_lease().is_some() {
                        shared.insert(Arc::clone(key), change);
                    } else {
                        group.push(change);
                    }
                }
            }
        }
        for key in decided {
            self.dirty.remove(&key);
            self.refresh(&key);
        }
        let mut groups = self.with_shared(groups, shared);
        if !after_puts.is_empty() {
            groups.push((Order::Unclaimed, after_puts));
        }
        batch::pack(groups, &self.idle, max_operations, one_by_one)
    }

    /// The groups in the order in which they are carried out, each shared key with the first group that wants it. A
    /// group that puts an owned key also requires that its container's shared keys exist: an earlier transaction may
    /// have failed to put them, and another host may be deleting them together with the last owned key that it knows in
    /// the directory.
    fn with_shared(
        &self,
        groups: HashMap<Option<Arc<str>>, Group>,
        mut shared: HashMap<Key, KeyChange>,
    ) -> Vec<(Order, Group)> {
        let wanted = |id: &Option<Arc<str>>| {
            let claim = id.as_ref().and_then(|id| self.claims.get(id));
            let entries = claim.map_or(&[][..], |claim| &*claim.entries);
            entries.iter().filter(|entry| entry.shared)
        };
        // Sorted by container within an order, so that the same changes always make the same transactions.
        let mut groups: Vec<(Order, Option<Arc<str>>, Group)> = groups
            .into_iter()
            .map(|(id, group)| {
                let puts = !group.only_deletes()
                    || wanted(&id).any(|entry| shared.contains_key(&entry.key));
                let order = if puts { Order::Puts } else { Order::Deletes };
                (order, id, group)
            })
            .collect();
        groups.sort_by(|(a, id_a, _), (b, id_b, _)| (a, id_a).cmp(&(b, id_b)));
        let mut placed: HashMap<&Key, LeaseId> = HashMap::new();
        let mut ordered = Vec::with_capacity(groups.len());
        for (order, id, mut group) in groups {
            let puts_owned = group.puts_owned();
            for entry in wanted(&id) {
                let lease = if let Some(change) = shared.remove(&entry.key) {
                    placed.extend(change.shared_lease().map(|lease| (&entry.key, lease)));
                    group.push(change);
                    continue;
                } else if let Some(lease) = placed.get(&entry.key) {
                    *lease
                } else if let Some(InStore::Ours { lease, .. }) =
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
                ordered.push((order, group));
            }
        }
        ordered
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
        let unclaimed = self.known.keys().filter(|key| !self.wants.contains(key));
        self.dirty.extend(unclaimed.cloned());
    }

    /// Marks the keys of a claim for another decision.
    fn touch(&mut self, claim: &Claim) {
        let keys = claim.entries.iter().map(|entry| Arc::clone(&entry.key));
        self.dirty.extend(keys);
    }
}
