//! `keys`: prints what would be registered, from a live daemon or from saved containers.

use std::cell::RefCell;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::sync::watch;
use tracing::warn;

use crate::container;
use crate::daemon::{self, host_ip_or_loopback};
use crate::docker::{Filters, Snapshot};
use crate::entry::quote;
use crate::lua::{Memory, Options, Report, Script, Source, World};
use crate::plan::Plan;
use crate::store::Identity;
use crate::store::etcd::Access;

/// What `keys` is told.
#[derive(Debug)]
pub struct Config {
    /// Saved containers: a file, or `-`; a live daemon if none.
    pub containers: Option<PathBuf>,
    /// The policy's file; the bundled one if none.
    pub script: Option<PathBuf>,
    /// What the policy reads, but for the host's address.
    pub options: Options,
    /// Whether the host's address was given, or has to be found.
    pub host_ip_given: bool,
    /// Where etcd is, which only a policy reads that asks for it.
    pub etcd: Access,
    /// Which containers Docker shows.
    pub filters: Filters,
    /// Whether to say what is left out.
    pub explain: bool,
}

/// Prints the keys. Returns whether the policy did well for every container.
pub async fn run(mut config: Config, out: &mut impl Write) -> anyhow::Result<bool> {
    let explain = config.explain;
    if !config.host_ip_given {
        host_ip_or_loopback(&mut config.options, &config.etcd.endpoints).await;
    }
    let (wanted_sender, wanted) = watch::channel(None);
    let memory = Rc::new(RefCell::new(Memory::default()));
    let snapshot = match &config.containers {
        Some(file) => Snapshot {
            containers: container::read_saved(&read(file)?)?,
            unreadable: Vec::new(),
        },
        None => daemon::snapshot(config.filters).await?,
    };
    let world = World {
        path: config.script,
        source: Source::Once(Arc::new(snapshot)),
        reader: daemon::reader(config.etcd, config.options.ttl),
        wanted: wanted_sender,
        report: Report::Nothing,
        memory: Rc::clone(&memory),
        options: config.options,
    };
    let script = Script::load(world).map_err(|failure| anyhow!("{failure}"))?;
    script.run().await.map_err(|failure| anyhow!("{failure}"))?;
    let wanted = wanted
        .borrow()
        .clone()
        .context("the policy's `run` ended without a call of etcd.sync")?;
    // Whose keys they would be matters to nobody here.
    let mut plan = Plan::new(Identity::new("", ""));
    plan.want(&wanted);
    plan.batches(usize::MAX);
    for note in plan.notes() {
        warn!("{note}");
    }
    let mut lines: Vec<String> = plan
        .entries()
        .map(|(entry, _)| format!("{} {}\n", entry.key, entry.value))
        .collect();
    lines.sort();
    out.write_all(lines.concat().as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the keys")?;
    say(&memory.borrow(), explain);
    Ok(memory
        .borrow()
        .all()
        .iter()
        .all(|remembered| remembered.failure.is_none()))
}

/// Says on stderr for which containers the policy failed, and what it left out. That nobody listens is no failure.
fn say(memory: &Memory, explain: bool) {
    let mut stderr = std::io::stderr().lock();
    for remembered in memory.all() {
        let name = quote(&remembered.name);
        if let Some(failure) = &remembered.failure {
            let _ = writeln!(stderr, "error: {name}: {failure}");
        } else if explain {
            for why in &remembered.left_out {
                let _ = writeln!(stderr, "{name}: left out: {why}");
            }
        }
    }
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
