//! Soak: containers come and go for as long as one likes, others look at the metrics and the page all the while, and
//! neither memory nor descriptors nor leases grow; in the end nothing is left. Docker is simulated, etcd is real.
//!
//! `SOAK_SECONDS` says for how long (10), `SOAK_RATE` how many events a second there are (20), `SOAK_CONTAINERS` about how
//! many containers run (200). It prints what it saw, once a second.

mod common;

use common::{HOST_IP, Registrar, Rng, SOON, Simulated, TestBed, eventually, get, let_time_pass};
use std::time::{Duration, Instant};

/// Each has many containers, so that its `port` keys always have somebody who wants them.
const SERVICES: usize = 4;

/// How much memory may come and go, in MiB: what the allocator keeps for the next time differs.
const NOISE: f64 = 3.0;

/// How many descriptors may be in use for what is just being asked: inspections, and those who ask.
const IN_FLIGHT: usize = 20;

/// What a registrar has at one moment.
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
