//! The feed: Docker's containers as whole snapshots, for as long as the daemon lives and after it has come back.
//!
//! An event only means "look again": what changed is inspected, and the snapshot tells what is. While Docker does
//! not answer, no snapshot is made, so an error is never taken for an empty host.

mod access;
mod client;
mod events;
mod inspections;
mod known;
mod listing;
mod outside;
mod unreadable;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bollard::Docker;
use bollard::models::ContainerSummary;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::base::by_age::ByAge;
use crate::base::text::quote;
use crate::container::Container;
use crate::ops::counter::Counter;
use crate::ops::outage::Outage;
use client::{Events, Inspected, connect, inspect, list, subscribe, within};
use inspections::{AT_ONCE, Inspections};
use known::Known;
use outside::Outside;
use unreadable::Waiting;

pub use access::Access;
pub use client::{Daemon, Filters};
pub use unreadable::Unreadable;

/// What was not possible, where a list fails.
const CANNOT_LIST: &str = "cannot list containers";
/// How long after a snapshot what can wait does: until then the processors are wanted by Docker, the policy and etcd.
const REST: Duration = Duration::from_millis(100);
/// Each how many lists all containers are inspected. After the others it is those that are listed otherwise than they are
/// known: an inspection costs far more, and hardly anything changes of which neither an event nor a list tells.
const LISTS_TO_A_WHOLE_LOOK: u32 = 10;

/// All containers at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The containers. One that has not changed is the same allocation as in the snapshot before.
    pub containers: ByAge<Container>,
    /// The containers that Docker lists and has not shown.
    pub unreadable: Vec<Arc<Unreadable>>,
    /// The ids, short ids and names of the containers that run and do not pass the filters; none while they are not known.
    pub outside: Option<Arc<[String]>>,
}

/// Where the newest snapshot is found; none before the first.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// A Docker daemon and what is known of its containers.
pub struct Feed {
    filters: Filters,
    resync: Duration,
    patience: Duration,
    /// Counts the events that may change a container.
    events: Counter,
    /// What Docker said of itself before the first subscription.
    daemon: Option<Daemon>,
    known: Known,
    /// The containers that were sent a signal that should end them, and when that has to be over.
    stopping: HashMap<String, Instant>,
    /// The signals that were sent to containers before they were known.
    signals: HashMap<String, Vec<String>>,
    /// The containers that need a look.
    dirty: BTreeSet<String>,
    /// The looks that are under way.
    inspections: Inspections,
    /// The containers that Docker could not show.
    unreadable: Waiting,
    outside: Outside,
    /// The network owners that were asked for since the last list.
    owners_asked: BTreeSet<String>,
    changed: bool,
    /// Whether an event has come since the last list was asked for.
    heard: bool,
    /// Whether a list is under way.
    lists: bool,
    /// How many lists there are to be before all containers are inspected again.
    lists_left: u32,
    phase: Phase,
}

/// How far it is from a first snapshot: one that is made too early would be taken for a host with fewer containers.
enum Phase {
    /// There is no list yet.
    Unlisted,
    /// These containers of the first list have not been looked at yet.
    Unseen(BTreeSet<String>),
    /// All of them have been, or are unreadable.
    Whole,
}

/// What is asked beside the events.
enum Answer {
    /// Another stream of events, in place of one that has said nothing.
    Events(Events),
    Listed(BTreeMap<String, ContainerSummary>),
    /// The list without filters, or why there is none.
    Running(anyhow::Result<BTreeMap<String, ContainerSummary>>),
    Alive,
}

type Asked = FuturesUnordered<BoxFuture<'static, anyhow::Result<Answer>>>;

/// One snapshot of what runs now. The log names what cannot be read.
pub async fn look_once(filters: Filters) -> anyhow::Result<Snapshot> {
    Feed::new(filters, Duration::MAX, Duration::MAX)
        .once()
        .await
}

impl Feed {
    /// A feed of the containers that pass `filters`, which are all listed again every `resync`. Docker is asked for a sign
    /// of life every `patience`, and has as long to give it.
    pub fn new(filters: Filters, resync: Duration, patience: Duration) -> Self {
        Self {
            outside: Outside::new(&filters),
            filters,
            resync,
            patience,
            events: Counter::default(),
            daemon: None,
            known: Known::default(),
            stopping: HashMap::new(),
            signals: HashMap::new(),
            dirty: BTreeSet::new(),
            inspections: Inspections::default(),
            unreadable: Waiting::default(),
            owners_asked: BTreeSet::new(),
            changed: false,
            heard: false,
            lists: false,
            lists_left: 0,
            phase: Phase::Unlisted,
        }
    }

    /// The same, for a daemon that has just been asked.
    pub fn of(self, daemon: Option<Daemon>) -> Self {
        Self { daemon, ..self }
    }

    /// The same, and `events` counts those that may change a container.
    pub fn counting(self, events: Counter) -> Self {
        Self { events, ..self }
    }

    /// One snapshot of what runs now. The log names what cannot be read.
    pub async fn once(mut self) -> anyhow::Result<Snapshot> {
        let docker = connect().await?;
        let listed = list(docker.clone(), self.filters.clone());
        self.learn_list(listed.await.context(CANNOT_LIST)?);
        if self.outside.asks() {
            let running = list(docker.clone(), Filters::new());
            let running = running.await.context(CANNOT_LIST)?;
            self.learn_running(Ok(running));
        }
        while !self.dirty.is_empty() {
            let ids = std::mem::take(&mut self.dirty);
            let filters = self.filters.clone();
            let mut inspections = stream::iter(ids)
                .map(|id| inspect(docker.clone(), filters.clone(), id))
                .buffer_unordered(AT_ONCE);
            while let Some((id, inspected)) = inspections.next().await {
                if let Inspected::Unreadable(why) = &inspected {
                    let name = self.unreadable.name_of(&id);
                    warn!("cannot read container {}: {why:#}", quote(&name));
                }
                self.learn(&id, inspected);
            }
        }
        Ok(self.snapshot())
    }

    /// Keeps `snapshots` up to date for ever. `trouble` is that with Docker.
    pub async fn run(
        mut self,
        snapshots: watch::Sender<Option<Arc<Snapshot>>>,
        mut outage: Outage,
    ) {
        loop {
            let Err(error) = self.watch(&snapshots, &mut outage).await;
            tokio::time::sleep(outage.failed(format!("{error:#}"))).await;
        }
    }

    /// Feeds snapshots for as long as one connection lasts.
    ///
    /// Docker shows a container that is just starting only when it has started, so each inspection runs by itself and
    /// none holds up the others; nor does a list. A snapshot is made whenever something has changed and nothing more is
    /// ready at once.
    async fn watch(
        &mut self,
        snapshots: &watch::Sender<Option<Arc<Snapshot>>>,
        outage: &mut Outage,
    ) -> anyhow::Result<Infallible> {
        let docker = connect().await?;
        let mut events = subscribe(&docker, self.daemon.take()).await?;
        // Nobody knows what happened before.
        self.lists_left = 0;
        self.inspections = Inspections::default();
        if !self.is_whole() {
            self.phase = Phase::Unlisted;
        }
        self.outside.begin(&self.filters);
        let mut asked = Asked::new();
        self.ask_for_list(&docker, &mut asked);
        let mut is_listed = false;
        let mut resync_at = None;
        let mut ping_at = Some(Instant::now() + self.patience);
        let mut pack_at = Instant::now();
        loop {
            self.begin_inspections(&docker);
            self.see_whether_whole();
            let late_at = [self.inspections.late_at(), self.outside.awaited_until()];
            tokio::select! {
                biased;
                event = events.next() => self.note(event)?,
                Some((id, inspected)) = self.inspections.next() => self.take_over(&id, inspected),
                Some(answer) = asked.next() => match answer? {
                    Answer::Events(new) => {
                        events = new;
                        self.ask_for_list(&docker, &mut asked);
                    }
                    Answer::Listed(listed) => {
                        self.learn_list(listed);
                        // One after the other, for two lists of a large host take much memory.
                        if self.outside.asks() {
                            let running = list(docker.clone(), Filters::new());
                            asked.push(Box::pin(async { Ok(Answer::Running(running.await)) }));
                        }
                        is_listed = true;
                        outage.over();
                        resync_at = Some(Instant::now() + self.resync);
                    }
                    Answer::Running(listed) => self.learn_running(listed),
                    Answer::Alive => {
                        // A Docker that answers this alone is not back.
                        if is_listed {
                            outage.over();
                        }
                        ping_at = Some(Instant::now() + self.patience);
                    }
                },
                () = future::ready(()), if self.changed && self.is_whole() => {
                    self.publish(snapshots);
                    pack_at = Instant::now() + REST;
                }
                () = tokio::time::sleep_until(pack_at), if self.known.is_unpacked() => self.known.pack(),
                () = until(self.stopping.values().min().copied()) => self.end_grace(),
                () = until(self.unreadable.next_at()) => self.dirty.extend(self.unreadable.due()),
                () = until(late_at.into_iter().flatten().min()) => {
                    self.inspections.note_late();
                    self.outside.give_up();
                }
                () = until(ping_at) => {
                    ping_at = None;
                    asked.push(Box::pin(ping(docker.clone(), self.patience)));
                }
                () = until(resync_at) => {
                    resync_at = None;
                    // A stream that a firewall has forgotten stays silent for ever, and a ping goes another way.
                    if self.heard {
                        self.ask_for_list(&docker, &mut asked);
                    } else {
                        asked.push(Box::pin(subscribe_again(docker.clone())));
                    }
                }
            }
        }
    }

    /// Asks for all containers that pass the filters.
    fn ask_for_list(&mut self, docker: &Docker, asked: &mut Asked) {
        self.heard = false;
        self.lists = true;
        let listed = list(docker.clone(), self.filters.clone());
        asked.push(Box::pin(async {
            Ok(Answer::Listed(listed.await.context(CANNOT_LIST)?))
        }));
    }

    /// Has those inspected that need it, as many as may be. Those that could not be read before come last.
    fn begin_inspections(&mut self, docker: &Docker) {
        while self.inspections.have_room() {
            let mut ids = self.dirty.iter();
            let is_new =
                |id: &&String| !self.inspections.contain(id) && !self.unreadable.contains(id);
            let is_free = |id: &&String| !self.inspections.contain(id);
            let id = match ids.find(is_new) {
                None if self.inspections.have_room_to_repeat() => self.dirty.iter().find(is_free),
                new => new,
            };
            let Some(id) = id.cloned() else { return };
            self.dirty.remove(&id);
            let inspection = inspect(docker.clone(), self.filters.clone(), id.clone());
            self.inspections.begin(id, inspection);
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self.phase, Phase::Whole)
    }

    /// Takes over an answer, unless it may be from before the last change, which is looked at again. But a container that
    /// changes all the time must not hold up the first snapshot, nor stay unreadable.
    fn take_over(&mut self, id: &str, inspected: Inspected) {
        let is_first = match &mut self.phase {
            Phase::Unseen(unseen) => unseen.remove(id),
            _ => false,
        };
        let is_failure = matches!(inspected, Inspected::Unreadable(_));
        if is_first || is_failure || self.unreadable.contains(id) || !self.dirty.contains(id) {
            self.learn(id, inspected);
        }
    }

    /// Takes over one inspection.
    fn learn(&mut self, id: &str, inspected: Inspected) {
        if !matches!(inspected, Inspected::Unreadable(_)) {
            // This is what was asked for, which may be a name.
            self.changed |= self.unreadable.end(id);
        }
        match inspected {
            Inspected::Gone => {
                self.stopping.remove(id);
                self.signals.remove(id);
                self.changed |= self.known.forget(id);
            }
            Inspected::Unreadable(why) => {
                self.changed |= self.unreadable.fail(id, self.known.get(id), &why);
            }
            Inspected::There { container, listed }
                if !listed && !self.known.uses_network_of(&container) =>
            {
                self.learn(&container.id, Inspected::Gone);
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
                self.changed |= self.unreadable.end(&id);
                self.changed |= self.known.learn(*container, listed);
            }
        }
    }

    /// Has the container looked at whose network this one uses, if it is not known; once, for it may not exist.
    fn ask_for_owner(&mut self, container: &Container) {
        let Some(owner) = container.network_owner() else {
            return;
        };
        if self.known.find(owner).is_none() && self.owners_asked.insert(owner.to_owned()) {
            self.dirty.insert(owner.to_owned());
            if let Phase::Unseen(unseen) = &mut self.phase {
                unseen.insert(owner.to_owned());
            }
        }
    }

    fn publish(&mut self, snapshots: &watch::Sender<Option<Arc<Snapshot>>>) {
        self.changed = false;
        let snapshot = self.snapshot();
        snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    fn snapshot(&mut self) -> Snapshot {
        self.known.snapshot(&self.unreadable, self.outside.marks())
    }
}

async fn ping(docker: Docker, patience: Duration) -> anyhow::Result<Answer> {
    let pong = within(patience, docker.ping()).await;
    pong.context("Docker gives no sign of life")?;
    Ok(Answer::Alive)
}

async fn subscribe_again(docker: Docker) -> anyhow::Result<Answer> {
    Ok(Answer::Events(subscribe(&docker, None).await?))
}

/// Until a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => future::pending().await,
    }
}
