//! Writes the configuration beside the keeper's other work: a disk may take longer than all else, and no change of a
//! server waits for it.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::discover::applied::Applied;
use crate::discover::files::Files;
use crate::routes::File;

/// A file as it should be, and what the proxy is known to have if that has changed.
pub struct Job {
    pub file: File,
    pub applied: Option<(PathBuf, Applied)>,
}

pub struct Writer {
    files: Files,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    /// The newest job, while an earlier one runs.
    next: Option<Job>,
    /// Whether the last job that has ended failed.
    has_failed: bool,
}

impl Writer {
    pub fn new(files: &Files) -> Self {
        Self {
            files: files.clone(),
            running: None,
            next: None,
            has_failed: false,
        }
    }

    /// Begins to write, or replaces the job that waits.
    pub fn write(&mut self, mut job: Job) {
        let waiting = self.next.take().and_then(|waiting| waiting.applied);
        job.applied = job.applied.or(waiting);
        self.next = Some(job);
        if self.running.is_none() {
            self.begin();
        }
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Waits until all is written. Returns the error of the last job.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while self.running.is_some() {
            result = self.finish().await;
        }
        result
    }

    /// Waits until a job has failed. It may be dropped and called again.
    pub async fn failed(&mut self) {
        while self.running.is_some() {
            if self.finish().await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Waits for the end of the job, and begins the next one.
    async fn finish(&mut self) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let result = running
            .await
            .unwrap_or_else(|error| Err(anyhow!("writing the configuration has crashed: {error}")));
        self.running = None;
        self.has_failed = result.is_err();
        self.begin();
        result
    }

    fn begin(&mut self) {
        if let Some(job) = self.next.take() {
            let files = self.files.clone();
            self.running = Some(spawn_blocking(move || carry_out(&files, job)));
        }
    }
}

fn carry_out(files: &Files, job: Job) -> anyhow::Result<()> {
    let text = job.file.text();
    files.put(&job.file.name, &text)?;
    if let Some((path, mut applied)) = job.applied {
        applied.set_text(&text);
        let saved = applied.save(&path);
        saved.context("cannot write what the proxy has loaded")?;
    }
    Ok(())
}
