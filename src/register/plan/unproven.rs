//! Entries whose check has no verdict yet. Their keys in the store stay, as those of a container whose entries are not
//! known.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::key::Key;
use crate::wanted::{Claim, ContainerName};

/// The values for each key, with their containers.
#[derive(Debug, Default)]
pub(super) struct Unproven(HashMap<Key, Vec<(Arc<str>, ContainerName)>>);

impl Unproven {
    pub fn add(&mut self, claim: &Claim) {
        for entry in claim.unproven.iter() {
            let values = self.0.entry(Arc::clone(&entry.key)).or_default();
            values.push((Arc::clone(&entry.value), claim.who.clone()));
        }
    }

    pub fn remove(&mut self, claim: &Claim) {
        for entry in claim.unproven.iter() {
            if let Some(values) = self.0.get_mut(&entry.key) {
                values.retain(|(_, who)| *who != claim.who);
                if values.is_empty() {
                    self.0.remove(&entry.key);
                }
            }
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// The container that a key in the store with this value belongs to. A key with another value was for an address
    /// that nobody asks for any more.
    pub fn owner(&self, key: &str, value: &str) -> Option<&ContainerName> {
        let values = self.0.get(key)?;
        let found = values.iter().find(|(known, _)| **known == *value);
        found.map(|(_, who)| who)
    }
}
