//! Soak: containers start and stop for a chosen time, while clients read the metrics and the page, and while requests go
//! through a HAProxy. Memory, descriptors, leases and old workers must not grow, no request may fail, and at the end
//! nothing is left. Docker is simulated; etcd, HAProxy and the servers behind it are real.
//!
//! Variables, with their defaults: `SOAK_SECONDS`, the time (10); `SOAK_RATE`, events per second (20);
//! `SOAK_CONTAINERS`, the approximate number of running containers (200). It prints its measurements once a second.

mod common;

use common::{
    Backend, HOST_IP, Load, ProxyDirectory, Registrar, Rng, SOON, Simulated, TestBed, eventually,
    free_port, get, inspection, let_time_pass, processes,
};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Each service has many containers, so that its `port` keys are always wanted.
const SERVICES: usize = 4;

/// The tolerance for memory, in MiB, because the allocator keeps varying amounts of freed memory.
const NOISE: f64 = 3.0;

/// The tolerance for descriptors: inspections and clients' requests in flight.
const IN_FLIGHT: usize = 20;

/// The same for two programs.
const TWO_IN_FLIGHT: f64 = 40.0;

/// The resources of a registrar at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// In MiB.
    memory: f64,
    descriptors: usize,
    leases: usize,
}

#[test]
fn nothing_grows_and_nothing_is_left() {
    let seconds = variable("SOAK_SECONDS", 10);
    let rate = variable("SOAK_RATE", 20);
    let number = u16::try_from(variable("SOAK_CONTAINERS", 200)).expect("fewer than 65,536");
    let bed = TestBed::new();
    let docker = Simulated::start();
    let service = |number: u16| format!("service-{}", usize::from(number) % SERVICES);
    for container in 0..number {
        docker.run(container, &service(container));
    }
    let registrar = Registrar::command()
        .flag("--etcd", bed.etcd.endpoint())
        .flag("--prefix", &bed.prefix)
        .flag("--host-ip", HOST_IP)
        .flag("--instance", &bed.name)
        .flag("--ttl", "6")
        .flag("--listen", "127.0.0.1:0")
        .env("DOCKER_HOST", docker.host())
        .start();
    let keys_of = |containers: usize| 2 * containers + 2 * SERVICES;
    let in_step = || bed.keys().len() == keys_of(docker.running());
    eventually(SOON, "all keys", in_step);
    eventually(SOON, "the seat", || {
        bed.etcd.leases().len() == 2 * SERVICES + 2
    });
    let address = registrar.address();

    let mut rng = Rng::new(variable("SOAK_SEED", 1));
    let (begun, mut samples) = (Instant::now(), Vec::new());
    for second in 1..=seconds {
        while begun.elapsed() < Duration::from_secs(second) {
            let container = u16::try_from(rng.below(usize::from(number))).expect("a small number");
            // A stop makes two events, a start one.
            let events = if docker.stop(container) { 2 } else { 1 };
            if events == 1 {
                docker.run(container, &service(container));
            }
            let_time_pass(Duration::from_secs(events) / u32::try_from(rate).expect("a rate"));
        }
        assert_eq!(get(&address, "/").status, 200);
        assert_eq!(get(&address, "/metrics").status, 200);
        let sample = Sample::of(&registrar, &bed);
        println!("{second:6} s {:6} running {sample:?}", docker.running());
        samples.push(sample);
    }
    eventually(SOON, "etcd to follow", in_step);

    // The first fifth is for warming up.
    let (early, late) = samples.split_at(samples.len() / 5 + 1);
    let most =
        |samples: &[Sample], of: fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    let memory = [early, late].map(|samples| most(samples, |sample| sample.memory));
    assert!(
        memory[1] <= memory[0] + NOISE,
        "memory has grown: {memory:?} MiB"
    );
    let last = samples[samples.len() - 1];
    assert!(
        last.descriptors <= early[early.len() - 1].descriptors + IN_FLIGHT,
        "descriptors have grown: {samples:?}"
    );
    assert!(
        samples.iter().all(|sample| sample.leases == last.leases),
        "{samples:?}"
    );

    for container in 0..number {
        docker.stop(container);
    }
    eventually(SOON, "an empty etcd", || bed.keys().is_empty());
    assert!(registrar.terminate().success());
    eventually(SOON, "no lease but that for the next container", || {
        bed.etcd.leases().len() <= 1
    });
}

/// A service whose containers have real servers.
struct Served {
    name: &'static str,
    port: u16,
    backends: Vec<Backend>,
    /// The number of its first container.
    first: u16,
}

impl Served {
    /// The number of containers of a service, and of those that always run.
    const MOST: u16 = 6;
    const LEAST: u16 = 2;

    fn new(place: u16, name: &'static str) -> Self {
        let backend = |number| Backend::start(&format!("{name}-{number}"));
        Self {
            name,
            port: free_port(),
            backends: (0..Self::MOST).map(backend).collect(),
            first: place * Self::MOST,
        }
    }

    /// Starts a container, which has one port.
    fn run(&self, docker: &Simulated, number: u16) {
        let backend = &self.backends[usize::from(number)];
        let mut container = inspection(self.first + number, self.name, backend.address.port());
        let variables = ["SERVICE_NAME", "SERVICE_8005_PORT"];
        let values = [self.name.to_owned(), self.port.to_string()];
        let env = variables.iter().zip(values);
        container["Config"]["Env"] = env.map(|(name, value)| format!("{name}={value}")).collect();
        container["Config"]["ExposedPorts"] = json!({ "8005/tcp": {} });
        let ports = &mut container["NetworkSettings"]["Ports"];
        ports.as_object_mut().map(|ports| ports.remove("8006/tcp"));
        docker.run_as(&container);
    }

    fn stop(&self, docker: &Simulated, number: u16) -> bool {
        docker.stop(self.first + number)
    }
}

/// Two services whose containers change all the time, and one that comes and goes as a whole, which takes reloads.
#[test]
fn nothing_grows_and_no_request_fails_with_both_roles() {
    /// How long the third service stays, and stays away.
    const TIDE: u64 = 5;
    let (seconds, rate) = (variable("SOAK_SECONDS", 10), variable("SOAK_RATE", 20));
    let bed = TestBed::new();
    let docker = Simulated::start();
    let [red, green, tidal] =
        [(0, "red"), (1, "green"), (2, "tidal")].map(|(place, name)| Served::new(place, name));
    for service in [&red, &green] {
        (0..Served::MOST).for_each(|number| service.run(&docker, number));
    }
    let registrar = Registrar::command()
        .flag("--etcd", bed.etcd.endpoint())
        .flag("--prefix", &bed.prefix)
        .flag("--host-ip", "127.0.0.1")
        .flag("--instance", &bed.name)
        .flag("--ttl", "6")
        .env("DOCKER_HOST", docker.host())
        .start();
    let directory = ProxyDirectory::new();
    let reader = bed.discover(directory.path());
    let reader = reader
        .flag("--reload-interval", "1")
        .flag("--drain", "2")
        .flag("--listen", "127.0.0.1:0")
        .start_command("discover");
    let ready = || get(&reader.address(), "/readyz").status == 200;
    eventually(SOON, "the reader to be ready", ready);
    let address = |service: &Served| format!("127.0.0.1:{}", service.port);
    for service in [&red, &green] {
        eventually(SOON, "an answer", || {
            common::ask(&address(service), "x").is_ok()
        });
    }
    let loads = [&red, &green].map(|service| Load::start(&address(service), "x", 50));

    let mut rng = Rng::new(variable("SOAK_SEED", 1));
    let (begun, mut samples) = (Instant::now(), Vec::new());
    for second in 1..=seconds {
        for number in 0..Served::MOST {
            match second / TIDE % 2 {
                0 => drop(tidal.stop(&docker, number)),
                _ => tidal.run(&docker, number),
            }
        }
        while begun.elapsed() < Duration::from_secs(second) {
            let service = [&red, &green][rng.below(2)];
            let number =
                u16::try_from(rng.below(usize::from(Served::MOST))).expect("a small number");
            // A stop makes two events, a start one.
            let is_kept = number < Served::LEAST;
            let events = if !is_kept && service.stop(&docker, number) {
                2
            } else {
                service.run(&docker, number);
                1
            };
            let_time_pass(Duration::from_secs(events) / u32::try_from(rate).expect("a rate"));
        }
        let sample = Both::of(&registrar, &reader, &bed, directory.path());
        println!("{second:6} s {sample:?}");
        samples.push(sample);
    }
    for (load, service) in loads.into_iter().zip([&red, &green]) {
        let (answers, failures) = load.stop();
        println!("{}: {} answers", service.name, answers.len());
        assert!(failures.is_empty(), "{failures:?}");
        let is_own = |answer: &String| answer.starts_with(service.name);
        assert!(answers.iter().all(is_own), "an answer of another service");
    }
    assert_flat(&samples);

    for service in [&red, &green, &tidal] {
        for number in 0..Served::MOST {
            service.stop(&docker, number);
        }
    }
    eventually(SOON, "an empty etcd", || bed.keys().is_empty());
    let file = directory.path().join("haproxy.cfg");
    eventually(SOON, "a configuration without servers", || {
        fs::read_to_string(&file).is_ok_and(|text| !text.contains("\n  server "))
    });
    eventually(SOON, "no old worker", || {
        processes(directory.path()).len() <= 2
    });
    assert!(reader.terminate().success() && registrar.terminate().success());
    eventually(SOON, "no HAProxy", || {
        processes(directory.path()).is_empty()
    });
    eventually(SOON, "no lease but that for the next container", || {
        bed.etcd.leases().len() <= 1
    });
}

/// The resources of a registrar and of a reader with its HAProxy.
#[derive(Debug)]
struct Both {
    registrar: Sample,
    reader: Sample,
    /// HAProxy's processes, and their memory in MiB.
    processes: u32,
    memory: f64,
}

impl Both {
    fn of(registrar: &Registrar, reader: &Registrar, bed: &TestBed, directory: &Path) -> Self {
        let processes = processes(directory);
        Self {
            registrar: Sample::of(registrar, bed),
            reader: Sample::of(reader, bed),
            memory: processes.iter().filter_map(|pid| resident(pid)).sum(),
            processes: u32::try_from(processes.len()).expect("few processes"),
        }
    }

    fn descriptors(&self) -> f64 {
        let descriptors = self.registrar.descriptors + self.reader.descriptors;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let descriptors = descriptors as f64;
        descriptors
    }
}

/// Checks that no resource grows after the first fifth of the time, which is for warming up.
fn assert_flat(samples: &[Both]) {
    let (early, late) = samples.split_at(samples.len() / 5 + 1);
    let check = |what: &str, of: fn(&Both) -> f64, noise: f64| {
        let most = |samples: &[Both]| samples.iter().map(of).fold(0.0, f64::max);
        let [before, after] = [early, late].map(most);
        assert!(after <= before + noise, "{what}: {before} and {after}");
    };
    check("registrar", |sample| sample.registrar.memory, NOISE);
    check("reader", |sample| sample.reader.memory, NOISE);
    // Servers that wait for their deletion, and a worker that is about to end.
    check("HAProxy", |sample| sample.memory, 4.0 * NOISE);
    // Each change of the third service leaves a worker that ends with its last connection.
    check("processes", |sample| sample.processes.into(), 4.0);
    check("descriptors", Both::descriptors, TWO_IN_FLIGHT);
}

impl Sample {
    fn of(registrar: &Registrar, bed: &TestBed) -> Self {
        let pid = registrar.pid().to_string();
        Self {
            memory: resident(&pid).expect("it runs"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("it runs")
                .count(),
            leases: bed.etcd.leases().len(),
        }
    }
}

/// A process's memory in MiB; none if it has ended.
fn resident(pid: &str) -> Option<f64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096.0 / (1024.0 * 1024.0))
}

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().expect("a number"),
        _ => default,
    }
}
