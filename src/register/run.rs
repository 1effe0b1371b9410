//! `run`: connects the feed, the script and the keeper, and handles signals. Feed, script and keeper share one thread,
//! because waking another one takes longer than most steps from an event to its keys.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::stdout;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{info, warn};

use super::id_file::IdFile;
use super::introduction::introduction;
use super::keeper::{keep, renew_late, watch_expiry};
use super::seat::Seat;
use super::settings::{Mode, Settings};
use super::status::Status;
use super::{collisions, drain, host_ip, page};
use crate::checks::Checks;
use crate::docker::{self, Daemon, Feed, Snapshot, Snapshots};
use crate::ops::log::Recent;
use crate::ops::outage::Outage;
use crate::ops::role::{self, Process, Role};
use crate::ops::side_thread::{LastWords, SideThread};
use crate::ops::signals::Signals;
use crate::ops::systemd;
use crate::policy::{ContainerView, Report, Role as _, Script, Verdicts, World, drive};
use crate::store::print::PrintStore;
use crate::store::{Identity, Store as _};
use crate::wanted::WantedReceiver;

/// The time for Docker's first answer after which an earlier process's keys are renewed without it.
const AT_ONCE: Duration = Duration::from_millis(500);
/// The errors before the program ends by force.
const LAST_WORDS: LastWords = LastWords {
    hangs: "the script hangs, so the program ends without waiting for it; the keys stay until their TTL",
    late: "the last work takes too long, so the program ends without waiting for it; the keys that are left stay until \
           their TTL",
};

/// Runs until a signal ends it, or fails at once if the script is broken from the start. `recent` has the last warnings
/// and errors, for the page.
pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<()> {
    role::run(recent, settings.listen, LAST_WORDS, |process| {
        Ok(vec![role(settings, process)?])
    })
    .await
}

/// The role, in a process that may have others.
pub fn role(mut settings: Settings, process: &Rc<Process>) -> anyhow::Result<Role> {
    // A wrong DOCKER_HOST can never work, so it is not retried.
    docker::Endpoint::from_env()?;
    let signals = process.signals()?;
    check_ttl(&settings)?;
    let status = Arc::new(Status::new(settings.host.options.ttl, &settings.host.store));
    status.metrics.introduce(&mut settings.host);
    start_side_tasks(&settings, &status, &process.side);
    let about = page::about(&settings.host);
    let view = page::view(&status, process.recent.clone(), about);
    let work = Work {
        settings,
        process: Rc::clone(process),
        status,
        verdicts: Rc::default(),
        snapshots: watch::Sender::new(None),
        signals,
    };
    Ok(Role {
        view,
        work: Box::pin(work.run_and_answer()),
    })
}

/// Fails if the store grants no leases of the default TTL.
fn check_ttl(settings: &Settings) -> anyhow::Result<()> {
    let host = &settings.host;
    let (ttl, allowed) = (host.options.ttl, host.connect().limits().ttl);
    ensure!(
        settings.mode == Mode::DryRun || allowed.contains(&ttl),
        "{} has no leases of {ttl} s: pass --ttl with {} to {} seconds",
        host.store.name(),
        allowed.start(),
        allowed.end()
    );
    Ok(())
}

/// Starts the tasks that must go on while a script hangs.
fn start_side_tasks(settings: &Settings, status: &Arc<Status>, side: &SideThread) {
    if settings.mode == Mode::DryRun {
        return;
    }
    let host = settings.host.clone();
    let store = host.store.name();
    let connect = move || host.connect();
    side.spawn(renew_late(connect, status.leases.clone()));
    side.spawn(watch_expiry(status.leases.clone(), store));
}

/// Answers questions in the script's thread. A script that hangs delays the answers.
async fn answer(status: &Status, verdicts: &RefCell<Verdicts>, snapshots: Snapshots) -> Infallible {
    loop {
        tokio::select! {
            () = status.alive.asked() => status.alive.answer(()),
            () = status.containers.asked() => {
                let mut views = verdicts.borrow().views();
                let newest = snapshots.borrow().clone();
                let unreadable = newest.iter().flat_map(|snapshot| &snapshot.unreadable);
                views.extend(unreadable.map(|container| ContainerView::unreadable(&container.name)));
                status.containers.answer(views);
            }
        }
    }
}

struct Work {
    settings: Settings,
    process: Rc<Process>,
    status: Arc<Status>,
    verdicts: Rc<RefCell<Verdicts>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    signals: Signals,
}

/// A running keeper. Dropping `shutdown` makes it end.
struct Keeping {
    task: JoinHandle<()>,
    shutdown: oneshot::Sender<()>,
}

impl Work {
    async fn run_and_answer(self) -> anyhow::Result<()> {
        let (status, verdicts) = (Arc::clone(&self.status), Rc::clone(&self.verdicts));
        let answers = answer(&status, &verdicts, self.snapshots.subscribe());
        tokio::select! {
            // Questions come last, so that they do not delay the work.
            biased;
            result = self.run() => result,
            never = answers => match never {},
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let found = host_ip::find(&mut self.settings, &self.status.store);
        match self.signals.unless_ended(found).await {
            Some(found) => found?,
            None => return Ok(()),
        }
        let world = self.world();
        let wanted = world.wanted();
        let checks = Checks::new(self.status.checks.clone(), self.settings.explain);
        let wanted = checks.start(wanted, |prober| drop(self.process.side.spawn(prober)));
        let collisions = collisions::follow(wanted.clone(), Arc::clone(&self.status));
        let wanted = drain::start(self.settings.drain_file.as_deref(), wanted, &self.status);
        let id_file = self.id_file()?;
        let remembered = id_file.as_ref().and_then(IdFile::recall);
        let asked = self.ask_docker(remembered.is_some());
        // A broken script ends the program before anything is touched.
        let script = world.load().map_err(|failure| anyhow!("{failure}"))?;
        self.status.loads.began(script.version());
        tokio::spawn(self.status.loads.clone().remind());
        let (daemon, early) = self
            .wait_for_docker(asked, remembered.as_deref(), &wanted)
            .await?;
        let Some(daemon) = daemon else {
            self.end(early).await;
            return Ok(());
        };
        info!("{}", introduction(&self.settings, daemon.as_ref())?);
        let id = daemon.as_ref().map_or("", |daemon| &daemon.id);
        let mut keeping = self.settle(id, remembered, id_file, early, wanted).await;
        // After the keeper, so that it wakes first.
        tokio::spawn(collisions);
        let feed = self.start_feed(daemon);
        let result = self
            .supervise(&world, script, feed, &mut keeping.task)
            .await;
        systemd::say_goodbye().await;
        self.end(Some(keeping)).await;
        result
    }

    /// The file with the daemon's id, if there may be one.
    fn id_file(&self) -> anyhow::Result<Option<IdFile>> {
        let Settings {
            host,
            mode,
            state_directory,
            ..
        } = &self.settings;
        let directory = state_directory.as_ref().filter(|_| *mode != Mode::DryRun);
        let docker = docker::Endpoint::from_env()?.url;
        Ok(directory.map(|directory| IdFile::new(directory, &docker, &host.options.instance)))
    }

    /// Asks for the Docker daemon on the second thread, while this one loads the script: the identity is derived from its
    /// id.
    fn ask_docker(&self, remembers: bool) -> JoinHandle<Option<Daemon>> {
        let consequence = match (remembers, &self.settings.state_directory) {
            _ if !self.settings.host.store.lasts() => "nothing is registered yet",
            (true, _) => "only the keys of the process before this one are renewed",
            (false, Some(_)) => "nothing is registered yet",
            (false, None) => {
                "nothing is registered yet, and keys of a process before this one are not renewed: set STATE_DIRECTORY \
                 to a directory that stays, so that they are the next time"
            }
        };
        let outage = Outage::new("Docker", consequence, self.settings.lifetime());
        let outage = outage.shown_by(&self.status.docker);
        // A dry run needs no identity.
        let is_needed = self.settings.mode != Mode::DryRun;
        let filters = self.settings.host.filters.clone();
        self.process.side.spawn(async move {
            if is_needed {
                Some(Daemon::wait(&filters, outage).await)
            } else {
                None
            }
        })
    }

    /// Waits for the daemon that was asked for. If it does not answer at once, the keys that an earlier process held
    /// under the `remembered` id are renewed meanwhile. Returns no daemon if a signal ends the wait.
    async fn wait_for_docker(
        &mut self,
        mut asked: JoinHandle<Option<Daemon>>,
        remembered: Option<&str>,
        wanted: &WantedReceiver,
    ) -> anyhow::Result<(Option<Option<Daemon>>, Option<Keeping>)> {
        let first = timeout(AT_ONCE, self.signals.unless_ended(&mut asked)).await;
        let (daemon, early) = if let Ok(daemon) = first {
            (daemon, None)
        } else {
            let early = remembered.map(|id| {
                info!(
                    "Docker does not answer yet: keys that were held with its id {id} are renewed"
                );
                self.start_keeper(self.identity(id), wanted.clone())
            });
            (self.signals.unless_ended(&mut asked).await, early)
        };
        asked.abort();
        let daemon = daemon.transpose();
        Ok((
            daemon.context("the task that asks for Docker has crashed")?,
            early,
        ))
    }

    /// Goes on with the daemon's `id`: with the keeper that has renewed its keys so far, or with a new one.
    async fn settle(
        &self,
        id: &str,
        remembered: Option<String>,
        id_file: Option<IdFile>,
        early: Option<Keeping>,
        wanted: WantedReceiver,
    ) -> Keeping {
        let has_changed = remembered.as_deref() != Some(id);
        if let Some(id_file) = id_file.filter(|_| has_changed) {
            let id = id.to_owned();
            // A disk may hang.
            spawn_blocking(move || id_file.keep(&id));
        }
        let mut identity = self.identity(id);
        if let Some(before) = remembered.filter(|_| has_changed) {
            warn!(
                "Docker's id was {before} and is {id} now, which counts: keys of running containers are taken over, and \
                 the others that were held with the former id are removed when their TTL ends"
            );
            identity = identity.after(self.identity(&before));
        }
        if let Some(early) = early {
            if !has_changed {
                return early;
            }
            // Not by `shutdown`, after which it might remove the keys.
            early.task.abort();
            let _ = early.task.await;
            self.status.leases.give_up();
            self.status.leases.set_seat(Seat::open);
            self.status.seat.forget();
        }
        self.start_keeper(identity, wanted)
    }

    fn identity(&self, docker_id: &str) -> Identity {
        Identity::new(docker_id, &self.settings.host.options.instance)
    }

    /// Lets the keeper end its work on the store, unless a second signal comes.
    async fn end(&mut self, keeping: Option<Keeping>) {
        self.process.side.program_ends();
        let Some(Keeping { task, shutdown }) = keeping else {
            if self.signals.for_good().is_set() && self.settings.host.store.lasts() {
                warn!(
                    "ending; keys of a process before this one stay until their TTL ends, because Docker did not answer"
                );
            }
            return;
        };
        drop(shutdown);
        if !task.is_finished() {
            tokio::select! {
                _ = task => {}
                () = self.signals.end() => info!("ending at once"),
            }
        }
    }

    fn world(&self) -> World {
        let host = &self.settings.host;
        let report = if self.settings.explain {
            Report::All
        } else {
            Report::Failures
        };
        World::live(host.options.clone(), self.snapshots.subscribe())
            .script(host.script.clone())
            .reading(host.reader())
            .reporting(report)
            .keeping(Rc::clone(&self.verdicts))
            .shown_by(&self.status.policy)
            .counting(self.status.policy_errors.clone())
    }

    fn start_feed(&self, daemon: Option<Daemon>) -> JoinHandle<()> {
        let settings = &self.settings;
        let outage = Outage::new("Docker", "keys stay as they are", settings.lifetime());
        let feed = Feed {
            filters: settings.host.filters.clone(),
            resync: settings.resync,
            ping: settings.call_limit(),
            events: self.status.events.clone(),
            calls: self.status.metrics.of_role.calls("docker"),
            outage: outage.shown_by(&self.status.docker),
            snapshots: self.snapshots.clone(),
        };
        tokio::spawn(feed.run(daemon))
    }

    fn start_keeper(&self, identity: Identity, wanted: WantedReceiver) -> Keeping {
        let (shutdown, ended) = oneshot::channel();
        let ended = async {
            // The sender is dropped, which is an error here.
            let _ = ended.await;
        };
        let (settings, status) = (self.settings.clone(), Arc::clone(&self.status));
        let for_good = self.signals.for_good();
        let task = match settings.mode {
            // On the second thread, because a slow reader of the output may block it.
            Mode::DryRun => {
                let store = PrintStore::new(stdout(), settings.host.store.name());
                self.process.side.spawn(keep(
                    store, identity, settings, wanted, status, ended, for_good,
                ))
            }
            Mode::Write(_) => {
                let store = settings.host.connect();
                tokio::spawn(keep(
                    store, identity, settings, wanted, status, ended, for_good,
                ))
            }
        };
        Keeping { task, shutdown }
    }

    /// Drives the script through reloads and failures until a signal ends it.
    async fn supervise(
        &mut self,
        world: &World,
        script: Script,
        mut feed: JoinHandle<()>,
        keeper: &mut JoinHandle<()>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            // The script comes first, because the other cases are rare.
            biased;
            result = drive(world, script, &self.status.loads, &mut self.signals) => {
                result.map_err(|failure| anyhow!("{failure}"))
            }
            ended = &mut feed => ended.context("the task that watches Docker has crashed"),
            // Nobody reads the output of a dry run any more.
            ended = &mut *keeper => ended.with_context(|| {
                format!("the task that writes to {} has crashed", self.settings.host.store.name())
            }),
        }
    }
}
