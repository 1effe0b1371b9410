//! The loads of a role's policy: which policy is in force, and whether the last load failed. The log, the page and the
//! metrics show it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info};

use super::collector::add;
use super::condition::State;

/// The time after a failed load at which the log says once more that the old policy is in force.
const REMINDER: Duration = Duration::from_secs(600);

/// Which policy it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its file, or its bundled name.
    pub name: String,
    /// The first digits of a digest of the texts of all its scripts.
    pub digest: String,
}

/// The loads so far; others can wait for the next. A clone is another handle.
#[derive(Debug, Clone, Default)]
pub struct Loads(watch::Sender<Last>);

/// The last load.
#[derive(Debug, Clone, Default)]
struct Last {
    in_force: Option<Version>,
    at: Option<Timestamp>,
    /// The error of the last load and the time of the first failure in a row, if it failed.
    failure: Option<(Arc<str>, Timestamp)>,
}

/// The gauges about a policy.
#[derive(Debug)]
pub struct LoadGauges {
    success: IntGauge,
    at: Gauge,
    info: IntGaugeVec,
}

impl Loads {
    /// Records the policy that the program begins with.
    pub fn began(&self, version: Version) {
        info!("policy: {version}");
        self.succeeded(version);
    }

    /// Records that the policy was loaded again.
    pub fn renewed(&self, version: Version) {
        info!("policy, loaded again: {version}");
        self.succeeded(version);
    }

    /// Records that the policy could not be loaded again.
    pub fn failed(&self, why: &str) {
        error!("the policy cannot be loaded again: {why}\n  the old one stays in force");
        self.0.send_modify(|last| {
            let now = Timestamp::now();
            let since = last.failure.as_ref().map_or(now, |(_, since)| *since);
            last.at = Some(now);
            last.failure = Some((why.into(), since));
        });
    }

    /// The policy in force, for the page.
    pub fn in_force(&self) -> String {
        let last = self.0.borrow();
        let version = last.in_force.as_ref();
        version.map_or_else(String::new, ToString::to_string)
    }

    /// The state for the page, if the last load failed.
    pub fn trouble(&self) -> Option<State> {
        let (why, since) = self.0.borrow().failure.clone()?;
        let why =
            format!("the policy cannot be loaded again, and the old one stays in force: {why}");
        let why = why.into();
        Some(State::Bad { since, why })
    }

    /// Reminds of each failed load once, if it is not followed by another load.
    pub async fn remind(self) {
        let mut loads = self.0.subscribe();
        loop {
            let failure = loads.borrow_and_update().failure.clone();
            if let Some((why, since)) = failure {
                if timeout(REMINDER, loads.changed()).await.is_ok() {
                    continue;
                }
                error!(
                    "since {since:.0} the policy cannot be loaded again, and the old one stays in force: {why}"
                );
            }
            if loads.changed().await.is_err() {
                return;
            }
        }
    }

    fn succeeded(&self, version: Version) {
        self.0.send_replace(Last {
            in_force: Some(version),
            at: Some(Timestamp::now()),
            failure: None,
        });
    }
}

impl LoadGauges {
    /// The gauges of a role, whose metrics begin with `prefix`.
    pub fn new(registry: &Registry, prefix: &str) -> Self {
        let name = |name: &str| format!("{prefix}policy_{name}");
        let labels = ["policy", "sha256"];
        Self {
            success: add(
                registry,
                IntGauge::new(
                    name("reload_success"),
                    "1 if the last load of the policy, at the start or by SIGHUP, went well; 0 if an older one is in force.",
                ),
            ),
            at: add(
                registry,
                Gauge::new(
                    name("reload_timestamp_seconds"),
                    "Time of the last load of the policy, failed or not.",
                ),
            ),
            info: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(name("info"), "1, with the policy in force as labels."),
                    &labels,
                ),
            ),
        }
    }

    pub fn set(&self, loads: &Loads) {
        let last = loads.0.borrow();
        self.success.set(last.failure.is_none().into());
        if let Some(at) = last.at {
            self.at.set(at.as_duration().as_secs_f64());
        }
        self.info.reset();
        if let Some(Version { name, digest }) = &last.in_force {
            self.info.with_label_values(&[name, digest]).set(1);
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, sha256 {}", self.name, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};
    use tokio::time::sleep;
    use tracing::subscriber::set_default;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
    use tracing_subscriber::registry;

    use super::*;
    use crate::ops::log::{LevelFilter, Recent};

    fn version(digest: &str) -> Version {
        Version {
            name: "site.lua".to_owned(),
            digest: digest.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_load_is_reminded_of_once() {
        let recent = Recent::default();
        let _guard = set_default(registry().with(recent.clone().with_filter(LevelFilter::WARN)));
        let reminders = || {
            let lines = recent.lines().into_iter();
            lines.filter(|line| line.text.starts_with("since ")).count()
        };
        let loads = Loads::default();
        loads.began(version("1"));
        let task = tokio::spawn(loads.clone().remind());
        sleep(2 * REMINDER).await;
        assert_eq!(reminders(), 0);
        loads.failed("no");
        sleep(REMINDER / 2).await;
        // Each failure begins the time anew.
        loads.failed("no");
        sleep(REMINDER * 3 / 4).await;
        assert_eq!(reminders(), 0);
        sleep(3 * REMINDER).await;
        assert_eq!(reminders(), 1);
        loads.failed("no");
        sleep(REMINDER / 2).await;
        loads.renewed(version("2"));
        sleep(3 * REMINDER).await;
        assert_eq!(reminders(), 1);
        task.abort();
    }

    #[test]
    fn the_gauges_show_the_last_load_and_the_policy_in_force() {
        let (registry, loads) = (Registry::new(), Loads::default());
        let gauges = LoadGauges::new(&registry, "x_");
        let text = || {
            gauges.set(&loads);
            let mut text = Vec::new();
            let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
            encoded.expect("a text");
            String::from_utf8(text).expect("UTF-8")
        };
        loads.began(version("1"));
        loads.failed("no");
        let failed = text();
        for line in [
            "x_policy_reload_success 0\n",
            "x_policy_info{policy=\"site.lua\",sha256=\"1\"} 1\n",
        ] {
            assert!(failed.contains(line), "{failed}");
        }
        assert!(
            matches!(loads.trouble(), Some(State::Bad { why, .. }) if why.ends_with("in force: no"))
        );
        loads.renewed(version("2"));
        let renewed = text();
        assert!(renewed.contains("x_policy_reload_success 1\n"), "{renewed}");
        assert!(
            renewed.contains("sha256=\"2\"} 1\n") && !renewed.contains("sha256=\"1\""),
            "{renewed}"
        );
        assert_eq!(loads.trouble(), None);
        assert_eq!(loads.in_force(), "`site.lua`, sha256 2");
    }
}
