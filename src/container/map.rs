//! A read-only map in one allocation. Each container's labels and environment are kept for long, and a tree would keep
//! spare room in each.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Values by name, in order of name. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map<V>(Arc<[(Box<str>, V)]>);

impl<V> Map<V> {
    pub fn get(&self, name: &str) -> Option<&V> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(name));
        Some(&self.0[place.ok()?].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

/// Of two values with one name, the later one is kept.
impl<V> FromIterator<(String, V)> for Map<V> {
    fn from_iter<T: IntoIterator<Item = (String, V)>>(pairs: T) -> Self {
        let sorted: BTreeMap<String, V> = pairs.into_iter().collect();
        let pairs = sorted.into_iter();
        Self(pairs.map(|(name, value)| (name.into(), value)).collect())
    }
}
