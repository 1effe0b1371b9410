//! Two registrars, containers that start and stop, and random faults of everything between them. At every quiet point
//! etcd has exactly the keys of the running containers, and no revision ever had a member without its `port` key.

use crate::common;
use crate::{mode, schedule};

use common::{
    Answer, Dockerd, Mode, Proxy, Registrar, RegistrarBuilder, Rng, SOON, Script, Service, TestBed,
    WEB, eventually, let_time_pass,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TTL: u32 = 3;
const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const NAMES: [&str; 2] = ["a", "b"];
const SERVICES: [&str; 2] = ["red", "blue"];
const CONTAINERS: usize = 8;

/// The timeout until all keys are right after the last fault: an old lease has to expire, and to be replaced.
const DEADLINE: Duration = Duration::from_secs(20);

/// The longest freeze of etcd, in milliseconds. Leases expire meanwhile, and after the thaw etcd revokes them in no
/// order. The leases of `port` keys live two seconds longer, and etcd checks twice a second.
const LONGEST_FREEZE: usize = 1200;

#[test]
fn after_random_faults_all_keys_are_right() {
    let (seconds, seed) = schedule();
    let mut world = World::new(seed);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..4 + world.rng.below(9) {
            let act = world.choose();
            println!("{:8.3} {act:?}", start.elapsed().as_secs_f64());
            world.perform(act);
            let pause = world.rng.below(400);
            let_time_pass(Duration::from_millis(pause as u64));
        }
        println!("{:8.3} quiet", start.elapsed().as_secs_f64());
        world.be_quiet();
    }
}

/// A step of the schedule. A host is 0 or 1; a container is its index in the list.
#[derive(Clone, Copy, Debug)]
enum Act {
    New(usize, &'static str),
    Stop(usize),
    Kill(usize),
    Start(usize),
    Restart(usize),
    Pause(usize),
    Unpause(usize),
    Rename(usize),
    /// Two containers of one host swap their names.
    Exchange(usize, usize),
    Remove(usize),
    /// The service behind a container's check ends, or comes back.
    ServiceEnds(usize),
    ServiceReturns(usize),
    /// The daemon crashes. Its containers go on, because it has `--live-restore`.
    DockerKilled,
    DockerStopped,
    DockerStarted,
    EtcdKilled,
    EtcdStarted,
    EtcdFreezes(usize),
    /// The mode of a host's connection to etcd.
    Etcd(usize, Mode),
    /// The mode of a registrar's connection to Docker.
    Docker(usize, Mode),
    RegistrarKilled(usize),
    RegistrarEnds(usize),
    RegistrarStarts(usize, &'static str),
    RegistrarSleeps(usize),
    RegistrarWakes(usize),
    /// The registrar's log, at level debug, is not read.
    LogStalls(usize),
    LogIsRead(usize),
    /// etcd refuses puts, as if it had no space, or accepts them again.
    PutsRefused,
    PutsTaken,
    /// A second registrar of the same identity, with another prefix, starts and ends.
    RivalStarts(usize),
    RivalKilled(usize),
    /// A member's key is deleted by hand.
    Meddling(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Ended,
}

struct Slot {
    id: String,
    name: String,
    host: usize,
    service: &'static str,
    state: State,
    /// The service behind its check, if it has one, and whether that answers.
    checked: Option<Service>,
    answers: bool,
    /// Its keys while it runs.
    keys: BTreeMap<String, String>,
}

struct Host {
    etcd: Proxy,
    docker: Proxy,
    registrar: Option<Registrar>,
    rival: Option<Registrar>,
    asleep: bool,
    log_is_read: bool,
}

struct World {
    rng: Rng,
    // Dropped in this order: the registrars first, so that they do not log the loss of the others.
    hosts: [Host; 2],
    past: Vec<Registrar>,
    slots: Vec<Slot>,
    docker: Dockerd,
    bed: TestBed,
    script: Script,
    docker_is_up: bool,
    etcd_is_up: bool,
    puts_are_taken: bool,
    names: usize,
    quiet_points: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let bed = TestBed::new();
        let docker = Dockerd::start(WEB, true);
        let host = |_| Host {
            etcd: Proxy::tcp(&bed.etcd.endpoint()),
            docker: Proxy::docker(&docker.host()),
            registrar: None,
            rival: None,
            asleep: false,
            log_is_read: true,
        };
        let hosts = [0, 1].map(host);
        let script = Script::new(
            "local register = require 'register'\n\
             function register.member(container) return container.name end\n\
             function register.check(container)\n\
               local address = container.env.CHECKED\n\
               return address and { http = '/', address = address, interval = 0.3 }\n\
             end\n\
             return register\n",
        );
        let mut world = World {
            rng: Rng::new(seed),
            hosts,
            past: Vec::new(),
            slots: Vec::new(),
            docker,
            bed,
            script,
            docker_is_up: true,
            etcd_is_up: true,
            puts_are_taken: true,
            names: 0,
            quiet_points: 0,
        };
        world.be_quiet();
        world
    }

    /// Chooses the next act from the possible ones.
    fn choose(&mut self) -> Act {
        loop {
            let host = self.rng.below(2);
            let weight = self.rng.below(60);
            let act = match weight {
                0..20 if !self.docker_is_up => continue,
                0..4 if self.slots.len() < CONTAINERS => {
                    Act::New(host, SERVICES[self.rng.below(2)])
                }
                4..6 => self.container(State::Running, Act::Stop),
                6..8 => self.container(State::Running, Act::Kill),
                8..10 => self.container(State::Ended, Act::Start),
                10 => self.container(State::Running, Act::Restart),
                11..13 => self.container(State::Running, Act::Pause),
                13..15 => self.container(State::Paused, Act::Unpause),
                15 | 16 => self.container(State::Running, Act::Rename),
                17 => self.exchange(),
                18 => self.container(State::Ended, Act::Remove),
                19 => self.container(State::Running, Act::Remove),
                20..24 => Act::Etcd(host, mode(&mut self.rng)),
                24..28 => Act::Docker(host, mode(&mut self.rng)),
                28 if self.etcd_is_up => Act::EtcdKilled,
                29..31 if !self.etcd_is_up => Act::EtcdStarted,
                31 if self.etcd_is_up => Act::EtcdFreezes(self.rng.below(LONGEST_FREEZE)),
                32..34 if self.runs(host) => Act::RegistrarKilled(host),
                34 if self.runs(host) && !self.hosts[host].asleep => Act::RegistrarEnds(host),
                35..39 if !self.runs(host) => Act::RegistrarStarts(host, self.on_exit()),
                39 | 40 if self.runs(host) && !self.hosts[host].asleep => {
                    Act::RegistrarSleeps(host)
                }
                41 | 42 if self.hosts[host].asleep => Act::RegistrarWakes(host),
                43 if self.etcd_is_up => {
                    let index = 1 + self.rng.below(2);
                    self.container(State::Running, |slot| Act::Meddling(slot, index))
                }
                44 if self.docker_is_up => Act::DockerKilled,
                45 if self.docker_is_up => Act::DockerStopped,
                46 | 47 if !self.docker_is_up => Act::DockerStarted,
                48 | 49 if self.runs(host) && self.hosts[host].log_is_read => Act::LogStalls(host),
                50 if !self.hosts[host].log_is_read => Act::LogIsRead(host),
                51 if self.etcd_is_up && self.puts_are_taken => Act::PutsRefused,
                52 | 53 if self.etcd_is_up && !self.puts_are_taken => Act::PutsTaken,
                54 if self.hosts[host].rival.is_none() => Act::RivalStarts(host),
                55 if self.hosts[host].rival.is_some() => Act::RivalKilled(host),
                56 | 57 => self.checked(true, Act::ServiceEnds),
                58 | 59 => self.checked(false, Act::ServiceReturns),
                _ => continue,
            };
            // An index that does not exist means that no container is in that state.
            match act {
                Act::Stop(slot)
                | Act::Kill(slot)
                | Act::Start(slot)
                | Act::Restart(slot)
                | Act::Pause(slot)
                | Act::Unpause(slot)
                | Act::Rename(slot)
                | Act::Exchange(slot, _)
                | Act::Remove(slot)
                | Act::ServiceEnds(slot)
                | Act::ServiceReturns(slot)
                | Act::Meddling(slot, _)
                    if slot >= self.slots.len() => {}
                act => return act,
            }
        }
    }

    fn container(&mut self, state: State, act: impl Fn(usize) -> Act) -> Act {
        let slots = (0..self.slots.len()).filter(|slot| self.slots[*slot].state == state);
        let slots: Vec<usize> = slots.collect();
        if slots.is_empty() {
            return act(usize::MAX);
        }
        act(*self.rng.pick(&slots))
    }

    /// An act of a container whose check passes, or fails.
    fn checked(&mut self, answers: bool, act: impl Fn(usize) -> Act) -> Act {
        let slots = self.slots.iter().enumerate();
        let slots = slots.filter(|(_, slot)| slot.checked.is_some() && slot.answers == answers);
        let slots: Vec<usize> = slots.map(|(place, _)| place).collect();
        if slots.is_empty() {
            return act(usize::MAX);
        }
        act(*self.rng.pick(&slots))
    }

    fn exchange(&mut self) -> Act {
        let (one, other) = (self.rng.below(CONTAINERS), self.rng.below(CONTAINERS));
        let host = |slot: usize| self.slots.get(slot).map(|slot| slot.host);
        if one == other || host(one) != host(other) {
            return Act::Exchange(usize::MAX, usize::MAX);
        }
        Act::Exchange(one, other)
    }

    fn on_exit(&mut self) -> &'static str {
        ["leave", "remove"][self.rng.below(2)]
    }

    fn runs(&self, host: usize) -> bool {
        self.hosts[host].registrar.is_some()
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::New(host, service) => self.start_container(host, service),
            Act::Stop(slot) => {
                self.docker(&["stop"], slot);
                self.slots[slot].state = State::Ended;
            }
            Act::Kill(slot) => {
                self.docker(&["kill"], slot);
                self.slots[slot].state = State::Ended;
                eventually(SOON, "a container to end", || {
                    self.docker(&["inspect", "--format", "{{.State.Running}}"], slot) == "false"
                });
            }
            Act::Start(slot) => {
                self.docker(&["start"], slot);
                self.slots[slot].state = State::Running;
                self.learn(slot);
            }
            Act::Restart(slot) => {
                self.docker(&["restart"], slot);
                self.learn(slot);
            }
            Act::Pause(slot) => {
                self.docker(&["pause"], slot);
                self.slots[slot].state = State::Paused;
            }
            Act::Unpause(slot) => {
                self.docker(&["unpause"], slot);
                self.slots[slot].state = State::Running;
                self.learn(slot);
            }
            Act::Rename(slot) => {
                let name = self.new_name();
                self.rename(slot, name);
                self.learn(slot);
            }
            Act::Exchange(one, other) => {
                let between = self.new_name();
                let [first, second] = [one, other].map(|slot| self.slots[slot].name.clone());
                self.rename(one, between);
                self.rename(other, first);
                self.rename(one, second);
                self.learn(one);
                self.learn(other);
            }
            Act::Remove(slot) => {
                self.docker(&["rm", "--force"], slot);
                self.slots.remove(slot);
            }
            Act::ServiceEnds(slot) => self.answer(slot, false),
            Act::ServiceReturns(slot) => self.answer(slot, true),
            fault => self.fail(fault),
        }
    }

    fn answer(&mut self, slot: usize, answers: bool) {
        let slot = &mut self.slots[slot];
        slot.answers = answers;
        if let Some(service) = &slot.checked {
            service.set(if answers {
                Answer::GOOD
            } else {
                Answer::Refuses
            });
        }
    }

    /// Starts or ends a fault.
    fn fail(&mut self, fault: Act) {
        match fault {
            Act::DockerKilled => {
                self.docker.kill9();
                self.docker_is_up = false;
            }
            Act::DockerStopped => {
                self.docker.stop();
                self.docker_is_up = false;
            }
            Act::DockerStarted => {
                self.docker.start_again();
                self.docker_is_up = true;
                (0..self.slots.len()).for_each(|slot| self.learn(slot));
            }
            Act::EtcdKilled => {
                self.bed.etcd.kill9();
                self.etcd_is_up = false;
            }
            Act::EtcdStarted => {
                self.bed.etcd.start_again();
                self.etcd_is_up = true;
            }
            Act::EtcdFreezes(milliseconds) => {
                self.bed.etcd.pause();
                let_time_pass(Duration::from_millis(milliseconds as u64));
                self.bed.etcd.resume();
            }
            Act::Etcd(host, mode) => self.hosts[host].etcd.set(mode),
            Act::Docker(host, mode) => self.hosts[host].docker.set(mode),
            Act::LogStalls(host) => {
                self.registrar(host).stop_reading_log();
                self.hosts[host].log_is_read = false;
            }
            Act::LogIsRead(host) => {
                self.registrar(host).read_log_again();
                self.hosts[host].log_is_read = true;
            }
            Act::PutsRefused => {
                self.bed.etcd.refuse_puts();
                self.puts_are_taken = false;
            }
            Act::PutsTaken => {
                self.bed.etcd.take_puts();
                self.puts_are_taken = true;
            }
            Act::RivalStarts(host) => {
                let rival = self.registrar_of(host);
                let rival = rival.flag("--prefix", format!("{}/rival", self.bed.prefix));
                self.hosts[host].rival = Some(rival.start());
            }
            Act::RivalKilled(host) => {
                let rival = self.hosts[host].rival.take().expect("it runs");
                rival.kill9();
                self.past.push(rival);
            }
            Act::RegistrarKilled(host) => {
                self.read_log(host);
                let registrar = self.hosts[host].registrar.take().expect("it runs");
                registrar.kill9();
                self.hosts[host].asleep = false;
                self.past.push(registrar);
            }
            Act::RegistrarEnds(host) => {
                self.read_log(host);
                let registrar = self.hosts[host].registrar.take().expect("it runs");
                // Before its first log line it may not listen for signals yet, and the signal kills it.
                registrar.wait_for_log("policy: ", SOON);
                assert_eq!(registrar.terminate().code(), Some(0));
                self.past.push(registrar);
            }
            Act::RegistrarStarts(host, on_exit) => self.start_registrar(host, on_exit),
            Act::RegistrarSleeps(host) => self.send(host, "STOP"),
            Act::RegistrarWakes(host) => self.send(host, "CONT"),
            Act::Meddling(slot, index) => {
                let Slot { name, service, .. } = &self.slots[slot];
                let key = format!("{service}/{index}/{name}");
                self.bed.etcd.delete(&self.bed.key(&key));
            }
            act => panic!("{act:?} is something that a container does"),
        }
    }

    fn start_container(&mut self, host: usize, service: &'static str) {
        let name = self.new_name();
        let label = self.bed.filter();
        let label = label.trim_start_matches("label=");
        let of_host = format!("host={}", NAMES[host]);
        let service_name = format!("SERVICE_NAME={service}");
        let run = ["run", "--detach", "--pull", "never", "--publish-all"];
        let labels = ["--name", &name, "--label", label, "--label", &of_host];
        let checked = (self.rng.below(2) == 0).then(Service::start);
        let address = checked.as_ref().map(|it| format!("CHECKED={}", it.address));
        let address = address.as_deref().unwrap_or("UNCHECKED=1");
        let rest = ["--env", &service_name, "--env", address, WEB];
        let id = self.docker.docker(&[&run[..], &labels, &rest].concat());
        self.slots.push(Slot {
            id,
            name,
            host,
            service,
            state: State::Running,
            checked,
            answers: true,
            keys: BTreeMap::new(),
        });
        self.learn(self.slots.len() - 1);
    }

    /// Runs a `docker` command on a container.
    fn docker(&self, command: &[&str], slot: usize) -> String {
        self.docker
            .docker(&[command, &[self.slots[slot].id.as_str()]].concat())
    }

    fn rename(&mut self, slot: usize, name: String) {
        self.docker.docker(&["rename", &self.slots[slot].id, &name]);
        self.slots[slot].name = name;
    }

    /// Records the keys that a container should have, if it runs.
    fn learn(&mut self, slot: usize) {
        if self.slots[slot].state != State::Running {
            return;
        }
        let bindings = self.docker(&["port"], slot);
        let slot = &mut self.slots[slot];
        slot.keys.clear();
        for (index, port) in [(1, "8005"), (2, "8006")] {
            let beginning = format!("{port}/tcp -> 0.0.0.0:");
            let published = bindings
                .lines()
                .find_map(|line| line.strip_prefix(&beginning))
                .expect("every port is published");
            let directory = format!("{}/{index}", slot.service);
            let address = format!("{}:{published}", ADDRESSES[slot.host]);
            slot.keys
                .insert(format!("{directory}/{}", slot.name), address);
            slot.keys
                .insert(format!("{directory}/port"), port.to_owned());
        }
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("{}-n{}", self.bed.name, self.names)
    }

    fn send(&mut self, host: usize, signal: &str) {
        let host = &mut self.hosts[host];
        host.registrar.as_ref().expect("it runs").signal(signal);
        host.asleep = signal == "STOP";
    }

    fn registrar(&self, host: usize) -> &Registrar {
        self.hosts[host].registrar.as_ref().expect("it runs")
    }

    /// Reads a registrar's log again, if it is not being read.
    fn read_log(&mut self, host: usize) {
        if !self.hosts[host].log_is_read {
            self.perform(Act::LogIsRead(host));
        }
    }

    fn registrar_of(&self, host: usize) -> RegistrarBuilder {
        self.bed
            .registrar_on(NAMES[host], ADDRESSES[host])
            .flag("--ttl", TTL.to_string())
            .flag("--resync", "5")
            .flag("--script", self.script.path())
            .flag("--etcd", self.hosts[host].etcd.address())
            .env("DOCKER_HOST", self.hosts[host].docker.address())
    }

    fn start_registrar(&mut self, host: usize, on_exit: &str) {
        let registrar = self.registrar_of(host).flag("--on-exit", on_exit);
        // Enough output to fill a pipe that is not read.
        let registrar = registrar.flag("--log-level", "debug");
        self.hosts[host].registrar = Some(registrar.start());
    }

    /// Ends all faults, and checks that all keys are right.
    fn be_quiet(&mut self) {
        if !self.etcd_is_up {
            self.perform(Act::EtcdStarted);
        }
        if !self.docker_is_up {
            self.perform(Act::DockerStarted);
        }
        if !self.puts_are_taken {
            self.perform(Act::PutsTaken);
        }
        for host in 0..2 {
            self.read_log(host);
            if self.hosts[host].rival.is_some() {
                self.perform(Act::RivalKilled(host));
            }
            self.hosts[host].etcd.set(Mode::Pass);
            self.hosts[host].docker.set(Mode::Pass);
            if self.hosts[host].asleep {
                self.send(host, "CONT");
            }
            if !self.runs(host) {
                let on_exit = self.on_exit();
                self.start_registrar(host, on_exit);
            }
        }
        let running = self
            .slots
            .iter()
            .filter(|slot| slot.state == State::Running && slot.answers);
        let wanted: BTreeMap<String, String> = running.flat_map(|slot| slot.keys.clone()).collect();
        self.bed.wait_for_keys(&wanted, DEADLINE);
        // A registrar that was cut off from Docker and etcd first puts what it knows, and then hears of the changes.
        self.bed.etcd.let_pass(1);
        self.bed.wait_for_keys(&wanted, DEADLINE);

        self.quiet_points += 1;
        if self.quiet_points.is_multiple_of(3) {
            // Nothing changes any more, once all old leases have expired.
            let revision = self.bed.etcd.revision();
            self.bed.etcd.let_pass(TTL);
            let changes = self.bed.etcd.history(&self.bed.prefix);
            let changes: Vec<_> = changes.iter().filter(|e| e.revision > revision).collect();
            assert!(
                changes.is_empty(),
                "there is nothing to write: {changes:#?}"
            );
        }
        assert_eq!(self.bed.keys(), wanted);
        self.bed.assert_each_member_always_had_its_port();
        for host in &self.hosts {
            let registrar = host.registrar.as_ref().expect("it was started");
            assert!(registrar.exited().is_none(), "it ended by itself");
        }
        let living = self.hosts.iter().filter_map(|host| host.registrar.as_ref());
        for registrar in living.chain(&self.past) {
            let log = registrar.log();
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}
