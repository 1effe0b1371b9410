//! Containers with thousands of ports: their keys come and go in time that grows with their number, leases are renewed
//! meanwhile, and other containers do not wait for them.

use crate::common;

use common::{Container, HOST_IP, Registrar, SOON, TestBed, eventually, joined, web_keys};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time limit for all keys of a large container, on a busy machine. A quadratic step takes minutes.
const LARGE: Duration = Duration::from_secs(30);
/// The time limit for a container that starts or stops meanwhile.
const SMALL: Duration = Duration::from_secs(4);
/// A member key and a `port` key for each port.
const KEYS: usize = 20_000;

/// Two at a time would measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program, and a container with ten thousand ports in the host's network.
fn with_large(bed: &TestBed, flags: &[(&str, &str)]) -> (Registrar, Container) {
    let registrar = bed.registrar().flag("--set", "protocols=tcp,udp");
    let registrar = flags.iter().fold(registrar, |registrar, (name, value)| {
        registrar.flag(name, *value)
    });
    let registrar = registrar.start();
    registrar.wait_for_log("in step", SOON);
    let large = bed
        .container_of(common::BARE)
        .env("SERVICE_NAME", "large")
        .network("host")
        .expose("40000-49999/udp")
        .start();
    (registrar, large)
}

#[test]
fn ten_thousand_ports_come_and_go_and_hold_up_no_other_container() {
    let _alone = alone();
    let bed = TestBed::new();
    // Beside other tests, thousands of renewals wait for the processor. On an idle machine 15 are enough.
    let (registrar, large) = with_large(&bed, &[("--ttl", "30")]);
    let all = bed.key("large");
    let (begun, count) = (Instant::now(), || bed.etcd.count(&all));
    eventually(LARGE, "the first keys", || count() > 0);
    let web = bed.container().env("SERVICE_NAME", "web").publish_all();
    let (web, started) = (web.start(), Instant::now());
    let small = bed.key("web");
    eventually(SMALL, "the keys of a small container", || {
        bed.etcd.count(&small) == 4
    });
    println!("small: {:?}, large then has {}", started.elapsed(), count());
    eventually(LARGE, "all keys", || count() == KEYS);
    println!("all keys after {:?}", begun.elapsed());
    assert_eq!(bed.etcd.get(&small), bed_keys(&bed, &web));

    let removed = Instant::now();
    large.rm();
    eventually(LARGE, "a key to go", || count() < KEYS);
    let stopped = Instant::now();
    web.kill("KILL");
    eventually(SMALL, "the keys of a small container to go", || {
        bed.etcd.count(&small) == 0
    });
    println!(
        "small gone: {:?}, large then has {}",
        stopped.elapsed(),
        count()
    );
    eventually(LARGE, "all keys to go", || count() == 0);
    println!("all gone after {:?}", removed.elapsed());
    let log = registrar.log();
    assert!(
        !log.contains("WARN") && !log.contains("ERROR"),
        "{log:.2000}"
    );
}

/// The whole keys of a container of the service `web`.
fn bed_keys(bed: &TestBed, web: &Container) -> std::collections::BTreeMap<String, String> {
    let keys = joined([&web_keys("web", web, HOST_IP)]).into_iter();
    keys.map(|(key, value)| (bed.key(&key), value)).collect()
}

#[test]
fn all_keys_of_ten_thousand_ports_are_removed_at_exit() {
    let _alone = alone();
    let bed = TestBed::new();
    let (registrar, _large) = with_large(&bed, &[("--on-exit", "remove")]);
    let all = bed.key("large");
    eventually(LARGE, "all keys", || bed.etcd.count(&all) == KEYS);
    let ended = Instant::now();
    registrar.signal("TERM");
    // Docker and systemd's users expect an end within ten seconds.
    let output = registrar.output(Duration::from_secs(10));
    println!("removed at exit after {:?}", ended.elapsed());
    assert_eq!(output.status.code(), Some(0), "{:.2000}", output.stderr);
    assert_eq!(bed.etcd.count(&all), 0);
    let told = output.stderr.contains("the keys are removed");
    assert!(told, "{:.2000}", output.stderr);
}
