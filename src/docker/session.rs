//! One connection to Docker: its events, the requests and inspections under way, and its timers. Made anew for each
//! connection, so that no state of a broken one is left; [`super::feed`] runs it.
//!
//! Docker answers the inspection of a starting container only when that has started, so each inspection runs by itself
//! and none holds up the others; nor does a list. A snapshot is published whenever something has changed and nothing
//! more is ready at once.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::client::{
    Events, Filters, Inspection, List, first_list, fresh, inspect, labels, list, passing, ping,
    subscribe,
};
use super::events::Event;
use super::feed::Feed;
use super::host::Host;
use super::inspections::Inspections;
use super::lists::Lists;
use super::outside::Outside;
use super::undecoded::Connection;
use crate::container::Listed;

/// How long after a snapshot memory is saved: until then Docker, the policy and the store need the processors.
const PACK_DELAY: Duration = Duration::from_millis(100);

pub struct Session<'a> {
    feed: &'a mut Feed,
    host: &'a mut Host,
    docker: Connection,
    events: Events,
    requests: FuturesUnordered<BoxFuture<'static, anyhow::Result<Reply>>>,
    inspections: Inspections,
    lists: Lists,
    outside: Outside,
    phase: Phase,
    timers: Timers,
}

/// How far a session is from a snapshot. One that is published too early would look like a host with fewer containers.
enum Phase {
    /// No list has come yet.
    Listing,
    /// These containers of the list, or owners of their networks, have not been inspected yet.
    Inspecting(BTreeSet<String>),
    /// All have been, or are unreadable; or an earlier session got so far. Each change is published at once.
    Following,
}

/// The answer to a request other than an inspection.
enum Reply {
    /// A new stream of events, because the old one was silent.
    Events(Events),
    Listed(List),
    /// The list without filters. Its failure does not end the session.
    Running(anyhow::Result<BTreeMap<String, Listed>>),
    Pong,
}

struct Timers {
    /// None while a list is under way.
    resync: Option<Instant>,
    /// None while a ping is under way.
    ping: Option<Instant>,
    pack: Instant,
}

impl<'a> Session<'a> {
    pub fn new(feed: &'a mut Feed, host: &'a mut Host, docker: Connection, events: Events) -> Self {
        let is_first = feed.snapshots.borrow().is_none();
        let now = Instant::now();
        Self {
            requests: FuturesUnordered::new(),
            inspections: Inspections::default(),
            lists: Lists::default(),
            outside: Outside::new(&feed.filters),
            phase: if is_first {
                Phase::Listing
            } else {
                Phase::Following
            },
            timers: Timers {
                resync: None,
                ping: Some(now + feed.ping),
                pack: now,
            },
            feed,
            host,
            docker,
            events,
        }
    }

    /// Works until the connection fails. `early` is a list that was asked for after the time from which the events are
    /// subscribed to.
    pub async fn run(
        mut self,
        early: Option<JoinHandle<anyhow::Result<List>>>,
    ) -> anyhow::Result<Infallible> {
        match early {
            Some(early) => self.await_list(early),
            None => self.ask_for_list(),
        }
        loop {
            self.begin_inspections();
            self.advance();
            let pack_at = self.host.is_unpacked().then_some(self.timers.pack);
            let late_at = self.next_late();
            tokio::select! {
                biased;
                event = self.events.next() => self.on_event(event)?,
                Some((id, inspection)) = self.inspections.next() => self.on_inspection(&id, inspection),
                Some(reply) = self.requests.next() => self.on_reply(reply?),
                () = future::ready(()), if self.can_publish() => self.publish(),
                () = until(pack_at) => self.host.pack(),
                () = until(self.host.next_stop_end()) => self.host.check_stopped(),
                () = until(self.host.next_retry()) => self.host.retry(),
                () = until(late_at) => self.stop_waiting(),
                () = until(self.timers.ping) => self.ping(),
                () = until(self.timers.resync) => self.resync(),
            }
        }
    }

    fn on_event(&mut self, message: Option<anyhow::Result<String>>) -> anyhow::Result<()> {
        let message = message
            .context("Docker ended the event stream")?
            .context("the event stream from Docker broke")?;
        let event = Event::read(&message).unwrap_or_else(|error| {
            // It may be about any container, so a list follows at once.
            debug!("cannot read an event: {error:#}");
            self.timers.resync = self.timers.resync.map(|_| Instant::now());
            None
        });
        if let Some(event) = event {
            self.feed.events.add_one();
            self.lists.heard_event = true;
            debug!("event {} of {}", event.action, event.id);
            if self.may_matter(&event) {
                self.host.on_event(&event);
            }
        }
        Ok(())
    }

    /// Whether an event can tell of a change. An unknown container does not run or does not pass the filters, and few
    /// events change that: neither the connection to a network before its start, nor the events after its end. The
    /// exceptions: Podman lists no paused container, so `unpause` may be about an unknown one; a new name may be that
    /// of a network's owner; a list that is under way may be older than the event; and filters other than by label may
    /// match after any.
    fn may_matter(&self, event: &Event) -> bool {
        ["start", "unpause", "rename"].contains(&event.action.as_str())
            || self.host.is_interested_in(&event.id)
            || self.inspections.contains(&event.id)
            || self.lists.pending
            || self.feed.filters.keys().any(|filter| filter != "label")
    }

    /// Takes an answer, unless the container has changed since, because then another inspection follows. But a
    /// container that changes all the time must neither hold up the first snapshot nor stay unreadable.
    fn on_inspection(&mut self, id: &str, inspection: Inspection) {
        let is_awaited = match &mut self.phase {
            Phase::Inspecting(awaited) => awaited.remove(id),
            Phase::Listing | Phase::Following => false,
        };
        let is_failure = matches!(inspection, Inspection::Failed(_));
        if is_awaited || is_failure || self.host.is_unreadable(id) || !self.host.is_dirty(id) {
            let owner = self.host.on_inspection(id, inspection);
            if let (Phase::Inspecting(awaited), Some(owner)) = (&mut self.phase, owner) {
                awaited.insert(owner);
            }
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Events(events) => {
                self.events = events;
                self.ask_for_list();
            }
            Reply::Listed(List::Passing(listed)) => self.on_list(listed),
            Reply::Listed(List::Running(running)) => {
                self.outside.on_running(Ok(&running));
                let listed = passing(&self.feed.filters, running);
                self.on_list(listed);
            }
            Reply::Running(running) => {
                self.outside
                    .on_running(running.as_ref().map_err(|error| anyhow!("{error:#}")));
                self.host.take_outside(&mut self.outside);
            }
            Reply::Pong => {
                // A Docker that only answers pings is not back.
                if self.lists.answered {
                    self.feed.outage.over();
                }
                self.timers.ping = Some(Instant::now() + self.feed.ping);
            }
        }
    }

    fn on_list(&mut self, listed: BTreeMap<String, Listed>) {
        let is_full = self.lists.end();
        self.outside.on_passing(listed.keys());
        self.host.take_outside(&mut self.outside);
        let is_pending = |id: &str| self.inspections.contains(id);
        let unknown = self.host.on_list(listed, is_full, is_pending);
        match &mut self.phase {
            Phase::Listing => self.phase = Phase::Inspecting(unknown),
            Phase::Inspecting(awaited) => awaited.extend(unknown),
            Phase::Following => {}
        }
        // One list after the other, because two lists of a large host take much memory.
        if self.should_ask_for_outside() {
            let running = list(self.docker.clone(), Filters::new());
            let running = self.feed.calls.time(running, Result::is_err);
            self.request(async { Ok(Reply::Running(running.await)) });
        }
        self.feed.outage.over();
        self.timers.resync = Some(Instant::now() + self.feed.resync);
    }

    fn can_publish(&self) -> bool {
        self.host.has_changed() && matches!(self.phase, Phase::Following)
    }

    fn publish(&mut self) {
        let snapshot = Arc::new(self.host.snapshot());
        self.feed.snapshots.send_replace(Some(snapshot));
        self.timers.pack = Instant::now() + PACK_DELAY;
    }

    fn next_late(&self) -> Option<Instant> {
        let late_at = [self.inspections.late_at(), self.outside.awaited_until()];
        late_at.into_iter().flatten().min()
    }

    fn stop_waiting(&mut self) {
        self.inspections.note_late();
        self.outside.give_up();
    }

    fn ping(&mut self) {
        self.timers.ping = None;
        let pong = ping(self.docker.clone(), self.feed.ping);
        let pong = self.feed.calls.time(pong, Result::is_err);
        self.request(async { pong.await.map(|()| Reply::Pong) });
    }

    /// Lists all containers again. If no event has come since the last list, the events are subscribed to again first,
    /// because a stream that a firewall has dropped is silent for ever, and pings go over another connection.
    fn resync(&mut self) {
        self.timers.resync = None;
        if self.lists.heard_event {
            self.ask_for_list();
        } else {
            let docker = self.docker.clone();
            self.request(async move {
                let daemon = fresh(&docker, None).await?;
                Ok(Reply::Events(subscribe(&docker, daemon)))
            });
        }
    }

    fn ask_for_list(&mut self) {
        self.lists.begin();
        let (docker, filters) = (self.docker.clone(), self.feed.filters.clone());
        let is_first = labels(&filters).is_some() && self.should_ask_for_outside();
        let listed = async move {
            if is_first {
                first_list(&docker, &filters).await
            } else {
                Ok(List::Passing(list(docker, filters).await?))
            }
        };
        let listed = self.feed.calls.time(listed, Result::is_err);
        self.request(async { Ok(Reply::Listed(listed.await?)) });
    }

    /// Waits for a list that was asked for before the session, but after the time from which the events are subscribed to.
    /// If it fails, another is asked for.
    fn await_list(&mut self, early: JoinHandle<anyhow::Result<List>>) {
        self.lists.begin();
        if labels(&self.feed.filters).is_some() {
            self.should_ask_for_outside();
        }
        let (docker, filters) = (self.docker.clone(), self.feed.filters.clone());
        self.request(async move {
            let listed = match early.await {
                Ok(Ok(listed)) => listed,
                _ => first_list(&docker, &filters).await?,
            };
            Ok(Reply::Listed(listed))
        });
    }

    fn should_ask_for_outside(&mut self) -> bool {
        self.outside.should_ask(!self.host.knows_outside())
    }

    fn request(&self, reply: impl Future<Output = anyhow::Result<Reply>> + Send + 'static) {
        self.requests.push(Box::pin(reply));
    }

    /// Begins as many inspections as there is room for.
    fn begin_inspections(&mut self) {
        while self.inspections.has_room() {
            let is_pending = |id: &str| self.inspections.contains(id);
            let may_repeat = self.inspections.has_room_to_repeat();
            let Some(id) = self.host.take_dirty(is_pending, may_repeat) else {
                return;
            };
            let inspection = inspect(self.docker.clone(), self.feed.filters.clone(), id.clone());
            let failed =
                |(_, answer): &(String, Inspection)| matches!(answer, Inspection::Failed(_));
            let inspection = self.feed.calls.time(inspection, failed);
            self.inspections.begin(id, inspection);
        }
    }

    /// Goes on to the first snapshot once its parts are there. A container that hangs holds it up no longer than a
    /// moment, and neither do those that wait behind it: until they are inspected, they are unreadable.
    fn advance(&mut self) {
        let Phase::Inspecting(awaited) = &mut self.phase else {
            return;
        };
        let is_late = self.inspections.late().any(|id| awaited.contains(id));
        if is_late || self.inspections.is_full() {
            for id in std::mem::take(awaited) {
                self.host.give_up_waiting(&id);
            }
        }
        if awaited.is_empty() && self.outside.awaited_until().is_none() {
            self.phase = Phase::Following;
        }
    }
}

/// Waits for ever if there is no moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => future::pending().await,
    }
}
