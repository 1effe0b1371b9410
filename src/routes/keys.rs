//! All keys below a prefix, as the store has them at one revision.

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::base::key::Key;
use crate::store::{Change, Changes, Found};

/// A copy is cheap, and shares every unchanged key with the original.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    pub found: OrdMap<Key, Found>,
    /// The store's revision.
    pub revision: i64,
}

impl Keys {
    /// Makes them those of a listing. They stay shared where they are equal.
    pub fn replace(&mut self, listed: Vec<Found>, revision: i64) {
        let pairs = listed.into_iter().map(|found| (found.key.clone(), found));
        let listed: OrdMap<Key, Found> = pairs.collect();
        for item in self.found.clone().diff(&listed) {
            match item {
                DiffItem::Add(key, new)
                | DiffItem::Update {
                    new: (key, new), ..
                } => {
                    self.found.insert(key.clone(), new.clone());
                }
                DiffItem::Remove(key, _) => {
                    self.found.remove(key);
                }
            }
        }
        self.revision = revision;
    }

    /// Takes in the changes of a revision, unless they are in these keys already.
    pub fn change(&mut self, changes: Changes) {
        if changes.revision <= self.revision {
            return;
        }
        self.revision = changes.revision;
        for change in changes.changes {
            match change {
                Change::Put(found) => {
                    self.found.insert(found.key.clone(), found);
                }
                Change::Delete(key) => {
                    self.found.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::On;

    fn found(key: &str, value: &str, revision: i64) -> Found {
        Found {
            key: key.into(),
            value: value.into(),
            on: On::Nothing,
            created: 1,
            revision,
        }
    }

    fn told(keys: &Keys) -> Vec<(&str, &str)> {
        let told = keys.found.iter();
        told.map(|(key, found)| (&**key, &*found.value)).collect()
    }

    #[test]
    fn a_listing_replaces_all_keys() {
        let mut keys = Keys::default();
        keys.replace(vec![found("a", "1", 1), found("b", "1", 2)], 2);
        let before = keys.clone();
        keys.replace(vec![found("b", "1", 2), found("c", "1", 4)], 5);
        assert_eq!(told(&keys), [("b", "1"), ("c", "1")]);
        assert_eq!(keys.revision, 5);
        assert_eq!(told(&before), [("a", "1"), ("b", "1")]);
        // A store that was restored from a backup has a smaller revision.
        keys.replace(vec![found("b", "0", 1)], 1);
        assert_eq!((told(&keys), keys.revision), (vec![("b", "0")], 1));
    }

    #[test]
    fn changes_that_a_listing_has_already_are_ignored() {
        let mut keys = Keys::default();
        keys.replace(vec![found("a", "new", 7)], 7);
        let old = |revision| Changes {
            revision,
            changes: vec![
                Change::Put(found("a", "old", revision)),
                Change::Put(found("b", "1", revision)),
            ],
        };
        keys.change(old(7));
        assert_eq!(told(&keys), [("a", "new")]);
        keys.change(old(8));
        keys.change(Changes {
            revision: 9,
            changes: vec![Change::Delete("a".into()), Change::Delete("none".into())],
        });
        assert_eq!((told(&keys), keys.revision), (vec![("b", "1")], 9));
    }
}
