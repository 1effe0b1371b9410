//! What is known of each container, in order of age, and the snapshots that are made of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Snapshot;
use crate::container::{Container, find};

/// The containers that Docker has shown.
#[derive(Default)]
pub struct Known {
    /// By age, then id: the oldest first, so that no snapshot has to be sorted.
    containers: BTreeMap<Rank, Shown>,
    /// The age of each, by id.
    ages: HashMap<Arc<str>, Arc<str>>,
    /// Containers in another one's network, as they were last put together: themselves, the other, and both.
    joined: HashMap<Arc<str>, [Arc<Container>; 3]>,
}

/// An age and an id.
type Rank = (Arc<str>, Arc<str>);

struct Shown {
    container: Arc<Container>,
    /// False for one that is only inspected because another uses its network.
    listed: bool,
    /// Whether it uses another one's network. It stands here too, so that a snapshot need not look into each container.
    joins: bool,
}

impl Known {
    /// The container with that id.
    pub fn get(&self, id: &str) -> Option<&Arc<Container>> {
        let (id, age) = self.ages.get_key_value(id)?;
        let shown = self.containers.get(&(Arc::clone(age), Arc::clone(id)))?;
        Some(&shown.container)
    }

    /// The container with that id, beginning of an id, or name.
    pub fn find(&self, reference: &str) -> Option<&Arc<Container>> {
        let all = self.containers.values().map(|shown| &shown.container);
        self.get(reference).or_else(|| find(all, reference))
    }

    /// Whether a container is the one whose network another one uses.
    pub fn uses_network_of(&self, container: &Container) -> bool {
        let mut shown = self.containers.values();
        shown.any(|shown| {
            let owner = shown.container.network_owner();
            owner.is_some_and(|owner| container.is_called(owner))
        })
    }

    /// The ids of all.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ages.keys().map(|id| &**id)
    }

    /// Takes over a container. Returns whether anything of it is new.
    pub fn learn(&mut self, container: Container, listed: bool) -> bool {
        let rank = (Arc::clone(&container.age), Arc::clone(&container.id));
        if let Some(shown) = self.containers.get(&rank)
            && *shown.container == container
            && shown.listed == listed
        {
            return false;
        }
        // Its age does not change; but if Docker said otherwise, it would be there twice.
        self.forget(&container.id);
        self.ages.insert(Arc::clone(&rank.1), Arc::clone(&rank.0));
        let shown = Shown {
            joins: container.network_owner().is_some(),
            container: Arc::new(container),
            listed,
        };
        self.containers.insert(rank, shown);
        true
    }

    /// Forgets a container. Returns whether it was known.
    pub fn forget(&mut self, id: &str) -> bool {
        let Some((id, age)) = self.ages.remove_entry(id) else {
            return false;
        };
        self.containers.remove(&(age, id)).is_some()
    }

    /// Forgets all listed containers but these.
    pub fn keep_listed(&mut self, is_listed: impl Fn(&str) -> bool) {
        let ages = &mut self.ages;
        self.containers.retain(|(_, id), shown| {
            let stays = !shown.listed || is_listed(id);
            if !stays {
                ages.remove(id);
            }
            stays
        });
    }

    /// Takes note that a container is about to end. Returns whether that is new.
    pub fn begin_to_stop(&mut self, container: &Container) -> bool {
        let rank = (Arc::clone(&container.age), Arc::clone(&container.id));
        match self.containers.get_mut(&rank) {
            Some(shown) if !shown.container.stopping => {
                shown.container = Arc::new(Container {
                    stopping: true,
                    ..(*shown.container).clone()
                });
                true
            }
            _ => false,
        }
    }

    /// All listed containers, but for those of the `unreadable` ones that have never been shown.
    pub fn snapshot(&mut self, unreadable: &BTreeMap<String, bool>) -> Snapshot {
        let mut containers = Vec::with_capacity(self.containers.len());
        let mut joined = HashMap::new();
        let mut hidden: Vec<String> = unreadable
            .keys()
            .filter(|id| !self.ages.contains_key(id.as_str()))
            .cloned()
            .collect();
        for shown in self.containers.values().filter(|shown| shown.listed) {
            let container = &shown.container;
            let Some(owner_name) = shown.joins.then(|| container.network_owner()).flatten() else {
                containers.push(Arc::clone(container));
                continue;
            };
            let before = self.joined.get(&container.id);
            let Some(owner) = self.find(owner_name) else {
                if unreadable.keys().any(|id| id.starts_with(owner_name)) {
                    // Its ports are not known now, which is not the same as none.
                    match before {
                        Some(before) => {
                            containers.push(Arc::clone(&before[2]));
                            joined.insert(Arc::clone(&container.id), before.clone());
                        }
                        None => hidden.push(container.id.to_string()),
                    }
                } else {
                    containers.push(Arc::clone(container));
                }
                continue;
            };
            let whole = match before {
                Some([own, other, whole])
                    if Arc::ptr_eq(own, container) && Arc::ptr_eq(other, owner) =>
                {
                    Arc::clone(whole)
                }
                _ => Arc::new(container.in_network_of(owner)),
            };
            containers.push(Arc::clone(&whole));
            joined.insert(
                Arc::clone(&container.id),
                [Arc::clone(container), Arc::clone(owner), whole],
            );
        }
        self.joined = joined;
        Snapshot {
            containers: containers.into(),
            unreadable: hidden,
        }
    }
}
