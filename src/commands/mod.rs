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

use crate::base::text::quote;
use crate::docker::Snapshot;
use crate::policy::{Script, Verdicts, World};
use crate::register::run::{self as daemon, Asked};
use crate::wanted::Wanted;

/// What a policy asks for at one moment.
struct Decided {
    /// What should exist.
    wanted: Arc<Wanted>,
    /// What each container's call came to.
    verdicts: Rc<RefCell<Verdicts>>,
    /// Whether all containers could be read; the log names the others.
    whole: bool,
}

/// Runs the policy once, for these containers.
async fn decide(asked: &Asked, snapshot: Snapshot) -> anyhow::Result<Decided> {
    let whole = snapshot.unreadable.is_empty();
    let world = World::once(asked.options.clone(), snapshot)
        .script(asked.script.clone())
        .reading(daemon::reader(asked.etcd.clone(), asked.options.ttl));
    let (wanted, verdicts) = (world.wanted(), Rc::clone(world.verdicts()));
    let script = Script::load(world).map_err(|failure| anyhow!("{failure}"))?;
    script.run().await.map_err(|failure| anyhow!("{failure}"))?;
    let wanted = wanted
        .borrow()
        .clone()
        .context("the policy's `run` ended without a call of etcd.sync")?;
    Ok(Decided {
        wanted,
        verdicts,
        whole,
    })
}

impl Decided {
    /// Says on stderr for which containers the policy failed and, if asked, what it left out. Returns whether all could be
    /// read and it did well for them. That nobody listens is no failure.
    fn say(&self, explain: bool) -> bool {
        let mut stderr = std::io::stderr().lock();
        let verdicts = self.verdicts.borrow();
        for verdict in verdicts.all() {
            let name = quote(&verdict.name);
            if let Some(failure) = &verdict.failure {
                let _ = writeln!(stderr, "error: {name}: {failure}");
            } else if explain {
                for why in &verdict.left_out {
                    let _ = writeln!(stderr, "{name}: left out: {why}");
                }
            }
        }
        let mut all = verdicts.all().into_iter();
        self.whole && all.all(|verdict| verdict.failure.is_none())
    }
}
