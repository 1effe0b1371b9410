//! Soak: containers start and stop for a chosen time, while clients read the metrics and the page. Memory, descriptors
//! and leases must not grow, and at the end no key is left. Docker is simulated, etcd is real.
//!
//! Variables, with their defaults: `SOAK_SECONDS`, the time (10); `SOAK_RATE`, events per second (20);
//! `SOAK_CONTAINERS`, the approximate number of running containers (200). It prints its measurements once a second.

mod common;

use common::{HOST_IP, Registrar, Rng, SOON, Simulated, TestBed, eventually, get, let_time_pass};
use std::time::{Duration, Instant};

/// Each service has many containers, so that its `port` keys are always wanted.
const SERVICES: usize = 4;

/// The tolerance for memory, in MiB, because the allocator keeps varying amounts of freed memory.
const NOISE: f64 = 3.0;

/// The tolerance for descriptors: inspections and clients' requests in flight.
const IN_FLIGHT: usize = 20;

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

impl Sample {
    fn of(registrar: &Registrar, bed: &TestBed) -> Self {
        let proc = format!("/proc/{}", registrar.pid());
        let statm = std::fs::read_to_string(format!("{proc}/statm")).expect("it runs");
        let pages: f64 = statm
            .split(' ')
            .nth(1)
            .expect("pages")
            .parse()
            .expect("a number");
        Self {
            memory: pages * 4096.0 / (1024.0 * 1024.0),
            descriptors: std::fs::read_dir(format!("{proc}/fd"))
                .expect("it runs")
                .count(),
            leases: bed.etcd.leases().len(),
        }
    }
}

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().expect("a number"),
        _ => default,
    }
}
