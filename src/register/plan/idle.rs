//! Shared keys that this registrar holds and no longer wants. Each is deleted with the last owned key in its directory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::base::key::{Key, directory};
use crate::store::LeaseId;

/// The keys with their leases, by directory.
#[derive(Debug, Default)]
pub(super) struct Idle(BTreeMap<Arc<str>, BTreeMap<Key, LeaseId>>);

impl Idle {
    pub fn insert(&mut self, key: Key, lease: LeaseId) {
        if let Some(keys) = self.0.get_mut(directory(&key)) {
            keys.insert(key, lease);
        } else {
            self.0.insert(directory(&key).into(), [(key, lease)].into());
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(keys) = self.0.get_mut(directory(key)) {
            keys.remove(key);
            if keys.is_empty() {
                self.0.remove(directory(key));
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys in a directory itself, with the directory, if there are any.
    pub fn directly_in(&self, directory: &str) -> Option<(&Arc<str>, &BTreeMap<Key, LeaseId>)> {
        self.0.get_key_value(directory)
    }

    /// The keys in a directory and in those below it.
    pub fn inside(&self, directory: &str) -> impl Iterator<Item = &Key> {
        let from = (Bound::Included(directory), Bound::Unbounded);
        self.0
            .range::<str, _>(from)
            .take_while(move |(inner, _)| inner.starts_with(directory))
            .flat_map(|(_, keys)| keys.keys())
    }
}
