//! What is known of each container, and the snapshots that are made of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bollard::models::ContainerSummary;

use super::Snapshot;
use super::unreadable::{Unreadable, Waiting};
use crate::base::by_age::{ByAge, Ranked as _};
use crate::container::{Container, Inspect, find};

/// How many inspect objects may wait to be packed: they take tens of kilobytes each.
const MOST_UNPACKED: usize = 16;

/// The containers that Docker has shown.
#[derive(Default)]
pub struct Known {
    /// By id.
    containers: HashMap<Arc<str>, Shown>,
    /// What a snapshot shows. Those that use another one's network are put in order when it is made.
    roll: ByAge<Container>,
    /// The listed ones that use another one's network.
    guests: HashSet<Arc<str>>,
    /// Those, as they were last put together: themselves, the other, and both.
    joined: HashMap<Arc<str>, [Arc<Container>; 3]>,
    /// The inspect objects that still wait to be packed.
    unpacked: VecDeque<Inspect>,
}

struct Shown {
    container: Arc<Container>,
    /// False for one that is only inspected because another uses its network.
    listed: bool,
}

impl Known {
    /// The container with that id.
    pub fn get(&self, id: &str) -> Option<&Arc<Container>> {
        self.containers.get(id).map(|shown| &shown.container)
    }

    /// Whether a container is known as one that is listed.
    pub fn is_listed(&self, id: &str) -> bool {
        self.containers.get(id).is_some_and(|shown| shown.listed)
    }

    /// The container with that id, beginning of an id, or name.
    pub fn find(&self, reference: &str) -> Option<&Arc<Container>> {
        let all = self.containers.values().map(|shown| &shown.container);
        self.get(reference).or_else(|| find(all, reference))
    }

    /// Whether a list shows a container as it is known, and as one that is listed, and nothing is missing that it needs.
    pub fn is_listed_as(&self, id: &str, summary: &ContainerSummary) -> bool {
        self.containers.get(id).is_some_and(|shown| {
            let owner = shown.container.network_owner();
            shown.listed
                && shown.container.is_listed_as(summary)
                && owner.is_none_or(|owner| self.find(owner).is_some())
        })
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
        self.containers.keys().map(|id| &**id)
    }

    /// Whether there is anything to pack.
    pub fn is_unpacked(&self) -> bool {
        !self.unpacked.is_empty()
    }

    /// Makes what was taken over lately take less memory, which takes time.
    pub fn pack(&mut self) {
        for inspect in self.unpacked.drain(..) {
            inspect.pack();
        }
    }

    /// Takes over a container. Returns whether anything of it is new.
    pub fn learn(&mut self, container: Container, listed: bool) -> bool {
        if let Some(shown) = self.containers.get(&container.id)
            && *shown.container == container
            && shown.listed == listed
        {
            return false;
        }
        // Its place in the order does not change; but if Docker said otherwise, it would be there twice.
        self.forget(&container.id);
        self.unpacked.push_back(container.inspect.clone());
        if self.unpacked.len() > MOST_UNPACKED
            && let Some(oldest) = self.unpacked.pop_front()
        {
            oldest.pack();
        }
        self.show(Arc::new(container), listed);
        true
    }

    /// Forgets a container. Returns whether it was known.
    pub fn forget(&mut self, id: &str) -> bool {
        let Some(shown) = self.containers.remove(id) else {
            return false;
        };
        self.roll.remove(&shown.container.rank());
        self.guests.remove(id);
        true
    }

    /// Takes note that a container is about to end. Returns whether that is new.
    pub fn begin_to_stop(&mut self, id: &str) -> bool {
        match self.containers.get(id) {
            Some(shown) if !shown.container.stopping => {
                let container = Container {
                    stopping: true,
                    ..(*shown.container).clone()
                };
                let listed = shown.listed;
                self.show(Arc::new(container), listed);
                true
            }
            _ => false,
        }
    }

    /// All listed containers, but for those of the unreadable ones that have never been shown.
    pub fn snapshot(&mut self, unreadable: &Waiting, outside: Option<Arc<[String]>>) -> Snapshot {
        let mut joined = HashMap::new();
        let mut hidden: Vec<Arc<Unreadable>> = unreadable
            .iter()
            .filter(|unreadable| !self.containers.contains_key(unreadable.id.as_str()))
            .cloned()
            .collect();
        let guests = self.guests.iter().filter_map(|id| self.get(id));
        for container in guests.cloned().collect::<Vec<_>>() {
            let id = &container.id;
            let before = self.joined.remove(id);
            let owner_name = container.network_owner().unwrap_or_default();
            let whole = match (self.find(owner_name), before) {
                (Some(owner), Some([own, other, whole]))
                    if Arc::ptr_eq(&own, &container) && Arc::ptr_eq(&other, owner) =>
                {
                    joined.insert(Arc::clone(id), [own, other, Arc::clone(&whole)]);
                    Some(whole)
                }
                (Some(owner), _) => {
                    let whole = Arc::new(container.in_network_of(owner));
                    let parts = [
                        Arc::clone(&container),
                        Arc::clone(owner),
                        Arc::clone(&whole),
                    ];
                    joined.insert(Arc::clone(id), parts);
                    Some(whole)
                }
                // Its ports are not known now, which is not the same as none.
                (None, before)
                    if unreadable
                        .iter()
                        .any(|unreadable| unreadable.is_called(owner_name)) =>
                {
                    let whole = before.as_ref().map(|[.., whole]| Arc::clone(whole));
                    joined.extend(before.map(|before| (Arc::clone(id), before)));
                    whole
                }
                (None, _) => Some(Arc::clone(&container)),
            };
            if let Some(whole) = whole {
                self.roll.insert(whole);
            } else {
                hidden.push(Arc::new(Unreadable::shown(&container)));
                self.roll.remove(&container.rank());
            }
        }
        self.joined = joined;
        Snapshot {
            containers: self.roll.clone(),
            unreadable: hidden,
            outside,
        }
    }

    fn show(&mut self, container: Arc<Container>, listed: bool) {
        let id = Arc::clone(&container.id);
        if listed {
            if container.network_owner().is_some() {
                self.guests.insert(Arc::clone(&id));
            } else {
                self.roll.insert(Arc::clone(&container));
            }
        }
        self.containers.insert(id, Shown { container, listed });
    }
}
