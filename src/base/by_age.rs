//! A collection with one item for each container, the oldest container first. It holds snapshots and their results,
//! because its costs grow with the changes and not with the number of containers: a copy shares every unchanged part
//! with its original, and a comparison of two skips the shared parts.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// The order of containers: by age, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// In a form that sorts older containers first.
    pub age: Arc<str>,
    pub id: Arc<str>,
}

/// An item that belongs to one container.
pub trait Ranked {
    fn rank(&self) -> Rank;
}

/// At most one item for each container.
pub struct ByAge<T>(OrdMap<Rank, Same<T>>);

/// A difference between two collections at one rank.
#[derive(Debug)]
pub struct Changed<T> {
    pub rank: Rank,
    /// The item in the newer collection, if it has one.
    pub new: Option<Arc<T>>,
}

/// Compared by identity: equal means the same allocation.
struct Same<T>(Arc<T>);

impl<T: Ranked> ByAge<T> {
    /// Replaces the item of the same container, if there is one.
    pub fn insert(&mut self, item: Arc<T>) {
        let rank = item.rank();
        // An insertion would end the sharing, even of the same item.
        if self
            .get(&rank)
            .is_none_or(|known| !Arc::ptr_eq(known, &item))
        {
            self.0.insert(rank, Same(item));
        }
    }
}

impl<T> ByAge<T> {
    pub fn get(&self, rank: &Rank) -> Option<&Arc<T>> {
        self.0.get(rank).map(|item| &item.0)
    }

    pub fn remove(&mut self, rank: &Rank) {
        self.0.remove(rank);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().map(|item| &item.0)
    }

    /// The differences of a newer collection, the oldest first.
    pub fn changes(&self, newer: &Self) -> Vec<Changed<T>> {
        let change = |item| {
            let (rank, new): (&Rank, Option<&Same<T>>) = match item {
                DiffItem::Add(rank, new) => (rank, Some(new)),
                DiffItem::Update { new, .. } => (new.0, Some(new.1)),
                DiffItem::Remove(rank, _) => (rank, None),
            };
            Changed {
                rank: rank.clone(),
                new: new.map(|item| Arc::clone(&item.0)),
            }
        };
        self.0.diff(&newer.0).map(change).collect()
    }
}

impl<T> Clone for ByAge<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for ByAge<T> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<T: fmt::Debug> fmt::Debug for ByAge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Of two items for one container, the later one is kept.
impl<T: Ranked> FromIterator<Arc<T>> for ByAge<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        let mut all = Self::default();
        items.into_iter().for_each(|item| all.insert(item));
        all
    }
}

impl<T> Clone for Same<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ranked for &'static str {
        fn rank(&self) -> Rank {
            let (age, id) = self.split_once(' ').expect("an age and an id");
            Rank {
                age: age.into(),
                id: id.into(),
            }
        }
    }

    fn ids(items: &ByAge<&'static str>) -> Vec<&'static str> {
        items
            .iter()
            .map(|item| item.split_once(' ').expect("an id").1)
            .collect()
    }

    #[test]
    fn the_oldest_is_first_and_the_id_decides_if_ages_are_equal() {
        let all: ByAge<_> = ["2 a", "1 b", "1 c", "1 b"]
            .map(Arc::new)
            .into_iter()
            .collect();
        assert_eq!(ids(&all), ["b", "c", "a"]);
    }

    #[test]
    fn only_differences_are_returned() {
        let items: Vec<Arc<&str>> = ["1 a", "2 b", "3 c"].map(Arc::new).into();
        let older: ByAge<_> = items.iter().cloned().collect();
        let mut newer = older.clone();
        newer.insert(Arc::clone(&items[0]));
        assert!(older.changes(&newer).is_empty());
        // An equal item in another allocation counts as a change.
        newer.insert(Arc::new("2 b"));
        newer.remove(&items[2].rank());
        newer.insert(Arc::new("4 d"));
        let changes = older.changes(&newer);
        let changes: Vec<_> = changes
            .iter()
            .map(|change| (&*change.rank.id, change.new.is_some()))
            .collect();
        assert_eq!(changes, [("b", true), ("c", false), ("d", true)]);
        assert_eq!(ids(&older), ["a", "b", "c"]);
    }
}
