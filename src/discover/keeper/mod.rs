//! The one task that changes the proxy and its files: it brings them to the newest wanted routes, reads back what runs,
//! and starts the proxy if it is ours.
//!
//! Three rules keep this safe:
//!
//! - The file on disk is what should run, so a proxy that starts by itself comes up right.
//! - A configuration is checked before it is installed. One that is refused changes nothing.
//! - The running state of what has changed is read back after each change, and remembered until the next one, which so
//!   begins at once. All of it is read anew at each look without a change, or when one is due, and after an error.

mod changes;
mod loading;
mod writer;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::addresses::listened_by;
use super::applied::Applied;
use super::files::{Files, main_file};
use super::haproxy::{Haproxy, Running, Sockets, Version};
use super::loader::Beside;
use super::plan::{Abilities, Plan, plan, plan_servers};
use super::process::{Event, FIRST_ROUTES, GRACE, Process, tend};
use super::refused::Refusals;
use super::settings::OnExit;
use super::status::Status;
use crate::ops::outage::Outage;
use crate::routes::{Bound, File, Routes};
use writer::Writer;

/// The name of the file with what the proxy has loaded.
const APPLIED: &str = ".applied.json";
/// The name of the file with the servers' states over a reload.
pub const STATE: &str = ".state";
/// The time after a change in which HAProxy is not asked what runs, and no file is written: its first requests are to be
/// answered. No further change comes so soon, because the feed gathers them for longer.
const UNDISTURBED: Duration = Duration::from_millis(5);
/// How long a proxy that reloads may refuse connections, and the time between two looks.
const RELOADING: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(5);

pub struct Keeper {
    settings: super::Settings,
    files: Files,
    writer: Writer,
    haproxy: Haproxy,
    /// None before it has started, or if it is somebody else's.
    process: Option<Process>,
    version: Option<Version>,
    /// Whether it answered in the last round.
    answers: bool,
    /// None while it is not known what the proxy has loaded.
    applied: Option<Applied>,
    /// None if the running state is to be read anew.
    seen: Option<Seen>,
    /// Since when servers are in maintenance, by backend and name.
    maint: HashMap<(Arc<str>, Arc<str>), Instant>,
    /// The last saved `applied`, and the file that was written with it.
    saved: Option<(Applied, File)>,
    /// The files beside the main one.
    beside: Beside,
    refusals: Refusals,
    reloaded_at: Option<Instant>,
    /// How often our proxy has died since it last answered.
    deaths: u32,
    outage: Outage,
    status: Arc<Status>,
}

/// The running state after the last change, and the file that it is in step with: so far as the next one shares its
/// pieces, it needs no look. An error drops it, and so does everything that may change what the proxy has loaded.
struct Seen {
    running: Arc<Running>,
    file: File,
    /// When all of it was read. After a change, only the servers that differ are.
    read_at: Instant,
}

/// Keeps the proxy in step with `routes` until `shutdown` completes.
pub async fn keep(
    mut keeper: Keeper,
    routes: watch::Receiver<Option<Arc<Routes>>>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::select! {
        () = keeper.run(routes) => {}
        () = shutdown => {}
    }
    keeper.end().await;
}

/// The addresses that the proxy listens on, empty if it does not run; none if that is not known.
pub async fn listened(sockets: &Sockets) -> Option<BTreeSet<Bound>> {
    let haproxy = Haproxy::new(sockets.clone());
    let is_there = || sockets.master.as_ref().is_some_and(|path| path.exists());
    let begun = Instant::now();
    loop {
        match haproxy.workers().await {
            Ok(workers) => {
                let workers = workers
                    .current
                    .into_iter()
                    .chain(workers.old)
                    .chain([workers.master]);
                let processes: Vec<i32> = workers.collect();
                return listened_by(&processes);
            }
            // During a reload, 2.6 refuses connections for a moment.
            Err(_) if is_there() && begun.elapsed() < RELOADING => sleep(LOOK).await,
            Err(_) => return (!accepts(sockets).await).then(BTreeSet::new),
        }
    }
}

/// Whether somebody accepts connections on the proxy's master socket.
async fn accepts(sockets: &Sockets) -> bool {
    match &sockets.master {
        Some(master) => UnixStream::connect(master).await.is_ok(),
        None => false,
    }
}

impl Keeper {
    pub fn new(
        settings: super::Settings,
        sockets: Sockets,
        status: Arc<Status>,
    ) -> anyhow::Result<Self> {
        let files = Files::open(&settings.routing.directory)?;
        let outage = Outage::new("HAProxy", "its routes stay as they are", settings.resync);
        Ok(Self {
            writer: Writer::new(&files),
            beside: Beside::new(&files, settings.commands.clone(), settings.reload_interval),
            files,
            haproxy: Haproxy::new(sockets),
            settings,
            process: None,
            version: None,
            answers: false,
            applied: None,
            seen: None,
            saved: None,
            maint: HashMap::new(),
            refusals: Refusals::default(),
            reloaded_at: None,
            deaths: 0,
            outage: outage.shown_by(&status.proxy),
            status,
        })
    }

    async fn run(&mut self, mut routes: watch::Receiver<Option<Arc<Routes>>>) {
        let first = routes.wait_for(Option::is_some);
        if timeout(FIRST_ROUTES, first).await.is_err() {
            self.start_with_last("no routes are known yet").await;
        }
        loop {
            let newest = routes.borrow_and_update().clone();
            let next_at = match newest {
                Some(newest) => self.round(newest).await,
                None => Instant::now() + self.settings.resync,
            };
            tokio::select! {
                changed = routes.changed() => if changed.is_err() { return },
                () = sleep_until(next_at) => self.seen = None,
                event = tend(&mut self.process) => self.tell(&event),
                () = self.writer.failed() => {}
            }
        }
    }

    /// One round. Returns the time of the next, if nothing changes.
    async fn round(&mut self, routes: Arc<Routes>) -> Instant {
        let begun = Instant::now();
        match self.bring_in_step(&routes).await {
            Ok(next_at) => {
                self.outage.over();
                self.status.synced(&routes, begun);
                let for_others = self.beside.again_at();
                for_others.map_or(next_at, |at| at.min(next_at))
            }
            Err(error) => {
                self.answers = false;
                self.seen = None;
                Instant::now() + self.outage.failed(format!("{error:#}"))
            }
        }
    }

    async fn bring_in_step(&mut self, routes: &Routes) -> anyhow::Result<Instant> {
        let is_old = |seen: &Seen| seen.read_at.elapsed() >= self.settings.pause();
        let seen = self.seen.take();
        let remembered = seen.filter(|seen| !is_old(seen) && !self.is_drain_due());
        if let Some(seen) = remembered
            && let Some(next_at) = self.step(routes, Some(seen)).await?
        {
            return Ok(next_at);
        }
        let next_at = self.step(routes, None).await?;
        next_at.context("what HAProxy runs was not read")
    }

    /// Brings the proxy in step from what was `seen`, else from what it runs now. Returns none if that is not what was
    /// seen: somebody else has changed it.
    async fn step(
        &mut self,
        routes: &Routes,
        seen: Option<Seen>,
    ) -> anyhow::Result<Option<Instant>> {
        let main = main_file(&routes.files).context("the policy makes no file")?;
        // A command about them holds up no run-time change of a proxy that answers.
        let waits = self.answers && self.beside.has_commands();
        let mut others = Ok(());
        if !waits {
            others = self.bring_others(main, &routes.files).await;
        }
        if !self.is_started(main, routes).await? {
            return Ok(Some(self.retry_at()));
        }
        if !self.answers {
            self.meet(main).await?;
        }
        if self.applied.is_none() {
            self.settle_files().await;
            let on_disk = self.files.read(&main.name)?.unwrap_or_default();
            let recalled = Applied::recall(&self.files.path(APPLIED));
            self.applied = recalled.filter(|applied| applied.is_about(&on_disk));
        }
        let is_fresh = seen.is_none();
        let running = match &seen {
            Some(seen) => Arc::clone(&seen.running),
            None => Arc::new(self.haproxy.running().await?),
        };
        let mut plan = self.plan(main, &running, seen.as_ref());
        let was_refused = self.change(main, &plan.changes, &mut plan.reload).await?;
        if !plan.changes.is_empty() {
            sleep(UNDISTURBED).await;
        }
        if waits {
            others = self.bring_others(main, &routes.files).await;
        }
        if self.beside.has_changed() {
            plan.reload
                .get_or_insert_with(|| "another file of it has changed".to_owned());
        }
        if is_fresh {
            self.drain(main, &running, &mut plan.reload).await;
        } else if was_refused {
            return Ok(None);
        }
        // A disk that is full holds up no run-time change.
        others?;
        let Some(why) = plan.reload else {
            self.install(main, is_fresh).await?;
            self.refusals.clear();
            self.show_good();
            let unchanged = plan.changes.is_empty().then_some(running);
            return self.read_back(main, unchanged, seen).await;
        };
        let now = Instant::now();
        let soonest = self
            .reloaded_at
            .map_or(now, |at| at + self.settings.reload_interval);
        if soonest > now {
            return Ok(Some(soonest));
        }
        if !self.reload(main, routes, &why).await? {
            return Ok(Some(self.retry_at()));
        }
        self.read_back(main, None, None).await
    }

    /// Learns the version of a proxy that answers. One that does not gets the newest configuration, which it starts
    /// with, whoever starts it.
    async fn meet(&mut self, main: &File) -> anyhow::Result<()> {
        let version = match self.haproxy.version().await {
            Ok(version) => version,
            Err(error) => {
                let text = main.text();
                if self.files.read(&main.name)?.as_deref() != Some(&*text) {
                    self.put_checked(main, &text).await?;
                }
                return Err(error);
            }
        };
        if self.version != Some(version) {
            info!("HAProxy {version} answers");
            if !version.can_add_servers() {
                warn!(
                    "HAProxy {version} is too old to add servers while it runs, so each new one is a reload; install 2.6 or newer"
                );
            }
        }
        self.version = Some(version);
        self.answers = true;
        self.deaths = 0;
        if let Some(addresses) = listened(self.haproxy.sockets()).await {
            self.status.hold_too(addresses);
        }
        // One that has just loaded a configuration may listen on more than when the addresses were tried.
        self.status.addresses_changed.notify_one();
        Ok(())
    }

    /// Brings the files beside the main one in step.
    async fn bring_others(&mut self, main: &File, files: &[File]) -> anyhow::Result<()> {
        let others = files.iter().filter(|file| file.name != main.name);
        let others: Vec<&File> = others.collect();
        self.beside.bring(&others, files, &self.status).await
    }

    /// Nothing of the configuration is refused, unless files beside it are.
    fn show_good(&self) {
        if self.beside.is_good() {
            self.status.configuration.good();
        }
    }

    /// The plan, for less than the whole file if it is known what the proxy was in step with.
    fn plan(&self, main: &File, running: &Running, seen: Option<&Seen>) -> Plan {
        let applied = self.applied.as_ref();
        let can_add_servers = self.version.is_some_and(Version::can_add_servers);
        let abilities = Abilities { can_add_servers };
        match seen.and_then(|seen| main.changed_servers(&seen.file)) {
            Some(changed) if applied.is_some() => {
                plan_servers(&changed, applied, running, abilities)
            }
            _ => plan(main, applied, running, abilities),
        }
    }

    fn retry_at(&self) -> Instant {
        let resync = Instant::now() + self.settings.pause();
        let until = self.refusals.until();
        until.map_or(resync, |until| until.min(resync))
    }

    fn tell(&mut self, event: &Event) {
        self.seen = None;
        match event {
            Event::Died(death) => {
                self.answers = false;
                self.deaths += 1;
                self.status.metrics.count_death();
                if self.deaths > 1 {
                    // Somebody may have taken one of its addresses meanwhile.
                    self.status.release();
                }
                debug!("HAProxy {death}");
            }
            Event::Restarted => debug!("HAProxy has been started again"),
        }
    }

    async fn end(&mut self) {
        self.settle_files().await;
        let Some(mut process) = self.process.take() else {
            return;
        };
        match self.settings.mode {
            super::Mode::Write(OnExit::Leave) => process.leave(),
            super::Mode::Write(OnExit::Stop) | super::Mode::DryRun => process.stop(GRACE).await,
        }
    }
}
