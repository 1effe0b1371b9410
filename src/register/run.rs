//! `run`: connects the feed, the script and the keeper, and handles signals. Feed, script and keeper share one thread,
//! because waking another one takes longer than most steps from an event to its keys.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::stdout;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info};

use super::introduction::introduction;
use super::keeper::{keep, renew_late, watch_expiry};
use super::settings::{Mode, Settings};
use super::status::Status;
use super::{host_ip, page};
use crate::docker::{self, Daemon, Feed, Snapshot, Snapshots};
use crate::ops::log::Recent;
use crate::ops::outage::Outage;
use crate::ops::side_thread::SideThread;
use crate::ops::signals::{Request, Signals};
use crate::ops::{listen, systemd};
use crate::policy::{ContainerView, Failure, Report, Script, Verdicts, World};
use crate::store::Identity;
use crate::store::print::PrintStore;
use crate::wanted::Wanted;

/// The pause before a failed `run` of the script is started again.
const SCRIPT_PAUSE: Duration = Duration::from_secs(1);
/// The time between two log lines about the same failure of `run`.
const REMINDER: Duration = Duration::from_secs(60);
/// The error before the program ends by force.
const LAST_WORDS: &str =
    "the script hangs, so the program ends without waiting for it; the keys stay until their TTL";

/// Runs until a signal ends it, or fails at once if the script is broken from the start. `recent` has the last warnings
/// and errors, for the page.
pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<()> {
    // A wrong DOCKER_HOST can never work, so it is not retried.
    docker::Endpoint::from_env()?;
    let signals = Signals::listen()?;
    let status = Arc::new(Status::new(settings.host.options.ttl));
    let side = start_side_thread(&settings, &status, recent)?;
    let verdicts = Rc::new(RefCell::new(Verdicts::default()));
    let snapshots = watch::Sender::new(None);
    let answers = answer(&status, &verdicts, snapshots.subscribe());
    let work = Work {
        settings,
        side: &side,
        status: &status,
        verdicts: Rc::clone(&verdicts),
        snapshots,
        signals,
    };
    tokio::select! {
        // Questions come last, so that they do not delay the work.
        biased;
        result = work.run() => result,
        never = answers => match never {},
    }
}

/// Starts the tasks that must go on while a script hangs: late renewals, systemd's watchdog, HTTP, the forced end.
fn start_side_thread(
    settings: &Settings,
    status: &Arc<Status>,
    recent: Recent,
) -> anyhow::Result<SideThread> {
    let side = SideThread::start(LAST_WORDS)?;
    side.spawn(systemd::follow(status.readiness()));
    if settings.mode != Mode::DryRun {
        let host = settings.host.clone();
        let connect = move || host.store();
        side.spawn(renew_late(connect, status.leases.clone()));
        side.spawn(watch_expiry(status.leases.clone()));
    }
    if let Some(address) = settings.listen {
        let routes = page::routes(status, recent, page::about(&settings.host));
        side.enter(|| listen::start(address, status.readiness(), routes))?;
    }
    Ok(side)
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

struct Work<'a> {
    settings: Settings,
    side: &'a SideThread,
    status: &'a Arc<Status>,
    verdicts: Rc<RefCell<Verdicts>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    signals: Signals,
}

impl Work<'_> {
    async fn run(mut self) -> anyhow::Result<()> {
        let found = host_ip::find(&mut self.settings, &self.status.etcd);
        match self.signals.unless_ended(found).await {
            Some(found) => found?,
            None => return Ok(()),
        }
        let world = self.world();
        let wanted = world.wanted();
        // A broken script ends the program before anything is touched.
        let script = Script::load(world.clone()).map_err(|failure| anyhow!("{failure}"))?;
        info!("policy: {}", script.version());
        self.status.script.send_replace(script.version());
        let asked = ask_docker(&self.settings, self.status);
        let Some(daemon) = self.signals.unless_ended(asked).await else {
            return Ok(());
        };
        info!("{}", introduction(&self.settings, daemon.as_ref())?);
        let id = daemon.as_ref().map_or("", |daemon| &daemon.id);
        let identity = Identity::new(id, &self.settings.host.options.instance);
        let feed = self.start_feed(daemon);
        let (shutdown, ended) = oneshot::channel();
        let mut keeper = self.start_keeper(identity, wanted, ended);
        let result = self.supervise(world, script, feed, &mut keeper).await;
        systemd::say_goodbye().await;
        // The keeper ends its work on the store, unless a second signal comes.
        drop(shutdown);
        if !keeper.is_finished() {
            tokio::select! {
                _ = keeper => {}
                () = self.signals.end() => info!("ending at once"),
            }
        }
        result
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
            outage: outage.shown_by(&self.status.docker),
            snapshots: self.snapshots.clone(),
        };
        tokio::spawn(feed.run(daemon))
    }

    fn start_keeper(
        &self,
        identity: Identity,
        wanted: watch::Receiver<Option<Arc<Wanted>>>,
        ended: oneshot::Receiver<()>,
    ) -> JoinHandle<()> {
        let shutdown = async {
            // The sender is dropped, which is an error here.
            let _ = ended.await;
        };
        let (settings, status) = (self.settings.clone(), Arc::clone(self.status));
        match settings.mode {
            // On the second thread, because a slow reader of the output may block it.
            Mode::DryRun => {
                let store = PrintStore::new(stdout());
                self.side
                    .spawn(keep(store, identity, settings, wanted, status, shutdown))
            }
            Mode::Write(_) => {
                let store = settings.host.store();
                tokio::spawn(keep(store, identity, settings, wanted, status, shutdown))
            }
        }
    }

    /// Drives the script through reloads and failures until a signal ends it.
    async fn supervise(
        &mut self,
        world: World,
        mut script: Script,
        mut feed: JoinHandle<()>,
        keeper: &mut JoinHandle<()>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                // The script comes first, because the other cases are rare.
                biased;
                failure = drive(&world, &script) => bail!("{failure}"),
                ended = &mut feed => return ended.context("the task that watches Docker has crashed"),
                // Nobody reads the output of a dry run any more.
                ended = &mut *keeper => return ended.context("the task that writes to etcd has crashed"),
                request = self.signals.next() => match request {
                    Request::End => return Ok(()),
                    Request::Reload => match Script::load(world.clone()) {
                        Ok(new) => {
                            info!("policy, loaded again: {}", new.version());
                            self.status.script.send_replace(new.version());
                            script = new;
                        }
                        Err(failure) => error!(
                            "the policy cannot be loaded again: {failure}\n  the old one stays in force"
                        ),
                    },
                },
            }
        }
    }
}

/// Runs the script, and starts it again after each failure; the keys are kept meanwhile. Returns the failure of a
/// script that has never set a wanted state.
async fn drive(world: &World, script: &Script) -> Failure {
    let mut said: Option<(Failure, Instant)> = None;
    loop {
        let failure = match script.run().await {
            Ok(()) => Failure::new(
                "the policy's `run` returned; it must loop over `docker.watch()`, which never ends",
            ),
            Err(failure) => failure,
        };
        if world.wanted().borrow().is_none() {
            return failure;
        }
        world.condition().bad(&failure.to_string());
        if !matches!(&said, Some((last, at)) if *last == failure && at.elapsed() < REMINDER) {
            error!("{failure}\n  all keys stay as they were; `run` is started again every second");
            said = Some((failure, Instant::now()));
        }
        tokio::time::sleep(SCRIPT_PAUSE).await;
    }
}

/// Waits for the Docker daemon, because the identity is derived from its id. A dry run needs none.
async fn ask_docker(settings: &Settings, status: &Status) -> Option<Daemon> {
    if settings.mode == Mode::DryRun {
        return None;
    }
    let mut outage = Outage::new("Docker", "nothing is registered yet", settings.lifetime())
        .shown_by(&status.docker);
    loop {
        match Daemon::ask().await {
            Ok(daemon) => {
                outage.over();
                return Some(daemon);
            }
            Err(error) => tokio::time::sleep(outage.failed(format!("{error:#}"))).await,
        }
    }
}
