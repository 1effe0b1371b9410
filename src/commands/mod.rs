//! The commands that do one thing and exit.

pub mod diff;
pub mod healthcheck;
pub mod keys;
pub mod test;
pub mod types;

use std::cell::RefCell;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::sync::watch;

use crate::register::run::{self as daemon, Asked};
use crate::docker::Snapshot;
use crate::wanted::entry::quote;
use crate::policy::{Memory, Report, Script, Source, World};
use crate::register::plan::Wanted;

/// What a policy asks for at one moment.
struct Decided {
    /// What should exist.
    wanted: Arc<Wanted>,
    /// What each container's call came to.
    memory: Rc<RefCell<Memory>>,
    /// Whether all containers could be read; the log names the others.
    whole: bool,
}

/// Runs the policy once, for these containers.
async fn decide(asked: &Asked, snapshot: Snapshot) -> anyhow::Result<Decided> {
    let whole = snapshot.unreadable.is_empty();
    let (sender, wanted) = watch::channel(None);
    let memory = Rc::new(RefCell::new(Memory::default()));
    let world = World {
        path: asked.script.clone(),
        source: Source::Once(Arc::new(snapshot)),
        reader: daemon::reader(asked.etcd.clone(), asked.options.ttl),
        wanted: sender,
        report: Report::Nothing,
        memory: Rc::clone(&memory),
        status: Arc::default(),
        options: asked.options.clone(),
    };
    let script = Script::load(world).map_err(|failure| anyhow!("{failure}"))?;
    script.run().await.map_err(|failure| anyhow!("{failure}"))?;
    let wanted = wanted
        .borrow()
        .clone()
        .context("the policy's `run` ended without a call of etcd.sync")?;
    Ok(Decided {
        wanted,
        memory,
        whole,
    })
}

impl Decided {
    /// Says on stderr for which containers the policy failed and, if asked, what it left out. Returns whether all could be
    /// read and it did well for them. That nobody listens is no failure.
    fn say(&self, explain: bool) -> bool {
        let mut stderr = std::io::stderr().lock();
        let memory = self.memory.borrow();
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
        let mut all = memory.all().into_iter();
        self.whole && all.all(|remembered| remembered.failure.is_none())
    }
}
