//! From decisions to transactions. A planning takes the keys that have to be decided and no others, so that a small
//! change costs little while a large one is carried out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;

use super::batch::{Batch, Group, KeyChange, Order};
use super::decision::{Blocked, Decision};
use super::knowledge::InStore;
use super::{Plan, Refused, pack};
use crate::base::key::Key;
use crate::store::{LeaseId, Step};
use crate::wanted::Entry;

/// The changes of one planning.
#[derive(Default)]
struct Changes {
    /// By container. Shared keys are not in their container's group yet.
    groups: HashMap<Option<Arc<str>>, Group>,
    shared: HashMap<Key, KeyChange>,
    after_puts: Group,
}

impl Plan {
    /// The transactions that bring the store to the wanted state, in order: puts before deletes, and small changes
    /// before those that need several transactions. A container that fits into `max_operations` is in one transaction;
    /// if `one_by_one`, no two containers share one.
    pub fn batches(&mut self, max_operations: usize, one_by_one: bool) -> Vec<Batch> {
        let planned = mem::take(&mut self.planned);
        self.dirty.extend(planned.into_keys());
        self.plan(max_operations, one_by_one, true)
    }

    /// The transactions for the changes since the last planning, while its batches are being carried out. Those that
    /// [are no longer up to date](Self::is_current) must be put back.
    pub fn further_batches(&mut self, max_operations: usize, one_by_one: bool) -> Vec<Batch> {
        self.plan(max_operations, one_by_one, false)
    }

    /// Merges batches of a later planning into those that are left. The later ones of each order go first.
    pub fn merge(mut later: Vec<Batch>, left: &mut VecDeque<Batch>) {
        later.extend(left.drain(..));
        later.sort_by_key(|batch| batch.order);
        left.extend(later);
    }

    /// Whether nothing has changed for the keys of a batch since it was planned.
    pub fn is_current(&self, batch: &Batch) -> bool {
        batch.transaction.steps.iter().all(|step| match step {
            Step::Put(key, ..) | Step::Delete(key) => {
                self.planned.get(key) == Some(&batch.planning)
            }
            Step::Sweep(sweep) => !sweep.keys.iter().any(|(key, _)| self.wants.contains(key)),
        })
    }

    /// Takes back a batch that is not carried out: its keys are decided again. Until then they count as refused, because
    /// deletes may wait for its puts.
    pub fn put_back(&mut self, batch: &Batch, refused: &mut Refused) {
        for step in &batch.transaction.steps {
            if let Step::Put(key, ..) | Step::Delete(key) = step
                && self.planned.get(key) == Some(&batch.planning)
            {
                self.touch_key(key);
                if matches!(step, Step::Put(..)) {
                    self.refuse_key(key, refused);
                }
            }
        }
    }

    fn plan(&mut self, max_operations: usize, one_by_one: bool, is_whole: bool) -> Vec<Batch> {
        if self.wanted.is_none() {
            return Vec::new();
        }
        self.planning += 1;
        let changes = self.decide_all(is_whole);
        self.changed.clear();
        let after_puts = changes.after_puts;
        let mut groups = self.with_shared(changes.groups, changes.shared, max_operations);
        if !after_puts.is_empty() {
            groups.push((Order::Unclaimed, after_puts));
        }
        let mut batches = pack::pack(groups, &self.idle, max_operations, one_by_one);
        for batch in &mut batches {
            batch.planning = self.planning;
        }
        batches
    }

    /// Decides all keys that have to be decided.
    fn decide_all(&mut self, is_whole: bool) -> Changes {
        let mut changes = Changes::default();
        let mut blocked = Blocked::default();
        // Wanted keys first, because a container's deletes depend on the obstacles to its puts.
        let dirty = mem::take(&mut self.dirty).into_iter();
        let (wanted, unwanted): (Vec<Key>, Vec<Key>) =
            dirty.partition(|key| self.wants.contains(key));
        for key in wanted.into_iter().chain(unwanted) {
            let (decision, note) = self.decide(&key, &mut blocked);
            if note.as_ref() != self.notes.get(&key) {
                match note {
                    Some(note) => {
                        self.fresh_notes.push(note.clone());
                        self.notes.insert(Arc::clone(&key), note);
                    }
                    None => drop(self.notes.remove(&key)),
                }
            }
            match decision {
                Decision::Nothing => self.refresh(&key),
                Decision::Later => drop(self.planned.insert(key, 0)),
                Decision::Idle(lease) => {
                    self.idle.insert(Arc::clone(&key), lease);
                    self.refresh(&key);
                }
                Decision::AfterPuts(change) => {
                    changes.after_puts.push(change);
                    self.planned.insert(key, self.planning);
                }
                Decision::Change(change) if !is_whole && self.waits(&change) => {
                    self.planned.insert(key, 0);
                }
                Decision::Change(change) => {
                    self.idle.remove(&key);
                    let id = change.who.as_ref().map(|who| Arc::clone(&who.id));
                    let group = changes.groups.entry(id).or_default();
                    if change.shared_lease().is_some() {
                        changes.shared.insert(Arc::clone(&key), change);
                    } else {
                        group.push(change);
                    }
                    self.planned.insert(key, self.planning);
                }
            }
        }
        changes
    }

    /// Whether a change is a delete that must not overtake puts of its container that are planned already. If the claim
    /// has changed, all its keys are decided together.
    fn waits(&self, change: &KeyChange) -> bool {
        let owner = change.who.as_ref().filter(|_| change.is_delete());
        owner
            .is_some_and(|who| self.claims.contains_key(&who.id) && !self.changed.contains(&who.id))
    }

    /// The groups in the order in which they are carried out, each shared key with the first group that wants it. A
    /// group that puts an owned key also requires that its container's shared keys exist: an earlier transaction may
    /// have failed to put them, and another host may be deleting them together with the last owned key that it knows in
    /// the directory.
    fn with_shared(
        &self,
        groups: HashMap<Option<Arc<str>>, Group>,
        mut shared: HashMap<Key, KeyChange>,
        max_operations: usize,
    ) -> Vec<(Order, Group)> {
        let mut groups: Vec<(Order, Option<Arc<str>>, Group)> = groups
            .into_iter()
            .map(|(id, group)| {
                let wanted = self.wanted_shared(id.as_ref());
                let puts = wanted.filter(|entry| shared.contains_key(&entry.key));
                let puts = puts.take(max_operations).count();
                (group.order(puts, max_operations), id, group)
            })
            .collect();
        defer_replaced(&mut groups);
        // Sorted by container within an order, so that the same changes always make the same transactions.
        groups.sort_by(|(a, id_a, _), (b, id_b, _)| (a, id_a).cmp(&(b, id_b)));
        let mut placed: HashMap<&Key, LeaseId> = HashMap::new();
        let mut ordered = Vec::with_capacity(groups.len());
        for (order, id, mut group) in groups {
            let puts_owned = group.puts_owned();
            for entry in self.wanted_shared(id.as_ref()) {
                if let Some(change) = shared.remove(&entry.key) {
                    placed.extend(change.shared_lease().map(|lease| (&entry.key, lease)));
                    group.push(change);
                } else if puts_owned {
                    let lease = placed.get(&entry.key).copied();
                    let lease = lease.or_else(|| self.expected_lease(&entry.key));
                    if let Some(lease) = lease {
                        group.require(&entry.key, lease);
                    }
                }
            }
            if !group.is_empty() {
                ordered.push((order, group));
            }
        }
        ordered
    }

    fn wanted_shared(&self, id: Option<&Arc<str>>) -> impl Iterator<Item = &Entry> {
        let claim = id.and_then(|id| self.claims.get(id));
        let entries = claim.map_or(&[][..], |claim| &*claim.entries);
        entries.iter().filter(|entry| entry.shared)
    }

    /// The shared lease on which a key is, or will be once a batch of an earlier planning has put it.
    fn expected_lease(&self, key: &Key) -> Option<LeaseId> {
        match self.known.get(key).map(|known| &known.state) {
            Some(InStore::Ours { lease, .. }) if lease.is_shared() => Some(*lease),
            _ if self.planned.contains_key(key) => {
                let want = self.wants.winner(key).filter(|want| want.entry.shared)?;
                Some(self.lease_of(&want.entry))
            }
            _ => None,
        }
    }
}

/// Lets a container's deletes wait for large puts in the same directories, which may replace it.
fn defer_replaced(groups: &mut [(Order, Option<Arc<str>>, Group)]) {
    let large = groups
        .iter()
        .filter(|(order, ..)| *order == Order::LargePuts);
    let put: HashSet<Box<str>> = large
        .flat_map(|(_, _, group)| &group.changes)
        .filter_map(|change| Some(change.owned_directory()?.into()))
        .collect();
    if put.is_empty() {
        return;
    }
    for (order, _, group) in groups {
        let mut changes = group.changes.iter();
        if *order == Order::Deletes && changes.any(|change| put.contains(change.directory())) {
            *order = Order::LargeDeletes;
        }
    }
}
