//! The configuration: checks it, installs it, makes the proxy load it, and starts the proxy if it is ours.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::writer::Job;
use super::{APPLIED, Keeper, LOOK, STATE};
use crate::discover::applied::Applied;
use crate::discover::haproxy::RunningServer;
use crate::discover::process::{self, Kind, Process, check};
use crate::discover::refused::Refused;
use crate::discover::settings::Starter;
use crate::routes::{File, Routes};

/// The program that checks configurations, and runs unless another command is given.
const PROGRAM: &str = "haproxy";
/// How long our proxy may take until it answers.
const START: Duration = Duration::from_secs(2);

impl Keeper {
    /// Begins to write the file that is now in force, and waits for the end if that is `urgent`: a process that has just
    /// begun is not ready before. After a failure it waits too, to tell of the next one.
    pub(super) async fn install(&mut self, main: &File, urgent: bool) -> anyhow::Result<()> {
        let Some(applied) = self.applied.clone() else {
            return Ok(());
        };
        let has_failed = self.writer.has_failed();
        let saved = Some((applied.clone(), main.clone()));
        let is_saved = !has_failed && self.saved == saved;
        self.saved = saved;
        self.writer.write(Job {
            file: main.clone(),
            applied: (!is_saved).then(|| (self.files.path(APPLIED), applied)),
        });
        if has_failed || urgent {
            self.writer.flush().await?;
        }
        Ok(())
    }

    /// Lets no write be under way, before files are read or written here. The next one tells of a failure.
    pub(super) async fn settle_files(&mut self) {
        if let Err(error) = self.writer.flush().await {
            debug!("{error:#}");
        }
    }

    /// Checks, installs and loads a configuration. Returns false if it was refused, and is to be tried later.
    pub(super) async fn reload(
        &mut self,
        main: &File,
        routes: &Routes,
        why: &str,
    ) -> anyhow::Result<bool> {
        self.settle_files().await;
        let text = main.text();
        let before = self.files.read(&main.name)?;
        let applied = self.applied.clone();
        if !self.put_checked(main, &text).await? {
            return Ok(false);
        }
        let state = self.files.path(STATE);
        let holds = |backend: &str, found: &RunningServer| {
            let mut servers = main
                .servers()
                .filter(|servers| &*servers.backend == backend);
            servers.any(|servers| {
                servers.servers.iter().any(|server| {
                    server.name == found.name && Some(server.address) == found.address
                })
            })
        };
        // Without it, the new process takes all servers for healthy.
        if let Err(error) = self.haproxy.write_state(&state, holds).await {
            warn!("the servers' states are lost at this reload: {error:#}");
        }
        let begun = Instant::now();
        let result = self.haproxy.reload().await;
        self.files.remove(STATE);
        self.reloaded_at = Some(Instant::now());
        match result {
            Ok(()) => {
                info!("HAProxy reloaded: {why}");
                self.status.metrics.count_reload(true);
                self.loaded(main, routes, &text)?;
                Ok(true)
            }
            Err(Refused::Bad(lines)) => {
                if let Some(before) = before {
                    self.files.put(&main.name, &before)?;
                    self.applied = applied;
                }
                // 2.6 tells them its own log alone.
                let logged = |process: &Process| process.lines_since(begun);
                let lines = if lines.is_empty() {
                    self.process.as_ref().map(logged).unwrap_or_default()
                } else {
                    lines
                };
                self.refuse(&text, &lines);
                Ok(false)
            }
            Err(Refused::Unknown(error)) => Err(error),
        }
    }

    /// Installs a configuration that the proxy accepts in a check. Returns false if it does not.
    pub(super) async fn put_checked(&mut self, main: &File, text: &str) -> anyhow::Result<bool> {
        if self.refusals.put_off(text) {
            return Ok(false);
        }
        self.settle_files().await;
        let staged = self.files.stage(&main.name, text)?;
        let checked = check(PROGRAM.as_ref(), &["-c", "-f"], &staged).await;
        self.files.remove(&format!("{}.new", main.name));
        match checked {
            Ok(()) => {}
            Err(Refused::Bad(lines)) => {
                self.refuse(text, &lines);
                return Ok(false);
            }
            // Somebody else's proxy may be where no program is that checks. It refuses what it cannot load.
            Err(Refused::Unknown(error)) if !self.settings.proxy.is_ours() => {
                debug!("the configuration is loaded without a check: {error:#}");
            }
            Err(Refused::Unknown(error)) => return Err(error),
        }
        // If this process dies now, the next one must not take the file for what the proxy has loaded.
        self.files.remove(APPLIED);
        self.applied = None;
        self.saved = None;
        self.files.put(&main.name, text)?;
        Ok(true)
    }

    fn refuse(&mut self, text: &str, lines: &[String]) {
        let headline = "HAProxy refuses the configuration, so the last one stays in force";
        self.refusals.add(&self.status, headline, text, lines);
    }

    pub(super) fn loaded(
        &mut self,
        main: &File,
        routes: &Routes,
        text: &str,
    ) -> anyhow::Result<()> {
        self.refusals.clear();
        self.beside.are_loaded();
        self.show_good();
        self.maint.clear();
        self.status.hold(routes.addresses());
        let applied = Applied::loaded(main);
        self.applied = Some(applied.clone());
        let saved = applied.save(&self.files.path(APPLIED));
        saved.context("cannot write what the proxy has loaded")?;
        self.saved = Some((applied, main.clone()));
        self.files.keep_good(&main.name, text)
    }

    /// Starts our proxy with a checked configuration if it does not run. Returns false if there is none. One that has
    /// died is an error until it is started again, with this configuration.
    pub(super) async fn is_started(
        &mut self,
        main: &File,
        routes: &Routes,
    ) -> anyhow::Result<bool> {
        if !self.settings.proxy.is_ours() {
            return Ok(true);
        }
        let is_dead = match &self.process {
            Some(process) if process.pid().is_some() => return Ok(true),
            Some(_) => true,
            None if self.haproxy.workers().await.is_ok() => {
                self.start(&main.name).await?;
                return Ok(true);
            }
            None => false,
        };
        let text = main.text();
        let is_there = self.files.read(&main.name)?.as_deref() == Some(&*text);
        let is_installed = is_dead && is_there;
        if !is_installed && !self.put_checked(main, &text).await? {
            if !is_dead {
                self.start_with_last("the newest configuration is refused")
                    .await;
            }
            return Ok(false);
        }
        if !is_dead {
            self.start(&main.name).await?;
        }
        self.loaded(main, routes, &text)?;
        ensure!(
            !is_dead,
            "HAProxy does not run, and is about to be started again"
        );
        Ok(true)
    }

    pub(super) async fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let Starter::Us { command } = &self.settings.proxy.starter else {
            return Ok(());
        };
        let (file, master) = (self.files.path(name), self.haproxy.sockets().master.clone());
        let settings = match (&command[..], &master) {
            ([], Some(master)) => process::Settings::haproxy(PROGRAM.as_ref(), &file, master),
            _ => process::Settings {
                command: command.clone(),
                kind: Kind::Haproxy { master },
            },
        };
        // Without it, HAProxy warns of its absence.
        self.files.put(STATE, "1\n")?;
        self.process = Some(Process::start(settings).await?);
        let begun = Instant::now();
        while self.haproxy.version().await.is_err() && begun.elapsed() < START {
            sleep(LOOK).await;
        }
        self.files.remove(STATE);
        Ok(())
    }

    /// Starts our proxy with the configuration of an earlier process.
    pub(super) async fn start_with_last(&mut self, why: &str) {
        let name = "haproxy.cfg";
        if !self.settings.proxy.is_ours() || !self.files.path(name).exists() {
            return;
        }
        info!("{why}: HAProxy starts with the last configuration");
        if let Err(error) = self.start(name).await {
            self.outage.failed(format!("{error:#}"));
        }
    }
}
