//! Latency, start-up and steady state on a host with a real Docker.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::common::{self, Container, Kind, SOON, TestBed, eventually};
use super::store::{Place, Store};
use super::table::{self, BOTH, Budget, Row, milliseconds, scaled, since};

/// The number of turns of each program, and of samples of a container's start and stop in each turn.
const TURNS: usize = 10;
const SAMPLES: usize = 10;
/// The sizes of a host, in containers.
const SIZES: [usize; 3] = [10, 50, 200];
/// The number of starts of each program at each size.
const STARTS: usize = 50;
/// The time for which the steady state is watched.
const STEADY: Duration = Duration::from_secs(60);

/// The start of the process, and the steady state, on hosts of each size.
pub fn rows(store: Store) -> Vec<Row> {
    let mut rows = Vec::new();
    for size in SIZES {
        let place = Place::new(store);
        let containers = start_containers(&place.bed, scaled(size));
        rows.extend(start_up(&place, containers.len(), scaled(STARTS)));
        if size == SIZES[SIZES.len() - 1] {
            rows.extend(steady(
                &place,
                containers.len(),
                STEADY.mul_f64(table::scale()),
            ));
        }
    }
    rows
}

/// The time from Docker's event to the store's event at a watcher.
pub fn latency(store: Store) -> [Row; 2] {
    let samples = scaled(SAMPLES);
    let [mut start, mut stop] = ["start event → key visible", "stop begins → key gone"]
        .map(|what| Row::new(what, "ms", Some(Budget::Times(1.15, 1.3))));
    for _ in 0..TURNS {
        for program in BOTH {
            let place = Place::new(store);
            let container = place
                .bed
                .container()
                .env("SERVICE_NAME", "web")
                .publish_all()
                .create();
            let _running = program.start(&place, None);
            let watch = place.watch();
            let is_member = |key: &str| key.ends_with(&format!("/1/{}", container.short_id()));
            let delay = |kind: Kind, event: &str| {
                let (seen, _) = watch.next(|change| change.kind == kind && is_member(&change.key));
                milliseconds(since(container.event_time(event), seen))
            };
            // The first sample is a warm-up.
            for sample in 0..=samples {
                container.start();
                let started = delay(Kind::Put, "start");
                container.stop();
                let stopped = delay(Kind::Delete, "kill");
                if sample > 0 {
                    start.of(program).push(started);
                    stop.of(program).push(stopped);
                }
            }
        }
    }
    [start, stop]
}

/// The time from the start of the process to its first key, and to all keys.
fn start_up(place: &Place, size: usize, starts: usize) -> [Row; 2] {
    let [mut first, mut all] = ["first key", "all keys"].map(|what| {
        Row::new(
            &format!("process start → {what} of {size} containers"),
            "ms",
            None,
        )
    });
    if size == SIZES[SIZES.len() - 1] {
        all.limit(Budget::Times(1.3, 1.3));
    }
    for _ in 0..starts {
        for program in BOTH {
            place.forget();
            let watch = place.watch();
            let begun = SystemTime::now();
            let _running = program.start(place, None);
            let is_member =
                |change: &common::Event| change.kind == Kind::Put && !change.key.ends_with("/port");
            let (seen, _) = watch.next(is_member);
            first.of(program).push(milliseconds(since(begun, seen)));
            // Each container has two keys, and the first one is already seen.
            let mut last = seen;
            for _ in 1..2 * size {
                (last, _) = watch.next(is_member);
            }
            all.of(program).push(milliseconds(since(begun, last)));
        }
    }
    [first, all]
}

/// The cost of a minute in which nothing changes.
fn steady(place: &Place, size: usize, time: Duration) -> [Row; 3] {
    let to_store = format!("writes to {} in a minute", place.name());
    // A renewal writes each key in Redis.
    let no_writes = (place.store == Store::Etcd).then_some(Budget::Most(0.0));
    let [mut writes, mut processor, mut memory] = [
        (to_store.as_str(), "", no_writes),
        ("processor, of a core", "%", Some(Budget::Most(0.1))),
        ("memory", "MiB", Some(Budget::More(5.0))),
    ]
    .map(|(what, unit, budget)| {
        let what = format!("steady with {size}: {what}");
        Row::new(&what, unit, budget)
    });
    for program in BOTH {
        place.forget();
        let running = program.start(place, None);
        eventually(SOON, "all keys", || place.keys().len() >= 2 * size + 2);
        let (written, before, begun) = (place.writes(), running.processor_time(), Instant::now());
        // A fixed time is measured here; nothing is waited for.
        thread::sleep(time);
        let spent = running.processor_time().saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        writes.of(program).push((place.writes() - written) as f64);
        processor
            .of(program)
            .push(100.0 * spent.as_secs_f64() / begun.elapsed().as_secs_f64());
        memory.of(program).push(running.resident());
    }
    [writes, processor, memory]
}

/// Starts containers with two published ports each, several at a time.
fn start_containers(bed: &TestBed, size: usize) -> Vec<Container> {
    thread::scope(|scope| {
        let part = |part: usize| {
            scope.spawn(move || {
                let own = (part..size).step_by(4);
                own.map(|_| bed.container().publish_all().start())
                    .collect::<Vec<_>>()
            })
        };
        let parts: Vec<_> = (0..4).map(part).collect();
        let join =
            |part: thread::ScopedJoinHandle<Vec<Container>>| part.join().expect("containers");
        parts.into_iter().flat_map(join).collect()
    })
}
