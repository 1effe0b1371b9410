//! The containers of this host, as far as Docker has told of them, and which of them need another inspection.
//!
//! It outlives the connections to Docker and calls nobody: a session feeds it with lists, events and inspections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::client::{Filters, Inspection};
use super::events::Event;
use super::known::Known;
use super::outside::Outside;
use super::snapshot::Snapshot;
use super::stopping::Stopping;
use super::unreadable::Retries;
use crate::base::text::quote;
use crate::container::{Container, Listed};

/// The pause before another look at a container whose state is none of Docker's.
const UNSETTLED_PAUSE: Duration = Duration::from_secs(2);

pub struct Host {
    known: Known,
    stopping: Stopping,
    retries: Retries,
    /// The containers to inspect: ids, or names by which others refer to them.
    dirty: BTreeSet<String>,
    /// The network owners that were asked for since the last list. One that does not exist is asked for once.
    owners_asked: BTreeSet<String>,
    is_rootless: bool,
    /// When to look again at containers whose state was none of Docker's, by id.
    unsettled: BTreeMap<String, Instant>,
    /// As [`Snapshot::outside`].
    outside: Option<Arc<[String]>>,
    /// Whether the next snapshot differs from the last one.
    changed: bool,
}

impl Host {
    /// An empty host. Without filters, nothing is outside them.
    pub fn new(filters: &Filters) -> Self {
        Self {
            known: Known::default(),
            stopping: Stopping::default(),
            retries: Retries::default(),
            dirty: BTreeSet::new(),
            owners_asked: BTreeSet::new(),
            is_rootless: false,
            unsettled: BTreeMap::new(),
            outside: filters.is_empty().then(Arc::default),
            changed: false,
        }
    }

    /// Takes a list, and marks the containers that need an inspection. Returns the listed containers that are not
    /// known. Events may have told of later changes, so a container that is missing is inspected before it is given up.
    ///
    /// `is_full`: whether all containers are inspected. `is_pending`: whether a container's inspection is under way.
    /// Another follows, because that answer may be older than the list.
    pub fn on_list(
        &mut self,
        listed: BTreeMap<String, Listed>,
        is_full: bool,
        is_pending: impl Fn(&str) -> bool,
    ) -> BTreeSet<String> {
        self.changed = true;
        self.owners_asked.clear();
        // A container that is known as the owner of a network alone is in no list either.
        let retried = self.retries.iter().map(|unreadable| &*unreadable.id);
        let missing = self.known.ids().chain(retried);
        let missing = missing.filter(|id| !listed.contains_key(*id));
        self.dirty.extend(missing.map(str::to_owned));
        self.retries.begin_list();
        let mut unknown = BTreeSet::new();
        for (id, summary) in listed {
            if !self.known.is_listed(&id) {
                self.retries.describe(&id, &summary);
                unknown.insert(id.clone());
            }
            if is_full
                || is_pending(&id)
                || self.retries.contains(&id)
                || !self.known.is_listed_as(&id, &summary)
            {
                self.dirty.insert(id);
            }
        }
        unknown
    }

    /// Notes whether the daemon runs without root.
    pub fn set_rootless(&mut self, is_rootless: bool) {
        self.is_rootless = is_rootless;
    }

    pub fn on_event(&mut self, event: &Event) {
        let id = &event.id;
        match event.action.as_str() {
            "kill" => match self.known.get(id).cloned() {
                // Nothing else has changed, so it need not be inspected.
                Some(container) if container.ends_by(&event.signal) => {
                    self.begin_to_stop(&container);
                }
                Some(_) => {}
                None => {
                    self.stopping.signal_early(id, &event.signal);
                    self.dirty.insert(id.clone());
                }
            },
            "start" | "die" => {
                self.stopping.forget(id);
                self.dirty.insert(id.clone());
            }
            _ => drop(self.dirty.insert(id.clone())),
        }
    }

    /// Takes the inspection of the container that was asked for as `id`, which may be a name. Returns the owner of its
    /// network if that has to be inspected too.
    pub fn on_inspection(&mut self, id: &str, inspection: Inspection) -> Option<String> {
        if !matches!(inspection, Inspection::Failed(_)) {
            self.changed |= self.retries.end(id);
        }
        match inspection {
            Inspection::Found { container, listed }
                if listed || self.known.uses_network_of(&container) =>
            {
                self.take_container(*container, listed)
            }
            Inspection::Found { container, .. } => {
                self.on_inspection(&container.id, Inspection::Gone)
            }
            Inspection::Gone => {
                self.stopping.forget(id);
                self.changed |= self.known.forget(id);
                None
            }
            Inspection::Failed(why) => {
                self.changed |= self.retries.fail(id, self.known.get(id), &why);
                None
            }
        }
    }

    fn take_container(&mut self, mut container: Container, listed: bool) -> Option<String> {
        let id = container.id.to_string();
        let owner = self.ask_for_owner(&container);
        let signals = self.stopping.take_early_signals(&id);
        if signals.iter().any(|signal| container.ends_by(signal)) {
            self.begin_to_stop(&container);
        }
        container.stopping = self.stopping.contains(&id);
        if self.is_rootless && container.network_mode == "host" && self.known.get(&id).is_none() {
            warn!(
                "container {} is in the host network of a rootless Docker, which is not this host's: its ports cannot \
                 be reached unless they are published in another network",
                quote(&container.name)
            );
        }
        self.changed |= self.retries.end(&id);
        let is_settled = container.is_settled();
        let is_new = self.known.learn(container, listed);
        self.changed |= is_new;
        self.unsettled.remove(&id);
        if is_new && !is_settled {
            self.unsettled.insert(id, Instant::now() + UNSETTLED_PAUSE);
        }
        owner
    }

    /// Marks the container whose network this one uses, unless it is known or was asked for.
    fn ask_for_owner(&mut self, container: &Container) -> Option<String> {
        let owner = container.network_reference()?;
        let is_new = self.known.find(owner).is_none() && self.owners_asked.insert(owner.to_owned());
        if !is_new {
            return None;
        }
        self.dirty.insert(owner.to_owned());
        Some(owner.to_owned())
    }

    fn begin_to_stop(&mut self, container: &Container) {
        self.stopping.begin(&container.id, container.stop_grace());
        self.changed |= self.known.begin_to_stop(&container.id);
    }

    /// Takes the lists that tell which containers are outside the filters, if both are there.
    pub fn take_outside(&mut self, outside: &mut Outside) {
        if let Some(marks) = outside.take(|id| self.known.is_listed(id)) {
            self.changed |= self.outside.as_ref() != Some(&marks);
            self.outside = Some(marks);
        }
    }

    pub fn knows_outside(&self) -> bool {
        self.outside.is_some()
    }

    /// Whether an event about a container can matter because the container is known or looked for. The owner of a
    /// network may be looked for by a name, so until it is found any container may be the one.
    pub fn is_interested_in(&self, id: &str) -> bool {
        self.known.get(id).is_some()
            || self.dirty.contains(id)
            || self.retries.contains(id)
            || !self.owners_asked.is_empty()
    }

    /// Whether a container could not be inspected the last time.
    pub fn is_unreadable(&self, id: &str) -> bool {
        self.retries.contains(id)
    }

    /// Whether a container has changed since its inspection was asked for.
    pub fn is_dirty(&self, id: &str) -> bool {
        self.dirty.contains(id)
    }

    /// The next container to inspect. A container that could not be inspected before comes last.
    ///
    /// `is_pending`: whether a container's inspection is under way, so that it has to wait. `may_repeat`: whether there
    /// is room for a container that could not be inspected before.
    pub fn take_dirty(
        &mut self,
        is_pending: impl Fn(&str) -> bool,
        may_repeat: bool,
    ) -> Option<String> {
        let free = || self.dirty.iter().filter(|id| !is_pending(id));
        let new = free().find(|id| !self.retries.contains(id));
        let next = new.or_else(|| free().next().filter(|_| may_repeat));
        let id = next?.clone();
        self.dirty.remove(&id);
        Some(id)
    }

    pub fn take_all_dirty(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.dirty)
    }

    /// The name of a container that is not known, or its id if no list has shown it.
    pub fn name_of(&self, id: &str) -> String {
        self.retries.name_of(id)
    }

    /// Counts a container as unreadable until its inspection is answered.
    pub fn give_up_waiting(&mut self, id: &str) {
        self.retries.overdue(id);
    }

    pub fn next_stop_end(&self) -> Option<Instant> {
        self.stopping.next_end()
    }

    /// Marks the containers that should have ended by now.
    pub fn check_stopped(&mut self) {
        self.dirty.extend(self.stopping.take_ended());
    }

    pub fn next_retry(&self) -> Option<Instant> {
        let unsettled = self.unsettled.values().min().copied();
        self.retries.next_at().into_iter().chain(unsettled).min()
    }

    /// Marks the unreadable containers, and those in an odd state, whose pause is over.
    pub fn retry(&mut self) {
        self.dirty.extend(self.retries.take_due());
        let now = Instant::now();
        let dirty = &mut self.dirty;
        self.unsettled.retain(|id, at| {
            let is_due = *at <= now;
            dirty.extend(is_due.then(|| id.clone()));
            !is_due
        });
    }

    pub fn has_changed(&self) -> bool {
        self.changed
    }

    pub fn snapshot(&mut self) -> Snapshot {
        self.changed = false;
        self.known.snapshot(&self.retries, self.outside.clone())
    }

    pub fn is_unpacked(&self) -> bool {
        self.known.is_unpacked()
    }

    pub fn pack(&mut self) {
        self.known.pack();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_outside_the_filters_stay_known_through_a_new_connection() {
        let filters = Filters::from([("label".to_owned(), vec!["seen".to_owned()])]);
        let mut host = Host::new(&filters);
        assert_eq!(host.outside, None, "not known is not none");
        let mut outside = Outside::new(&filters);
        assert!(outside.should_ask(true));
        let running = ("a".to_owned(), Listed::default());
        outside.on_running(Ok(&[running].into()));
        outside.on_passing([].iter());
        host.take_outside(&mut outside);
        let marks: Option<Arc<[String]>> = Some(["a".to_owned(), "a".to_owned()].into());
        assert_eq!(host.outside, marks);
        host.take_outside(&mut Outside::new(&filters));
        assert_eq!(host.outside, marks);
        assert_eq!(Host::new(&Filters::new()).outside.as_deref(), Some(&[][..]));
    }
}
