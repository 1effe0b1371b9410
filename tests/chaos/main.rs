//! Chaos: random faults, and quiet points at which everything must be right again. `registrars` is about the keys, `whole`
//! about the requests of both roles together.
//!
//! `CHAOS_SECONDS` sets the time (30), `CHAOS_SEED` the schedule (default: a new one each time). The schedule is
//! printed.

#[path = "../common/mod.rs"]
mod common;
mod registrars;
mod whole;

use common::{Mode, Rng};
use std::time::{Duration, UNIX_EPOCH};

/// The time in seconds, and the seed.
fn schedule() -> (u64, u64) {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let seconds = variable("CHAOS_SECONDS").map_or(30, |text| text.parse().expect("a number"));
    let seed = variable("CHAOS_SEED").map_or_else(
        || {
            let now = UNIX_EPOCH.elapsed().expect("the clock is past 1970");
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        },
        |text| text.parse().expect("a number"),
    );
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    (seconds, seed)
}

/// A mode for a connection. The good one is the likeliest.
fn mode(rng: &mut Rng) -> Mode {
    let delay = Mode::Delay(Duration::from_millis(20 + rng.below(100) as u64));
    let pass = Mode::Pass;
    *rng.pick(&[Mode::Cut, Mode::Stall, Mode::HoldAnswers, delay, pass, pass])
}
