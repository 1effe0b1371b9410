//! `make bench`: compares the cost of docker-register with that of the bare client in `bare.rs`, with a real etcd, in
//! alternating runs. The parts `latency` and `speed` use a real Docker, `discover` a real HAProxy as well; `scale` and
//! `fleet` use simulated Dockers, and so does `checks`, which no bare client makes. Each prints a table, and writes its
//! samples to `target/bench-speed.json` and so on. The part `micro` measures single steps, without Docker and etcd.
//! `make bench PART=speed` runs one part.

mod checks;
#[path = "../tests/common/mod.rs"]
mod common;
mod discover;
mod fleet;
mod micro;
mod scale;
mod speed;
mod table;

const PARTS: [&str; 7] = [
    "latency", "speed", "discover", "checks", "scale", "fleet", "micro",
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
        table::print("target/bench-latency.json", &speed::latency());
    }
    if asked_for("speed") {
        table::print("target/bench-speed.json", &speed::rows());
    }
    if asked_for("discover") {
        table::print("target/bench-discover.json", &discover::rows());
    }
    if asked_for("checks") {
        table::print("target/bench-checks.json", &checks::rows());
    }
    if asked_for("scale") {
        table::print("target/bench-scale.json", &scale::rows());
    }
    if asked_for("fleet") {
        fleet::print();
    }
    if asked_for("micro") {
        micro::print();
    }
}
