//! All containers of the host at one moment: the feed publishes such snapshots, and commands make one of saved
//! containers.

use std::sync::Arc;

use tokio::sync::watch;

use super::unreadable::Unreadable;
use crate::base::by_age::ByAge;
use crate::container::Container;

/// The containers of one host at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// A container that has not changed is the same allocation as in the snapshot before.
    pub containers: ByAge<Container>,
    /// Containers that are listed, but could not be inspected.
    pub unreadable: Vec<Arc<Unreadable>>,
    /// Ids, short ids and names of the running containers that do not pass the filters; none while they are unknown.
    pub outside: Option<Arc<[String]>>,
}

/// Receives each new snapshot; holds none before the first.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

impl Snapshot {
    /// A host with these containers, all of which are readable, and with none outside the filters.
    pub fn of(containers: ByAge<Container>) -> Self {
        Self {
            containers,
            unreadable: Vec::new(),
            outside: Some(Arc::default()),
        }
    }
}
