//! The feed: Docker's containers as whole snapshots, for as long as the daemon lives and after it has come back.
//!
//! An event only means "look again": what changed is inspected, and the snapshot tells what is. While Docker does
//! not answer, no snapshot is made, so an error is never taken for an empty host.

mod client;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::container::{Container, find};
use crate::entry::quote;
use crate::trouble::Trouble;
use client::{Events, Inspected, connect, inspect, list_ids, subscribe, within};

pub use client::{Filters, daemon_id};

/// How many containers are inspected at a time.
const INSPECTS_AT_ONCE: usize = 16;

/// All containers at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The containers, oldest first. One that has not changed is the same allocation as in the snapshot before.
    pub containers: Vec<Arc<Container>>,
    /// The ids of containers that Docker lists and has never been able to show.
    pub unreadable: Vec<String>,
}

/// Where the newest snapshot is found; none before the first.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// A Docker daemon and what is known of its containers.
pub struct Feed {
    filters: Filters,
    resync: Duration,
    patience: Duration,
    known: HashMap<String, Known>,
    /// The containers that were sent a signal that should end them, and when that has to be over.
    stopping: HashMap<String, Instant>,
    /// The signals that were sent to containers before they were known.
    signals: HashMap<String, Vec<String>>,
    /// The containers that need a look.
    dirty: BTreeSet<String>,
    /// The containers that Docker lists but could not show.
    unreadable: BTreeSet<String>,
    /// Containers in another one's network, as they were last put together: themselves, the other, and both.
    joined: HashMap<String, [Arc<Container>; 3]>,
    changed: bool,
}

struct Known {
    container: Arc<Container>,
    /// False for one that is only inspected because another uses its network.
    listed: bool,
}

impl Feed {
    /// A feed of the containers that pass `filters`, which are all listed again every `resync`. Docker is asked for a sign
    /// of life every `patience`, and has as long to give it.
    pub fn new(filters: Filters, resync: Duration, patience: Duration) -> Self {
        Self {
            filters,
            resync,
            patience,
            known: HashMap::new(),
            stopping: HashMap::new(),
            signals: HashMap::new(),
            dirty: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            joined: HashMap::new(),
            changed: false,
        }
    }

    /// One snapshot of what runs now.
    pub async fn once(mut self) -> anyhow::Result<Snapshot> {
        let docker = connect().await?;
        self.list(&docker, &mut stream::pending()).await?;
        Ok(self.snapshot())
    }

    /// Keeps `snapshots` up to date for ever.
    pub async fn run(mut self, snapshots: watch::Sender<Option<Arc<Snapshot>>>) {
        let mut trouble = Trouble::new("Docker", "keys stay as they are");
        loop {
            let Err(error) = self.watch(&snapshots, &mut trouble).await;
            tokio::time::sleep(trouble.with(format!("{error:#}"))).await;
        }
    }

    /// Feeds snapshots for as long as one connection lasts.
    async fn watch(
        &mut self,
        snapshots: &watch::Sender<Option<Arc<Snapshot>>>,
        trouble: &mut Trouble,
    ) -> anyhow::Result<std::convert::Infallible> {
        let docker = connect().await?;
        let mut events = subscribe(&docker).await?;
        loop {
            self.list(&docker, &mut events).await?;
            self.publish(snapshots);
            trouble.over();
            let resync_at = Instant::now() + self.resync;
            let mut ping_at = Instant::now() + self.patience;
            while Instant::now() < resync_at {
                let stopped_by = self.stopping.values().min().copied();
                tokio::select! {
                    event = events.next() => self.note(event)?,
                    () = tokio::time::sleep_until(stopped_by.unwrap_or(resync_at)) => self.end_grace(),
                    () = tokio::time::sleep_until(ping_at) => {
                        within(self.patience, docker.ping()).await.context("Docker gives no sign of life")?;
                        ping_at = Instant::now() + self.patience;
                    }
                    () = tokio::time::sleep_until(resync_at) => break,
                }
                self.look(&docker, &mut events).await?;
                if self.changed {
                    self.publish(snapshots);
                }
            }
        }
    }

    /// Lists all containers and inspects each.
    async fn list(
        &mut self,
        docker: &Docker,
        events: &mut (impl Events + Unpin),
    ) -> anyhow::Result<()> {
        let listed = list_ids(docker, &self.filters)
            .await
            .context("cannot list containers")?;
        self.changed = true;
        self.known.retain(|id, _| listed.contains(id));
        self.unreadable.retain(|id| listed.contains(id));
        self.dirty.extend(listed);
        self.look(docker, events).await
    }

    /// Inspects what is dirty, and meanwhile takes events in, so that Docker need not drop any.
    async fn look(
        &mut self,
        docker: &Docker,
        events: &mut (impl Events + Unpin),
    ) -> anyhow::Result<()> {
        while let Some(event) = events.next().now_or_never() {
            self.note(event)?;
        }
        let mut owners_asked = BTreeSet::new();
        while !self.dirty.is_empty() {
            let ids = std::mem::take(&mut self.dirty);
            let filters = self.filters.clone();
            let mut inspections = stream::iter(ids)
                .map(|id| inspect(docker, &filters, id))
                .buffer_unordered(INSPECTS_AT_ONCE);
            loop {
                tokio::select! {
                    event = events.next() => self.note(event)?,
                    inspected = inspections.next() => match inspected {
                        Some((id, inspected)) => self.learn(id, inspected)?,
                        None => break,
                    },
                }
            }
            // One that does not exist any more is asked for once and not for ever.
            let owners = self.network_owners();
            self.dirty.extend(
                owners
                    .into_iter()
                    .filter(|owner| owners_asked.insert(owner.clone())),
            );
        }
        Ok(())
    }

    /// Takes over one inspection.
    fn learn(&mut self, id: String, inspected: Inspected) -> anyhow::Result<()> {
        match inspected {
            Inspected::Gone => {
                self.unreadable.remove(&id);
                self.stopping.remove(&id);
                self.signals.remove(&id);
                self.changed |= self.known.remove(&id).is_some();
            }
            Inspected::Unreadable(why) => {
                if self.unreadable.insert(id.clone()) {
                    warn!(
                        "cannot read container {}, whose keys stay as they are: {why:#}",
                        quote(&id)
                    );
                    self.changed = true;
                }
            }
            Inspected::Lost(error) => {
                self.dirty.insert(id);
                return Err(error);
            }
            Inspected::There { container, listed }
                if !listed && !self.lends_network(&container) =>
            {
                self.learn(container.id, Inspected::Gone)?;
            }
            Inspected::There {
                mut container,
                listed,
            } => {
                // What was asked for by name is known by its id.
                let id = container.id.clone();
                let signals = self.signals.remove(&id).unwrap_or_default();
                if signals.iter().any(|signal| container.ends_by(signal)) {
                    self.begin_to_stop(&container);
                }
                container.stopping = self.stopping.contains_key(&id);
                self.changed |= self.unreadable.remove(&id);
                match self.known.get_mut(&id) {
                    Some(known) if *known.container == *container && known.listed == listed => {}
                    _ => {
                        self.changed = true;
                        self.known.insert(
                            id,
                            Known {
                                container: Arc::new(*container),
                                listed,
                            },
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes note of one event.
    fn note(&mut self, event: Option<Result<EventMessage, Error>>) -> anyhow::Result<()> {
        let event = event
            .context("Docker ended the event stream")?
            .context("lost Docker's events")?;
        let actor = event.actor.unwrap_or_default();
        let attributes = actor.attributes.unwrap_or_default();
        let action = event.action.unwrap_or_default();
        let id = match event.typ {
            Some(EventMessageTypeEnum::CONTAINER) => actor.id,
            // The actor is the network here.
            Some(EventMessageTypeEnum::NETWORK) => attributes.get("container").cloned(),
            _ => None,
        };
        let Some(id) = id else { return Ok(()) };
        debug!("event {action} of {id}");
        match action.as_str() {
            "kill" => {
                let signal = attributes.get("signal").map_or("", String::as_str);
                match self
                    .known
                    .get(&id)
                    .map(|known| Arc::clone(&known.container))
                {
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

    fn begin_to_stop(&mut self, container: &Container) {
        let over = Instant::now() + container.stop_grace();
        self.stopping.insert(container.id.clone(), over);
        if !container.stopping
            && let Some(known) = self.known.get_mut(&container.id)
        {
            known.container = Arc::new(Container {
                stopping: true,
                ..container.clone()
            });
            self.changed = true;
        }
    }

    /// Looks again at the containers that should have ended by now.
    fn end_grace(&mut self) {
        let now = Instant::now();
        let (over, stopping) = self.stopping.drain().partition(|(_, over)| *over <= now);
        self.stopping = stopping;
        let over: HashMap<String, Instant> = over;
        self.dirty.extend(over.into_keys());
    }

    /// The containers, by id or name, that lend their network to a known one and are not known themselves.
    fn network_owners(&self) -> Vec<String> {
        let containers = || self.known.values().map(|known| &known.container);
        let owners = containers().filter_map(|container| container.network_owner());
        owners
            .filter(|owner| find(containers(), owner).is_none())
            .map(str::to_owned)
            .collect()
    }

    fn lends_network(&self, container: &Container) -> bool {
        let users = self
            .known
            .values()
            .filter_map(|known| known.container.network_owner());
        users.into_iter().any(|owner| container.is_called(owner))
    }

    fn publish(&mut self, snapshots: &watch::Sender<Option<Arc<Snapshot>>>) {
        self.changed = false;
        snapshots.send_replace(Some(Arc::new(self.snapshot())));
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut containers: Vec<Arc<Container>> = Vec::with_capacity(self.known.len());
        let mut joined = HashMap::new();
        for known in self.known.values().filter(|known| known.listed) {
            let container = &known.container;
            let all = self.known.values().map(|known| &known.container);
            let Some(owner) = container.network_owner().and_then(|owner| find(all, owner)) else {
                containers.push(Arc::clone(container));
                continue;
            };
            let whole = match self.joined.remove(&container.id) {
                Some([own, other, whole])
                    if Arc::ptr_eq(&own, container) && Arc::ptr_eq(&other, owner) =>
                {
                    whole
                }
                _ => Arc::new(container.in_network_of(owner)),
            };
            containers.push(Arc::clone(&whole));
            joined.insert(
                container.id.clone(),
                [Arc::clone(container), Arc::clone(owner), whole],
            );
        }
        self.joined = joined;
        containers.sort_unstable_by(|a, b| (&a.age, &a.id).cmp(&(&b.age, &b.id)));
        let never_read = |id: &&String| !self.known.contains_key(*id);
        Snapshot {
            containers,
            unreadable: self.unreadable.iter().filter(never_read).cloned().collect(),
        }
    }
}
