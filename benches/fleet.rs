//! The load of many hosts on one etcd: measures fifty registrars at once, each with its own simulated Docker, and
//! extrapolates to a thousand.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::common::{Simulated, TestBed, eventually, get};
use super::store::{Place, Store};
use super::table::{Program, Running, milliseconds, scaled};

/// The number of registrars, of containers on each, and of services. Each service has two ports.
const HOSTS: usize = 50;
const CONTAINERS: u16 = 50;
const SERVICES: u16 = 10;
/// The number of hosts that the load is extrapolated to.
const FLEET: f64 = 1000.0;
/// The time for which the steady state is watched: three renewals.
const STEADY: Duration = Duration::from_secs(60);
/// The timeout until all keys and leases are there.
const LONG: Duration = Duration::from_secs(120);

/// etcd's own metrics: a name, and the beginning of the metric's line.
const COUNTED: [(&str, &str); 7] = [
    ("renewals", "etcd_debugging_lease_renewed_total"),
    (
        "transactions",
        "grpc_server_msg_received_total{grpc_method=\"Txn\"",
    ),
    (
        "questions for a lease",
        "grpc_server_msg_received_total{grpc_method=\"LeaseTimeToLive\"",
    ),
    ("writes", "etcd_mvcc_put_total"),
    (
        "bytes to etcd",
        "etcd_network_client_grpc_received_bytes_total",
    ),
    (
        "bytes from etcd",
        "etcd_network_client_grpc_sent_bytes_total",
    ),
    ("seconds of etcd's processor", "process_cpu_seconds_total"),
];

/// Measures, prints the results, and writes them to `target/bench-fleet.json`.
///
/// # Panics
///
/// If the file cannot be written.
pub fn print() {
    let hosts = scaled(HOSTS);
    let place = Place::new(Store::Etcd);
    let bed = &place.bed;
    let dockers: Vec<Simulated> = (0..hosts).map(docker).collect();
    let idle = watch(bed);
    let begun = Instant::now();
    let registrars: Vec<Running> = dockers
        .iter()
        .enumerate()
        .map(|(host, docker)| start(&place, host, docker))
        .collect();
    let shared = 2 * usize::from(SERVICES);
    let keys = 2 * usize::from(CONTAINERS) * hosts + shared;
    eventually(LONG, "all keys", || bed.keys().len() == keys);
    let took = milliseconds(begun.elapsed());
    // An owned lease and a seat for each host.
    let leases = 2 * hosts + shared;
    eventually(LONG, "all leases", || bed.etcd.leases().len() == leases);

    let busy = watch(bed);
    let spent: [(&str, f64); COUNTED.len()] = std::array::from_fn(|index| {
        // Without etcd's own work, measured before the registrars started.
        (COUNTED[index].0, (busy[index] - idle[index]).max(0.0))
    });
    let memory: f64 = registrars.iter().map(Running::resident).sum();

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (hosts, leases, shared) = (hosts as f64, leases as f64, shared as f64);
    let mut text = format!(
        "{hosts} registrars with {CONTAINERS} containers each, of the same {SERVICES} services, and one etcd\n\
         all started at once → all {keys} keys: {took:.0} ms; memory of each: {:.1} MiB; leases: {leases}\n\
         {:46} {:>12} {:>12} {:>20}\n",
        memory / hosts,
        "in the steady state, a second",
        "measured",
        "one host's",
        "reckoned for 1,000",
    );
    for (name, rate) in spent {
        let of_one = rate / hosts;
        let _ = writeln!(
            text,
            "{name:46} {rate:>12.3} {of_one:>12.5} {:>20.1}",
            of_one * FLEET
        );
    }
    let _ = write!(
        text,
        "{:46} {leases:>12} {:>12} {:>20}",
        "leases",
        2,
        2.0 * FLEET + shared
    );
    println!("{text}");
    let json = json!({
        "hosts": hosts, "keys": keys, "milliseconds to all keys": took, "leases": leases,
        "MiB of each": memory / hosts, "a second": spent.to_vec(),
    });
    let text = serde_json::to_string_pretty(&json).expect("plain data");
    fs::write("target/bench-fleet.json", text).expect("its directory is there");
}

fn docker(host: usize) -> Simulated {
    let docker = Simulated::start();
    let first = u16::try_from(host).expect("a small number") * CONTAINERS;
    for number in 0..CONTAINERS {
        docker.run(first + number, &format!("service-{}", number % SERVICES));
    }
    docker
}

fn start(place: &Place, host: usize, docker: &Simulated) -> Running {
    let mut command = Program::Register.command(place, Some(docker));
    Running::new(command.args(["--instance", &host.to_string()]))
}

/// The metrics per second, over [`STEADY`].
fn watch(bed: &TestBed) -> [f64; COUNTED.len()] {
    let (before, begun) = (counted(bed), Instant::now());
    // A fixed time is measured here; nothing is waited for.
    thread::sleep(STEADY);
    let (after, seconds) = (counted(bed), begun.elapsed().as_secs_f64());
    std::array::from_fn(|index| (after[index] - before[index]) / seconds)
}

/// The metrics so far.
fn counted(bed: &TestBed) -> [f64; COUNTED.len()] {
    let page = get(&bed.etcd.endpoint(), "/metrics").body;
    COUNTED.map(|(_, line)| {
        let line = page.lines().find(|text| text.starts_with(line));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        number.expect("a number that etcd has counted")
    })
}
