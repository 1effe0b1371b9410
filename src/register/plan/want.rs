//! The wants of all containers, by key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::key::Key;
use crate::wanted::{Claim, ContainerName, Entry};

/// The wants for each key, the oldest container's first.
#[derive(Debug, Default)]
pub(super) struct Wants(HashMap<Key, Vec<Want>>);

/// One container's want for a key.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub age: Arc<str>,
    pub who: ContainerName,
    pub entry: Entry,
}

impl Wants {
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// For each wanted key, the want that counts: the oldest container's.
    pub fn winners(&self) -> impl Iterator<Item = &Want> {
        self.0.values().filter_map(|wants| wants.first())
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The want that counts for a key.
    pub fn winner(&self, key: &str) -> Option<&Want> {
        self.0.get(key)?.first()
    }

    /// The want that counts for a key, and the other wants for it.
    pub fn winner_and_rivals(&self, key: &str) -> Option<(&Want, &[Want])> {
        self.0.get(key)?.split_first()
    }

    /// All wants for a key.
    pub fn all(&self, key: &str) -> &[Want] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The longest TTL, in seconds, of the wants for a key as a shared one; 0 if there is none.
    pub fn longest_shared_ttl(&self, key: &str) -> u32 {
        let wants = self.0.get(key).into_iter().flatten();
        let shared = wants.filter(|want| want.entry.shared);
        shared.map(|want| want.entry.ttl).max().unwrap_or(0)
    }

    pub fn add(&mut self, claim: &Claim) {
        for wanted in claim.entries.iter() {
            // Most keys are wanted by a single container.
            let wants = self.0.entry(Arc::clone(&wanted.key));
            let wants = wants.or_insert_with(|| Vec::with_capacity(1));
            let mut entry = wanted.clone();
            // Equal texts share one allocation, so that they can be compared by pointer.
            if let Some(first) = wants.first() {
                entry.key = Arc::clone(&first.entry.key);
                if first.entry.value == entry.value {
                    entry.value = Arc::clone(&first.entry.value);
                }
            }
            let want = Want {
                age: Arc::clone(&claim.age),
                who: claim.who.clone(),
                entry,
            };
            wants.insert(place(wants, claim), want);
        }
    }

    pub fn remove(&mut self, claim: &Claim) {
        for entry in claim.entries.iter() {
            if let Some(wants) = self.0.get_mut(&entry.key) {
                let place = place(wants, claim);
                if wants.get(place).is_some_and(|want| want.who == claim.who) {
                    wants.remove(place);
                }
                if wants.is_empty() {
                    self.0.remove(&entry.key);
                }
            }
        }
    }
}

/// The place that a container has, or would have, among the wants for a key.
fn place(wants: &[Want], claim: &Claim) -> usize {
    wants.partition_point(|want| (&want.age, &want.who) < (&claim.age, &claim.who))
}
