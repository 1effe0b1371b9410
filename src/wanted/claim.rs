//! The claims of a host's containers: the entries that the policy asks for.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::Entry;
use crate::base::by_age::{ByAge, Rank, Ranked};
use crate::base::text::quote;
use crate::container::Container;

/// Names a container in messages, and tells two of one name apart. The host itself has a name too, for its entries
/// without a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName {
    /// The full id.
    pub id: Arc<str>,
    /// The name, for people.
    pub name: Arc<str>,
}

impl ContainerName {
    /// The name of the host. No container has one with parentheses.
    pub fn host() -> Self {
        Self {
            id: "".into(),
            name: "(host)".into(),
        }
    }

    pub fn is_host(&self) -> bool {
        self.id.is_empty()
    }
}

/// The entries of one container, or those of the host.
#[derive(Debug, Clone)]
pub struct Claim {
    pub who: ContainerName,
    /// The container's age. If two containers claim one key, the one whose age sorts first keeps it.
    pub age: Arc<str>,
    pub entries: Arc<[Entry]>,
    /// The entries whose check has no verdict yet: a key in the store stays, and no other is put.
    pub unproven: Arc<[Entry]>,
}

/// The wanted state of a host.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// One for each container, and one for the host if it has entries. A claim in the same allocation as before has not changed.
    pub claims: ByAge<Claim>,
    /// Ids, names and addresses of the containers whose entries are not known, because the policy failed for them or
    /// Docker could not show them. A held key that no container has claimed since the start is left alone if one of
    /// these is in the key or its value, because it may belong to such a container.
    pub protected: Vec<String>,
    /// Whether the host's own entries are not known, because the policy failed for them. Then a held key that nobody has
    /// claimed since the start may be one of them.
    pub host_is_unknown: bool,
    /// All running containers, including those without entries.
    pub running: ByAge<Container>,
    /// The ids and names of running containers that do not pass the filters; none while they are not known.
    pub outside: Option<Arc<[String]>>,
}

/// Receives each new wanted state; holds none before the first.
pub type WantedReceiver = watch::Receiver<Option<Arc<Wanted>>>;

impl Ranked for Claim {
    fn rank(&self) -> Rank {
        Rank {
            age: Arc::clone(&self.age),
            id: Arc::clone(&self.who.id),
        }
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quote(&self.name))
    }
}
