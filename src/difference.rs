//! Where two lists differ that are mostly the same: so a change costs what has changed, and not what there is.

use std::ops::Range;
use std::sync::Arc;

/// The parts of an old and a new list between what both begin with and what both end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What of the old list is not in the new one, with what lies between.
    pub old: Range<usize>,
    /// What of the new list was not in the old one, with what lies between.
    pub new: Range<usize>,
}

impl Difference {
    /// Compares by identity: the same is the same allocation.
    pub fn new<T: ?Sized>(old: &[Arc<T>], new: &[Arc<T>]) -> Self {
        let same = |(a, b): &(&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b);
        let head = old.iter().zip(new).take_while(same).count();
        let rest = old[head..].iter().rev().zip(new[head..].iter().rev());
        let tail = rest.take_while(same).count();
        Self {
            old: head..old.len() - tail,
            new: head..new.len() - tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_looked_at() {
        let [a, b, c, d]: [Arc<str>; 4] = ["a", "b", "c", "d"].map(Arc::from);
        let list = |items: &[&Arc<str>]| items.iter().copied().cloned().collect::<Vec<_>>();
        for (old, new, ranges) in [
            (list(&[&a, &b]), list(&[&a, &b]), (2..2, 2..2)),
            (list(&[]), list(&[&a, &b]), (0..0, 0..2)),
            (list(&[&a, &b, &c]), list(&[&a, &c]), (1..2, 1..1)),
            (list(&[&a, &b, &c]), list(&[&a, &d, &c]), (1..2, 1..2)),
            (list(&[&a, &b, &c]), list(&[&b, &c, &d]), (0..3, 0..3)),
            // What is there twice is counted once.
            (list(&[&a, &a]), list(&[&a]), (1..2, 1..1)),
        ] {
            let (old, new) = (Difference::new(&old, &new), ranges);
            assert_eq!((old.old, old.new), new);
        }
        let copy: Arc<str> = "a".into();
        let difference = Difference::new(&list(&[&a]), &list(&[&copy]));
        assert_eq!((difference.old, difference.new), (0..1, 0..1));
    }
}
