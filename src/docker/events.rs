//! What Docker's events say: mostly that a container needs a look, and of one that is about to end, that it is.

use std::collections::HashMap;

use anyhow::Context as _;
use bollard::errors::Error;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use tokio::time::Instant;
use tracing::debug;

use super::Feed;
use crate::container::Container;

impl Feed {
    /// Takes note of one event.
    pub(super) fn note(
        &mut self,
        event: Option<Result<EventMessage, Error>>,
    ) -> anyhow::Result<()> {
        let event = event
            .context("Docker ended the event stream")?
            .context("lost Docker's events")?;
        let actor = event.actor.unwrap_or_default();
        let attributes = actor.attributes.unwrap_or_default();
        let action = event.action.unwrap_or_default();
        let id = match event.typ {
            Some(EventMessageTypeEnum::CONTAINER) => actor.id,
            // The actor is the network here, but with Podman the container.
            Some(EventMessageTypeEnum::NETWORK) => {
                attributes.get("container").cloned().or(actor.id)
            }
            _ => None,
        };
        let Some(id) = id else { return Ok(()) };
        self.events.add_one();
        self.heard = true;
        debug!("event {action} of {id}");
        if !self.may_tell(&action, &id) {
            return Ok(());
        }
        match action.as_str() {
            "kill" => {
                let signal = attributes.get("signal").map_or("", String::as_str);
                match self.known.get(&id).cloned() {
                    // Nothing else of it has changed, so it need not be inspected.
                    Some(container) if container.ends_by(signal) => self.begin_to_stop(&container),
                    Some(_) => {}
                    None => {
                        self.signals
                            .entry(id.clone())
                            .or_default()
                            .push(signal.to_owned());
                        self.dirty.insert(id);
                    }
                }
            }
            "start" | "die" => {
                self.stopping.remove(&id);
                self.signals.remove(&id);
                self.dirty.insert(id);
            }
            _ => drop(self.dirty.insert(id)),
        }
        Ok(())
    }

    /// Whether an event may tell of a change. What is not known does not run or does not pass the filters, and few events
    /// change anything there: neither the network that Docker connects a container to before it starts it, nor all that
    /// follows its end. But what a list is about to show may have changed after it. Podman lists no paused container, so
    /// that one may be unknown; and a new name may be that of the owner of a network. Other filters than by label look at
    /// what may change at any time.
    fn may_tell(&self, action: &str, id: &str) -> bool {
        ["start", "unpause", "rename"].contains(&action)
            || self.known.get(id).is_some()
            || self.dirty.contains(id)
            || self.inspections.contain(id)
            || self.unreadable.contains(id)
            || self.lists
            || !self.owners_asked.is_empty()
            || self.filters.keys().any(|filter| filter != "label")
    }

    pub(super) fn begin_to_stop(&mut self, container: &Container) {
        let over = Instant::now() + container.stop_grace();
        self.stopping.insert(container.id.to_string(), over);
        self.changed |= self.known.begin_to_stop(&container.id);
    }

    /// Looks again at the containers that should have ended by now.
    pub(super) fn end_grace(&mut self) {
        let now = Instant::now();
        let (over, stopping) = self.stopping.drain().partition(|(_, over)| *over <= now);
        self.stopping = stopping;
        let over: HashMap<String, Instant> = over;
        self.dirty.extend(over.into_keys());
    }
}
