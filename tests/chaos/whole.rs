//! Both roles on two hosts, which are the addresses 127.0.0.1 and 127.0.0.2: containers that start and stop, and random
//! faults of etcd, the registrars, the readers and their proxies. No request is ever answered by a container of another
//! service. At every quiet point the keys, HAProxy's servers and those who answer are the running containers.

use crate::common;
use crate::{mode, schedule};

use common::{
    Container, Mode, Proxy, Registrar, Rng, SOON, TestBed, ask, eventually, free_port,
    kill_processes, let_time_pass, processes,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TTL: u32 = 3;
const ADDRESSES: [&str; 2] = ["127.0.0.1", "127.0.0.2"];
const NAMES: [&str; 2] = ["a", "b"];
const SERVICES: [&str; 3] = ["red", "green", "blue"];
const CONTAINERS: usize = 8;
/// The pause between two requests to one service on one host.
const PAUSE: Duration = Duration::from_millis(10);
/// The time limit until all is right after the last fault: a HAProxy that was killed again and again is started after
/// up to 30 s.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn after_random_faults_requests_reach_the_running_containers() {
    let (seconds, seed) = schedule();
    let mut world = World::new(seed);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..4 + world.rng.below(9) {
            let act = world.choose();
            println!("{:8.3} whole {act:?}", start.elapsed().as_secs_f64());
            world.perform(act);
            let pause = world.rng.below(400);
            let_time_pass(Duration::from_millis(pause as u64));
            world.requests.check();
        }
        println!("{:8.3} whole is quiet", start.elapsed().as_secs_f64());
        world.be_quiet();
    }
    let (answers, failures) = world.requests.counts();
    println!("{answers} answers, {failures} requests failed");
    assert!(answers > 100, "hardly anybody was reached");
}

/// A step of the schedule. A host is 0 or 1; a container is its index in the list.
#[derive(Clone, Copy, Debug)]
enum Act {
    New(usize, usize),
    Stop(usize),
    Kill(usize),
    Start(usize),
    Restart(usize),
    Remove(usize),
    EtcdKilled,
    EtcdStarted,
    EtcdLosesItsData,
    /// The mode of a registrar's connection to etcd.
    RegistrarsEtcd(usize, Mode),
    RegistrarKilled(usize),
    RegistrarEnds(usize),
    RegistrarStarts(usize),
    ReadersEtcd(usize, Mode),
    ReaderKilled(usize),
    /// Its HAProxy stays, or ends with it.
    ReaderEnds(usize),
    ReaderStarts(usize, &'static str),
    ProxyKilled(usize),
    /// A worker alone: its master ends then.
    WorkerKilled(usize),
    /// Somebody takes all servers of a service out, by HAProxy's socket.
    Meddling(usize, usize),
    /// Somebody changes the configuration on disk.
    FileChanged(usize),
}

struct Slot {
    container: Container,
    host: usize,
    service: usize,
    runs: bool,
}

struct Host {
    registrar: Option<Registrar>,
    reader: Option<Registrar>,
    registrars_etcd: Proxy,
    readers_etcd: Proxy,
    directory: TempDir,
}

struct World {
    rng: Rng,
    requests: Requests,
    hosts: [Host; 2],
    past: Vec<Registrar>,
    slots: Vec<Slot>,
    bed: TestBed,
    ports: [u16; SERVICES.len()],
    etcd_is_up: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let bed = TestBed::new();
        let ports = SERVICES.map(|_| free_port());
        let host = |_| Host {
            registrar: None,
            reader: None,
            registrars_etcd: Proxy::tcp(&bed.etcd.endpoint()),
            readers_etcd: Proxy::tcp(&bed.etcd.endpoint()),
            directory: TempDir::new().expect("a temporary directory"),
        };
        let mut world = Self {
            rng: Rng::new(seed),
            requests: Requests::start(ports),
            hosts: [0, 1].map(host),
            past: Vec::new(),
            slots: Vec::new(),
            bed,
            ports,
            etcd_is_up: true,
        };
        for service in 0..SERVICES.len() {
            world.perform(Act::New(service % 2, service));
        }
        world.be_quiet();
        world
    }

    /// Chooses the next act from the possible ones.
    fn choose(&mut self) -> Act {
        loop {
            let host = self.rng.below(2);
            let service = self.rng.below(SERVICES.len());
            let of_host = &self.hosts[host];
            let (registers, reads) = (of_host.registrar.is_some(), of_host.reader.is_some());
            let act = match self.rng.below(40) {
                0..5 if self.slots.len() < CONTAINERS => Some(Act::New(host, service)),
                5..7 => self.container(true, Act::Stop),
                7..9 => self.container(true, Act::Kill),
                9..12 => self.container(false, Act::Start),
                12 => self.container(true, Act::Restart),
                13 => self.container(false, Act::Remove),
                14 => self.container(true, Act::Remove),
                15 if self.etcd_is_up => Some(Act::EtcdKilled),
                16 if self.etcd_is_up => Some(Act::EtcdLosesItsData),
                15..18 if !self.etcd_is_up => Some(Act::EtcdStarted),
                18..20 => Some(Act::RegistrarsEtcd(host, mode(&mut self.rng))),
                20..22 => Some(Act::ReadersEtcd(host, mode(&mut self.rng))),
                22 if registers => Some(Act::RegistrarKilled(host)),
                23 if registers => Some(Act::RegistrarEnds(host)),
                24..26 if !registers => Some(Act::RegistrarStarts(host)),
                26..28 if reads => Some(Act::ReaderKilled(host)),
                28 if reads => Some(Act::ReaderEnds(host)),
                29..33 if !reads => {
                    let on_exit = *self.rng.pick(&["leave", "stop"]);
                    Some(Act::ReaderStarts(host, on_exit))
                }
                33 => Some(Act::ProxyKilled(host)),
                34 => Some(Act::WorkerKilled(host)),
                35..38 => Some(Act::Meddling(host, service)),
                38 => Some(Act::FileChanged(host)),
                _ => None,
            };
            if let Some(act) = act {
                return act;
            }
        }
    }

    fn container(&mut self, runs: bool, act: impl Fn(usize) -> Act) -> Option<Act> {
        let slots = (0..self.slots.len()).filter(|slot| self.slots[*slot].runs == runs);
        let slots: Vec<usize> = slots.collect();
        (!slots.is_empty()).then(|| act(*self.rng.pick(&slots)))
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::New(host, service) => self.start_container(host, service),
            Act::Stop(slot) => {
                self.slots[slot].container.stop();
                self.slots[slot].runs = false;
            }
            Act::Kill(slot) => {
                self.slots[slot].container.kill("KILL");
                self.slots[slot].runs = false;
            }
            Act::Start(slot) => {
                self.slots[slot].container.start();
                self.slots[slot].runs = true;
            }
            Act::Restart(slot) => self.slots[slot].container.restart(),
            Act::Remove(slot) => drop(self.slots.remove(slot)),
            Act::EtcdKilled => {
                self.bed.etcd.kill9();
                self.etcd_is_up = false;
            }
            Act::EtcdStarted => {
                self.bed.etcd.start_again();
                self.etcd_is_up = true;
            }
            Act::EtcdLosesItsData => {
                self.bed.etcd.kill9();
                self.bed.etcd.lose_data();
                self.bed.etcd.start_again();
            }
            Act::RegistrarsEtcd(host, mode) => self.hosts[host].registrars_etcd.set(mode),
            Act::ReadersEtcd(host, mode) => self.hosts[host].readers_etcd.set(mode),
            Act::RegistrarKilled(host) => {
                let registrar = self.hosts[host].registrar.take().expect("it runs");
                registrar.kill9();
                self.past.push(registrar);
            }
            Act::RegistrarEnds(host) => {
                let registrar = self.hosts[host].registrar.take();
                self.end(registrar.expect("it runs"));
            }
            Act::RegistrarStarts(host) => self.start_registrar(host),
            Act::ReaderKilled(host) => {
                let reader = self.hosts[host].reader.take().expect("it runs");
                reader.kill9();
                self.past.push(reader);
            }
            Act::ReaderEnds(host) => {
                let reader = self.hosts[host].reader.take();
                self.end(reader.expect("it runs"));
            }
            Act::ReaderStarts(host, on_exit) => self.start_reader(host, on_exit),
            Act::ProxyKilled(host) => {
                kill_processes(&processes(self.hosts[host].directory.path()));
            }
            Act::WorkerKilled(host) => {
                let processes = processes(self.hosts[host].directory.path());
                kill_processes(processes.get(1..).unwrap_or_default());
            }
            Act::Meddling(host, service) => {
                let directory = self.hosts[host].directory.path();
                let backend = backend(service);
                for server in servers(directory, service).unwrap_or_default() {
                    let line = format!("set server {backend}/{server} state maint");
                    let _ = say(directory, &line);
                }
            }
            Act::FileChanged(host) => {
                let file = self.hosts[host].directory.path().join("haproxy.cfg");
                let _ = std::fs::write(file, "# nothing\n");
            }
        }
    }

    fn start_container(&mut self, host: usize, service: usize) {
        let container = self.bed.container_on(NAMES[host]);
        let container = container
            .env("SERVICE_NAME", SERVICES[service])
            .env("SERVICE_8005_PORT", &self.ports[service].to_string())
            .env("SERVICE_8006_IGNORE", "1")
            // It could answer before its service is known.
            .create();
        self.requests.know(&container, service);
        container.start();
        self.slots.push(Slot {
            container,
            host,
            service,
            runs: true,
        });
    }

    fn start_registrar(&mut self, host: usize) {
        let etcd = self.hosts[host].registrars_etcd.address();
        let registrar = self.bed.registrar_on(NAMES[host], ADDRESSES[host]);
        let registrar = registrar.flag("--etcd", etcd).flag("--resync", "5");
        let registrar = registrar.flag("--ttl", TTL.to_string());
        self.hosts[host].registrar = Some(registrar.start());
    }

    fn start_reader(&mut self, host: usize, on_exit: &str) {
        let of_host = &self.hosts[host];
        let reader = self.bed.discover(of_host.directory.path());
        let reader = reader
            .flag("--etcd", of_host.readers_etcd.address())
            .flag("--set", format!("bind={}", ADDRESSES[host]))
            .flag("--resync", "2")
            .flag("--reload-interval", "1")
            .flag("--on-exit", on_exit);
        self.hosts[host].reader = Some(reader.start_command("discover"));
    }

    /// Ends a program as an operator does.
    fn end(&mut self, program: Registrar) {
        // Before its first log line it may not listen for signals yet, and the signal kills it.
        program.wait_for_log("policy: ", SOON);
        assert_eq!(program.terminate().code(), Some(0));
        self.past.push(program);
    }

    /// Ends all faults, and checks that everything is right.
    fn be_quiet(&mut self) {
        if !self.etcd_is_up {
            self.perform(Act::EtcdStarted);
        }
        for host in 0..2 {
            self.hosts[host].registrars_etcd.set(Mode::Pass);
            self.hosts[host].readers_etcd.set(Mode::Pass);
            if self.hosts[host].registrar.is_none() {
                self.start_registrar(host);
            }
            if self.hosts[host].reader.is_none() {
                self.start_reader(host, "leave");
            }
        }
        self.bed.wait_for_keys(&self.wanted(), DEADLINE);
        for (service, port) in self.ports.iter().enumerate() {
            let running = self.slots.iter().filter(|slot| slot.runs);
            let running = running.filter(|slot| slot.service == service);
            let ids: BTreeSet<String> = running
                .clone()
                .map(|slot| slot.container.short_id().to_owned())
                .collect();
            for (host, address) in self.hosts.iter().zip(ADDRESSES) {
                let what = format!("{} at {address} to be {ids:?}", SERVICES[service]);
                eventually(DEADLINE, &what, || {
                    let directory = host.directory.path();
                    let servers = servers(directory, service).map(|servers| {
                        let id = |server: String| server[..12].to_owned();
                        servers.into_iter().map(id).collect::<BTreeSet<String>>()
                    });
                    servers.as_ref() == Ok(&ids) && answers(&format!("{address}:{port}")) == ids
                });
            }
        }
        for host in &self.hosts {
            for program in [&host.registrar, &host.reader].into_iter().flatten() {
                assert!(program.exited().is_none(), "it ended by itself");
                assert!(!program.log().contains("panicked"), "{}", program.log());
            }
        }
        self.bed.assert_each_member_always_had_its_port();
        self.requests.check();
    }

    /// The keys that there should be.
    fn wanted(&self) -> BTreeMap<String, String> {
        let running = self.slots.iter().filter(|slot| slot.runs);
        let keys = running.flat_map(|slot| {
            let directory = format!("{}/1", SERVICES[slot.service]);
            let published = slot.container.host_port("8005/tcp");
            [
                (
                    format!("{directory}/{}", slot.container.short_id()),
                    format!("{}:{published}", ADDRESSES[slot.host]),
                ),
                (
                    format!("{directory}/port"),
                    self.ports[slot.service].to_string(),
                ),
            ]
        });
        keys.collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.kill9();
        }
        kill_processes(&processes(self.directory.path()));
    }
}

/// Requests to each service on each host, without an end.
struct Requests {
    stops: Arc<AtomicBool>,
    /// The services of all containers that there ever were, by their short ids.
    services: Arc<Mutex<BTreeMap<String, usize>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    answers: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Requests {
    fn start(ports: [u16; SERVICES.len()]) -> Self {
        let mut requests = Self {
            stops: Arc::default(),
            services: Arc::default(),
            wrong: Arc::default(),
            answers: Arc::default(),
            failures: Arc::default(),
            threads: Vec::new(),
        };
        for address in ADDRESSES {
            for (service, port) in ports.into_iter().enumerate() {
                let target = format!("{address}:{port}");
                let stops = Arc::clone(&requests.stops);
                let services = Arc::clone(&requests.services);
                let wrong = Arc::clone(&requests.wrong);
                let answers = Arc::clone(&requests.answers);
                let failures = Arc::clone(&requests.failures);
                requests.threads.push(thread::spawn(move || {
                    while !stops.load(Ordering::SeqCst) {
                        let begun = Instant::now();
                        if let Ok(answer) = ask(&target, "x") {
                            answers.fetch_add(1, Ordering::SeqCst);
                            let id = answer.split(' ').next().unwrap_or_default();
                            let services = services.lock().expect("no panic");
                            if services.get(id) != Some(&service) {
                                let name = SERVICES[service];
                                let text = format!("{name} at {target} was answered by {answer:?}");
                                wrong.lock().expect("no panic").push(text);
                            }
                        } else {
                            failures.fetch_add(1, Ordering::SeqCst);
                        }
                        thread::sleep(PAUSE.saturating_sub(begun.elapsed()));
                    }
                }));
            }
        }
        requests
    }

    fn know(&self, container: &Container, service: usize) {
        let mut services = self.services.lock().expect("no panic");
        services.insert(container.short_id().to_owned(), service);
    }

    /// Panics if a request was answered by a container of another service.
    fn check(&self) {
        let wrong = self.wrong.lock().expect("no panic");
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    fn counts(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.answers), count(&self.failures))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The ids of those who answer at an address.
fn answers(address: &str) -> BTreeSet<String> {
    let answers = (0..30).filter_map(|_| ask(address, "x").ok());
    answers
        .filter_map(|answer| Some(answer.split(' ').next()?.to_owned()))
        .collect()
}

fn backend(service: usize) -> String {
    format!("{}.1", SERVICES[service])
}

/// The names of a service's servers that take connections, as HAProxy has them.
fn servers(directory: &Path, service: usize) -> Result<Vec<String>, String> {
    let table = say(
        directory,
        &format!("show servers state {}", backend(service)),
    );
    let table = table.map_err(|error| error.to_string())?;
    let rows = table.lines().filter(|line| !line.starts_with(['#', '1']));
    let names = rows.filter_map(|row| {
        let fields: Vec<&str> = row.split(' ').collect();
        // srv_op_state 2 is up; srv_admin_state 0 is neither in maintenance nor drained.
        let is_in_use = fields.get(5..7) == Some(&["2", "0"]);
        is_in_use.then(|| fields[3].to_owned())
    });
    let names: Vec<String> = names.collect();
    // A service whose section has gone has none.
    Ok(names)
}

/// HAProxy's answer to a command.
fn say(directory: &Path, line: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(directory.join("admin.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
