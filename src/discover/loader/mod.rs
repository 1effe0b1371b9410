//! The one task that changes a proxy that reads files, and those files: nginx, Envoy, or whatever an operator's commands
//! know.
//!
//! Its rules are those of `HAProxy`'s keeper: the files on disk are what should run, files are checked before they are
//! installed, and those that are refused change nothing.

mod beside;
mod command;
mod decision;
mod driver;
mod envoy;
mod loading;
mod nginx;

use std::sync::Arc;

use anyhow::ensure;
use rustix::process::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

pub use beside::Beside;
pub use driver::listened;

use super::files::Files;
use super::process::{Event, FIRST_ROUTES, GRACE, Process, instance, tend};
use super::refused::Refusals;
use super::settings::{Mode, OnExit, Settings};
use super::status::Status;
use crate::ops::outage::Outage;
use crate::routes::{File, LeftOut, Routes};
use decision::{Loaded, Presence, State, Step, decide, digest_of};
use driver::Driver;

/// The name of the file with what the proxy has loaded.
const LOADED: &str = ".loaded.json";

pub struct Loader {
    settings: Settings,
    files: Files,
    driver: Driver,
    beside: Beside,
    /// None before it has started, or if it is somebody else's.
    process: Option<Process>,
    /// The process that was last found, by the name that no other process has.
    met: Option<String>,
    /// None while it is not known what the proxy has loaded.
    loaded: Option<Loaded>,
    /// The digest of the files that our proxy is started with.
    started_with: Option<String>,
    refusals: Refusals,
    /// The parts of the loaded files that the proxy has refused.
    left_out: Vec<LeftOut>,
    reloaded_at: Option<Instant>,
    /// How often our proxy has died since it last ran.
    deaths: u32,
    outage: Outage,
    status: Arc<Status>,
}

/// Keeps the proxy in step with `routes` until `shutdown` completes.
pub async fn keep(
    mut loader: Loader,
    routes: watch::Receiver<Option<Arc<Routes>>>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::select! {
        () = loader.run(routes) => {}
        () = shutdown => {}
    }
    loader.end().await;
}

impl Loader {
    pub fn new(settings: Settings, status: Arc<Status>) -> anyhow::Result<Self> {
        let files = Files::open(&settings.routing.directory)?;
        let name = settings.proxy.name();
        let outage = Outage::new(name, "its routes stay as they are", settings.resync);
        Ok(Self {
            driver: Driver::new(&settings.proxy.proxy),
            beside: Beside::new(&files, settings.commands.clone(), settings.reload_interval),
            process: None,
            met: None,
            started_with: None,
            loaded: Loaded::recall(&files.path(LOADED)),
            refusals: Refusals::default(),
            left_out: Vec::new(),
            reloaded_at: None,
            deaths: 0,
            outage: outage.shown_by(&status.proxy),
            files,
            settings,
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
                () = sleep_until(next_at) => {}
                event = tend(&mut self.process) => self.tell(&event),
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
                next_at
            }
            Err(error) => Instant::now() + self.outage.failed(format!("{error:#}")),
        }
    }

    async fn bring_in_step(&mut self, routes: &Routes) -> anyhow::Result<Instant> {
        let all = &routes.files;
        let is_main = |file: &&File| self.driver.reads(&file.name);
        let (main, others): (Vec<&File>, Vec<&File>) = all.iter().partition(is_main);
        // The proxy's own may name them.
        let result = self.beside.bring(&others, all, &self.status).await;
        let next_at = match self.driver {
            Driver::None => Instant::now() + self.settings.pause(),
            Driver::Nginx(_) | Driver::Envoy(_) => self.step(&main, routes).await?,
        };
        result?;
        if self.refusals.is_empty() && self.beside.is_good() {
            match self.left_out.first() {
                None => self.status.configuration.good(),
                Some(left_out) => self.status.configuration.bad(&left_out.to_string()),
            }
        }
        let now = Instant::now();
        let times = [self.beside.again_at(), self.refusals.until()];
        let times = times.into_iter().flatten().filter(|at| *at > now);
        Ok(times.fold(next_at, Instant::min))
    }

    /// Brings the proxy in step with its own files. Returns the time of the next round.
    async fn step(&mut self, main: &[&File], routes: &Routes) -> anyhow::Result<Instant> {
        let first = self.driver.first_file();
        let has_first = main.iter().any(|file| &*file.name == first);
        ensure!(has_first, "the policy makes no `{first}`");
        let wanted = digest_of(main);
        let running = self.find().await?;
        let running = running.and_then(|process| Some((process, instance(process)?)));
        let is_on_disk = self.files.hold(main)?;
        if let Some((process, name)) = &running {
            self.meet(*process, name);
            let begun_with = self.started_with.take();
            // Envoy has not told yet what it refuses of them.
            let is_nginx = matches!(self.driver, Driver::Nginx(_));
            if is_nginx && is_on_disk && begun_with.as_ref() == Some(&wanted) {
                self.has_loaded(main, routes, Loaded::new(&wanted, name))?;
            }
        }
        let is_absent = self.settings.proxy.is_ours() && self.process.is_none();
        let step = decide(&State {
            wanted: &wanted,
            is_on_disk,
            loaded: self.loaded.as_ref(),
            process: match &running {
                Some((_, name)) => Presence::Runs(name),
                None if is_absent => Presence::Absent,
                None => Presence::Dead,
            },
        });
        let pause = Instant::now() + self.settings.pause();
        if step != Step::Nothing && self.refusals.put_off(&wanted) {
            return Ok(pause);
        }
        if step != Step::Nothing
            && running.is_some()
            && let Some(soonest) = self.soonest()
        {
            return Ok(soonest);
        }
        if step == Step::Install {
            let result = self.check(main, &routes.files).await;
            if !self.is_taken(result, &wanted)? {
                if is_absent {
                    self.start_with_last("the newest configuration is refused")
                        .await;
                }
                return Ok(pause);
            }
        }
        let Some((process, name)) = running else {
            // Somebody else's may be running, and be named again.
            self.started_with = None;
            if self.settings.proxy.is_ours() {
                self.started_with = Some(wanted);
                // It listens as soon as it has started, before the next round knows of it.
                self.status.hold_too(routes.addresses());
            }
            return self.start_or_wait(main, is_absent).await;
        };
        if step != Step::Nothing {
            if self.must_restart(main)? {
                self.end_ours().await;
                return Ok(Instant::now());
            }
            let result = self.load(main, process, step == Step::Load).await;
            if !self.is_taken(result, &wanted)? {
                return Ok(pause);
            }
            self.has_loaded(main, routes, Loaded::new(&wanted, &name))?;
        }
        self.refusals.clear();
        self.look(main, process).await
    }

    /// Learns of a process that runs now.
    fn meet(&mut self, process: Pid, name: &str) {
        if self.met.as_deref() == Some(name) {
            return;
        }
        self.met = Some(name.to_owned());
        self.deaths = 0;
        if let Some(addresses) = self.driver.addresses(process) {
            self.status.hold_too(addresses);
        }
        // One that has just loaded its files may listen on more than when the addresses were tried.
        self.status.addresses_changed.notify_one();
        debug!(
            "{} runs, as process {}",
            self.settings.proxy.name(),
            process.as_raw_nonzero()
        );
    }

    fn tell(&mut self, event: &Event) {
        let name = self.settings.proxy.name();
        match event {
            Event::Died(death) => {
                self.deaths += 1;
                self.status.metrics.count_death();
                if self.deaths > 1 {
                    // Somebody may have taken one of its addresses meanwhile.
                    self.status.release();
                }
                debug!("{name} {death}");
            }
            Event::Restarted => debug!("{name} has been started again"),
        }
    }

    async fn end(&mut self) {
        match self.settings.mode {
            Mode::Write(OnExit::Leave) => {
                if let Some(process) = self.process.take() {
                    process.leave();
                }
            }
            Mode::Write(OnExit::Stop) | Mode::DryRun => self.end_ours().await,
        }
    }

    async fn end_ours(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(GRACE).await;
        }
    }
}
