//! The files of the proxy: checks them, installs them, lets the proxy load them, and starts the proxy if it is ours.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::decision::Loaded;
use super::driver::Driver;
use super::envoy::Envoy;
use super::{LOADED, Loader};
use crate::discover::process::{Process, is_running};
use crate::discover::refused::Refused;
use crate::discover::settings::Starter;
use crate::routes::{File, Routes};

/// How long our proxy may take until it runs, and the time between two looks.
const START: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

impl Loader {
    /// The process that loads the files. Ours is adopted if it runs already, and waited for if it has just been started.
    pub(super) async fn find(&mut self) -> anyhow::Result<Option<Pid>> {
        if !self.settings.proxy.is_ours() {
            return self.driver.find(None).await;
        }
        if self.process.is_none() {
            if self.driver.find(None).await?.is_none() {
                return Ok(None);
            }
            self.start().await?;
        }
        let Some(child) = self.process.as_ref().and_then(Process::pid) else {
            // It is started again by itself.
            return Ok(None);
        };
        let begun = Instant::now();
        // The number in the pid file of one that has ended may be another nginx's by now.
        while is_running(child) {
            let found = self.driver.find(Some(child)).await?;
            if found.is_some() || begun.elapsed() > START {
                return Ok(found);
            }
            sleep(LOOK).await;
        }
        Ok(None)
    }

    /// The time of the next reload, if one may not come yet.
    pub(super) fn soonest(&self) -> Option<Instant> {
        let soonest = self.reloaded_at? + self.settings.reload_interval;
        (soonest > Instant::now()).then_some(soonest)
    }

    /// Checks files before they are in force.
    pub(super) async fn check(&self, main: &[&File], all: &[File]) -> Result<(), Refused> {
        let command = self.settings.commands.check.as_deref();
        match self.driver.check(&self.files, main, all, command).await {
            // Somebody else's proxy may be where no program is that checks. It refuses what it cannot load.
            Err(Refused::Unknown(error)) if command.is_none() && !self.settings.proxy.is_ours() => {
                debug!("the files are loaded without a check: {error:#}");
                Ok(())
            }
            result => result,
        }
    }

    /// Whether the files are not refused.
    pub(super) fn is_taken(
        &mut self,
        result: Result<(), Refused>,
        wanted: &str,
    ) -> anyhow::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(Refused::Bad(lines)) => {
                let name = self.settings.proxy.name();
                let headline =
                    format!("{name} refuses the configuration, so the last one stays in force");
                self.refusals.add(&self.status, &headline, wanted, &lines);
                Ok(false)
            }
            Err(Refused::Unknown(error)) => Err(error),
        }
    }

    /// Installs the files of a proxy that does not run, and starts it if it is ours and was never started.
    pub(super) async fn start_or_wait(
        &mut self,
        main: &[&File],
        is_absent: bool,
    ) -> anyhow::Result<Instant> {
        self.forget();
        for file in main {
            self.files.put(&file.name, &file.text())?;
        }
        if !self.settings.proxy.is_ours() {
            let missing = self.driver.missing();
            return missing.map_or_else(|| Ok(Instant::now() + self.settings.pause()), Err);
        }
        let name = self.settings.proxy.name();
        ensure!(
            is_absent,
            "{name} does not run, and is about to be started again"
        );
        self.start().await?;
        let found = self.find().await?;
        ensure!(found.is_some(), "{name} has been started, and does not run");
        // The next round goes on with it.
        Ok(Instant::now())
    }

    /// Whether a file has changed that our proxy reads only when it starts.
    pub(super) fn must_restart(&self, main: &[&File]) -> anyhow::Result<bool> {
        let is_ours_and_envoy =
            matches!(self.driver, Driver::Envoy(_)) && self.settings.proxy.is_ours();
        if !is_ours_and_envoy || !Envoy::has_other_bootstrap(&self.files, main)? {
            return Ok(false);
        }
        info!(
            "Envoy is started again, because its `{}` has changed",
            self.driver.first_file()
        );
        Ok(true)
    }

    /// Puts the files in place, and lets the proxy load them: those that have changed, or all of them `anew`. Those that
    /// it refuses are put back.
    pub(super) async fn load(
        &mut self,
        main: &[&File],
        running: Pid,
        anew: bool,
    ) -> Result<(), Refused> {
        self.forget();
        let process = self.process.as_ref();
        let nginx = match &mut self.driver {
            Driver::None => return Ok(()),
            Driver::Envoy(envoy) => return envoy.load(&self.files, main, anew, process).await,
            Driver::Nginx(nginx) => nginx,
        };
        let mut before = Vec::new();
        for file in main {
            let text = self.files.read(&file.name).map_err(anyhow::Error::from)?;
            before.push((&file.name, text));
            self.files.put(&file.name, &file.text())?;
        }
        let result = nginx.load(running, process).await;
        self.reloaded_at = Some(Instant::now());
        if result.is_ok() {
            info!("nginx has loaded its file");
            self.status.metrics.count_reload(true);
        }
        if let Err(Refused::Bad(_)) = result {
            for (name, text) in before {
                match text {
                    Some(text) => {
                        self.files.put(name, &text)?;
                    }
                    None => self.files.remove(name),
                }
            }
        }
        result
    }

    pub(super) fn has_loaded(
        &mut self,
        main: &[&File],
        routes: &Routes,
        loaded: Loaded,
    ) -> anyhow::Result<()> {
        self.status.hold(routes.addresses());
        // A full disk is no reason for this process to load them once more.
        let loaded = self.loaded.insert(loaded);
        // Only another try shows the parts that Envoy refuses, and it changes nothing else.
        if matches!(self.driver, Driver::Nginx(_)) {
            let saved = loaded.save(&self.files.path(LOADED));
            saved.context("cannot write what the proxy has loaded")?;
            for file in main {
                self.files.keep_good(&file.name, &file.text())?;
            }
        }
        Ok(())
    }

    /// If this process dies now, the next one must not take the files on disk for loaded.
    fn forget(&mut self) {
        self.files.remove(LOADED);
        self.loaded = None;
    }

    /// Looks at a proxy that has loaded its files. Returns the time of the next look.
    pub(super) async fn look(&mut self, main: &[&File], running: Pid) -> anyhow::Result<Instant> {
        let mut next_at = Instant::now() + self.settings.pause();
        let mut left_out = Vec::new();
        if let Driver::Envoy(envoy) = &mut self.driver {
            if envoy.retry_at().is_some_and(|at| at <= Instant::now()) {
                let process = self.process.as_ref();
                envoy.load(&self.files, main, false, process).await?;
            }
            left_out = envoy.left_out().await?;
            next_at = envoy.retry_at().map_or(next_at, |at| at.min(next_at));
        }
        for new in left_out.iter().filter(|new| !self.left_out.contains(new)) {
            warn!("{new}");
        }
        for old in &self.left_out {
            if !left_out.iter().any(|new| new.what == old.what) {
                info!("{} is no longer left out", old.what);
            }
        }
        self.left_out.clone_from(&left_out);
        let old_workers = self.driver.old_workers(running);
        self.status.show_loaded(old_workers, left_out);
        Ok(next_at)
    }

    /// Starts our proxy, or adopts it.
    async fn start(&mut self) -> anyhow::Result<()> {
        let proxy = &self.settings.proxy;
        let Starter::Us { command } = &proxy.starter else {
            return Ok(());
        };
        if let Some(settings) = Driver::settings(&proxy.proxy, &self.files, command) {
            self.process = Some(Process::start(settings).await?);
        }
        Ok(())
    }

    /// Starts our proxy with the files of an earlier process.
    pub(super) async fn start_with_last(&mut self, why: &str) {
        let first = self.driver.first_file();
        if matches!(self.driver, Driver::None)
            || !self.settings.proxy.is_ours()
            || !self.files.path(first).exists()
        {
            return;
        }
        let name = self.settings.proxy.name();
        info!("{why}: {name} starts with the last configuration");
        if let Err(error) = self.start().await {
            self.outage.failed(format!("{error:#}"));
        }
    }
}
