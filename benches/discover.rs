//! Routes: the time from a key, a container or a new service to the first answer through HAProxy, and the growth of the
//! cost with the number of services.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::common::{
    Backend, ProxyDirectory, ProxyKind, SOON, ask, eventually, free_port, let_time_pass,
};
use super::store::{Place, Store};
use super::table::{BOTH, Budget, Program, Row, Running, milliseconds, scaled, since};

/// The number of turns of each program, and of samples in each turn.
const TURNS: usize = 10;
const SAMPLES: usize = 20;
/// The same where each sample is a reload.
const RELOADS: usize = 5;
/// The same where each sample is a container's start.
const STARTS: usize = 5;
/// The image's first port, at which the service is reached.
pub const EXPOSED: u16 = 8005;
/// The numbers of services, and the servers of each.
const SIZES: [u16; 2] = [10, 1_000];
const SERVERS: u16 = 5;
/// The first of the ports of many services, below those that Linux gives to clients.
const FIRST_PORT: u16 = 21_000;
/// Longer than a burst.
pub const BURST: Duration = Duration::from_millis(60);
/// The time limit of each wait, with the most services.
const LONG: Duration = Duration::from_secs(60);

/// A reader with its proxy, until it goes out of scope.
pub struct Reader {
    // Dropped first, because it would start its proxy again.
    running: Running,
    _directory: ProxyDirectory,
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![put(Store::Etcd), new_service(), container()];
    let mut few = None;
    for size in SIZES {
        let mut of_size = services(u16::try_from(scaled(size.into())).unwrap_or(size));
        let [change, processor, memory] = &mut of_size;
        let (with_few, cost) = *few.get_or_insert((change.median(), processor.median()));
        if size == SIZES[SIZES.len() - 1] {
            change.limit(Budget::Most(1.5 * with_few));
            processor.limit(Budget::Most(1.5 * cost));
            memory.limit(Budget::Most(24.0));
        }
        rows.extend(of_size);
    }
    rows
}

/// A member's key is put → the first answer by its server.
pub fn put(store: Store) -> Row {
    let budget = Some(Budget::Times(1.15, 1.3));
    let mut row = Row::new("key put → first answer", "ms", budget);
    let [old, new] = ["old", "new"].map(Backend::start);
    for program in BOTH.repeat(TURNS) {
        let place = Place::new(store);
        let port = free_port();
        put_service(&place, "web", port, &old);
        let _reader = Reader::start(program, &place, port);
        // The first sample is a warm-up.
        for sample in 0..=scaled(SAMPLES) {
            let key = place.bed.key(&format!("web/1/new-{sample}"));
            let begun = Instant::now();
            place.put(&key, &new.address.to_string());
            wait_for(port, "new");
            if sample > 0 {
                row.of(program).push(milliseconds(begun.elapsed()));
            }
            place.delete(&key);
            wait_until_gone(port, "new");
        }
    }
    row
}

/// A service's keys are put → its first answer.
fn new_service() -> Row {
    let budget = Some(Budget::Times(1.2, 1.3));
    let mut row = Row::new("new service, so a reload → first answer", "ms", budget);
    let backend = Backend::start("a");
    for program in BOTH.repeat(TURNS) {
        let place = Place::new(Store::Etcd);
        let first = free_port();
        put_service(&place, "web", first, &backend);
        let _reader = Reader::start(program, &place, first);
        for sample in 0..=scaled(RELOADS) {
            let port = free_port();
            let begun = Instant::now();
            put_service(&place, &format!("web-{sample}"), port, &backend);
            wait_for(port, "a");
            if sample > 0 {
                row.of(program).push(milliseconds(begun.elapsed()));
            }
        }
    }
    row
}

/// Docker's start event → the first answer by that container, by both roles together.
fn container() -> Row {
    let budget = Some(Budget::Times(1.15, 1.3));
    let mut row = Row::new("start event → first answer, both roles", "ms", budget);
    for program in BOTH.repeat(TURNS) {
        let place = Place::new(Store::Etcd);
        let bed = &place.bed;
        // The service and its port stay while the other container comes and goes.
        let _other = bed.container().publish_all().start();
        let container = bed.container().publish_all().create();
        let _register = Running::new(&mut program.command_at("127.0.0.1", &place, None));
        eventually(SOON, "the other's keys", || bed.keys().len() == 4);
        let _reader = Reader::start(program, &place, EXPOSED);
        let answer = format!("{} 8005\n", container.short_id());
        for sample in 0..=scaled(STARTS) {
            container.start();
            let answered = wait_for(EXPOSED, &answer);
            let begun = container.event_time("start");
            if sample > 0 {
                row.of(program).push(milliseconds(since(begun, answered)));
            }
            container.stop();
            eventually(SOON, "no key of it", || {
                !bed.keys()
                    .keys()
                    .any(|key| key.contains(container.short_id()))
            });
            let_time_pass(BURST);
        }
    }
    row
}

/// One change, its processor time and the memory, with that many services.
fn services(size: u16) -> [Row; 3] {
    let row = |what: &str, unit| Row::new(&format!("{size} services: {what}"), unit, None);
    let [mut change, mut processor, mut memory] = [
        row("key put → first answer", "ms"),
        row("processor for one change", "ms"),
        row("memory", "MiB"),
    ];
    let place = Place::new(Store::Etcd);
    let bed = &place.bed;
    let [old, new] = ["old", "new"].map(Backend::start);
    for number in 0..size {
        let directory = bed.key(&format!("s{number}/1"));
        let mut pairs = vec![(
            format!("{directory}/port"),
            (FIRST_PORT + number).to_string(),
        )];
        pairs.extend(
            (0..SERVERS).map(|member| (format!("{directory}/m{member}"), old.address.to_string())),
        );
        bed.etcd.put_together(&pairs);
    }
    for program in BOTH {
        let reader = Reader::start(program, &place, FIRST_PORT);
        eventually(LONG, "the last service", || {
            ask(&address(FIRST_PORT + size - 1), "x") == Ok("old".to_owned())
        });
        let before = reader.running.processor_time();
        let samples = scaled(SAMPLES);
        for sample in 0..=samples {
            let key = bed.key(&format!("s0/1/new-{sample}"));
            let begun = Instant::now();
            bed.etcd.put(&key, &new.address.to_string());
            wait_for(FIRST_PORT, "new");
            if sample > 0 {
                change.of(program).push(milliseconds(begun.elapsed()));
            }
            bed.etcd.delete(&key);
            wait_until_gone(FIRST_PORT, "new");
        }
        let spent = reader.running.processor_time().saturating_sub(before);
        // A change and its opposite for each sample.
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let each = milliseconds(spent) / (2 * (samples + 1)) as f64;
        processor.of(program).push(each);
        memory.of(program).push(reader.running.resident());
    }
    [change, processor, memory]
}

impl Reader {
    /// Starts one with HAProxy, and waits until something listens on a port.
    fn start(program: Program, place: &Place, port: u16) -> Self {
        let command = Command::new(program.path("bare_discover"));
        Self::of(ProxyKind::Haproxy, command, program, place, port)
    }

    /// The same with any proxy. `command` gets the arguments that all readers have.
    pub fn of(
        proxy: ProxyKind,
        mut command: Command,
        program: Program,
        place: &Place,
        port: u16,
    ) -> Self {
        let (store, prefix) = (place.uri(), &place.bed.prefix);
        let directory = ProxyDirectory::new();
        match program {
            Program::Register => {
                command.args(["discover", "--store", &store, "--prefix", prefix]);
                command.args(["--proxy", proxy.name(), "--set", "bind=127.0.0.1"]);
                command.args(["--reload-interval", "0", "--directory"]);
            }
            Program::Bare => {
                command.args([&store, prefix]);
            }
        }
        let running = Running::new(command.arg(directory.path()));
        let reader = Self {
            running,
            _directory: directory,
        };
        eventually(LONG, "its proxy", || {
            std::net::TcpStream::connect(address(port)).is_ok()
        });
        reader
    }
}

fn put_service(place: &Place, name: &str, port: u16, backend: &Backend) {
    place.put_together(&[
        (place.bed.key(&format!("{name}/1/port")), port.to_string()),
        (
            place.bed.key(&format!("{name}/1/{}", backend.name)),
            backend.address.to_string(),
        ),
    ]);
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Asks without a pause until a server of that name has answered, and returns the time of that.
fn wait_for(port: u16, name: &str) -> SystemTime {
    let begun = Instant::now();
    loop {
        if ask(&address(port), "x").as_deref() == Ok(name) {
            return SystemTime::now();
        }
        assert!(begun.elapsed() < LONG, "{name} does not answer");
    }
}

/// Waits until a server of that name is no longer asked, out of many. The next change is then no part of a burst, whose
/// changes docker-register gathers for 20 ms.
fn wait_until_gone(port: u16, name: &str) {
    eventually(SOON, &format!("no answer of {name}"), || {
        (0..20).all(|_| ask(&address(port), "x").as_deref() != Ok(name))
    });
    let_time_pass(BURST);
}
