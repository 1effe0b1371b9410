//! A failover by Sentinel.

use std::time::{Duration, Instant};

use super::Site;
use crate::common::{HOST_IP, SOON, Sentinel, eventually, in_step, joined, web_keys};

/// In seconds. It is long, so that no key expires before the failover.
const TTL: u32 = 60;

#[test]
fn a_key_that_a_failover_loses_is_put_again_within_a_third_of_the_ttl() {
    let site = Site::new();
    let replica = site.redis.start_replica();
    let sentinel = Sentinel::start(&site.redis);
    let registrar = site.registrar().flag("--store", sentinel.uri());
    let registrar = in_step(&registrar.flag("--ttl", TTL.to_string()));
    let a = site.web().start();
    let of_a = web_keys("web", &a, HOST_IP);
    site.wait_for_keys(&of_a);
    eventually(SOON, "the keys in the replica", || {
        site.keys_in(&replica) == of_a
    });
    site.redis.cut_off_replicas();
    let b = site.web().start();
    let of_b = web_keys("web", &b, HOST_IP);
    let all = joined([&of_a, &of_b]);
    site.wait_for_keys(&all);
    assert_eq!(site.keys_in(&replica), of_a);
    site.redis.kill9();
    eventually(SOON, "a failover", || replica.is_primary());
    let promoted = Instant::now();
    eventually(SOON, "all keys", || site.keys_in(&replica) == all);
    let took = promoted.elapsed();
    let third = Duration::from_secs(u64::from(TTL / 3));
    assert!(took < third, "{took:?}\n{}", registrar.log());
    registrar.wait_for_log("Redis is back after", SOON);
    assert!(registrar.exited().is_none());
}
