//! What commands need that make routes without a proxy: the owners of addresses, a feed, and a dry run's output.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use std::time::Duration;

use tokio::sync::watch;

use super::addresses;
use super::applied::Applied;
use super::files::main_file;
use super::haproxy::{Health, Running, RunningServer};
use super::plan::{Abilities, plan};
use super::settings::RoutingSettings;
use super::status::Status;
use crate::policy::Owners;
use crate::routes::{File, Keys, Routes};

/// The time between two listings of a command that follows the keys.
const RESYNC: Duration = Duration::from_secs(60);

/// Each address has one owner, and none is tried.
pub fn owners() -> Owners {
    let owners = RefCell::new(addresses::Owners::new(None));
    Rc::new(move |claims| owners.borrow_mut().settle(claims, &BTreeSet::new()))
}

/// Follows all keys below the prefix, for as long as the process runs.
pub fn watch_keys(settings: &RoutingSettings) -> watch::Receiver<Option<Arc<Keys>>> {
    let keys = watch::Sender::new(None);
    let receiver = keys.subscribe();
    let feed = settings.feed(RESYNC, &Status::default(), keys);
    tokio::spawn(Box::pin(feed.run(settings.connect())));
    receiver
}

/// Prints each newest state: the files that have changed, or the run-time changes of a proxy that takes them if no more
/// than servers has changed. Returns when nobody reads the output.
pub async fn print(mut routes: watch::Receiver<Option<Arc<Routes>>>, takes_changes: bool) {
    let mut before: Option<Arc<Routes>> = None;
    loop {
        let newest = routes.borrow_and_update().clone();
        if let Some(newest) = newest {
            let text = difference(before.as_deref(), &newest, takes_changes);
            let mut stdout = io::stdout().lock();
            if stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
                .is_err()
            {
                return;
            }
            before = Some(newest);
        }
        if routes.changed().await.is_err() {
            return;
        }
    }
}

fn difference(before: Option<&Routes>, now: &Routes, takes_changes: bool) -> String {
    let mut text = String::new();
    let main = main_file(&now.files).filter(|_| takes_changes);
    for file in now.files.iter() {
        let old = before.and_then(|before| before.files.iter().find(|old| old.name == file.name));
        if old == Some(file) {
            continue;
        }
        let is_main = main.is_some_and(|main| main.name == file.name);
        let planned = old.filter(|_| is_main).map(|old| {
            let applied = Applied::loaded(old);
            plan(
                file,
                Some(&applied),
                &running(old),
                Abilities {
                    can_add_servers: true,
                },
            )
        });
        match planned {
            Some(plan) if plan.reload.is_none() => {
                for change in &plan.changes {
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "{change}");
                }
            }
            _ => {
                let _ = write!(text, "==> {} <==\n{}", file.name, file.text());
            }
        }
    }
    text
}

/// A proxy that runs this file.
fn running(file: &File) -> Running {
    let mut running = Running::default();
    for servers in file.servers() {
        let found = servers.servers.iter().map(|server| {
            let found = RunningServer {
                name: Arc::clone(&server.name),
                address: Some(server.address),
                is_maint: false,
                health: Health::Up,
                sessions: 0,
            };
            (Arc::clone(&server.name), found)
        });
        let found: BTreeMap<_, _> = found.collect();
        let backend = Arc::clone(&servers.backend);
        running.backends.insert(backend, Arc::new(found));
        if let Some(frontend) = &servers.frontend {
            running
                .frontends
                .insert(Arc::clone(frontend), !servers.servers.is_empty());
        }
    }
    running
}
