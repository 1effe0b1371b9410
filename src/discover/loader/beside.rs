//! The files beside the proxy's own, or all files where no proxy is ours to drive: an operator's commands check and load
//! them.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::command;
use super::decision::{Loaded, Presence, State, Step, decide, digest_of};
use crate::discover::files::Files;
use crate::discover::refused::Refusals;
use crate::discover::settings::{Commands, Settings};
use crate::discover::status::Status;
use crate::routes::File;

/// The name of the file with what the command has loaded.
const RELOADED: &str = ".reloaded.json";
/// What has loaded the files.
const COMMAND: &str = "--reload";

pub struct Beside {
    files: Files,
    commands: Commands,
    /// The time between two reloads.
    interval: Duration,
    refusals: Refusals,
    loaded: Option<Loaded>,
    reloaded_at: Option<Instant>,
    has_changed: bool,
    again_at: Option<Instant>,
}

impl Beside {
    pub fn new(files: &Files, settings: &Settings) -> Self {
        Self {
            files: files.clone(),
            commands: settings.commands.clone(),
            interval: settings.reload_interval,
            refusals: Refusals::default(),
            loaded: Loaded::recall(&files.path(RELOADED)),
            reloaded_at: None,
            has_changed: false,
            again_at: None,
        }
    }

    pub fn has_commands(&self) -> bool {
        self.commands.check.is_some() || self.commands.reload.is_some()
    }

    /// Whether a file has changed that no command loads, since the proxy last loaded all.
    pub fn has_changed(&self) -> bool {
        self.has_changed && self.commands.reload.is_none()
    }

    /// The proxy has loaded all of them.
    pub fn are_loaded(&mut self) {
        self.has_changed = false;
    }

    /// Whether nothing of them is refused.
    pub fn is_good(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The time of the next round for their sake.
    pub fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Brings the wanted ones of `all` files in step.
    pub async fn bring(
        &mut self,
        wanted: &[&File],
        all: &[File],
        status: &Status,
    ) -> anyhow::Result<()> {
        self.again_at = None;
        let digest = digest_of(wanted);
        let step = decide(&State {
            wanted: &digest,
            is_on_disk: self.files.hold(wanted)?,
            loaded: self.loaded.as_ref(),
            process: Presence::Runs(COMMAND),
        });
        if step == Step::Nothing || wanted.is_empty() {
            self.refusals.clear();
            return Ok(());
        }
        if self.refusals.put_off(&digest) {
            self.again_at = self.refusals.until();
            return Ok(());
        }
        if step == Step::Install {
            if let Some(check) = &self.commands.check
                && let Err(refused) = command::check(check, &self.files, all).await
            {
                let headline = "the check refuses the files, so the last ones stay in force";
                self.refuse(status, headline, &digest, &refused.lines());
                return Ok(());
            }
            // If this process dies now, the next one must not take them for loaded.
            self.files.remove(RELOADED);
            self.loaded = None;
            for file in wanted {
                self.has_changed |= self.files.put(&file.name, &file.text())?;
            }
        }
        self.load(&digest, status).await
    }

    async fn load(&mut self, digest: &str, status: &Status) -> anyhow::Result<()> {
        let loaded = Loaded::new(digest, COMMAND);
        let Some(reload) = &self.commands.reload else {
            self.refusals.clear();
            self.loaded = Some(loaded);
            return Ok(());
        };
        let soonest = self.reloaded_at.map(|at| at + self.interval);
        if soonest.is_some_and(|soonest| soonest > Instant::now()) {
            self.again_at = soonest;
            return Ok(());
        }
        let result = command::reload(reload, &self.files).await;
        self.reloaded_at = Some(Instant::now());
        if let Err(refused) = result {
            let headline = "the reload command has failed, and is tried again";
            self.refuse(status, headline, digest, &refused.lines());
            return Ok(());
        }
        info!("the reload command has loaded the files");
        status.metrics.count_reload(true);
        self.refusals.clear();
        loaded.save(&self.files.path(RELOADED))?;
        self.loaded = Some(loaded);
        Ok(())
    }

    fn refuse(&mut self, status: &Status, headline: &str, digest: &str, lines: &[String]) {
        self.refusals.add(status, headline, digest, lines);
        self.again_at = self.refusals.until();
    }
}
