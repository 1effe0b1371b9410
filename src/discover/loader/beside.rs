//! The files beside the proxy's own, or all files where no proxy is ours to drive: an operator's commands check and load
//! them.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use tracing::info;

use super::command;
use super::decision::{Loaded, Presence, State, Step, decide, digest_of};
use crate::discover::files::Files;
use crate::discover::refused::Refusals;
use crate::discover::settings::Commands;
use crate::discover::status::Status;
use crate::routes::File;

/// The name of the file with what has been loaded.
const RELOADED: &str = ".reloaded.json";
/// The name of the loader where there is no command. Another command has loaded nothing yet.
const PROXY: &str = "the proxy";

pub struct Beside {
    files: Files,
    commands: Commands,
    interval: Duration,
    refusals: Refusals,
    loaded: Option<Loaded>,
    reloaded_at: Option<Instant>,
    has_changed: bool,
    again_at: Option<Instant>,
}

impl Beside {
    /// `interval` is the time between two reloads.
    pub fn new(files: &Files, commands: Commands, interval: Duration) -> Self {
        Self {
            files: files.clone(),
            commands,
            interval,
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
        if self.has_changed()
            && let Some(loaded) = &self.loaded
        {
            // Without it, the next process lets the proxy load them once more.
            let _ = loaded.save(&self.files.path(RELOADED));
        }
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
            process: Presence::Runs(self.loads()),
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
                self.files.put(&file.name, &file.text())?;
            }
        }
        self.load(&digest, status).await
    }

    async fn load(&mut self, digest: &str, status: &Status) -> anyhow::Result<()> {
        let loaded = Loaded::new(digest, self.loads());
        let Some(reload) = &self.commands.reload else {
            self.refusals.clear();
            self.loaded = Some(loaded);
            self.has_changed = true;
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
        // A full disk is no reason for this process to load them once more.
        self.loaded = Some(loaded.clone());
        let saved = loaded.save(&self.files.path(RELOADED));
        saved.context("cannot write what the reload command has loaded")
    }

    /// The name of the loader.
    fn loads(&self) -> &str {
        self.commands.reload.as_deref().unwrap_or(PROXY)
    }

    fn refuse(&mut self, status: &Status, headline: &str, digest: &str, lines: &[String]) {
        self.refusals.add(status, headline, digest, lines);
        self.again_at = self.refusals.until();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::routes::Piece;

    const INTERVAL: Duration = Duration::from_millis(200);

    struct Place {
        directory: TempDir,
        status: Status,
    }

    impl Place {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                status: Status::default(),
            }
        }

        fn beside(&self, check: Option<&str>, reload: Option<&str>) -> Beside {
            let files = Files::open(self.directory.path()).unwrap();
            let [check, reload] = [check, reload].map(|command| command.map(str::to_owned));
            Beside::new(&files, Commands { check, reload }, INTERVAL)
        }

        async fn bring(&self, beside: &mut Beside, text: &str) {
            let file = File {
                name: "a".into(),
                pieces: vec![Piece::Text(text.into())],
            };
            let all = [file];
            beside.bring(&[&all[0]], &all, &self.status).await.unwrap();
        }

        /// The text of a file; empty if there is none.
        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
        }
    }

    #[tokio::test]
    async fn files_that_a_check_refuses_are_not_installed() {
        let place = Place::new();
        let check = r#"! grep bad "$DIRECTORY/a""#;
        let mut beside = place.beside(Some(check), None);
        place.bring(&mut beside, "good").await;
        assert!(beside.is_good());
        assert!(beside.has_changed());
        beside.are_loaded();
        place.bring(&mut beside, "bad").await;
        assert!(!beside.is_good());
        assert!(beside.again_at().is_some());
        assert!(!beside.has_changed());
        assert_eq!(place.text("a"), "good");
        // Other content is tried at once.
        place.bring(&mut beside, "better").await;
        assert!(beside.is_good());
        assert_eq!(place.text("a"), "better");
    }

    #[tokio::test]
    async fn a_reload_is_made_once_for_each_change_and_not_again_by_the_next_process() {
        let place = Place::new();
        let reload = r#"cat "$DIRECTORY/a" >> "$DIRECTORY/log""#;
        let mut beside = place.beside(None, Some(reload));
        place.bring(&mut beside, "1").await;
        place.bring(&mut beside, "1").await;
        assert_eq!(place.text("log"), "1");
        assert!(!beside.has_changed(), "the command has loaded it");
        // The next one waits for the interval, with the newest text.
        place.bring(&mut beside, "2").await;
        place.bring(&mut beside, "3").await;
        assert_eq!(place.text("a"), "3");
        while let Some(again_at) = beside.again_at() {
            tokio::time::sleep_until(again_at).await;
            place.bring(&mut beside, "3").await;
        }
        assert_eq!(place.text("log"), "13");
        let mut next = place.beside(None, Some(reload));
        place.bring(&mut next, "3").await;
        assert_eq!(place.text("log"), "13");
    }

    #[tokio::test]
    async fn a_change_that_the_proxy_has_not_loaded_is_one_for_the_next_process_too() {
        let place = Place::new();
        let mut killed = place.beside(None, None);
        place.bring(&mut killed, "1").await;
        let mut next = place.beside(None, None);
        place.bring(&mut next, "1").await;
        assert!(next.has_changed());
        next.are_loaded();
        let mut last = place.beside(None, None);
        place.bring(&mut last, "1").await;
        assert!(!last.has_changed());
        // Another command has not loaded them.
        let mut with_command = place.beside(None, Some(r#"touch "$DIRECTORY/ready""#));
        place.bring(&mut with_command, "1").await;
        assert!(place.directory.path().join("ready").exists());
    }

    #[tokio::test]
    async fn a_reload_that_fails_is_tried_again() {
        let place = Place::new();
        let reload = r#"test -e "$DIRECTORY/ready""#;
        let mut beside = place.beside(None, Some(reload));
        place.bring(&mut beside, "1").await;
        assert!(!beside.is_good());
        fs::write(place.directory.path().join("ready"), "").unwrap();
        let again_at = beside.again_at().expect("it is tried again");
        tokio::time::sleep_until(again_at).await;
        place.bring(&mut beside, "1").await;
        assert!(beside.is_good());
        assert_eq!(beside.again_at(), None);
    }
}
