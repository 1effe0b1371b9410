//! A started container's keys are in etcd within milliseconds of Docker's start event, and are removed as early at a
//! stop.

mod common;

use common::{Kind, TestBed};
use std::time::{Duration, SystemTime};

/// The number of starts and stops.
const SAMPLES: usize = 15;

/// The limit of the median on an idle machine, by `cargo test --release --test latency`. Without optimisation only the
/// order of magnitude is checked.
const BOUND: Duration = if cfg!(debug_assertions) {
    Duration::from_millis(100)
} else {
    Duration::from_millis(10)
};

#[test]
fn keys_follow_docker_within_milliseconds() {
    let bed = TestBed::new();
    let container = bed.container().env("SERVICE_NAME", "web").publish_all();
    let container = container.create();
    let key = bed.key(&format!("web/1/{}", container.short_id()));
    let _registrar = bed.registrar().start();
    let watch = bed.etcd.watch(&bed.prefix);
    // The time from Docker's event of that name to the change of the key.
    let delay = |kind: Kind, event: &str| {
        let (seen, _) = watch.next(|change| change.kind == kind && change.key == key);
        since(container.event_time(event), seen)
    };

    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        container.start();
        starts.push(delay(Kind::Put, "start"));
        container.stop();
        stops.push(delay(Kind::Delete, "kill"));
    }
    let (start, stop) = (median(&mut starts), median(&mut stops));
    println!("start event to key: median {start:?} of {starts:?}");
    println!("stop event to no key: median {stop:?} of {stops:?}");
    assert!(
        start <= BOUND && stop <= BOUND,
        "a median is above {BOUND:?}"
    );
}

/// The time between two times of the clock; zero if the clock was set back in between.
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

fn median(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
