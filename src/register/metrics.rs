//! The metrics of `/metrics`, in Prometheus's text format. Events are counted where they happen. Gauges (containers,
//! keys, leases) are set when somebody asks. `page` serves them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::plan::KeyView;
use super::settings::HostSettings;
use crate::checks::{CheckView, Verdict};
use crate::ops::collector::add;
use crate::ops::metrics::{RoleMetrics, bring_to};
use crate::policy::ContainerView;

/// The most reasons for leaving something out that have a series of their own, because a policy may give each container
/// another reason.
const MOST_REASONS: usize = 20;
/// The label of all further reasons.
const OTHER: &str = "other";
/// The beginning of all names.
const PREFIX: &str = "docker_register_";
/// The settings that are shown.
const SETTINGS: [&str; 2] = ["prefix", "instance"];
/// The partner beside the store whose calls and losses are counted.
const DOCKER: &str = "docker";
/// The results of probes.
const PROBES: [&str; 3] = ["passed", "failed", "unasked"];
/// The limits of the histogram's buckets, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The counters, and the gauges as they were last set.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Those whose calls and losses are counted.
    partners: [&'static str; 2],
    events: IntCounter,
    reconnections: IntCounterVec,
    syncs: Histogram,
    failed_syncs: IntCounter,
    changes: IntCounterVec,
    policy_errors: IntCounter,
    probes: IntCounterVec,
    /// The metrics of every role.
    pub of_role: RoleMetrics,
    gauges: Mutex<Gauges>,
}

/// The gauges, set again at each request.
#[derive(Debug)]
struct Gauges {
    containers: IntGaugeVec,
    left_out: IntGaugeVec,
    keys: IntGaugeVec,
    checks: IntGaugeVec,
    collisions: IntGauge,
    ready: IntGauge,
    lease: Gauge,
    lease_ttl: Gauge,
}

/// The state at the time of a request.
pub struct Now<'a> {
    /// The policy's decision on each container, if it is known.
    pub containers: Option<&'a [ContainerView]>,
    /// The states of the wanted keys, if they are known.
    pub keys: Option<&'a [KeyView]>,
    /// The states of the checks, if they are known.
    pub checks: Option<&'a [CheckView]>,
    /// The time until the first lease ends, if there is one.
    pub lease_left: Option<Duration>,
    /// The shortest TTL of the leases, in seconds, if there is one.
    pub lease_ttl: Option<u32>,
    /// The number of addresses of this host that several containers claim.
    pub collisions: usize,
    /// The names of the drained containers.
    pub drained: &'a BTreeSet<Arc<str>>,
    pub ready: bool,
    pub counts: Counts,
}

/// Counts that are kept elsewhere, each since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Docker events that may change a container's keys.
    pub events: u64,
    /// The losses of Docker and of the store, in this order.
    pub reconnections: [u64; 2],
    /// Policy calls that failed for a container.
    pub policy_errors: u64,
    /// Probes by their result, as in `PROBES`.
    pub probes: [u64; PROBES.len()],
}

impl Metrics {
    /// All counters at 0. `store` is the store's label.
    pub fn new(store: &'static str) -> Self {
        let (registry, partners) = (Registry::new(), [DOCKER, store]);
        let counter = |name: &str, help: &str| add(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, label: &str| {
            add(
                &registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let metrics = Self {
            events: counter(
                "docker_register_docker_events_total",
                "Docker events that may change a container's keys.",
            ),
            reconnections: counters(
                "docker_register_reconnections_total",
                "Losses of a partner that was reached, each of which is followed by reconnections, by partner.",
                "partner",
            ),
            syncs: add(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "docker_register_sync_duration_seconds",
                        "Time to bring the store in step, after a change or at a renewal of the leases.",
                    )
                    .buckets(BUCKETS.to_vec()),
                ),
            ),
            failed_syncs: counter(
                "docker_register_sync_failures_total",
                "Failed attempts to bring the store in step.",
            ),
            changes: counters(
                "docker_register_key_changes_total",
                "Keys put and deleted in the store.",
                "change",
            ),
            policy_errors: counter(
                "docker_register_policy_errors_total",
                "Policy calls that failed for a container.",
            ),
            probes: counters(
                "docker_register_probes_total",
                "Probes of active checks, by result: passed, failed, or not made for a reason of this host's.",
                "result",
            ),
            of_role: RoleMetrics::new(&registry, PREFIX, &SETTINGS, &partners),
            gauges: Mutex::new(Gauges::new(&registry)),
            partners,
            registry: registry.clone(),
        };
        // Made before their first count, because Prometheus cannot see the increase of a series that begins with 1.
        for partner in partners {
            metrics.reconnections.with_label_values(&[partner]);
        }
        for change in ["put", "delete"] {
            metrics.changes.with_label_values(&[change]);
        }
        metrics
    }

    /// Counts an attempt to bring the store in step, with its duration.
    pub fn count_sync(&self, took: Duration, failed: bool) {
        self.syncs.observe(took.as_secs_f64());
        if failed {
            self.failed_syncs.inc();
        } else {
            self.of_role.synced();
        }
    }

    /// Shows the settings, and is told of the calls to the store from now on.
    pub fn introduce(&self, host: &mut HostSettings) {
        let options = &host.options;
        self.of_role
            .show_settings(&[&options.prefix, &options.instance]);
        let calls = self.of_role.calls(host.store.label());
        host.store.tell_calls(calls);
    }

    pub fn count_put(&self) {
        self.changes.with_label_values(&["put"]).inc();
    }

    pub fn count_delete(&self) {
        self.changes.with_label_values(&["delete"]).inc();
    }

    /// All metrics in Prometheus's text format, once those of the role are set.
    pub fn text(&self, now: &Now) -> anyhow::Result<String> {
        // Two requests at once must not see each other's half-set gauges.
        let gauges = self
            .gauges
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        gauges.set(now);
        bring_to(&self.events, now.counts.events);
        bring_to(&self.policy_errors, now.counts.policy_errors);
        for (partner, count) in self.partners.iter().zip(now.counts.reconnections) {
            bring_to(&self.reconnections.with_label_values(&[partner]), count);
        }
        for (result, count) in PROBES.iter().zip(now.counts.probes) {
            bring_to(&self.probes.with_label_values(&[result]), count);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

impl Gauges {
    fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        Self {
            containers: gauges(
                "docker_register_containers",
                "Running containers, by the policy's decision on them, or drained, or with checks that fail.",
                &["state"],
            ),
            left_out: gauges(
                "docker_register_left_out",
                "Containers and ports that the policy leaves out, by reason.",
                &["reason"],
            ),
            keys: gauges(
                "docker_register_keys",
                "Wanted keys, by kind: there, missing from the store, or held on the lease of somebody else.",
                &["kind", "state"],
            ),
            checks: gauges(
                "docker_register_checks",
                "Active checks, by state.",
                &["state"],
            ),
            collisions: gauge(
                "docker_register_address_collisions",
                "Addresses of this host that several containers claim.",
            ),
            ready: gauge(
                "docker_register_ready",
                "1 if Docker and the store are reached, the policy works, the leases are held, and no other process of this identity runs; else 0.",
            ),
            lease: add(
                registry,
                Gauge::new(
                    "docker_register_lease_left_seconds",
                    "Seconds until the first lease expires, if nothing renews it; NaN before the first key. A host without keys keeps its lease for the next one.",
                ),
            ),
            lease_ttl: add(
                registry,
                Gauge::new(
                    "docker_register_lease_ttl_seconds",
                    "Shortest TTL of the leases that are kept; NaN before the first key.",
                ),
            ),
        }
    }

    fn set(&self, now: &Now) {
        self.ready.set(now.ready.into());
        self.collisions
            .set(i64::try_from(now.collisions).unwrap_or(i64::MAX));
        self.lease
            .set(now.lease_left.map_or(f64::NAN, |left| left.as_secs_f64()));
        self.lease_ttl
            .set(now.lease_ttl.map_or(f64::NAN, f64::from));
        if let Some(containers) = now.containers {
            self.containers.reset();
            for state in ["registered", "failing", "drained", "left_out", "failed"] {
                self.containers.with_label_values(&[state]).set(0);
            }
            let mut reasons: BTreeMap<&str, i64> = BTreeMap::new();
            for container in containers.iter().filter(|container| !container.is_host) {
                self.containers
                    .with_label_values(&[state(container, now)])
                    .inc();
                for why in &container.left_out {
                    *reasons.entry(why).or_default() += 1;
                }
            }
            let mut by_number: Vec<(&str, i64)> = reasons.into_iter().collect();
            by_number.sort_by_key(|(_, number)| -number);
            self.left_out.reset();
            for (place, (why, number)) in by_number.into_iter().enumerate() {
                let why = if place < MOST_REASONS { why } else { OTHER };
                self.left_out.with_label_values(&[why]).add(number);
            }
        }
        if let Some(checks) = now.checks {
            for verdict in [Verdict::Unproven, Verdict::Passes, Verdict::Fails] {
                let having = checks.iter().filter(|check| check.verdict == verdict);
                self.checks
                    .with_label_values(&[verdict.name()])
                    .set(i64::try_from(having.count()).unwrap_or(i64::MAX));
            }
        }
        if let Some(keys) = now.keys {
            let kinds = [("owned", false), ("shared", true)];
            for (kind, is_shared) in kinds {
                let of_kind = keys.iter().filter(|key| key.shared == is_shared);
                let mut numbers = [("there", 0), ("missing", 0), ("held", 0)];
                for key in of_kind {
                    let place = match (key.stands, key.held) {
                        (true, _) => 0,
                        (false, false) => 1,
                        (false, true) => 2,
                    };
                    numbers[place].1 += 1;
                }
                for (state, number) in numbers {
                    self.keys.with_label_values(&[kind, state]).set(number);
                }
            }
        }
    }
}

fn state(container: &ContainerView, now: &Now) -> &'static str {
    let its = || CheckView::of(now.checks.unwrap_or_default(), &container.name);
    if container.failure.is_some() {
        "failed"
    } else if container.entries.is_empty() {
        "left_out"
    } else if now.drained.contains(&*container.name) {
        "drained"
    } else if CheckView::fail_all(its(), &container.entries) {
        "failing"
    } else {
        "registered"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(left_out: &str) -> ContainerView {
        ContainerView {
            name: "web".to_owned(),
            is_host: false,
            entries: [].into(),
            left_out: vec![left_out.to_owned()],
            failure: None,
            since: None,
        }
    }

    #[test]
    fn reasons_have_a_bounded_number_of_series() {
        let metrics = Metrics::new("etcd");
        let mut containers: Vec<ContainerView> = (0..100)
            .map(|number| view(&format!("its name is {number}")))
            .collect();
        containers.extend([view("it is stopping"), view("it is stopping")]);
        let text = metrics
            .text(&Now {
                containers: Some(&containers),
                keys: None,
                checks: None,
                lease_left: None,
                lease_ttl: None,
                collisions: 0,
                drained: &BTreeSet::new(),
                ready: true,
                counts: Counts::default(),
            })
            .unwrap();
        let series: BTreeSet<&str> = text
            .lines()
            .filter(|line| line.starts_with("docker_register_left_out{"))
            .collect();
        assert_eq!(series.len(), MOST_REASONS + 1);
        assert!(series.contains("docker_register_left_out{reason=\"it is stopping\"} 2"));
        assert!(series.contains("docker_register_left_out{reason=\"other\"} 81"));
    }
}
