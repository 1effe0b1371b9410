//! Packs groups of changes into transactions, in time that grows with their number. A container is split only if it does
//! not fit into one transaction.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use super::batch::{Batch, Group, KeyChange, Order};
use super::idle::Idle;
use crate::base::key::{Key, directory};
use crate::store::{Guard, LeaseId, Size, Step, Sweep};

/// The most bytes of keys and values in one transaction: two thirds of etcd's limit for a request (1.5 MiB).
const MAX_BYTES: usize = 1024 * 1024;

/// Packs groups, in their order, into as few transactions as the limits allow; if `one_by_one`, each into its own.
pub(super) fn pack(
    groups: Vec<(Order, Group)>,
    idle: &Idle,
    max_operations: usize,
    one_by_one: bool,
) -> Vec<Batch> {
    let mut packer = Packer {
        idle,
        max_operations,
        order: Order::default(),
        batches: Vec::new(),
        open: Open::default(),
    };
    for (order, mut group) in groups {
        group.changes.sort_by_key(KeyChange::rank);
        if one_by_one || order != packer.order {
            packer.flush();
        }
        packer.order = order;
        let Err(group) = packer.add(group) else {
            continue;
        };
        packer.flush();
        if let Err(group) = packer.add(group) {
            packer.add_in_parts(group);
        }
    }
    packer.flush();
    packer.batches
}

struct Packer<'a> {
    idle: &'a Idle,
    max_operations: usize,
    /// The order of the groups in `open`.
    order: Order,
    batches: Vec<Batch>,
    open: Open<'a>,
}

/// The transaction that groups are added to.
#[derive(Default)]
struct Open<'a> {
    /// Without its sweeps.
    batch: Batch,
    /// With its sweeps.
    size: Size,
    /// The shared keys that it puts.
    shared: BTreeSet<Key>,
    deleted: BTreeSet<Key>,
    sweeps: Sweeps<'a>,
}

/// The sweeps of a transaction: one for each directory that has idle shared keys and loses an owned key. None stands for
/// a sweep that fits into no transaction.
type Sweeps<'a> = BTreeMap<&'a Arc<str>, Option<Tally>>;

/// The size of a sweep.
#[derive(Debug, Clone, Copy)]
struct Tally {
    /// The number of keys that it deletes.
    keys: usize,
    /// The number of keys that may be in its directory.
    expected: usize,
}

impl<'a> Packer<'a> {
    /// Adds a whole group, or returns it if it does not fit.
    fn add(&mut self, mut group: Group) -> Result<(), Group> {
        // A key that the same transaction puts is not there yet when its guards are checked.
        let is_put = |guard: &Guard| self.open.shared.contains(guard.key());
        let here = group.required.iter().filter(|guard| is_put(guard)).count();
        let required = group.required.len() - here;
        let Some((size, sweeps)) = self.with(required, &group.changes) else {
            return Err(group);
        };
        if here > 0 {
            group.required.retain(|guard| !is_put(guard));
        }
        self.push(size, sweeps, group.required, group.changes);
        Ok(())
    }

    /// Adds a group in parts, each directory's shared keys beside its owned ones. Each part requires the shared keys
    /// beside its owned ones that earlier transactions have put.
    fn add_in_parts(&mut self, group: Group) {
        let mut earlier = Beside::default();
        group
            .required
            .into_iter()
            .for_each(|guard| earlier.add(guard));
        // The shared keys that the open part puts, and the directories whose earlier shared keys it requires.
        let (mut put, mut required) = (Vec::new(), HashSet::new());
        for change in by_directory(group.changes) {
            let mut guards = earlier.guards(&change, &required);
            let mut fits = self.with(guards.len(), slice::from_ref(&change));
            if fits.is_none() {
                self.flush();
                put.drain(..).for_each(|guard| earlier.add(guard));
                required.clear();
                guards = earlier.guards(&change, &required);
                fits = self.with(guards.len(), slice::from_ref(&change));
            }
            let (size, sweeps) = fits.unwrap_or_else(|| {
                // One with all its sweeps fits into no transaction.
                let mut size = self.open.size;
                size.add_guards(guards.len());
                size.add_guard(&change.guard);
                size.add(&change.step);
                (size, Sweeps::new())
            });
            if !guards.is_empty() {
                required.insert(Box::from(change.directory()));
            }
            put.extend(change.shared_guard());
            let guards = guards.to_vec();
            self.push(size, sweeps, guards, [change]);
        }
    }

    /// The size of the open transaction with further changes and so many guards besides theirs, and the sweeps that they
    /// add or enlarge; none if it is too large.
    fn with(&self, required: usize, changes: &[KeyChange]) -> Option<(Size, Sweeps<'a>)> {
        let mut size = self.open.size;
        size.add_guards(required);
        let mut sweeps = Sweeps::new();
        for change in changes {
            size.add_guard(&change.guard);
            size.add(&change.step);
            let Step::Delete(key) = &change.step else {
                continue;
            };
            if self.idle.is_empty() {
                continue;
            }
            for (directory, idle) in ancestors(key).filter_map(|d| self.idle.directly_in(d)) {
                let tally = match sweeps.entry(directory) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(match self.open.sweeps.get(directory) {
                        Some(known) => *known,
                        None => self.begin_sweep(directory, idle, &mut size),
                    }),
                };
                if let Some(tally) = tally {
                    tally.expected += 1;
                    size.add_expected(key, tally.keys, tally.expected);
                }
            }
        }
        let is_single = self.open.batch.transaction.steps.len() + changes.len() == 1;
        let fits =
            size.operations() <= self.max_operations && (size.bytes() <= MAX_BYTES || is_single);
        fits.then_some((size, sweeps))
    }

    /// Begins a sweep of a directory with these idle keys. None if it would fit into no transaction: its keys expire
    /// with their leases, which we do not renew.
    fn begin_sweep(
        &self,
        directory: &str,
        idle: &BTreeMap<Key, LeaseId>,
        size: &mut Size,
    ) -> Option<Tally> {
        let mut alone = Size::default();
        // A delete, and the sweep.
        alone.add_guards(1);
        alone.add_sweep(idle.len());
        alone.add_sweep(idle.len());
        let mut tally = Tally {
            keys: idle.len(),
            expected: 0,
        };
        let mut grown = *size;
        grown.add_sweep(tally.keys);
        for key in self.idle.inside(directory) {
            tally.expected += 1;
            alone.add_expected(key, tally.keys, tally.expected + 1);
            if alone.operations() > self.max_operations {
                return None;
            }
            grown.add_expected(key, tally.keys, tally.expected);
        }
        *size = grown;
        Some(tally)
    }

    fn push(
        &mut self,
        size: Size,
        sweeps: Sweeps<'a>,
        required: Vec<Guard>,
        changes: impl IntoIterator<Item = KeyChange>,
    ) {
        let open = &mut self.open;
        open.size = size;
        open.sweeps.extend(sweeps);
        let transaction = &mut open.batch.transaction;
        transaction.guards.extend(required);
        for change in changes {
            if change.shared_lease().is_some() {
                open.shared.insert(Arc::clone(change.guard.key()));
            }
            if let Step::Delete(key) = &change.step
                && !self.idle.is_empty()
            {
                open.deleted.insert(Arc::clone(key));
            }
            transaction.guards.push(change.guard);
            transaction.steps.push(change.step);
            open.batch.owners.push(change.who);
            open.batch.leases.extend(change.lease);
        }
    }

    fn flush(&mut self) {
        let open = mem::take(&mut self.open);
        let mut batch = open.batch;
        batch.order = self.order;
        if batch.transaction.steps.is_empty() {
            return;
        }
        for (directory, _) in open.sweeps.iter().filter(|(_, tally)| tally.is_some()) {
            let Some((_, keys)) = self.idle.directly_in(directory) else {
                continue;
            };
            let from = (Bound::Included(&***directory), Bound::Unbounded);
            let deleted = open.deleted.range::<str, _>(from);
            let expected: BTreeSet<&Key> = deleted
                .take_while(|key| key.starts_with(&***directory))
                .chain(self.idle.inside(directory))
                .collect();
            let keys = keys.iter().map(|(key, lease)| (Arc::clone(key), *lease));
            batch.transaction.steps.push(Step::Sweep(Sweep {
                directory: Arc::clone(directory),
                expected: expected.into_iter().cloned().collect(),
                keys: keys.collect(),
            }));
            batch.owners.push(None);
        }
        self.batches.push(batch);
    }
}

/// The guards of shared keys that earlier transactions have put, by directory.
#[derive(Default)]
struct Beside(HashMap<Box<str>, Vec<Guard>>);

impl Beside {
    fn add(&mut self, guard: Guard) {
        let directory = directory(guard.key());
        if let Some(guards) = self.0.get_mut(directory) {
            guards.push(guard);
        } else {
            self.0.insert(directory.into(), vec![guard]);
        }
    }

    /// The guards beside the put of an owned key, unless its directory's are required already.
    fn guards(&self, change: &KeyChange, required: &HashSet<Box<str>>) -> &[Guard] {
        let beside = change.owned_directory();
        let beside = beside.filter(|directory| !required.contains(*directory));
        let guards = beside.and_then(|directory| self.0.get(directory));
        guards.map_or(&[], Vec::as_slice)
    }
}

/// The changes of a container that is split. Shared keys come before the owned ones in their directory; those without an
/// owned one beside them come first of all, and deletes come last.
fn by_directory(changes: Vec<KeyChange>) -> Vec<KeyChange> {
    let owned = changes.iter().filter_map(KeyChange::owned_directory);
    let owned: HashSet<Box<str>> = owned.map(Box::from).collect();
    let place = |change: &KeyChange| match change.rank() {
        0 if !owned.contains(change.directory()) => 0,
        0 | 1 => 1,
        _ => 2,
    };
    let mut places: Vec<(u8, KeyChange)> = changes
        .into_iter()
        .map(|change| (place(&change), change))
        .collect();
    places.sort_by(|(a, change_a), (b, change_b)| {
        let inner = |change: &KeyChange| change.rank();
        (a, change_a.directory(), inner(change_a)).cmp(&(b, change_b.directory(), inner(change_b)))
    });
    places.into_iter().map(|(_, change)| change).collect()
}

/// The directories that a key is in, from the innermost outwards.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    key.rmatch_indices('/').map(|(slash, _)| &key[..=slash])
}
