//! `discover`: connects the feed, the script and the keeper, and handles signals.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::info;

use super::addresses::{Owners, Probe};
use super::dry_run;
use super::keeper::{self, Keeper};
use super::loader::{self, Loader};
use super::page;
use super::settings::{Mode, Proxy, Settings};
use super::status::Status;
use crate::ops::log::Recent;
use crate::ops::role::{self, Process, Role};
use crate::ops::side_thread::LastWords;
use crate::ops::signals::Signals;
use crate::ops::systemd;
use crate::policy::{KeySource, Report, Role as _, RoutingWorld, drive};
use crate::routes::{Claim, Keys, Routes};

/// The errors before the program ends by force.
const LAST_WORDS: LastWords = LastWords {
    hangs: "the script hangs, so the program ends without waiting for it; the proxy goes on as it is",
    late: "the proxy takes too long to end, so the program ends without waiting for it",
};

type KeysSender = watch::Sender<Option<Arc<Keys>>>;
type RoutesReceiver = watch::Receiver<Option<Arc<Routes>>>;

/// Runs until a signal ends it, or fails at once if the script is broken from the start. `recent` has the last warnings
/// and errors, for the page.
pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<()> {
    role::run(recent, settings.listen, LAST_WORDS, |process| {
        Ok(vec![role(settings, process)?])
    })
    .await
}

/// The role, in a process that may have others.
pub fn role(mut settings: Settings, process: &Rc<Process>) -> anyhow::Result<Role> {
    let signals = process.signals()?;
    let status = Arc::new(Status::default());
    status.metrics.introduce(&mut settings.routing);
    let view = page::view(&status, process.recent.clone(), page::about(&settings));
    let work = Box::pin(work(settings, status, signals, Rc::clone(process)));
    Ok(Role { view, work })
}

async fn work(
    settings: Settings,
    status: Arc<Status>,
    mut signals: Signals,
    process: Rc<Process>,
) -> anyhow::Result<()> {
    let keys: KeysSender = watch::Sender::new(None);
    let world = world(&settings, &status, &keys);
    // A broken script ends the program before anything is touched.
    let script = world.load().map_err(|failure| anyhow!("{failure}"))?;
    status.loads.began(script.version());
    tokio::spawn(status.loads.clone().remind());
    info!(
        "docker-register discover version={} {}={} prefix={} directory={}",
        env!("VERSION_AND_COMMIT"),
        settings.routing.store.label(),
        settings.routing.store.shown(),
        settings.routing.options.prefix,
        settings.routing.directory.display(),
    );
    // Before any address is tried: the proxy of an earlier process is not in its own way.
    let held = match &settings.proxy.proxy {
        Proxy::Haproxy(sockets) => keeper::listened(sockets).await,
        proxy => loader::listened(proxy).await,
    };
    if let Some(addresses) = held {
        status.hold(addresses);
    }
    let mut keeper = start_keeper(settings.clone(), &status, world.routes())?;
    let mut feed = start_feed(&settings, &status, &keys);
    let look_again = look_again(&settings, &status, &keys);
    let result = tokio::select! {
        // Questions come last, so that they do not delay the work.
        biased;
        result = drive(&world, script, &status.loads, &mut signals) => {
            result.map_err(|failure| anyhow!("{failure}"))
        }
        ended = &mut feed => ended.with_context(|| {
            format!("the task that watches {} has crashed", settings.routing.store.name())
        }),
        ended = &mut keeper.task => ended.context("the task that changes the proxy has crashed"),
        never = look_again => match never {},
        never = answer(&status) => match never {},
    };
    systemd::say_goodbye().await;
    process.side.program_ends();
    let Keeping { task, shutdown } = keeper;
    drop(shutdown);
    if !task.is_finished() {
        tokio::select! {
            _ = task => {}
            () = signals.end() => info!("ending at once"),
        }
    }
    result
}

/// A running keeper. Dropping `shutdown` makes it end.
struct Keeping {
    task: JoinHandle<()>,
    shutdown: oneshot::Sender<()>,
}

/// Answers questions in the script's thread. A script that hangs delays the answers.
async fn answer(status: &Status) -> Infallible {
    loop {
        status.alive.asked().await;
        status.alive.answer(());
    }
}

fn world(settings: &Settings, status: &Arc<Status>, keys: &KeysSender) -> RoutingWorld {
    let probes = settings.probes && settings.mode != Mode::DryRun;
    let probe = probes.then(|| Probe::new(settings.proxy.proxy.protocols()));
    let owners = RefCell::new(Owners::new(probe));
    let for_owners = Arc::clone(status);
    let settle = move |claims: &[Claim]| {
        let mut owners = owners.borrow_mut();
        if for_owners.take_released() {
            owners.forget();
            return owners.settle(claims, &BTreeSet::new());
        }
        // A proxy that hangs may be the one that listens there, so nobody is refused because of it.
        let all = || claims.iter().map(|claim| claim.bound).collect();
        owners.settle(claims, &for_owners.held().unwrap_or_else(all))
    };
    let source = KeySource::Live(keys.subscribe());
    RoutingWorld::new(settings.routing.options.clone(), source, Rc::new(settle))
        .script(settings.routing.script.clone())
        .reporting(if settings.explain {
            Report::All
        } else {
            Report::Failures
        })
        .shown_by(&status.policy)
        .counting(status.policy_errors.clone())
}

fn start_feed(settings: &Settings, status: &Arc<Status>, keys: &KeysSender) -> JoinHandle<()> {
    let feed = settings.routing.feed(settings.resync, status, keys.clone());
    let store = settings.routing.connect();
    tokio::spawn(async move {
        Box::pin(feed.run(store)).await;
    })
}

fn start_keeper(
    settings: Settings,
    status: &Arc<Status>,
    routes: RoutesReceiver,
) -> anyhow::Result<Keeping> {
    let (shutdown, ended) = oneshot::channel();
    let ended = async {
        // The sender is dropped, never used.
        let _: Result<(), _> = ended.await;
    };
    let task = if settings.mode == Mode::DryRun {
        let takes_changes = matches!(settings.proxy.proxy, Proxy::Haproxy(_));
        // Printing may block.
        tokio::spawn(async move {
            tokio::select! {
                () = dry_run::print(routes, takes_changes) => {}
                () = ended => {}
            }
        })
    } else if let Proxy::Haproxy(sockets) = settings.proxy.proxy.clone() {
        let keeper = Keeper::new(settings, sockets, Arc::clone(status))?;
        tokio::spawn(keeper::keep(keeper, routes, ended))
    } else {
        let loader = Loader::new(settings, Arc::clone(status))?;
        tokio::spawn(loader::keep(loader, routes, ended))
    };
    Ok(Keeping { task, shutdown })
}

/// Lets the policy claim its addresses again, at each resync while some were refused, and when the proxy has lost its
/// own.
async fn look_again(settings: &Settings, status: &Status, keys: &KeysSender) -> Infallible {
    loop {
        tokio::select! {
            () = tokio::time::sleep(settings.resync) => {
                let shown = status.shown.borrow();
                let is_whole = shown.routes.as_ref().is_none_or(|routes| routes.left_out.is_empty());
                if is_whole { continue; }
            }
            () = status.addresses_changed.notified() => {}
        }
        keys.send_modify(|_| {});
    }
}
