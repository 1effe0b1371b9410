//! The metrics of `discover`, in Prometheus's text format. Events are counted where they happen; gauges are set when
//! somebody asks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::haproxy::Change;
use super::settings::RoutingSettings;
use super::status::Shown;
use crate::ops::collector::add;
use crate::ops::metrics::{RoleMetrics, bring_to};

/// The beginning of all names.
const PREFIX: &str = "docker_register_discover_";
/// The partner whose calls are timed, under the name of its condition.
const STORE: &str = "store";
/// The limits of the histogram's buckets, in seconds.
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 2.5, 10.0];

pub struct Metrics {
    registry: Registry,
    syncs: Histogram,
    reloads: IntCounterVec,
    changes: IntCounterVec,
    drifts: IntCounter,
    deaths: IntCounter,
    policy_errors: IntCounter,
    /// The metrics of every role.
    pub of_role: RoleMetrics,
    gauges: Mutex<Gauges>,
}

/// The gauges, set again at each request.
struct Gauges {
    services: IntGauge,
    left_out: IntGauge,
    servers: IntGaugeVec,
    old_workers: IntGauge,
    age: Gauge,
    ready: IntGauge,
}

/// The state at the time of a request.
pub struct Now {
    pub shown: Shown,
    /// The time since the store last showed that the services are the newest.
    pub age: Option<Duration>,
    pub ready: bool,
    pub policy_errors: u64,
}

impl Metrics {
    pub fn count_sync(&self, took: Duration) {
        self.syncs.observe(took.as_secs_f64());
        self.of_role.synced();
    }

    pub fn count_change(&self, change: &Change) {
        let kind = match change {
            Change::Add { .. } => "add",
            Change::Ready { .. } => "ready",
            Change::Maint { .. } => "maint",
            Change::Delete { .. } => "delete",
            Change::Enable { .. } => "enable",
            Change::Disable { .. } => "disable",
        };
        self.changes.with_label_values(&[kind]).inc();
    }

    pub fn count_reload(&self, is_done: bool) {
        let result = if is_done { "done" } else { "refused" };
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Counts a difference between what the proxy was told and what it runs.
    pub fn count_drift(&self) {
        self.drifts.inc();
    }

    pub fn count_death(&self) {
        self.deaths.inc();
    }

    /// Shows the settings, and is told of the calls to the store from now on.
    pub fn introduce(&self, routing: &mut RoutingSettings) {
        self.of_role.show_settings(&[&routing.options.prefix]);
        let calls = self.of_role.calls(STORE);
        routing.store.tell_calls(calls);
    }

    /// All metrics in Prometheus's text format, once those of the role are set.
    pub fn text(&self, now: &Now) -> anyhow::Result<String> {
        // Two requests at once must not see each other's half-set gauges.
        let gauges = self
            .gauges
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        gauges.set(now);
        bring_to(&self.policy_errors, now.policy_errors);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

impl Gauges {
    fn set(&self, now: &Now) {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let Shown {
            routes,
            running,
            old_workers,
            refused,
        } = &now.shown;
        if let Some(routes) = routes {
            self.services.set(number(routes.services.len()));
            let left_out = routes.left_out.len() + refused.len();
            self.left_out.set(number(left_out));
        }
        if let Some(running) = running {
            let mut by_health: BTreeMap<&str, i64> = BTreeMap::new();
            for server in running
                .backends
                .values()
                .flat_map(|servers| servers.values())
            {
                *by_health.entry(server.health.name()).or_default() += 1;
            }
            self.servers.reset();
            for (health, servers) in by_health {
                self.servers.with_label_values(&[health]).set(servers);
            }
        }
        if let Some(old_workers) = old_workers {
            self.old_workers.set(number(*old_workers));
        }
        self.age
            .set(now.age.map_or(f64::NAN, |age| age.as_secs_f64()));
        self.ready.set(now.ready.into());
    }
}

impl Default for Metrics {
    /// All counters at 0.
    fn default() -> Self {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("{PREFIX}{name}"), help);
        let counter = |name, help| add(&registry, IntCounter::with_opts(opts(name, help)));
        let counters =
            |name, help, label| add(&registry, IntCounterVec::new(opts(name, help), &[label]));
        let gauge = |name, help| add(&registry, IntGauge::with_opts(opts(name, help)));
        let syncs = HistogramOpts::new(
            "docker_register_discover_sync_duration_seconds",
            "Time to bring the proxy in step, after a change or at a look at it.",
        );
        let metrics = Self {
            syncs: add(
                &registry,
                Histogram::with_opts(syncs.buckets(BUCKETS.to_vec())),
            ),
            reloads: counters(
                "reloads_total",
                "Reloads of the proxy, by result.",
                "result",
            ),
            changes: counters(
                "changes_total",
                "Run-time changes that the proxy took, by kind.",
                "change",
            ),
            drifts: counter(
                "drifts_total",
                "Differences between what the proxy was told and what it ran.",
            ),
            deaths: counter("proxy_deaths_total", "Deaths of our proxy."),
            policy_errors: counter("policy_errors_total", "Policy calls that failed."),
            of_role: RoleMetrics::new(&registry, PREFIX, &["prefix"], &[STORE]),
            gauges: Mutex::new(Gauges {
                services: gauge("services", "Services with a route."),
                left_out: gauge(
                    "left_out",
                    "Keys, servers, services and addresses that are left out.",
                ),
                servers: add(
                    &registry,
                    IntGaugeVec::new(
                        opts("servers", "Servers, by the proxy's view of their health."),
                        &["health"],
                    ),
                ),
                old_workers: gauge(
                    "old_workers",
                    "Processes of the proxy that only finish their connections.",
                ),
                age: add(
                    &registry,
                    Gauge::with_opts(opts(
                        "age_seconds",
                        "Seconds since the store last showed that the services are the newest; NaN before that.",
                    )),
                ),
                ready: gauge(
                    "ready",
                    "1 if the store is reached, the policy works, and the proxy runs what it was told; else 0.",
                ),
            }),
            registry: registry.clone(),
        };
        // Made before their first count, because Prometheus cannot see the increase of a series that begins with 1.
        for result in ["done", "refused"] {
            metrics.reloads.with_label_values(&[result]);
        }
        for change in ["add", "ready", "maint", "delete", "enable", "disable"] {
            metrics.changes.with_label_values(&[change]);
        }
        metrics
    }
}
