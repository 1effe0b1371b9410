//! The metrics of `/metrics`, in Prometheus's text format. Events are counted where they happen. Gauges (containers,
//! keys, leases) are set when somebody asks. `page` serves them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::plan::KeyView;
use crate::policy::ContainerView;

/// The most reasons for leaving something out that have a series of their own, because a policy may give each container
/// another reason.
const MOST_REASONS: usize = 20;
/// The label of all further reasons.
const OTHER: &str = "other";
/// The partners whose reconnections are counted.
const PARTNERS: [&str; 2] = ["docker", "etcd"];
/// The limits of the histogram's buckets, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The counters, and the gauges as they were last set.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: IntCounter,
    reconnections: IntCounterVec,
    syncs: Histogram,
    failed_syncs: IntCounter,
    changes: IntCounterVec,
    policy_errors: IntCounter,
    log_lines_dropped: IntCounter,
    gauges: Mutex<Gauges>,
}

/// The gauges, set again at each request.
#[derive(Debug)]
struct Gauges {
    containers: IntGaugeVec,
    left_out: IntGaugeVec,
    keys: IntGaugeVec,
    ready: IntGauge,
    lease: Gauge,
}

/// The state at the time of a request.
pub struct Now<'a> {
    /// The policy's decision on each container, if it is known.
    pub containers: Option<&'a [ContainerView]>,
    /// The states of the wanted keys, if they are known.
    pub keys: Option<&'a [KeyView]>,
    /// The time until the first lease ends, if there is one.
    pub lease_left: Option<Duration>,
    pub ready: bool,
    pub counts: Counts,
}

/// Counts that are kept elsewhere, each since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Docker events that may change a container's keys.
    pub events: u64,
    /// The reconnections of Docker and etcd, in this order.
    pub reconnections: [u64; PARTNERS.len()],
    /// Policy calls that failed for a container.
    pub policy_errors: u64,
    /// Log lines that were dropped because nobody read them.
    pub log_lines_dropped: u64,
}

impl Metrics {
    /// Counts an attempt to bring etcd in step, with its duration.
    pub fn count_sync(&self, took: Duration, failed: bool) {
        self.syncs.observe(took.as_secs_f64());
        if failed {
            self.failed_syncs.inc();
        }
    }

    pub fn count_put(&self) {
        self.changes.with_label_values(&["put"]).inc();
    }

    pub fn count_delete(&self) {
        self.changes.with_label_values(&["delete"]).inc();
    }

    /// All metrics in Prometheus's text format.
    pub fn text(&self, now: &Now) -> anyhow::Result<String> {
        // Two requests at once must not see each other's half-set gauges.
        let gauges = self
            .gauges
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        gauges.set(now);
        bring_to(&self.events, now.counts.events);
        bring_to(&self.policy_errors, now.counts.policy_errors);
        bring_to(&self.log_lines_dropped, now.counts.log_lines_dropped);
        for (partner, count) in PARTNERS.iter().zip(now.counts.reconnections) {
            bring_to(&self.reconnections.with_label_values(&[partner]), count);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

impl Gauges {
    fn set(&self, now: &Now) {
        self.ready.set(now.ready.into());
        self.lease
            .set(now.lease_left.map_or(f64::NAN, |left| left.as_secs_f64()));
        if let Some(containers) = now.containers {
            self.containers.reset();
            for state in ["registered", "left_out", "failed"] {
                self.containers.with_label_values(&[state]).set(0);
            }
            let mut reasons: BTreeMap<&str, i64> = BTreeMap::new();
            for container in containers {
                self.containers.with_label_values(&[state(container)]).inc();
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
        if let Some(keys) = now.keys {
            let kinds = [("owned", false), ("shared", true)];
            for (kind, is_shared) in kinds {
                let of_kind = keys.iter().filter(|key| key.shared == is_shared);
                let (there, missing): (Vec<_>, Vec<_>) = of_kind.partition(|key| key.stands);
                for (state, keys) in [("there", there), ("missing", missing)] {
                    let number = i64::try_from(keys.len()).unwrap_or(i64::MAX);
                    self.keys.with_label_values(&[kind, state]).set(number);
                }
            }
        }
    }
}

/// Raises a counter to `count`. Counters never fall.
fn bring_to(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

fn state(container: &ContainerView) -> &'static str {
    if container.failure.is_some() {
        "failed"
    } else if container.entries.is_empty() {
        "left_out"
    } else {
        "registered"
    }
}

impl Default for Metrics {
    /// All counters at 0.
    fn default() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| add(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, label: &str| {
            add(
                &registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let metrics = Self {
            events: counter(
                "docker_register_docker_events_total",
                "Docker events that may change a container's keys.",
            ),
            reconnections: counters(
                "docker_register_reconnections_total",
                "Reconnections after an outage, by partner.",
                "partner",
            ),
            syncs: add(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "docker_register_sync_duration_seconds",
                        "Time to bring etcd in step, after a change or at a renewal of the leases.",
                    )
                    .buckets(BUCKETS.to_vec()),
                ),
            ),
            failed_syncs: counter(
                "docker_register_sync_failures_total",
                "Failed attempts to bring etcd in step.",
            ),
            changes: counters(
                "docker_register_key_changes_total",
                "Keys put and deleted in etcd.",
                "change",
            ),
            policy_errors: counter(
                "docker_register_policy_errors_total",
                "Policy calls that failed for a container.",
            ),
            log_lines_dropped: counter(
                "docker_register_log_lines_dropped_total",
                "Log lines that were dropped because nobody read stderr.",
            ),
            gauges: Mutex::new(Gauges {
                containers: gauges(
                    "docker_register_containers",
                    "Running containers, by the policy's decision on them.",
                    &["state"],
                ),
                left_out: gauges(
                    "docker_register_left_out",
                    "Containers and ports that the policy leaves out, by reason.",
                    &["reason"],
                ),
                keys: gauges(
                    "docker_register_keys",
                    "Wanted keys, by kind, and by whether they are in etcd.",
                    &["kind", "state"],
                ),
                ready: add(
                    &registry,
                    IntGauge::new(
                        "docker_register_ready",
                        "1 if Docker and etcd are reached, the policy works, the leases are held, and no other process of this identity runs; else 0.",
                    ),
                ),
                lease: add(
                    &registry,
                    Gauge::new(
                        "docker_register_lease_left_seconds",
                        "Seconds until the first lease expires, if nothing renews it; NaN without keys.",
                    ),
                ),
            }),
            registry: registry.clone(),
        };
        let build = gauges(
            "docker_register_build_info",
            "1, with the running version as a label.",
            &["version"],
        );
        build
            .with_label_values(&[env!("VERSION_AND_COMMIT")])
            .set(1);
        // Made before their first count, because Prometheus cannot see the increase of a series that begins with 1.
        for partner in PARTNERS {
            metrics.reconnections.with_label_values(&[partner]);
        }
        for change in ["put", "delete"] {
            metrics.changes.with_label_values(&[change]);
        }
        metrics
    }
}

/// Registers a collector. It cannot fail, because the names and labels are constants, and each name is used once.
fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("a sound definition");
    registry
        .register(Box::new(collector.clone()))
        .expect("a name of its own");
    collector
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn view(left_out: &str) -> ContainerView {
        ContainerView {
            name: "web".to_owned(),
            entries: [].into(),
            left_out: vec![left_out.to_owned()],
            failure: None,
            since: None,
        }
    }

    #[test]
    fn reasons_have_a_bounded_number_of_series() {
        let metrics = Metrics::default();
        let mut containers: Vec<ContainerView> = (0..100)
            .map(|number| view(&format!("its name is {number}")))
            .collect();
        containers.extend([view("it is stopping"), view("it is stopping")]);
        let text = metrics
            .text(&Now {
                containers: Some(&containers),
                keys: None,
                lease_left: None,
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
