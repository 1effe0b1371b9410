//! The state of a running `discover`, for the page, the metrics and the readiness check.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::feed::Freshness;
use super::haproxy::Running;
use super::metrics::Metrics;
use crate::ops::condition::{Condition, Question};
use crate::ops::counter::Counter;
use crate::ops::loads::Loads;
use crate::ops::readiness::Readiness;
use crate::routes::{Bound, LeftOut, Routes};

#[derive(Default)]
pub struct Status {
    /// The store with the keys.
    pub store: Condition,
    pub policy: Condition,
    /// The proxy answers, and runs what it was told.
    pub proxy: Condition,
    /// The proxy accepts the configuration.
    pub configuration: Condition,
    /// The policy in force, and whether the last load failed.
    pub loads: Loads,
    pub policy_errors: Counter,
    pub metrics: Metrics,
    /// How current the services are.
    pub freshness: watch::Sender<Freshness>,
    /// The script's thread answers, unless the script hangs.
    pub alive: Arc<Question<()>>,
    /// What the proxy was last brought to, and what it then ran.
    pub shown: watch::Sender<Shown>,
    /// The addresses that the proxy listens on; none while that is not known, because it hangs.
    held: Mutex<Option<BTreeSet<Bound>>>,
    released: AtomicBool,
    /// Asks for another look at who has which address.
    pub addresses_changed: Notify,
}

#[derive(Default, Clone)]
pub struct Shown {
    pub routes: Option<Arc<Routes>>,
    /// None of a proxy that tells nothing of its servers.
    pub running: Option<Arc<Running>>,
    /// The processes that only finish their connections; none where that is not known.
    pub old_workers: Option<usize>,
    /// The parts of the loaded files that the proxy has refused.
    pub refused: Vec<LeftOut>,
}

impl Status {
    /// Ready while all conditions are good and the script's thread answers.
    pub fn readiness(&self) -> Readiness {
        let freshness = self.freshness.clone();
        Readiness {
            conditions: vec![
                ("store", self.store.clone()),
                ("policy", self.policy.clone()),
                ("proxy", self.proxy.clone()),
                ("configuration", self.configuration.clone()),
            ],
            notices: Vec::new(),
            problem: Arc::new(move || {
                let age = age(*freshness.borrow())?;
                let is_old = !age.is_zero();
                is_old.then(|| format!("services: they are {} seconds old", age.as_secs()))
            }),
            alive: Arc::clone(&self.alive),
        }
    }

    /// How old the services are; none before the first listing.
    pub fn age(&self) -> Option<Duration> {
        age(*self.freshness.borrow())
    }

    /// The proxy is in step with these routes.
    pub fn synced(&self, routes: &Arc<Routes>, begun: Instant) {
        self.metrics.count_sync(begun.elapsed());
        self.shown
            .send_modify(|shown| shown.routes = Some(Arc::clone(routes)));
    }

    pub fn show(&self, running: Arc<Running>, old_workers: Option<usize>) {
        self.shown.send_modify(|shown| {
            shown.running = Some(running);
            shown.old_workers = old_workers;
        });
    }

    /// Shows a proxy that has loaded its files, and tells nothing of its servers.
    pub fn show_loaded(&self, old_workers: Option<usize>, refused: Vec<LeftOut>) {
        self.shown.send_modify(|shown| {
            shown.old_workers = old_workers;
            shown.refused = refused;
        });
    }

    /// The addresses that the proxy listens on; none while that is not known.
    pub fn held(&self) -> Option<BTreeSet<Bound>> {
        self.lock().clone()
    }

    /// Whether the proxy could not start since this was last asked, so that nobody has any address.
    pub fn take_released(&self) -> bool {
        self.released.swap(false, Ordering::Relaxed)
    }

    pub fn hold(&self, addresses: BTreeSet<Bound>) {
        *self.lock() = Some(addresses);
    }

    /// The proxy listens on these addresses too.
    pub fn hold_too(&self, addresses: BTreeSet<Bound>) {
        self.lock().get_or_insert_default().extend(addresses);
    }

    /// The proxy cannot start, so each address has to be tried again, once: when it runs, it has them.
    pub fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
        self.addresses_changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<BTreeSet<Bound>>> {
        // Nothing that holds it can leave it half-done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age(freshness: Freshness) -> Option<Duration> {
    match freshness {
        Freshness::Unknown => None,
        Freshness::InStep => Some(Duration::ZERO),
        Freshness::StaleSince(at) => Some(at.elapsed()),
    }
}
