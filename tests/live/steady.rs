//! While nothing changes, nothing is written: etcd's revision stays the same, and no lease is added.

use crate::common;

use common::{HOST_IP, SOON, TestBed, eventually, joined, web_keys};
use std::time::{Duration, Instant};

/// Several times the TTL, so that every key without renewals expires.
const STEADY: Duration = Duration::from_secs(20);

#[test]
fn steady_state_writes_nothing() {
    let bed = TestBed::new();
    let container = |service| bed.container().env("SERVICE_NAME", service).publish_all();
    let (web, api) = (container("web").start(), container("api").start());
    let keys = joined([
        &web_keys("web", &web, HOST_IP),
        &web_keys("api", &api, HOST_IP),
    ]);
    // Listing all containers again is part of the steady state.
    let registrar = bed.registrar().flag("--ttl", "3").flag("--resync", "2");
    let registrar = registrar.start();
    registrar.wait_for_log("in step", SOON);
    assert_eq!(bed.keys(), keys);

    let (revision, leases) = (bed.etcd.revision(), bed.etcd.leases());
    // One lease for the owned keys, one for each of the four shared ones, and the seat.
    assert_eq!(leases.len(), 6, "{leases:?}");
    let start = Instant::now();
    eventually(STEADY + SOON, "the end of the steady time", || {
        assert_eq!(bed.etcd.revision(), revision, "{:#?}", bed.etcd.history(""));
        assert_eq!(bed.etcd.leases(), leases);
        start.elapsed() >= STEADY
    });
    assert_eq!(bed.keys(), keys);
    assert!(!registrar.log().contains("WARN"), "{}", registrar.log());
}
