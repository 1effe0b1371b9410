//! What the containers of a host ask for.

use std::fmt;
use std::sync::Arc;

use super::Entry;
use crate::base::by_age::{ByAge, Rank, Ranked};
use crate::base::text::quote;
use crate::container::Container;

/// Names a container in messages, and tells two of one name apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The whole id.
    pub id: Arc<str>,
    /// The name, for people.
    pub name: Arc<str>,
}

/// What one container asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The container.
    pub who: Who,
    /// Its age: of two that claim one key, the one that sorts first keeps it.
    pub age: Arc<str>,
    /// Its entries.
    pub entries: Arc<[Entry]>,
}

/// All that should exist.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// What each container asks for. A claim that is the same allocation as before has not changed.
    pub claims: ByAge<Claim>,
    /// What tells the keys of the containers whose entries are not known, because their policy failed or Docker could
    /// not show them: ids, names, addresses. A held key that no container has claimed since the start, and that has
    /// one of these in it or in its value, may be such a container's, and is left alone.
    pub protected: Vec<String>,
    /// All containers that run, also those that ask for nothing.
    pub running: ByAge<Container>,
    /// The ids and names of those that run and do not pass the filters; none while they are not known.
    pub outside: Option<Arc<[String]>>,
}

impl Ranked for Claim {
    fn rank(&self) -> Rank {
        Rank {
            age: Arc::clone(&self.age),
            id: Arc::clone(&self.who.id),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quote(&self.name))
    }
}
