//! `keys`: prints what would be registered, from a live daemon or from saved containers.

mod format;

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tracing::warn;

use super::decide;
use crate::container;
use crate::docker::{self, Snapshot};
use crate::register::plan::Plan;
use crate::register::run::{Asked, host_ip_or_loopback};
use crate::store::Identity;

pub use format::Format;

/// Prints the keys for saved containers (a file, or `-`) or those of a live daemon. Returns whether the policy did well
/// for every container.
pub async fn run(
    mut asked: Asked,
    containers: Option<PathBuf>,
    format: Format,
    explain: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    host_ip_or_loopback(&mut asked).await;
    let snapshot = match &containers {
        Some(file) => Snapshot::of(container::read_saved(&read(file)?)?.into_iter().collect()),
        None => docker::look_once(asked.filters.clone()).await?,
    };
    let decided = decide(&asked, snapshot).await?;
    // Whose keys they would be matters to nobody here.
    let mut plan = Plan::new(Identity::new("", ""));
    plan.want(&decided.wanted);
    plan.batches(usize::MAX, false);
    for note in plan.notes() {
        warn!("{note}");
    }
    let mut entries: Vec<_> = plan.entries().collect();
    entries.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    out.write_all(format.print(&entries).as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the keys")?;
    Ok(decided.say(explain))
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
