//! The metrics that every role has: its version and settings, its partners, its policy and its log.

use jiff::Timestamp;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::collector::add;
use super::condition::State;
use super::loads::{LoadGauges, Loads};
use super::log;
use super::readiness::Readiness;
use crate::base::calls::Calls;

/// The limits of the buckets of calls, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The metrics of a role. Events are counted where they happen, and the rest is set when somebody asks.
#[derive(Debug)]
pub struct RoleMetrics {
    settings: IntGaugeVec,
    up: IntGaugeVec,
    calls: HistogramVec,
    call_errors: IntCounterVec,
    last_sync: Gauge,
    loads: LoadGauges,
    log_lines_dropped: IntCounter,
}

impl RoleMetrics {
    /// The names begin with `prefix`. `settings` are the names of the settings that are shown, and `partners` those that
    /// are called.
    pub fn new(registry: &Registry, prefix: &str, settings: &[&str], partners: &[&str]) -> Self {
        let opts = |name: &str, help: &str| Opts::new(format!("{prefix}{name}"), help);
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntGaugeVec::new(opts(name, help), labels))
        };
        let build = gauges(
            "build_info",
            "1, with the running version and its commit as labels.",
            &["version", "revision"],
        );
        build.with_label_values(&version()).set(1);
        let calls = HistogramOpts::new(
            format!("{prefix}call_duration_seconds"),
            "Time of a call, answered or not, by partner.",
        );
        let metrics = Self {
            settings: gauges(
                "settings_info",
                "1, with settings of the process as labels.",
                settings,
            ),
            up: gauges(
                "up",
                "1 if this part is well: if a partner is reached, the policy works, the seat is ours; else 0.",
                &["partner"],
            ),
            calls: add(
                registry,
                HistogramVec::new(calls.buckets(BUCKETS.to_vec()), &["partner"]),
            ),
            call_errors: add(
                registry,
                IntCounterVec::new(
                    opts(
                        "call_errors_total",
                        "Calls that had no answer or a refusal, by partner.",
                    ),
                    &["partner"],
                ),
            ),
            last_sync: add(
                registry,
                Gauge::with_opts(opts(
                    "last_sync_timestamp_seconds",
                    "Time at which everything was last found or brought in step, since 1970; NaN before that.",
                )),
            ),
            loads: LoadGauges::new(registry, prefix),
            log_lines_dropped: add(
                registry,
                IntCounter::with_opts(opts(
                    "log_lines_dropped_total",
                    "Log lines that were dropped because nobody read stderr.",
                )),
            ),
        };
        metrics.last_sync.set(f64::NAN);
        // Made before their first count, because Prometheus cannot see the increase of a series that begins with 1.
        for partner in partners {
            metrics.calls.with_label_values(&[partner]);
            metrics.call_errors.with_label_values(&[partner]);
        }
        metrics
    }

    /// Shows the settings, in the order of their names.
    pub fn show_settings(&self, values: &[&str]) {
        self.settings.with_label_values(values).set(1);
    }

    /// Is told of each call to a partner.
    pub fn calls(&self, partner: &str) -> Calls {
        let calls = self.calls.with_label_values(&[partner]);
        let errors = self.call_errors.with_label_values(&[partner]);
        Calls::told_to(move |took, failed| {
            calls.observe(took.as_secs_f64());
            if failed {
                errors.inc();
            }
        })
    }

    /// Records that everything is in step now.
    pub fn synced(&self) {
        self.last_sync
            .set(Timestamp::now().as_duration().as_secs_f64());
    }

    /// Sets what is not counted where it happens.
    pub fn set(&self, readiness: &Readiness, loads: &Loads) {
        self.loads.set(loads);
        for (name, condition) in &readiness.conditions {
            let is_good = matches!(condition.state(), State::Good { .. });
            self.up.with_label_values(&[name]).set(is_good.into());
        }
        bring_to(&self.log_lines_dropped, log::dropped_lines());
    }
}

/// Raises a counter to `count`. Counters never fall.
pub fn bring_to(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

/// The version, and the commit that it was built from.
fn version() -> [&'static str; 2] {
    let whole = env!("VERSION_AND_COMMIT");
    match whole.split_once(" (") {
        Some((version, commit)) => [version, commit.trim_end_matches(')')],
        None => [whole, ""],
    }
}
