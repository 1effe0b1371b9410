//! `make bench`: compares the cost of docker-register with that of the bare client in `bare.rs`, with a real etcd, in
//! alternating runs. The parts `latency` and `speed` use a real Docker, `discover` a real HAProxy as well; `scale`,
//! `churn` and `fleet` use simulated Dockers, and so does `checks`, which no bare client makes. The part `redis` has the
//! rows of `latency` and `speed`, and some of `scale` and `discover`, with a real Redis. The part `whole` has two hosts,
//! and HAProxy, nginx and Envoy; where its rows name a peer, that is the bare client, with the reader in
//! `bare_render.rs`.
//! Each prints a table, and writes its samples to `target/bench-speed.json` and so on. The part `micro` measures single
//! steps, without Docker and a store. `make bench PART=speed` runs one part.

mod checks;
#[path = "../tests/common/mod.rs"]
mod common;
mod discover;
mod fleet;
mod micro;
mod scale;
mod speed;
mod store;
mod table;
mod whole;

use store::Store;
use table::Row;

const PARTS: [&str; 10] = [
    "latency", "speed", "redis", "discover", "whole", "checks", "scale", "churn", "fleet", "micro",
];

fn main() {
    if micro::was_asked_to_repeat() {
        return;
    }
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let unknown = parts.iter().find(|part| !PARTS.contains(&part.as_str()));
    if let Some(unknown) = unknown {
        panic!("there is no part {unknown}; there are {}", PARTS.join(", "));
    }
    let asked_for = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if asked_for("latency") {
        table::print("target/bench-latency.json", &speed::latency(Store::Etcd));
    }
    if asked_for("speed") {
        table::print("target/bench-speed.json", &speed::rows(Store::Etcd));
    }
    if asked_for("redis") {
        table::print("target/bench-redis.json", &on_redis());
    }
    if asked_for("discover") {
        table::print("target/bench-discover.json", &discover::rows());
    }
    if asked_for("whole") {
        table::print("target/bench-whole.json", &whole::rows());
    }
    if asked_for("checks") {
        table::print("target/bench-checks.json", &checks::rows());
    }
    if asked_for("scale") {
        table::print("target/bench-scale.json", &scale::rows());
    }
    if asked_for("churn") {
        table::print("target/bench-churn.json", &scale::churn_rows());
    }
    if asked_for("fleet") {
        fleet::print();
    }
    if asked_for("micro") {
        micro::print();
    }
}

fn on_redis() -> Vec<Row> {
    let mut rows = Vec::from(speed::latency(Store::Redis));
    rows.extend(speed::rows(Store::Redis));
    rows.extend(scale::host_of(200, Store::Redis));
    rows.push(discover::put(Store::Redis));
    rows
}
