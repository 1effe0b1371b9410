//! Takes over Docker's lists: marks the containers to inspect, and decides when the first snapshot can be made.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::ContainerSummary;

use super::{Feed, LISTS_TO_A_WHOLE_LOOK, Phase};

impl Feed {
    /// Takes over a list, and has those inspected that need it. Events may have told of what came after it, so that it is
    /// no proof that a container is gone.
    pub(super) fn learn_list(&mut self, listed: BTreeMap<String, ContainerSummary>) {
        self.changed = true;
        self.lists = false;
        self.owners_asked.clear();
        let lists_left = self.lists_left.checked_sub(1);
        self.lists_left = lists_left.unwrap_or(LISTS_TO_A_WHOLE_LOOK - 1);
        // One that only lends its network is in no list either.
        let unreadable = self.unreadable.iter().map(|unreadable| &*unreadable.id);
        let missing = self.known.ids().chain(unreadable);
        let missing = missing.filter(|id| !listed.contains_key(*id));
        self.dirty.extend(missing.map(str::to_owned));
        self.unreadable.begin_list();
        self.outside.learn_passing(listed.keys());
        self.settle_outside();
        let mut unseen = BTreeSet::new();
        for (id, summary) in listed {
            if !self.known.is_listed(&id) {
                self.unreadable.describe(&id, &summary);
                unseen.insert(id.clone());
            }
            // An answer that is on its way may be older than the list.
            if lists_left.is_none()
                || self.inspections.contain(&id)
                || self.unreadable.contains(&id)
                || !self.known.is_listed_as(&id, &summary)
            {
                self.dirty.insert(id);
            }
        }
        match &mut self.phase {
            Phase::Unlisted => self.phase = Phase::Unseen(unseen),
            Phase::Unseen(before) => before.extend(unseen),
            Phase::Whole => {}
        }
    }

    pub(super) fn learn_running(
        &mut self,
        listed: anyhow::Result<BTreeMap<String, ContainerSummary>>,
    ) {
        self.outside.learn_running(listed);
        self.settle_outside();
    }

    fn settle_outside(&mut self) {
        self.changed |= self.outside.settle(|id| self.known.is_listed(id));
    }

    /// Goes on to the first snapshot once there is what makes one. A container that Docker does not show in time holds it
    /// up no longer, nor do those that have to wait for that one: until they are shown they are unreadable.
    pub(super) fn see_whether_whole(&mut self) {
        let Phase::Unseen(unseen) = &mut self.phase else {
            return;
        };
        let is_late = unseen.iter().any(|id| self.inspections.is_late(id));
        if is_late || self.inspections.are_full() {
            for id in std::mem::take(unseen) {
                self.unreadable.overdue(&id);
            }
        }
        if unseen.is_empty() && self.outside.awaited_until().is_none() {
            self.phase = Phase::Whole;
        }
    }
}
