//! The growth of the cost with the number of containers. Docker is simulated, because no machine runs so many
//! containers.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::common::{Kind, Simulated, eventually, inspection};
use super::store::{Place, Store};
use super::table::{self, BOTH, Budget, Program, Row, milliseconds, scaled, since};

/// The sizes of a host, in containers.
const SIZES: [u16; 4] = [20, 200, 2_000, 10_000];
/// The smallest size that has budgets.
const LARGE: u16 = 2_000;
/// The number of turns of each program, up to that size. Larger sizes have one turn.
const TURNS: usize = 3;
/// The number of containers that start, one after the other, at each size.
const EVENTS: u16 = 100;
/// The rates at which containers start and stop, in events per second, and the duration of each.
const RATES: [u32; 3] = [10, 100, 1_000];
const CHURN: Duration = Duration::from_secs(10);
/// The number of containers on the host during these rates.
const CHURNING: u16 = 200;
/// The rate and the time in which memory must stay as it is.
const LONG_RATE: u32 = 100;
const LONG_CHURN: Duration = Duration::from_secs(600);
/// A container with very many ports: their number, and the port of this host before the first of theirs.
const PORTS: u16 = 16_384;
const BEFORE_PORTS: u16 = 40_000;
/// The timeout of each wait, for the largest host.
const LONG: Duration = Duration::from_secs(120);

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut smallest = None;
    for size in SIZES {
        let mut host = host_of(size, Store::Etcd);
        let [_, _, cost, memory] = &mut host;
        let limit = *smallest.get_or_insert(Budget::Most(1.5 * cost.median()));
        if size >= LARGE {
            cost.limit(limit);
        }
        if size == LARGE {
            memory.limit(Budget::Most(32.0));
        }
        rows.extend(host);
    }
    let mut host = host_with_ports();
    let [_, _, cost, _] = &mut host;
    if let Some(limit) = smallest {
        cost.limit(limit);
    }
    rows.extend(host);
    rows
}

/// Containers that start and stop all the time.
pub fn churn_rows() -> Vec<Row> {
    let mut rows: Vec<Row> = RATES.map(churn).into();
    rows.extend(long_churn());
    rows
}

/// The first sync, one event, and memory, on a host of that size.
pub fn host_of(size: u16, store: Store) -> [Row; 4] {
    let size = u16::try_from(scaled(size.into())).unwrap_or(size);
    let docker = docker_of(size);
    let turns = if size > LARGE { 1 } else { TURNS };
    let what = format!("{size} containers");
    host(&what, &docker, (size, keys_of(size.into())), turns, store)
}

/// The same on the smallest host with one container more, which has very many ports.
fn host_with_ports() -> [Row; 4] {
    let [size, ports] = [SIZES[0], PORTS].map(|it| u16::try_from(scaled(it.into())).unwrap_or(it));
    let mut container = inspection(u16::MAX, "range", 0);
    // The bare client names services after images.
    container["Config"]["Image"] = json!("range");
    let of_each = |value: fn(u16) -> Value| -> Value {
        let ports = 1..=ports;
        ports
            .map(|port| (format!("{port}/tcp"), value(port)))
            .collect()
    };
    container["Config"]["ExposedPorts"] = of_each(|_| json!({}));
    container["NetworkSettings"]["Ports"] = of_each(
        |port| json!([{ "HostIp": "0.0.0.0", "HostPort": (BEFORE_PORTS + port).to_string() }]),
    );
    let docker = docker_of(size);
    docker.run_as(&container);
    let keys = keys_of(size.into()) + 2 * usize::from(ports);
    let what = format!("with {ports} ports");
    host(&what, &docker, (size, keys), 1, Store::Etcd)
}

fn docker_of(containers: u16) -> Simulated {
    let docker = Simulated::start();
    (0..containers).for_each(|number| docker.run(number, "web"));
    docker
}

/// `size` and `keys`: the numbers of other containers and of keys that are there.
fn host(
    what: &str,
    docker: &Simulated,
    (size, keys): (u16, usize),
    turns: usize,
    store: Store,
) -> [Row; 4] {
    let row = |measure: &str, unit| Row::new(&format!("{what}: {measure}"), unit, None);
    let [mut first, mut event, mut cost, mut memory] = [
        row("process start → all keys", "ms"),
        row("start event → key visible", "ms"),
        row("processor for one event", "ms"),
        row("memory", "MiB"),
    ];
    for program in BOTH.repeat(turns) {
        // Thousands of shared keys have as many leases, which would take long to revoke.
        let place = Place::new(store);
        let (begun, subscriptions) = (Instant::now(), docker.subscriptions());
        let running = program.start(&place, Some(docker));
        eventually(LONG, "all keys", || place.count() == keys);
        first.of(program).push(milliseconds(begun.elapsed()));
        // The bare client follows the events only after its first list.
        eventually(LONG, "a subscription", || {
            docker.subscriptions() > subscriptions
        });
        memory.of(program).push(running.resident());
        let watch = place.watch();
        let before = running.processor_time();
        let events = u16::try_from(scaled(EVENTS.into())).unwrap_or(EVENTS);
        for number in size..size + events {
            let started = SystemTime::now();
            docker.run(number, "web");
            let its_key = format!("/1/{number:0>12}");
            let (seen, _) =
                watch.next(|change| change.kind == Kind::Put && change.key.ends_with(&its_key));
            event.of(program).push(milliseconds(since(started, seen)));
        }
        let spent = running.processor_time().saturating_sub(before);
        cost.of(program)
            .push(milliseconds(spent) / f64::from(events));
        for number in size..size + events {
            docker.stop(number);
        }
    }
    [first, event, cost, memory]
}

/// CPU time, in percent of a core, while containers start and stop.
fn churn(rate: u32) -> Row {
    let what = format!("{rate} events a second among {CHURNING}: processor");
    let mut row = Row::new(&what, "%", None);
    let place = Place::new(Store::Etcd);
    for program in BOTH {
        place.forget();
        let docker = docker_of(CHURNING);
        let running = program.start(&place, Some(&docker));
        eventually(LONG, "all keys", || {
            place.count() == keys_of(CHURNING.into())
        });
        let (before, begun) = (running.processor_time(), Instant::now());
        change(&docker, rate, CHURN.mul_f64(table::scale()), |_| {});
        let spent = running.processor_time().saturating_sub(before);
        row.of(program)
            .push(100.0 * spent.as_secs_f64() / begun.elapsed().as_secs_f64());
        if program == Program::Register {
            eventually(LONG, "etcd to follow", || {
                place.count() == keys_of(docker.running())
            });
        }
    }
    row
}

/// Memory while containers start and stop for long: in the second tenth of the time, and in the last.
fn long_churn() -> [Row; 2] {
    let time = LONG_CHURN.mul_f64(table::scale());
    let [mut early, mut late] = ["after a tenth", "at the end"].map(|when| {
        let seconds = time.as_secs();
        let what = format!("{LONG_RATE} a second for {seconds} s: memory {when}");
        Row::new(&what, "MiB", None)
    });
    for program in BOTH {
        let (place, docker) = (Place::new(Store::Etcd), docker_of(CHURNING));
        let running = program.start(&place, Some(&docker));
        eventually(LONG, "all keys", || {
            place.count() == keys_of(CHURNING.into())
        });
        change(&docker, LONG_RATE, time, |elapsed| {
            let row = match 10 * elapsed.as_millis() / time.as_millis().max(1) {
                1 => &mut early,
                9 => &mut late,
                _ => return,
            };
            row.of(program).push(running.resident());
        });
    }
    late.limit(Budget::Most(early.median() + 1.0));
    [early, late]
}

/// Stops and starts containers, one after the other. `look` gets the time so far after each.
fn change(docker: &Simulated, rate: u32, time: Duration, mut look: impl FnMut(Duration)) {
    let begun = Instant::now();
    let (mut number, mut events) = (0, 0);
    while begun.elapsed() < time {
        // A stop makes two events, a start one.
        if docker.stop(number) {
            events += 2;
        } else {
            docker.run(number, "web");
            events += 1;
        }
        number = (number + 1) % CHURNING;
        look(begun.elapsed());
        // This keeps the rate; nothing is waited for.
        let due = begun + Duration::from_secs(1) * events / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// The number of keys of this many containers of one service.
fn keys_of(containers: usize) -> usize {
    if containers == 0 {
        0
    } else {
        2 * containers + 2
    }
}
