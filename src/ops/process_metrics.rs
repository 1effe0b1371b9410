//! The process's own metrics, under the names that Prometheus's client libraries use for them.

use std::fs;

use jiff::Timestamp;
use prometheus::{Counter, Encoder as _, Gauge, IntGauge, Registry, TextEncoder};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::collector::add;

/// Metrics of the process, set when somebody asks.
#[derive(Debug)]
pub struct ProcessMetrics {
    registry: Registry,
    cpu: Counter,
    resident: IntGauge,
    open_files: IntGauge,
    most_files: IntGauge,
}

impl ProcessMetrics {
    /// Call it once, at the start of the process.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| add(&registry, IntGauge::new(name, help));
        let started = add(
            &registry,
            Gauge::new(
                "process_start_time_seconds",
                "Time of the process's start, since 1970.",
            ),
        );
        started.set(Timestamp::now().as_duration().as_secs_f64());
        Self {
            cpu: add(
                &registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "Processor time that the process has used.",
                ),
            ),
            resident: gauge(
                "process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
            ),
            open_files: gauge("process_open_fds", "Open file descriptors."),
            most_files: gauge(
                "process_max_fds",
                "Most file descriptors that the process may open.",
            ),
            registry: registry.clone(),
        }
    }

    /// All of them in Prometheus's text format.
    pub fn text(&self) -> anyhow::Result<String> {
        self.set();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// A value that cannot be read stays as it was.
    fn set(&self) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        let seconds = u32::try_from(time.tv_sec).unwrap_or(u32::MAX);
        let used = f64::from(seconds) + f64::from(nanoseconds) / 1e9;
        self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        if let Ok(status) = fs::read_to_string("/proc/self/status")
            && let Some(bytes) = resident(&status)
        {
            self.resident.set(bytes);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.open_files
                .set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            self.most_files.set(i64::try_from(most).unwrap_or(i64::MAX));
        }
    }
}

/// The resident memory, in bytes, in the text of `/proc/self/status`.
fn resident(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let metrics = ProcessMetrics::new();
        metrics.set();
        assert!(metrics.cpu.get() > 0.0);
        assert!(metrics.resident.get() > 1024 * 1024);
        assert!((3..=metrics.most_files.get()).contains(&metrics.open_files.get()));
        let before = metrics.cpu.get();
        metrics.set();
        assert!(metrics.cpu.get() >= before);
        let text = metrics.text().expect("a text");
        assert_eq!(text.matches("# TYPE process_").count(), 5, "{text}");
        assert_eq!(resident("Name: x\nVmRSS:\t    2 kB\n"), Some(2048));
    }
}
