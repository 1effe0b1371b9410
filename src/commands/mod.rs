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

use crate::base::text::quote;
use crate::docker::Snapshot;
use crate::ops::condition::Condition;
use crate::ops::counter::Counter;
use crate::policy::{Report, Script, Source, Verdicts, World};
use crate::register::run::Asked;
use crate::register::timetable::call_limit;
use crate::store::etcd::Connection;
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
    let (sender, wanted) = watch::channel(None);
    let verdicts = Rc::new(RefCell::new(Verdicts::default()));
    let limit = call_limit(asked.options.ttl);
    let reader = Connection::new(asked.etcd.clone(), limit);
    let world = World {
        path: asked.script.clone(),
        source: Source::Once(Arc::new(snapshot)),
        reader: Rc::new(reader.into()),
        wanted: sender,
        report: Report::Nothing,
        verdicts: Rc::clone(&verdicts),
        condition: Condition::default(),
        errors: Counter::default(),
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
