//! `keys`: prints the keys that would be registered for Docker's containers, or for saved ones.

mod format;

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tracing::warn;

use super::{decide, print};
use crate::container;
use crate::docker::{self, Snapshot};
use crate::register::plan::Plan;
use crate::register::{HostSettings, host_ip_or_loopback};
use crate::store::Identity;

pub use format::Format;

pub struct Settings {
    pub host: HostSettings,
    /// A file with saved containers, or `-` for standard input; Docker's containers if none.
    pub containers: Option<PathBuf>,
    pub format: Format,
    pub explain: bool,
}

/// Prints the keys. Returns whether all containers could be read and the policy failed for none.
pub async fn run(mut settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    host_ip_or_loopback(&mut settings.host).await;
    let snapshot = match &settings.containers {
        Some(file) => Snapshot::of(container::read_saved(&read(file)?)?.into_iter().collect()),
        None => docker::look_once(settings.host.filters.clone()).await?,
    };
    let decided = decide(&settings.host, snapshot).await?;
    // Nothing is written, so any identity will do.
    let mut plan = Plan::new(Identity::new("", ""));
    plan.want(&decided.wanted);
    plan.batches(usize::MAX, false);
    for note in plan.notes() {
        warn!("{note}");
    }
    let mut entries: Vec<_> = plan.entries().collect();
    entries.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    print(settings.format.print(&entries).as_bytes(), "keys", out)?;
    Ok(decided.say(settings.explain))
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the containers from standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the containers from `{}`", file.display()))
}
