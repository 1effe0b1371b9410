//! Rolls: what there is of each container, the oldest container first. To keep one costs what changes: a copy shares all
//! with its original but what is changed later, and two are compared by looking at what they do not share.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// An age and an id, by which containers are in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// The age, in a form that sorts older containers first.
    pub age: Arc<str>,
    /// The whole id.
    pub id: Arc<str>,
}

/// What belongs to one container.
pub trait Ranked {
    /// The container's place in the order.
    fn rank(&self) -> Rank;
}

/// One of each container.
pub struct ByAge<T>(OrdMap<Rank, Same<T>>);

/// What differs between two rolls at one place.
#[derive(Debug)]
pub struct Change<T> {
    /// The place.
    pub rank: Rank,
    /// What is there in the newer roll.
    pub new: Option<Arc<T>>,
}

/// Compared by identity: the same is the same allocation.
struct Same<T>(Arc<T>);

impl<T: Ranked> ByAge<T> {
    /// Takes something in, in place of what there was of the same container.
    pub fn insert(&mut self, item: Arc<T>) {
        let rank = item.rank();
        // What is the same stays shared.
        if self
            .get(&rank)
            .is_none_or(|known| !Arc::ptr_eq(known, &item))
        {
            self.0.insert(rank, Same(item));
        }
    }
}

impl<T> ByAge<T> {
    /// What there is at a place.
    pub fn get(&self, rank: &Rank) -> Option<&Arc<T>> {
        self.0.get(rank).map(|item| &item.0)
    }

    /// Takes out what there is at a place.
    pub fn remove(&mut self, rank: &Rank) {
        self.0.remove(rank);
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().map(|item| &item.0)
    }

    /// What differs in a newer roll, the oldest first.
    pub fn changes(&self, newer: &Self) -> Vec<Change<T>> {
        let change = |item| {
            let (rank, new): (&Rank, Option<&Same<T>>) = match item {
                DiffItem::Add(rank, new) => (rank, Some(new)),
                DiffItem::Update { new, .. } => (new.0, Some(new.1)),
                DiffItem::Remove(rank, _) => (rank, None),
            };
            Change {
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

/// Of two of one container, the latter stands.
impl<T: Ranked> FromIterator<Arc<T>> for ByAge<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        let mut roll = Self::default();
        items.into_iter().for_each(|item| roll.insert(item));
        roll
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

    fn ids(roll: &ByAge<&'static str>) -> Vec<&'static str> {
        roll.iter()
            .map(|item| item.split_once(' ').expect("an id").1)
            .collect()
    }

    #[test]
    fn the_oldest_is_first_and_an_id_decides_between_two_of_one_age() {
        let roll: ByAge<_> = ["2 a", "1 b", "1 c", "1 b"]
            .map(Arc::new)
            .into_iter()
            .collect();
        assert_eq!(ids(&roll), ["b", "c", "a"]);
    }

    #[test]
    fn only_what_differs_is_told() {
        let items: Vec<Arc<&str>> = ["1 a", "2 b", "3 c"].map(Arc::new).into();
        let roll: ByAge<_> = items.iter().cloned().collect();
        let mut newer = roll.clone();
        newer.insert(Arc::clone(&items[0]));
        assert!(roll.changes(&newer).is_empty());
        // The same text in another allocation is another one.
        newer.insert(Arc::new("2 b"));
        newer.remove(&items[2].rank());
        newer.insert(Arc::new("4 d"));
        let changes = roll.changes(&newer);
        let changes: Vec<_> = changes
            .iter()
            .map(|change| (&*change.rank.id, change.new.is_some()))
            .collect();
        assert_eq!(changes, [("b", true), ("c", false), ("d", true)]);
        assert_eq!(ids(&roll), ["a", "b", "c"]);
    }
}
