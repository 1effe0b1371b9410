//! The containers that were inspected, and the snapshots made of them.
//!
//! A container in the network of another (`--network container:ID`), a guest, has the ports of that one. So a guest is
//! shown joined with the owner of its network, which is known too even if it does not pass the filters.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bollard::models::ContainerSummary;

use super::snapshot::Snapshot;
use super::unreadable::{Retries, Unreadable};
use crate::base::by_age::{ByAge, Ranked as _};
use crate::container::{Container, Inspect, find};

/// How many inspect objects may wait to be packed. Each takes tens of kilobytes until then.
const MOST_UNPACKED: usize = 16;

/// The containers that were inspected and are not gone.
#[derive(Default)]
pub struct Known {
    /// By id.
    containers: HashMap<Arc<str>, Inspected>,
    /// The listed ones, for snapshots. Guests are up to date only after [`Known::snapshot`].
    by_age: ByAge<Container>,
    /// The ids of the listed ones that are guests.
    guests: HashSet<Arc<str>>,
    /// The guests as the last snapshot has them.
    joined: HashMap<Arc<str>, Joined>,
    unpacked: VecDeque<Inspect>,
}

struct Inspected {
    container: Arc<Container>,
    /// False for the owner of a guest's network that does not pass the filters itself.
    listed: bool,
}

/// A guest with the ports of its network's owner, and the two that it was made of.
struct Joined {
    guest: Arc<Container>,
    owner: Arc<Container>,
    whole: Arc<Container>,
}

impl Known {
    pub fn get(&self, id: &str) -> Option<&Arc<Container>> {
        self.containers.get(id).map(|known| &known.container)
    }

    pub fn is_listed(&self, id: &str) -> bool {
        self.containers.get(id).is_some_and(|known| known.listed)
    }

    /// Finds a container by its id, the beginning of its id, or its name.
    pub fn find(&self, reference: &str) -> Option<&Arc<Container>> {
        let all = self.containers.values().map(|known| &known.container);
        self.get(reference).or_else(|| find(all, reference))
    }

    /// Whether a list entry agrees with the container as it is known, so that it need not be inspected.
    pub fn is_listed_as(&self, id: &str, summary: &ContainerSummary) -> bool {
        self.containers.get(id).is_some_and(|known| {
            let owner = known.container.network_owner();
            known.listed
                && known.container.is_listed_as(summary)
                && owner.is_none_or(|owner| self.find(owner).is_some())
        })
    }

    /// Whether a known container is a guest of this one.
    pub fn uses_network_of(&self, container: &Container) -> bool {
        let mut all = self.containers.values();
        all.any(|known| {
            let owner = known.container.network_owner();
            owner.is_some_and(|owner| container.is_called(owner))
        })
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.containers.keys().map(|id| &**id)
    }

    pub fn is_unpacked(&self) -> bool {
        !self.unpacked.is_empty()
    }

    /// Packs the newest inspect objects, which saves memory and takes time.
    pub fn pack(&mut self) {
        for inspect in self.unpacked.drain(..) {
            inspect.pack();
        }
    }

    /// Takes a container. Returns whether it differs from the one that is known.
    pub fn learn(&mut self, container: Container, listed: bool) -> bool {
        if let Some(known) = self.containers.get(&container.id)
            && *known.container == container
            && known.listed == listed
        {
            return false;
        }
        // Its rank never changes; but if Docker said so, it would be in the order twice.
        self.forget(&container.id);
        self.unpacked.push_back(container.inspect.clone());
        if self.unpacked.len() > MOST_UNPACKED
            && let Some(oldest) = self.unpacked.pop_front()
        {
            oldest.pack();
        }
        self.insert(Arc::new(container), listed);
        true
    }

    /// Returns whether the container was known.
    pub fn forget(&mut self, id: &str) -> bool {
        let Some(known) = self.containers.remove(id) else {
            return false;
        };
        self.by_age.remove(&known.container.rank());
        self.guests.remove(id);
        true
    }

    /// Marks a container as stopping. Returns whether it is known and was not yet.
    pub fn begin_to_stop(&mut self, id: &str) -> bool {
        match self.containers.get(id) {
            Some(known) if !known.container.stopping => {
                let container = Container {
                    stopping: true,
                    ..(*known.container).clone()
                };
                let listed = known.listed;
                self.insert(Arc::new(container), listed);
                true
            }
            _ => false,
        }
    }

    /// The listed containers, and the unreadable ones that were never inspected.
    pub fn snapshot(&mut self, retries: &Retries, outside: Option<Arc<[String]>>) -> Snapshot {
        let mut unreadable: Vec<Arc<Unreadable>> = retries
            .iter()
            .filter(|unreadable| self.get(&unreadable.id).is_none())
            .cloned()
            .collect();
        let mut before = std::mem::take(&mut self.joined);
        let guests = self.guests.iter().filter_map(|id| self.get(id));
        for guest in guests.cloned().collect::<Vec<_>>() {
            let before = before.remove(&guest.id);
            if let Some(shown) = self.join(&guest, before, retries) {
                self.by_age.insert(shown);
            } else {
                unreadable.push(Arc::new(Unreadable::known(&guest)));
                self.by_age.remove(&guest.rank());
            }
        }
        Snapshot {
            containers: self.by_age.clone(),
            unreadable,
            outside,
        }
    }

    /// A guest as a snapshot has it, given its state in the snapshot `before`. None if the owner is unreadable and
    /// always was: ports that are not known are not the same as none.
    fn join(
        &mut self,
        guest: &Arc<Container>,
        before: Option<Joined>,
        retries: &Retries,
    ) -> Option<Arc<Container>> {
        let owner_name = guest.network_owner().unwrap_or_default();
        let joined = match (self.find(owner_name), before) {
            (Some(owner), Some(before))
                if Arc::ptr_eq(&before.guest, guest) && Arc::ptr_eq(&before.owner, owner) =>
            {
                before
            }
            (Some(owner), _) => Joined {
                guest: Arc::clone(guest),
                owner: Arc::clone(owner),
                whole: Arc::new(guest.in_network_of(owner)),
            },
            (None, before) if retries.iter().any(|it| it.is_called(owner_name)) => before?,
            (None, _) => return Some(Arc::clone(guest)),
        };
        let whole = Arc::clone(&joined.whole);
        self.joined.insert(Arc::clone(&guest.id), joined);
        Some(whole)
    }

    fn insert(&mut self, container: Arc<Container>, listed: bool) {
        let id = Arc::clone(&container.id);
        if listed {
            if container.network_owner().is_some() {
                self.guests.insert(Arc::clone(&id));
            } else {
                self.by_age.insert(Arc::clone(&container));
            }
        }
        self.containers.insert(id, Inspected { container, listed });
    }
}
