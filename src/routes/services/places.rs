//! Where the keys of a snapshot belong, so that a change of some keys costs no look at the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{Located, Part};
use crate::base::key::Key;
use crate::base::text::quote;
use crate::routes::{LeftOut, ServiceId};
use crate::store::Found;

/// The keys of the last snapshot by their service, and the services of those that have changed since [`Services`] took
/// them in. A policy function located them, so another function begins with empty ones.
///
/// [`Services`]: super::Services
#[derive(Debug, Default)]
pub struct Places {
    keys: OrdMap<Key, Found>,
    services: HashMap<Key, ServiceId>,
    parts: BTreeMap<ServiceId, BTreeMap<Key, Part>>,
    /// The reasons for the keys that belong to no service.
    refused: BTreeMap<Key, String>,
    touched: BTreeSet<ServiceId>,
    /// Whether services were made of them before.
    is_old: bool,
}

impl Places {
    /// The keys of a snapshot that have to be located: new ones, and those with another value.
    pub fn unlocated(&self, snapshot: &OrdMap<Key, Found>) -> Vec<Found> {
        let differences = self.keys.diff(snapshot);
        let unlocated = differences.filter_map(|item| match item {
            DiffItem::Add(_, found) => Some(found.clone()),
            DiffItem::Update {
                old: (_, old),
                new: (_, new),
            } => (old.value != new.value).then(|| new.clone()),
            DiffItem::Remove(..) => None,
        });
        unlocated.collect()
    }

    /// Takes the place of a key. The error is the reason for leaving it out.
    pub fn locate(&mut self, key: &Key, place: Result<Located, String>) {
        self.forget(key);
        let located = match place {
            Ok(located) => located,
            Err(why) => {
                self.refused.insert(Key::clone(key), why);
                return;
            }
        };
        let id = ServiceId {
            name: located.service,
            index: located.index,
        };
        // All keys of a service share its name.
        let known = self.parts.get_key_value(&id);
        let id = known.map_or(id, |(id, _)| id.clone());
        self.touched.insert(id.clone());
        self.services.insert(Key::clone(key), id.clone());
        let parts = self.parts.entry(id).or_default();
        parts.insert(Key::clone(key), located.part);
    }

    /// Takes a snapshot in, after all its keys have been located.
    pub fn follow(&mut self, snapshot: &OrdMap<Key, Found>) {
        let before = mem::replace(&mut self.keys, snapshot.clone());
        for item in before.diff(snapshot) {
            match item {
                DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } => {
                    self.touched.extend(self.services.get(key).cloned());
                }
                DiffItem::Remove(key, _) => self.forget(key),
            }
        }
    }

    /// The services whose keys have changed since the last call; none at the first call, when they are all.
    pub(super) fn take_touched(&mut self) -> Option<BTreeSet<ServiceId>> {
        let touched = mem::take(&mut self.touched);
        mem::replace(&mut self.is_old, true).then_some(touched)
    }

    /// All services that have a key.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.parts.keys()
    }

    /// The keys of a service, in their order.
    pub(super) fn of(&self, service: &ServiceId) -> impl Iterator<Item = (&Found, &Part)> {
        let parts = self.parts.get(service).into_iter().flatten();
        parts.filter_map(move |(key, part)| Some((self.keys.get(key)?, part)))
    }

    /// The keys that belong to no service.
    pub(super) fn left_out(&self) -> impl Iterator<Item = LeftOut> {
        self.refused.iter().map(|(key, why)| LeftOut {
            what: format!("key {}", quote(key)),
            why: why.clone(),
        })
    }

    fn forget(&mut self, key: &Key) {
        self.refused.remove(key);
        let Some(id) = self.services.remove(key) else {
            return;
        };
        if let Some(parts) = self.parts.get_mut(&id) {
            parts.remove(key);
            if parts.is_empty() {
                self.parts.remove(&id);
            }
        }
        self.touched.insert(id);
    }
}
