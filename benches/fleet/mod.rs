//! The load of many hosts on one etcd. Fifty registrars, each with its own simulated Docker, and fifty readers are
//! measured at once, directly and through `etcd grpc-proxy`, while nothing changes and with a change a second. `report`
//! reckons the load of larger fleets from that. After a restart of etcd all readers list all keys: the real ones here,
//! and more of them in `storm`.

mod counts;
mod report;
mod storm;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::common::{Etcd, GrpcProxy, HOST_IP, Simulated, eventually};
use super::table::{Running, milliseconds, scaled};
use counts::{Counts, counted, difference, float, watchers};
use report::Measured;

/// The number of registrars and of readers, of containers on each host, and of services. Each service has two ports.
const HOSTS: usize = 50;
const CONTAINERS: u16 = 50;
const SERVICES: u16 = 10;
/// The beginning of all keys.
const PREFIX: &str = "/backends/";
/// The seconds for which etcd is watched, all scaled by `BENCH_SCALE`: alone; in the steady state, which are three
/// renewals and a listing of each reader; with a change a second.
const ALONE: usize = 10;
const STEADY: usize = 60;
const CHANGING: usize = 24;
/// The timeout until all keys, leases and files are there.
const LONG: Duration = Duration::from_secs(120);
/// The time between two looks at etcd's metrics, which cost etcd some milliseconds each.
const LOOK: Duration = Duration::from_millis(100);

/// Registrars and readers of one etcd, until they go out of scope.
struct Fleet {
    readers: Vec<Reader>,
    registrars: Vec<Running>,
    dockers: Vec<Simulated>,
    proxy: Option<GrpcProxy>,
    etcd: Etcd,
    /// The number of containers that have stopped or started so far.
    changes: usize,
}

/// A `discover` that writes one file. It has no HAProxy: on one machine, fifty of them would be measured beside etcd.
struct Reader {
    running: Running,
    directory: TempDir,
}

/// Measures, prints the results, and writes them to `target/bench-fleet.json`.
///
/// # Panics
///
/// If the file cannot be written.
pub fn print() {
    let json = json!({
        "directly": one_way(false), "through grpc-proxy": one_way(true), "storm": storm::print(),
    });
    let text = serde_json::to_string_pretty(&json).expect("plain data");
    fs::write("target/bench-fleet.json", text).expect("its directory is there");
}

/// Measures one fleet.
fn one_way(is_proxied: bool) -> Value {
    let mut fleet = Fleet::new(is_proxied);
    let mut json = report::print(&fleet.measure());
    // A proxy has fewer watches than readers, so they do not show when all readers are back.
    if !is_proxied {
        json["after a restart of etcd"] = fleet.restart();
    }
    println!();
    json
}

impl Fleet {
    fn new(is_proxied: bool) -> Self {
        let etcd = Etcd::start();
        Self {
            readers: Vec::new(),
            registrars: Vec::new(),
            dockers: (0..scaled(HOSTS)).map(docker).collect(),
            proxy: is_proxied.then(|| GrpcProxy::start(&etcd)),
            etcd,
            changes: 0,
        }
    }

    fn measure(&mut self) -> Measured {
        let alone = self.rates(ALONE, false);
        let milliseconds = self.start_registrars();
        let quiet = self.rates(STEADY, false);
        let changing = self.rates(CHANGING, true);
        let before = self.counted();
        self.start_readers();
        let listed = difference(&before, &self.counted());
        // Before their first --resync, after 45 seconds or more, so that no listing is measured with the changes.
        let changing_read = self.rates(CHANGING, true);
        let watchers = watchers(&self.etcd);
        let quiet_read = self.rates(STEADY, false);
        let readers = self.readers.iter().map(|reader| &reader.running);
        Measured {
            is_proxied: self.proxy.is_some(),
            hosts: float(self.dockers.len()),
            keys: float(self.keys()),
            milliseconds,
            registrars: self.registrars.iter().map(Running::resident).sum(),
            readers: readers.map(Running::resident).sum(),
            watchers,
            alone,
            quiet,
            changing,
            listed,
            quiet_read,
            changing_read,
        }
    }

    /// Starts all of them at once. Returns the milliseconds until all keys are there.
    fn start_registrars(&mut self) -> f64 {
        let (begun, endpoint) = (Instant::now(), self.endpoint());
        let start = |(host, docker): (usize, &Simulated)| {
            let mut command = program("run", &endpoint);
            command.args(["--host-ip", HOST_IP, "--instance", &host.to_string()]);
            Running::new(command.env("DOCKER_HOST", docker.host()))
        };
        self.registrars = self.dockers.iter().enumerate().map(start).collect();
        let keys = self.keys();
        eventually(LONG, "all keys", || self.etcd.count(PREFIX) == keys);
        let took = milliseconds(begun.elapsed());
        // An owned lease and a seat for each host.
        let leases = 2 * self.dockers.len() + shared();
        eventually(LONG, "all leases", || self.etcd.leases().len() == leases);
        took
    }

    /// Starts all of them at once, and waits until each has listed.
    fn start_readers(&mut self) {
        let endpoint = self.endpoint();
        let start = |_| Reader::start(&endpoint);
        self.readers = (0..self.dockers.len()).map(start).collect();
        eventually(LONG, "all files", || {
            // A proxy answers no question for the progress of a watch, so a reader that hears nothing lists again.
            self.change();
            thread::sleep(Duration::from_secs(1));
            self.readers.iter().all(Reader::has_listed)
        });
    }

    /// A container stops, or starts again: two keys change, in one transaction.
    fn change(&mut self) {
        let host = self.changes / 2 % self.dockers.len();
        let number = first_of(host);
        if !self.dockers[host].stop(number) {
            self.dockers[host].run(number, &service_of(number));
        }
        self.changes += 1;
    }

    /// The counts of a second. With a change in each, they are also those of a change.
    fn rates(&mut self, seconds: usize, with_changes: bool) -> Counts {
        let (before, begun) = (self.counted(), Instant::now());
        for second in 1..=scaled(seconds) as u64 {
            if with_changes {
                self.change();
            }
            // A fixed time is measured here; nothing is waited for.
            let due = begun + Duration::from_secs(second);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (after, seconds) = (self.counted(), begun.elapsed().as_secs_f64());
        difference(&before, &after).map(|count| count / seconds)
    }

    /// Kills etcd and starts it again, and waits until all readers watch as before.
    fn restart(&self) -> Value {
        let before = watchers(&self.etcd);
        self.etcd.kill9();
        let begun = Instant::now();
        self.etcd.start_again();
        let answers = milliseconds(begun.elapsed());
        eventually(LONG, "all watches", || {
            thread::sleep(LOOK);
            watchers(&self.etcd) >= before
        });
        let watches = milliseconds(begun.elapsed());
        let (spent, peak) = (self.counted(), counts::peak(self.etcd.pid()));
        let [ranges, bytes, processor] =
            [counts::RANGES, counts::BYTES, counts::PROCESSOR].map(|name| counts::of(&spent, name));
        println!(
            "etcd is killed and started again: it answers after {answers:.0} ms, and all {} readers watch again after \
             {watches:.0} ms. Until then: {ranges} Range calls, {bytes} bytes from etcd, {processor:.0} ms of etcd's \
             processor with its start, {peak:.0} MiB at most",
            self.readers.len()
        );
        json!({
            "milliseconds until it answers": answers, "milliseconds until all watch": watches,
            "until then": counts::named(&spent), "MiB of etcd at most": peak,
        })
    }

    fn counted(&self) -> Counts {
        counted(&self.etcd, self.proxy.as_ref())
    }

    /// The way to etcd of registrars and readers.
    fn endpoint(&self) -> String {
        let proxy = self.proxy.as_ref().map(GrpcProxy::endpoint);
        proxy.unwrap_or_else(|| self.etcd.endpoint())
    }

    /// The number of keys while all containers run.
    fn keys(&self) -> usize {
        2 * usize::from(CONTAINERS) * self.dockers.len() + shared()
    }
}

impl Reader {
    fn start(endpoint: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut command = program("discover", endpoint);
        command.args(["--proxy", "none", "--set", "target=file_sd", "--directory"]);
        let running = Running::new(command.arg(directory.path()));
        Self { running, directory }
    }

    fn has_listed(&self) -> bool {
        self.directory.path().join("targets.json").exists()
    }
}

/// A role of docker-register.
fn program(role: &str, endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-register"));
    command.args([role, "--etcd", endpoint]);
    command
}

fn docker(host: usize) -> Simulated {
    let docker = Simulated::start();
    let first = first_of(host);
    for number in first..first + CONTAINERS {
        docker.run(number, &service_of(number));
    }
    docker
}

/// The number of a host's first container.
fn first_of(host: usize) -> u16 {
    u16::try_from(host).expect("a small number") * CONTAINERS
}

fn service_of(container: u16) -> String {
    format!("service-{}", container % SERVICES)
}

/// The number of shared keys: a `port` key for each port of a service. Each has its own lease.
fn shared() -> usize {
    2 * usize::from(SERVICES)
}
