//! The cost of active checks: a thousand services, each asked every two seconds.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::common::{Script, Simulated, eventually};
use super::store::{Place, Store};
use super::table::{Budget, Program, Row, Running, scaled};

const SERVICES: usize = 1000;
const INTERVAL: Duration = Duration::from_secs(2);
/// The listeners that share the services, so that none runs out of ports.
const LISTENERS: usize = 10;
/// The time that is measured. `BENCH_SCALE` scales it.
const SECONDS: usize = 60;
const LONG: Duration = Duration::from_secs(60);

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for check in ["tcp = true", "http = '/health'"] {
        rows.extend(of(check));
    }
    rows
}

fn of(check: &str) -> [Row; 3] {
    let row = |what: &str, unit, budget| {
        let what = format!("{SERVICES} checks, {check}: {what}");
        Row::new(&what, unit, Some(Budget::Most(budget)))
    };
    let mut processor = row("processor, % of a core", "%", 5.0);
    let mut growth = row("growth of the memory", "MiB", 0.5);
    let mut densest = row("the densest tenth of an interval, 1 is even", "", 1.25);
    let (place, docker) = (Place::new(Store::Etcd), Simulated::start());
    let services = Services::start();
    let addresses: Vec<String> = services
        .addresses
        .iter()
        .map(|it| format!("'{it}'"))
        .collect();
    let script = Script::new(&format!(
        "local register = require 'register'\n\
         local addresses = {{ {} }}\n\
         function register.accept_port(container, port) return port.port == 8005 end\n\
         function register.check(container, port)\n\
           local place = tonumber(container.name:match('%d+')) % {LISTENERS} + 1\n\
           return {{ {check}, address = addresses[place] }}\n\
         end\n\
         return register",
        addresses.join(", ")
    ));
    let number = u16::try_from(SERVICES).unwrap_or(u16::MAX);
    (1..=number).for_each(|number| docker.run(number, &format!("s{}", number % 100)));
    let mut command = Program::Register.command(&place, Some(&docker));
    command.arg("--script").arg(script.path());
    let running = Running::new(&mut command);
    eventually(LONG, "all keys", || place.keys().len() == SERVICES + 100);
    // The first probes are over.
    services.take();
    thread::sleep(2 * INTERVAL);
    services.take();
    let (before, memory, begun) = (running.processor_time(), running.resident(), Instant::now());
    thread::sleep(Duration::from_secs(scaled(SECONDS) as u64));
    let took = begun.elapsed();
    let spent = running.processor_time().saturating_sub(before);
    growth
        .of(Program::Register)
        .push((running.resident() - memory).max(0.0));
    processor
        .of(Program::Register)
        .push(100.0 * spent.as_secs_f64() / took.as_secs_f64());
    let mut tenths = [0.0_f64; 10];
    let times = services.take();
    for at in &times {
        let within = (*at - begun).as_nanos() % INTERVAL.as_nanos();
        tenths[usize::try_from(within * 10 / INTERVAL.as_nanos()).unwrap_or_default()] += 1.0;
    }
    let even = tenths.iter().sum::<f64>() / 10.0;
    let most = tenths.into_iter().fold(0.0, f64::max);
    densest.of(Program::Register).push(most / even);
    [processor, growth, densest]
}

/// Listeners that answer each connection at once.
struct Services {
    addresses: Vec<String>,
    /// When each connection came.
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Services {
    fn start() -> Self {
        let times = Arc::new(Mutex::new(Vec::new()));
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("an address").to_string();
            let times = Arc::clone(&times);
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    times.lock().expect("no thread panics").push(Instant::now());
                    let mut request = [0; 1024];
                    // A check that only connects ends the connection here.
                    if stream.read(&mut request).is_ok_and(|length| length > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                    }
                }
            });
            address
        };
        Self {
            addresses: (0..LISTENERS).map(|_| listen()).collect(),
            times,
        }
    }

    /// The times since the last call.
    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.times.lock().expect("no thread panics"))
    }
}
