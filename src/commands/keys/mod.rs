//! `keys`: prints the keys that would be registered for Docker's containers, or for saved ones.

mod format;

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tracing::warn;

use super::{check, decide, print, warn_of_collisions};
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
    /// Whether the checks are made, and the keys left out whose check fails.
    pub check: bool,
}

/// Prints the keys. Returns whether all containers could be read and the policy failed for none.
pub async fn run(mut settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    host_ip_or_loopback(&mut settings.host).await;
    let mut all_read = true;
    let snapshot = match &settings.containers {
        Some(file) => {
            let saved = container::read_saved(&read(file)?)?;
            for error in &saved.unreadable {
                all_read = false;
                // A closed stderr is no failure.
                let _ = writeln!(std::io::stderr(), "error: {error:#}");
            }
            Snapshot::of(saved.containers.into_iter().collect())
        }
        None => docker::look_once(settings.host.filters.clone()).await?,
    };
    let decided = decide(&settings.host, snapshot).await?;
    let wanted = if settings.check {
        check(&decided.wanted).await
    } else {
        Arc::clone(&decided.wanted)
    };
    // Nothing is written, so any identity will do.
    let mut plan = Plan::new(Identity::new("", ""));
    plan.want(&wanted);
    plan.batches(usize::MAX, false);
    for note in plan.notes() {
        warn!("{note}");
    }
    warn_of_collisions(&decided.wanted);
    let mut entries: Vec<_> = plan.entries().collect();
    entries.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    print(settings.format.print(&entries).as_bytes(), "keys", out)?;
    Ok(decided.say(settings.explain) && all_read)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        read.context("cannot read the containers from standard input")?;
        bytes
    } else {
        let what = || format!("cannot read the containers from `{}`", file.display());
        std::fs::read(file).with_context(what)?
    };
    // PowerShell's `>` writes UTF-16.
    let text = match &bytes[..] {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes).ok(),
    };
    text.with_context(|| {
        format!(
            "the containers in `{}` are neither UTF-8 nor UTF-16",
            file.display()
        )
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let units = bytes
        .chunks(2)
        .map(|pair| Some(unit(pair.try_into().ok()?)));
    String::from_utf16(&units.collect::<Option<Vec<u16>>>()?).ok()
}
