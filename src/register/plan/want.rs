//! Who wants which key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::key::Key;
use crate::wanted::{Claim, Entry, Who};

/// The wishes for each key, that of the oldest container first.
#[derive(Debug, Default)]
pub(super) struct Wants(HashMap<Key, Vec<Want>>);

/// One container's wish for a key.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub age: Arc<str>,
    pub who: Who,
    pub entry: Entry,
}

impl Wants {
    /// The keys that are wanted.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// For each wanted key, the wish that counts.
    pub fn winners(&self) -> impl Iterator<Item = &Want> {
        self.0.values().filter_map(|wants| wants.first())
    }

    /// Whether a key is wanted.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The wish for a key that counts.
    pub fn winner(&self, key: &str) -> Option<&Want> {
        self.0.get(key)?.first()
    }

    /// The same, and the wishes of others for the key.
    pub fn winner_and_rivals(&self, key: &str) -> Option<(&Want, &[Want])> {
        self.0.get(key)?.split_first()
    }

    /// The longest TTL, in seconds, of the wishes for a key as a shared one; 0 if there is none.
    pub fn longest_shared_ttl(&self, key: &str) -> u32 {
        let wants = self.0.get(key).into_iter().flatten();
        let shared = wants.filter(|want| want.entry.shared);
        shared.map(|want| want.entry.ttl).max().unwrap_or(0)
    }

    /// Takes in all that a container wants.
    pub fn add(&mut self, claim: &Claim) {
        for wanted in claim.entries.iter() {
            // Most keys have a single one who wants them.
            let wants = self.0.entry(Arc::clone(&wanted.key));
            let wants = wants.or_insert_with(|| Vec::with_capacity(1));
            let mut entry = wanted.clone();
            // The same text is the same allocation, so that one look tells.
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

    /// Takes out all that a container wanted.
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

/// Where a container is or would be among those who want a key.
fn place(wants: &[Want], claim: &Claim) -> usize {
    wants.partition_point(|want| (&want.age, &want.who) < (&claim.age, &claim.who))
}
