//! Envoy: reads its clusters and listeners from two files, each time that one is replaced. It takes what it can of a file,
//! and tries the rest again only when the file is replaced once more.

mod admin;
mod state;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::discover::files::Files;
use crate::discover::process::Process;
use crate::discover::refused::Refused;
use crate::routes::{File, LeftOut};
use admin::Admin;
use state::Updates;

/// The program that runs unless another command is given.
pub const PROGRAM: &str = "envoy";
/// The name of the file that it reads when it starts.
pub const BOOTSTRAP: &str = "envoy/bootstrap.json";
const CLUSTERS: Part = Part {
    file: "envoy/cds.json",
    stats: "cluster_manager.cds",
};
const LISTENERS: Part = Part {
    file: "envoy/lds.json",
    stats: "listener_manager.lds",
};

/// How long it may take to read a file, and the time between two looks.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);
/// The time between two tries of a file that is refused in part.
const RETRY: Duration = Duration::from_secs(5);

pub struct Envoy {
    pub admin: Admin,
    /// The files that are refused in part, with the lines of its log.
    rejected: BTreeMap<&'static str, Vec<String>>,
    put_at: Instant,
}

/// A file that Envoy reads while it runs.
#[derive(Clone, Copy)]
struct Part {
    file: &'static str,
    /// The beginning of its statistics.
    stats: &'static str,
}

impl Envoy {
    pub fn new(socket: &Path) -> Self {
        Self {
            admin: Admin::new(socket),
            rejected: BTreeMap::new(),
            put_at: Instant::now(),
        }
    }

    /// Whether the file that it reads when it starts is another now.
    pub fn has_other_bootstrap(files: &Files, main: &[&File]) -> anyhow::Result<bool> {
        let on_disk = files.read(BOOTSTRAP)?;
        Ok(on_disk.is_some() && on_disk != text(main, BOOTSTRAP))
    }

    /// The time of the next try of what is refused.
    pub fn retry_at(&self) -> Option<Instant> {
        (!self.rejected.is_empty()).then(|| self.put_at + RETRY)
    }

    /// Replaces the files that have changed or are refused in part, all files if `anew`, and waits until each is read. A
    /// file that cannot be read at all is put back as it was.
    pub async fn load(
        &mut self,
        files: &Files,
        main: &[&File],
        anew: bool,
        process: Option<&Process>,
    ) -> Result<(), Refused> {
        if let Some(text) = text(main, BOOTSTRAP)
            && files.put(BOOTSTRAP, &text)?
        {
            info!("Envoy's `{BOOTSTRAP}` has changed, and is read when Envoy is started again");
        }
        let read = |part: Part| files.read(part.file).map_err(anyhow::Error::from);
        let mut order = [CLUSTERS, LISTENERS];
        let (before, after) = (read(CLUSTERS)?, text(main, CLUSTERS.file));
        if state::only_went(&before.unwrap_or_default(), &after.unwrap_or_default()) {
            order.reverse();
        }
        self.put_at = Instant::now();
        for part in order {
            let Some(text) = text(main, part.file) else {
                continue;
            };
            let before = read(part)?;
            let is_due = anew || self.rejected.contains_key(part.file);
            if !is_due && before.as_ref() == Some(&text) {
                continue;
            }
            let result = self.put(files, part, &text, process).await;
            if let (Err(Refused::Bad(_)), Some(before)) = (&result, before) {
                files.put(part.file, &before)?;
            }
            result?;
        }
        Ok(())
    }

    async fn put(
        &mut self,
        files: &Files,
        part: Part,
        text: &str,
        process: Option<&Process>,
    ) -> Result<(), Refused> {
        let before = self.updates(part).await;
        let begun = Instant::now();
        // Also if it hangs: whoever restarts it gets the newest file.
        files.replace(part.file, text)?;
        let before = before?;
        let mut after = self.updates(part).await?;
        while after.attempts == before.attempts {
            if begun.elapsed() > LIMIT {
                let (file, seconds) = (part.file, LIMIT.as_secs());
                let error = anyhow!(
                    "Envoy has not read `{file}` within {seconds} s; if it sees another directory, mount this one there"
                );
                return Err(error.into());
            }
            sleep(PAUSE).await;
            after = self.updates(part).await?;
        }
        self.rejected.remove(part.file);
        if after.failures == before.failures && after.rejections == before.rejections {
            return Ok(());
        }
        // Its output comes through a pipe.
        sleep(PAUSE).await;
        let lines = process.map(|process| process.lines_since(begun));
        let mut lines = lines.unwrap_or_default();
        lines.retain(|line| line.contains("config update"));
        if after.failures > before.failures {
            if lines.is_empty() {
                lines.push(format!(
                    "Envoy cannot read `{}`, and its log says why",
                    part.file
                ));
            }
            return Err(Refused::Bad(lines));
        }
        self.rejected.insert(part.file, lines);
        Ok(())
    }

    async fn updates(&self, part: Part) -> anyhow::Result<Updates> {
        Ok(Updates::read(
            &self.admin.get(state::STATS).await?,
            part.stats,
        ))
    }

    /// The refused parts of the files, by name where Envoy tells it.
    pub async fn left_out(&self) -> anyhow::Result<Vec<LeftOut>> {
        let mut left_out = Vec::new();
        for (file, lines) in &self.rejected {
            let mut named = Vec::new();
            if *file == LISTENERS.file {
                named = state::refused(&self.admin.get(state::LISTENERS).await?)?;
            }
            if named.is_empty() {
                let why = lines.first().cloned();
                named.push(LeftOut {
                    what: format!("a part of `{file}`"),
                    why: why.unwrap_or_else(|| "Envoy refuses it, and its log says why".to_owned()),
                });
            }
            left_out.append(&mut named);
        }
        Ok(left_out)
    }
}

fn text(main: &[&File], name: &str) -> Option<String> {
    let file = main.iter().find(|file| &*file.name == name)?;
    Some(file.text())
}
