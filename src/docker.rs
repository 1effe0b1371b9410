//! The feed: Docker's containers as whole snapshots, for as long as the daemon lives and after it has come back.
//!
//! An event only means "look again": what changed is inspected, and the snapshot tells what is. While Docker does
//! not answer, no snapshot is made, so an error is never taken for an empty host.

mod access;
mod client;
mod known;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, EventMessage, EventMessageTypeEnum};
use futures_util::future;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::container::Container;
use crate::entry::quote;
use crate::roll::Roll;
use crate::status::Status;
use crate::trouble::Trouble;
use client::{Inspected, connect, inspect, list, subscribe, within};
use known::Known;

pub use access::Access;
pub use client::{Daemon, Filters};

/// When Docker is asked again for a container that it could not show: its answer may only have come at a bad moment,
/// such as in a state on the way to another, of which no event tells.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How long after a snapshot what can wait does: until then the processors are wanted by Docker, the policy and etcd.
const REST: Duration = Duration::from_millis(100);
/// How many containers are inspected at a time.
const INSPECTS_AT_ONCE: usize = 16;
/// Each how many lists all containers are inspected. After the others it is those that are listed otherwise than they are
/// known: an inspection costs far more, and hardly anything changes of which neither an event nor a list tells.
const LISTS_TO_A_WHOLE_LOOK: u32 = 10;

/// All containers at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The containers. One that has not changed is the same allocation as in the snapshot before.
    pub containers: Roll<Container>,
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
    status: Arc<Status>,
    /// What Docker said of itself before the first subscription.
    daemon: Option<Daemon>,
    known: Known,
    /// The containers that were sent a signal that should end them, and when that has to be over.
    stopping: HashMap<String, Instant>,
    /// The signals that were sent to containers before they were known.
    signals: HashMap<String, Vec<String>>,
    /// The containers that need a look.
    dirty: BTreeSet<String>,
    /// Those that are being looked at.
    looked_at: BTreeSet<String>,
    /// The containers that Docker lists but could not show, and whether the log has told of it.
    unreadable: BTreeMap<String, bool>,
    /// When those are asked for again.
    look_again_at: Option<Instant>,
    /// The network owners that were asked for since the last list.
    owners_asked: BTreeSet<String>,
    changed: bool,
    /// Whether an event has come since the last list.
    heard: bool,
    /// How many lists there are to be before all containers are inspected again.
    lists_left: u32,
    /// The containers of the first list that have not been looked at yet; none before there is a list.
    unseen: Option<BTreeSet<String>>,
    /// Whether all of them have been. Until then there is no snapshot, for it would be taken for a host with fewer.
    whole: bool,
}

impl Feed {
    /// A feed of the containers that pass `filters`, which are all listed again every `resync`. Docker is asked for a sign
    /// of life every `patience`, and has as long to give it.
    pub fn new(filters: Filters, resync: Duration, patience: Duration) -> Self {
        Self {
            filters,
            resync,
            patience,
            status: Arc::default(),
            daemon: None,
            known: Known::default(),
            stopping: HashMap::new(),
            signals: HashMap::new(),
            dirty: BTreeSet::new(),
            looked_at: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            look_again_at: None,
            owners_asked: BTreeSet::new(),
            changed: false,
            heard: false,
            lists_left: 0,
            unseen: None,
            whole: false,
        }
    }

    /// The same, for a daemon that has just been asked.
    pub fn of(self, daemon: Option<Daemon>) -> Self {
        Self { daemon, ..self }
    }

    /// The same, and `status` shows how it goes.
    pub fn shown(self, status: Arc<Status>) -> Self {
        Self { status, ..self }
    }

    /// One snapshot of what runs now.
    pub async fn once(mut self) -> anyhow::Result<Snapshot> {
        let docker = connect().await?;
        self.list(&docker).await?;
        while !self.dirty.is_empty() {
            let ids = std::mem::take(&mut self.dirty);
            let filters = self.filters.clone();
            let mut inspections = stream::iter(ids)
                .map(|id| inspect(docker.clone(), filters.clone(), id))
                .buffer_unordered(INSPECTS_AT_ONCE);
            while let Some((id, inspected)) = inspections.next().await {
                self.learn(id, inspected)?;
            }
        }
        Ok(self.known.snapshot(&self.unreadable))
    }

    /// Keeps `snapshots` up to date for ever. `trouble` is that with Docker.
    pub async fn run(
        mut self,
        snapshots: watch::Sender<Option<Arc<Snapshot>>>,
        mut trouble: Trouble,
    ) {
        loop {
            let Err(error) = self.watch(&snapshots, &mut trouble).await;
            tokio::time::sleep(trouble.with(format!("{error:#}"))).await;
        }
    }

    /// Feeds snapshots for as long as one connection lasts.
    ///
    /// Docker shows a container that is just starting only when it has started, so each inspection runs by itself and
    /// none holds up the others. A snapshot is made whenever something has changed and nothing more is ready at once.
    async fn watch(
        &mut self,
        snapshots: &watch::Sender<Option<Arc<Snapshot>>>,
        trouble: &mut Trouble,
    ) -> anyhow::Result<Infallible> {
        let docker = connect().await?;
        let mut events = subscribe(&docker, self.daemon.take()).await?;
        self.heard = true;
        // Nobody knows what happened before.
        self.lists_left = 0;
        let mut inspections = FuturesUnordered::new();
        self.looked_at.clear();
        let mut resync_at = Instant::now();
        let mut ping_at = resync_at + self.patience;
        let mut pack_at = resync_at;
        loop {
            if Instant::now() >= resync_at {
                // A stream that a firewall has forgotten stays silent for ever, and a ping goes another way.
                if !self.heard {
                    events = subscribe(&docker, None).await?;
                }
                self.heard = false;
                self.list(&docker).await?;
                trouble.over();
                resync_at = Instant::now() + self.resync;
            }
            while inspections.len() < INSPECTS_AT_ONCE
                && let Some(id) = self.dirty.difference(&self.looked_at).next().cloned()
            {
                self.dirty.remove(&id);
                self.looked_at.insert(id.clone());
                inspections.push(inspect(docker.clone(), self.filters.clone(), id));
            }
            self.whole |= self.unseen.as_ref().is_some_and(BTreeSet::is_empty);
            let stopped_by = self.stopping.values().min().copied().unwrap_or(resync_at);
            let look_again_at = self.look_again_at.unwrap_or(resync_at);
            tokio::select! {
                biased;
                event = events.next() => self.note(event)?,
                Some((id, inspected)) = inspections.next() => {
                    self.looked_at.remove(&id);
                    let is_first = self.unseen.as_mut().is_some_and(|unseen| unseen.remove(&id));
                    // What has changed meanwhile is looked at again: this reply may be from before. But a container
                    // that changes all the time must not hold up the first snapshot.
                    if is_first || !self.dirty.contains(&id) || matches!(inspected, Inspected::Lost(_)) {
                        self.learn(id, inspected)?;
                    }
                }
                () = future::ready(()), if self.changed && self.whole => {
                    self.publish(snapshots);
                    pack_at = Instant::now() + REST;
                }
                () = tokio::time::sleep_until(pack_at), if self.known.is_unpacked() => self.known.pack(),
                () = tokio::time::sleep_until(stopped_by) => self.end_grace(),
                () = tokio::time::sleep_until(look_again_at), if self.look_again_at.is_some() => {
                    self.look_again_at = None;
                    self.dirty.extend(self.unreadable.keys().cloned());
                }
                () = tokio::time::sleep_until(ping_at) => {
                    within(self.patience, docker.ping()).await.context("Docker gives no sign of life")?;
                    trouble.over();
                    ping_at = Instant::now() + self.patience;
                }
                () = tokio::time::sleep_until(resync_at) => {}
            }
        }
    }

    /// Lists all containers, and has those inspected that need it.
    async fn list(&mut self, docker: &Docker) -> anyhow::Result<()> {
        let listed = list(docker, &self.filters)
            .await
            .context("cannot list containers")?;
        self.changed = true;
        self.known.keep_listed(|id| listed.contains_key(id));
        // One that only lends its network is in no list; its own inspection tells when it is gone.
        self.unreadable
            .retain(|id, _| listed.contains_key(id) || self.owners_asked.contains(id));
        self.owners_asked.clear();
        if !self.whole {
            self.unseen = Some(listed.keys().cloned().collect());
        }
        let lists_left = self.lists_left.checked_sub(1);
        self.lists_left = lists_left.unwrap_or(LISTS_TO_A_WHOLE_LOOK - 1);
        let unlisted = self.known.ids().filter(|id| !listed.contains_key(*id));
        self.dirty.extend(unlisted.map(str::to_owned));
        let needs_a_look = |(id, summary): &(String, ContainerSummary)| {
            // What is not seen yet is waited for; and an answer that is on its way may be older than the list.
            lists_left.is_none()
                || !self.whole
                || self.looked_at.contains(id)
                || self.unreadable.contains_key(id)
                || !self.known.is_listed_as(id, summary)
        };
        let listed = listed.into_iter().filter(needs_a_look);
        self.dirty.extend(listed.map(|(id, _)| id));
        Ok(())
    }

    /// Takes over one inspection.
    fn learn(&mut self, id: String, inspected: Inspected) -> anyhow::Result<()> {
        match inspected {
            Inspected::Gone => {
                self.unreadable.remove(&id);
                self.stopping.remove(&id);
                self.signals.remove(&id);
                self.changed |= self.known.forget(&id);
            }
            Inspected::Unreadable(why) => {
                self.look_again_at
                    .get_or_insert_with(|| Instant::now() + SECOND_LOOK);
                match self.unreadable.entry(id) {
                    Entry::Vacant(entry) => {
                        debug!("cannot read container {}: {why:#}", quote(entry.key()));
                        entry.insert(false);
                        self.changed = true;
                    }
                    Entry::Occupied(mut entry) if !entry.get() => {
                        warn!(
                            "cannot read container {}, whose keys stay as they are: {why:#}",
                            quote(entry.key())
                        );
                        entry.insert(true);
                    }
                    Entry::Occupied(_) => {}
                }
            }
            Inspected::Lost(error) => {
                self.dirty.insert(id);
                return Err(error);
            }
            Inspected::There { container, listed }
                if !listed && !self.known.uses_network_of(&container) =>
            {
                self.learn(container.id.to_string(), Inspected::Gone)?;
            }
            Inspected::There {
                mut container,
                listed,
            } => {
                // What was asked for by name is known by its id.
                let id = container.id.to_string();
                self.ask_for_owner(&container);
                let signals = self.signals.remove(&id).unwrap_or_default();
                if signals.iter().any(|signal| container.ends_by(signal)) {
                    self.begin_to_stop(&container);
                }
                container.stopping = self.stopping.contains_key(&id);
                self.changed |= self.unreadable.remove(&id).is_some();
                self.changed |= self.known.learn(*container, listed);
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
            // The actor is the network here, but with Podman the container.
            Some(EventMessageTypeEnum::NETWORK) => {
                attributes.get("container").cloned().or(actor.id)
            }
            _ => None,
        };
        let Some(id) = id else { return Ok(()) };
        self.status.metrics.count_event();
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
    /// follows its end. Podman lists no paused container, so that one may be unknown; and a new name may be that of the
    /// owner of a network. Other filters than by label look at what may change at any time.
    fn may_tell(&self, action: &str, id: &str) -> bool {
        ["start", "unpause", "rename"].contains(&action)
            || self.known.get(id).is_some()
            || self.dirty.contains(id)
            || self.looked_at.contains(id)
            || self.unreadable.contains_key(id)
            || !self.owners_asked.is_empty()
            || self.filters.keys().any(|filter| filter != "label")
    }

    fn begin_to_stop(&mut self, container: &Container) {
        let over = Instant::now() + container.stop_grace();
        self.stopping.insert(container.id.to_string(), over);
        self.changed |= self.known.begin_to_stop(&container.id);
    }

    /// Looks again at the containers that should have ended by now.
    fn end_grace(&mut self) {
        let now = Instant::now();
        let (over, stopping) = self.stopping.drain().partition(|(_, over)| *over <= now);
        self.stopping = stopping;
        let over: HashMap<String, Instant> = over;
        self.dirty.extend(over.into_keys());
    }

    /// Has the container looked at whose network this one uses, if it is not known; once, for it may not exist.
    fn ask_for_owner(&mut self, container: &Container) {
        let Some(owner) = container.network_owner() else {
            return;
        };
        if self.known.find(owner).is_none() && self.owners_asked.insert(owner.to_owned()) {
            self.dirty.insert(owner.to_owned());
            if let Some(unseen) = &mut self.unseen {
                unseen.insert(owner.to_owned());
            }
        }
    }

    fn publish(&mut self, snapshots: &watch::Sender<Option<Arc<Snapshot>>>) {
        self.changed = false;
        let snapshot = self.known.snapshot(&self.unreadable);
        snapshots.send_replace(Some(Arc::new(snapshot)));
    }
}
