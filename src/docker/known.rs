//! The containers that were inspected, and the snapshots made of them.
//!
//! Containers that share a network (`--network container:ID`) are shown with the ports that belong to each. The owner of
//! a network is known too if it does not pass the filters.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::snapshot::Snapshot;
use super::unreadable::{Retries, Unreadable};
use crate::base::by_age::{ByAge, Ranked as _};
use crate::container::{Chain, Container, Guest, Inspect, Listed, SharedNetwork, find};

/// How many inspect objects may wait to be packed. Each takes tens of kilobytes until then.
const MOST_UNPACKED: usize = 16;

/// The containers that were inspected and are not gone.
#[derive(Default)]
pub struct Known {
    /// By id.
    containers: HashMap<Arc<str>, Inspected>,
    /// The listed ones, for snapshots. Those that share a network are up to date only after [`Known::snapshot`].
    by_age: ByAge<Container>,
    /// The ids of the listed ones that are guests.
    guests: HashSet<Arc<str>>,
    /// The shared networks as the last snapshot has them, by the owner's id.
    shared: HashMap<Arc<str>, SharedNetwork>,
    unpacked: VecDeque<Inspect>,
}

struct Inspected {
    container: Arc<Container>,
    /// False for the owner of a guest's network that does not pass the filters itself.
    listed: bool,
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
    pub fn is_listed_as(&self, id: &str, summary: &Listed) -> bool {
        self.containers.get(id).is_some_and(|known| {
            let owner = known.container.network_reference();
            known.listed
                && known.container.is_listed_as(summary)
                && owner.is_none_or(|owner| self.find(owner).is_some())
        })
    }

    /// Whether a known container is a guest of this one.
    pub fn uses_network_of(&self, container: &Container) -> bool {
        let mut all = self.containers.values();
        all.any(|known| {
            let owner = known.container.network_reference();
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
        let mut before = std::mem::take(&mut self.shared);
        for (owner, guests) in self.find_guests(&before, retries, &mut unreadable) {
            let known = before.remove(&owner.id);
            let network = known
                .filter(|known| known.is_of(&owner, &guests))
                .unwrap_or_else(|| SharedNetwork::new(Arc::clone(&owner), guests));
            for container in network.shown() {
                if self.is_listed(&container.id) {
                    self.by_age.insert(Arc::clone(container));
                }
            }
            self.shared.insert(Arc::clone(&owner.id), network);
        }
        // The owners of networks that have no guests any more.
        for id in before.into_keys() {
            if let Some(Inspected { container, listed }) = self.containers.get(&id)
                && *listed
                && container.network_reference().is_none()
            {
                self.by_age.insert(Arc::clone(container));
            }
        }
        Snapshot {
            containers: self.by_age.clone(),
            unreadable,
            outside,
        }
    }

    /// The owner of each shared network, with its listed guests, the oldest first. A guest whose chain ends at an
    /// unreadable container is shown as in the snapshot `before`, or is unreadable too: ports that are not known are
    /// not the same as none.
    fn find_guests(
        &mut self,
        before: &HashMap<Arc<str>, SharedNetwork>,
        retries: &Retries,
        unreadable: &mut Vec<Arc<Unreadable>>,
    ) -> Vec<(Arc<Container>, Vec<Guest>)> {
        let mut networks: BTreeMap<Arc<str>, (Arc<Container>, Vec<Guest>)> = BTreeMap::new();
        let guests = self.guests.iter().filter_map(|id| self.get(id));
        let guests: BTreeMap<_, _> = guests.map(|it| (it.rank(), Arc::clone(it))).collect();
        for (rank, container) in guests {
            let shown = match Chain::follow(&container, |reference| self.find(reference)) {
                Chain::Owner { owner, cut_off } => {
                    let network = networks.entry(Arc::clone(&owner.id));
                    let (_, guests) = network.or_insert_with(|| (Arc::clone(owner), Vec::new()));
                    guests.push(Guest { container, cut_off });
                    continue;
                }
                Chain::Missing(reference) if retries.iter().any(|it| it.is_called(reference)) => {
                    let mut shown = before.values().flat_map(SharedNetwork::shown);
                    shown.find(|shown| shown.id == container.id).cloned()
                }
                Chain::Missing(_) => Some(Arc::clone(&container)),
            };
            if let Some(shown) = shown {
                self.by_age.insert(shown);
            } else {
                unreadable.push(Arc::new(Unreadable::known(&container)));
                self.by_age.remove(&rank);
            }
        }
        networks.into_values().collect()
    }

    fn insert(&mut self, container: Arc<Container>, listed: bool) {
        let id = Arc::clone(&container.id);
        if listed {
            if container.network_reference().is_some() {
                self.guests.insert(Arc::clone(&id));
            } else {
                self.by_age.insert(Arc::clone(&container));
            }
        }
        self.containers.insert(id, Inspected { container, listed });
    }
}
