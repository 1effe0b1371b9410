//! A container that Docker cannot inspect, or a list that is slow, delays nothing else: no other container, at the
//! start or later, and no event.

use crate::common;
use crate::faults_docker::simulated_keys;

use common::{
    Event, FakeDocker, Kind, Registrar, Reply, SOON, Script, TestBed, count, docker, eventually,
    in_step, inspection, joined, let_time_pass, summary, warnings,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The time limit for a container that starts while another one hangs.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The time limit for the first keys when one hangs, on a busy machine.
const FIRST: Duration = Duration::from_secs(4);
const TTL: u32 = 3;

/// A fake Docker: the test sets its containers, the ones it cannot inspect, and the moment when it answers a list.
struct Host {
    fake: FakeDocker,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: BTreeMap<String, Value>,
    odd: BTreeMap<String, Fault>,
    holds_lists: bool,
    /// The number of lists that wait for their answer.
    held: usize,
    followers: Vec<Sender<Value>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// There is no answer until the fault is over.
    Hangs,
    /// The connection is closed.
    HangsUp,
}

impl Host {
    fn of(containers: &[Value]) -> Self {
        let shared = Arc::new(Shared::default());
        let answering = Arc::clone(&shared);
        let fake = FakeDocker::start(move |_, path| answering.answer(path));
        let host = Self { fake, shared };
        host.set(|state| {
            let containers = containers.iter().cloned();
            state.running = containers.map(|one| (id(&one), one)).collect();
        });
        host
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.notify_all();
    }

    fn break_down(&self, containers: &[Value], fault: Fault) {
        self.set(|state| state.odd = containers.iter().map(|one| (id(one), fault)).collect());
    }

    fn mend(&self) {
        self.set(|state| state.odd.clear());
    }

    fn tell(&self, action: &str, container: &Value) {
        let event = event(action, container);
        self.set(|state| {
            let is_there = |follower: &Sender<Value>| follower.send(event.clone()).is_ok();
            state.followers.retain(is_there);
        });
    }

    fn start(&self, container: &Value) {
        self.set(|state| drop(state.running.insert(id(container), container.clone())));
        self.tell("start", container);
    }

    fn stop(&self, container: &Value) {
        self.set(|state| drop(state.running.remove(&id(container))));
        self.tell("die", container);
    }

    /// The next list is answered only at [`Host::list`], with the containers at the time of its request.
    #[track_caller]
    fn hold_a_list(&self) {
        self.set(|state| state.holds_lists = true);
        self.wait_for_a_held_list();
    }

    #[track_caller]
    fn wait_for_a_held_list(&self) {
        eventually(SOON, "a list", || {
            self.shared.state.lock().unwrap().held > 0
        });
    }

    fn list(&self) {
        self.set(|state| state.holds_lists = false);
    }

    fn requests(&self, path: &str) -> usize {
        let requests = self.fake.requests();
        requests.iter().filter(|request| *request == path).count()
    }

    /// Waits until two more lists have been asked for, so that one of them has been taken over.
    #[track_caller]
    fn wait_for_lists(&self) {
        let lists = || self.requests("GET /containers/json");
        let before = lists();
        eventually(SOON, "more lists", || lists() >= before + 3);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The receiver may have given up.
        if let Ok(mut state) = self.shared.state.lock() {
            state.odd.clear();
            state.holds_lists = false;
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn answer(&self, path: &str) -> Option<Reply> {
        let mut state = self.state.lock().unwrap();
        match path {
            "/events" => {
                let (follower, events) = mpsc::channel();
                state.followers.push(follower);
                Some(Reply::Stream(events))
            }
            "/containers/json" => {
                let list = state.running.values().map(summary).collect();
                state.held += 1;
                let held = self.changed.wait_while(state, |state| state.holds_lists);
                held.unwrap().held -= 1;
                Some(Reply::Json(200, list))
            }
            path => {
                let id = path
                    .strip_prefix("/containers/")?
                    .strip_suffix("/json")?
                    .to_owned();
                let fault = state.odd.get(&id).copied();
                if fault == Some(Fault::HangsUp) {
                    return Some(Reply::HangUp);
                }
                let hangs = |state: &mut State| state.odd.contains_key(&id);
                let state = self.changed.wait_while(state, hangs).unwrap();
                let container = state.running.get(&id).cloned();
                container.map(|container| Reply::Json(200, container))
            }
        }
    }
}

fn id(container: &Value) -> String {
    container["Id"].as_str().unwrap().to_owned()
}

fn event(action: &str, container: &Value) -> Value {
    json!({
        "Type": "container", "Action": action, "scope": "local", "time": 1,
        "Actor": { "ID": container["Id"], "Attributes": { "signal": "15" } },
    })
}

/// Containers with these numbers, each with its own service.
fn containers(numbers: std::ops::RangeInclusive<u16>) -> Vec<Value> {
    let one = |number| inspection(number, &format!("s{number}"), 8000 + 2 * number);
    numbers.map(one).collect()
}

fn keys_of(numbers: std::ops::RangeInclusive<u16>) -> BTreeMap<String, String> {
    let keys = |number| simulated_keys(&format!("s{number}"), number, 8000 + 2 * number);
    numbers.flat_map(keys).collect()
}

fn history(bed: &TestBed) -> Vec<Event> {
    bed.etcd.history(&bed.prefix)
}

fn assert_told_once(registrar: &Registrar, name: &str) {
    let said = format!("cannot inspect container `{name}`, so its keys stay as they are");
    registrar.wait_for_log(&said, SOON);
    assert_eq!(warnings(registrar), 1, "{}", registrar.log());
}

// --- One that cannot be shown ----------------------------------------------------------------------------------------

#[test]
fn after_a_crash_one_container_that_docker_does_not_show_holds_up_no_other() {
    let bed = TestBed::new();
    let all = containers(1..=5);
    let host = Host::of(&all);
    let command = bed.registrar_of(&host.fake).flag("--ttl", TTL.to_string());
    in_step(&command).kill9();
    let before = history(&bed);
    assert_eq!(bed.keys(), keys_of(1..=5));

    host.break_down(&all[1..2], Fault::Hangs);
    let registrar = command.start();
    registrar.wait_for_log("in step", FIRST);
    let new = containers(6..=6);
    host.start(&new[0]);
    bed.wait_for_keys(&keys_of(1..=6), AT_ONCE);
    host.stop(&new[0]);
    bed.wait_for_keys(&keys_of(1..=5), AT_ONCE);
    assert_told_once(&registrar, "c2");
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), keys_of(1..=5));
    let of_new = |event: &Event| event.key.contains("/s6/");
    let after: Vec<Event> = history(&bed).into_iter().filter(|e| !of_new(e)).collect();
    assert_eq!(after, before, "no other key was ever touched");
    assert_eq!(host.requests("GET /events"), 2, "one for each process");

    // Meanwhile it was published elsewhere.
    let moved = inspection(2, "s2", 9000);
    host.set(|state| drop(state.running.insert(id(&moved), moved.clone())));
    host.mend();
    let wanted = joined([
        &keys_of(1..=1),
        &keys_of(3..=5),
        &simulated_keys("s2", 2, 9000),
    ]);
    bed.wait_for_keys(&wanted, SOON);
    registrar.wait_for_log("Docker answers inspections of container `c2` again", SOON);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn one_container_at_which_the_connection_closes_holds_up_no_other() {
    let bed = TestBed::new();
    let all = containers(1..=5);
    let host = Host::of(&all);
    let command = bed.registrar_of(&host.fake).flag("--ttl", TTL.to_string());
    in_step(&command).kill9();
    let before = history(&bed);

    host.break_down(&all[1..2], Fault::HangsUp);
    let registrar = command.start();
    registrar.wait_for_log("in step", FIRST);
    host.start(&containers(6..=6)[0]);
    bed.wait_for_keys(&keys_of(1..=6), AT_ONCE);
    assert_told_once(&registrar, "c2");
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(bed.keys(), keys_of(1..=6));
    assert_eq!(history(&bed)[..before.len()], before);
    assert_eq!(history(&bed).len(), before.len() + 4, "but for the new one");
    assert_told_once(&registrar, "c2");
    assert!(registrar.log().lines().count() < 20, "{}", registrar.log());
    assert_eq!(host.requests("GET /events"), 2, "one for each process");
    let looks = host.requests(&format!("GET /containers/{}/json", id(&all[1])));
    assert!(looks < 10, "{looks} looks");
    host.mend();
    registrar.wait_for_log("Docker answers inspections of container `c2` again", SOON);
    assert_eq!(bed.keys(), keys_of(1..=6));
}

#[test]
fn many_containers_that_docker_does_not_show_hold_up_no_other() {
    let bed = TestBed::new();
    let all = containers(1..=100);
    let host = Host::of(&all);
    let command = bed.registrar_of(&host.fake).flag("--ttl", "6");
    in_step(&command).kill9();
    let before = history(&bed);
    assert_eq!(bed.keys(), keys_of(1..=100));

    // They are inspected first, and more of them hang than the limit of concurrent inspections.
    host.break_down(&all[..90], Fault::Hangs);
    let begun = Instant::now();
    let registrar = command.start();
    registrar.wait_for_log("in step", FIRST);
    let new = containers(101..=101);
    host.start(&new[0]);
    bed.wait_for_keys(&keys_of(1..=101), AT_ONCE);
    eprintln!("a new one after {:?}", begun.elapsed());
    bed.etcd.let_pass(12);
    assert_eq!(bed.keys(), keys_of(1..=101));
    let new = containers(102..=102);
    host.start(&new[0]);
    bed.wait_for_keys(&keys_of(1..=102), 2 * AT_ONCE);
    let of_new = |event: &Event| event.key.contains("/s101/") || event.key.contains("/s102/");
    let after: Vec<Event> = history(&bed).into_iter().filter(|e| !of_new(e)).collect();
    assert_eq!(after, before, "no other key was ever touched");
    host.mend();
    host.stop(&all[0]);
    let wanted = keys_of(2..=102);
    bed.wait_for_keys(&wanted, SOON);
}

/// The id is neither in the keys nor in the values: the list entry tells that the keys are the container's.
#[test]
fn a_layout_without_ids_keeps_the_keys_of_one_that_cannot_be_shown() {
    let script = Script::new(
        "local options, register = require 'options', require 'register'\n\
         function register.entries(container)\n\
           local entries = {}\n\
           for _, port in ipairs(container.ports) do\n\
             local key = register.prefix .. '/by-port/' .. port.host_port\n\
             entries[#entries + 1] = { key = key, value = options.host_ip .. ':' .. port.host_port }\n\
           end\n\
           return entries\n\
         end\n\
         return register\n",
    );
    let bed = TestBed::new();
    let all = containers(1..=3);
    let host = Host::of(&all);
    let command = bed.registrar_of(&host.fake);
    let command = command.flag("--script", script.path());
    in_step(&command).kill9();
    let (before, keys) = (history(&bed), bed.keys());
    assert_eq!(keys.len(), 6);
    host.break_down(&all[1..2], Fault::HangsUp);
    let registrar = in_step(&command);
    host.start(&containers(4..=4)[0]);
    eventually(SOON, "the new one", || bed.keys().len() == 8);
    assert_eq!(history(&bed)[..before.len()], before);
    assert!(history(&bed).iter().all(|event| event.kind == Kind::Put));
    host.mend();
    // Keys that may be removed now are removed.
    host.stop(&all[1]);
    eventually(SOON, "the keys of one that is gone to go", || {
        bed.keys().len() == 6
    });
    assert!(registrar.exited().is_none());
}

// --- A list that takes its time --------------------------------------------------------------------------------------

#[test]
fn events_do_not_wait_for_a_list() {
    let bed = TestBed::new();
    let all = containers(1..=3);
    let host = Host::of(&all);
    let registrar = in_step(&bed.registrar_of(&host.fake).flag("--resync", "1"));
    for round in 0..3 {
        host.hold_a_list();
        let new = containers(4..=4);
        host.start(&new[0]);
        bed.wait_for_keys(&keys_of(1..=4), AT_ONCE);
        host.stop(&all[2]);
        let without = joined([&keys_of(1..=2), &keys_of(4..=4)]);
        bed.wait_for_keys(&without, AT_ONCE);
        if round == 0 {
            // As slow as where this was found.
            let_time_pass(Duration::from_secs(8));
        }
        // It shows one that has gone, and does not show one that has come.
        host.list();
        host.wait_for_lists();
        assert_eq!(bed.keys(), without);
        host.start(&all[2]);
        host.stop(&new[0]);
        bed.wait_for_keys(&keys_of(1..=3), AT_ONCE);
    }
    let of_others = |event: &&Event| event.key.contains("/s1/") || event.key.contains("/s2/");
    assert_eq!(history(&bed).iter().filter(of_others).count(), 8);
    let deletes = history(&bed);
    let deletes = deletes.iter().filter(|event| event.kind == Kind::Delete);
    assert_eq!(deletes.count(), 3 * 8, "each that went, went once");
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}

#[test]
fn an_empty_list_that_is_wrong_takes_no_key() {
    let bed = TestBed::new();
    let all = containers(1..=3);
    let host = Host::of(&all);
    let registrar = in_step(&bed.registrar_of(&host.fake).flag("--resync", "1"));
    let before = history(&bed);
    // Its answer shows a moment without containers.
    host.set(|state| state.running.clear());
    host.hold_a_list();
    host.set(|state| state.running = all.iter().map(|one| (id(one), one.clone())).collect());
    host.list();
    host.wait_for_lists();
    assert_eq!(history(&bed), before);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}

#[test]
fn what_happens_during_the_first_list_counts() {
    let bed = TestBed::new();
    let all = containers(1..=3);
    let host = Host::of(&all);
    host.set(|state| state.holds_lists = true);
    let _registrar = bed.registrar_of(&host.fake).start();
    host.wait_for_a_held_list();
    eventually(SOON, "a follower of events", || {
        !host.shared.state.lock().unwrap().followers.is_empty()
    });
    host.tell("kill", &all[1]);
    host.stop(&all[2]);
    host.start(&containers(4..=4)[0]);
    let of_4 = format!("GET /containers/{}/json", id(&containers(4..=4)[0]));
    eventually(SOON, "a look during the list", || host.requests(&of_4) > 0);
    assert_eq!(bed.keys(), BTreeMap::new(), "the others are not known yet");
    host.list();
    let wanted = joined([&keys_of(1..=1), &keys_of(4..=4)]);
    bed.wait_for_keys(&wanted, SOON);
    host.set(|state| drop(state.running.remove(&id(&all[1]))));
    host.tell("die", &all[1]);
    host.start(&all[2]);
    let wanted = joined([&wanted, &keys_of(3..=3)]);
    bed.wait_for_keys(&wanted, SOON);
    assert!(
        !history(&bed).iter().any(|event| event.key.contains("/s2/")),
        "it was about to end"
    );
}

#[test]
fn events_that_come_twice_late_or_for_nothing_end_right() {
    let bed = TestBed::new();
    let all = containers(1..=3);
    let host = Host::of(&all);
    let registrar = in_step(&bed.registrar_of(&host.fake).flag("--resync", "1"));
    let before = history(&bed);
    for _ in 0..20 {
        // It was started again, and that comes first.
        host.tell("start", &all[0]);
        host.tell("die", &all[0]);
        host.tell("die", &all[0]);
        let unknown = &containers(9..=9)[0];
        host.tell("die", unknown);
        host.tell("destroy", unknown);
        host.tell("start", unknown);
    }
    host.wait_for_lists();
    assert_eq!(history(&bed), before, "nothing has changed");
    host.stop(&all[1]);
    host.tell("die", &all[1]);
    host.tell("start", &all[1]);
    let wanted = joined([&keys_of(1..=1), &keys_of(3..=3)]);
    bed.wait_for_keys(&wanted, AT_ONCE);
    host.wait_for_lists();
    assert_eq!(bed.keys(), wanted);
    host.start(&all[1]);
    host.tell("start", &all[1]);
    bed.wait_for_keys(&keys_of(1..=3), AT_ONCE);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}

// --- Many at a time --------------------------------------------------------------------------------------------------

#[test]
fn five_hundred_containers_that_start_together_are_registered() {
    let bed = TestBed::new();
    let host = Host::of(&containers(1..=1));
    let registrar = in_step(&bed.registrar_of(&host.fake));
    let new = containers(2..=501);
    host.set(|state| {
        state
            .running
            .extend(new.iter().map(|one| (id(one), one.clone())));
    });
    let begun = Instant::now();
    for one in &new {
        host.tell("start", one);
    }
    bed.wait_for_keys(&keys_of(1..=501), SOON);
    eprintln!("500 containers were registered in {:?}", begun.elapsed());
    assert_eq!(history(&bed).len(), 4 * 501, "each key was put once");
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}

#[test]
fn one_whose_health_changes_all_the_time_disturbs_no_other() {
    let bed = TestBed::new();
    let all = containers(1..=101);
    let host = Host::of(&all);
    let registrar = in_step(&bed.registrar_of(&host.fake));
    let mut flapping = all[0].clone();
    let mut slowest = Duration::ZERO;
    for round in 0..60 {
        let health = ["unhealthy", "healthy"][round % 2];
        flapping["State"]["Health"] = json!({ "Status": health });
        let shown = flapping.clone();
        host.set(|state| drop(state.running.insert(id(&shown), shown)));
        host.tell(&format!("health_status: {health}"), &flapping);
        let_time_pass(Duration::from_millis(50));
        if round % 20 == 10 {
            let number = 200 + u16::try_from(round).unwrap();
            let begun = Instant::now();
            host.start(&containers(number..=number)[0]);
            let member = format!("s{number}/1/{number:0>12}");
            eventually(SOON, "a new one", || bed.keys().contains_key(&member));
            slowest = slowest.max(begun.elapsed());
        }
    }
    eprintln!("a new one took {slowest:?}");
    assert!(slowest < AT_ONCE, "{slowest:?}");
    let quiet = history(&bed)
        .into_iter()
        .filter(|event| !event.key.contains("/s1/") && !event.key.contains("/s2"))
        .count();
    // The events of s3 … s101, except s20 … s29, whose names begin like those of the new containers.
    assert_eq!(quiet, 4 * 89);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}

// --- Those outside the filters ---------------------------------------------------------------------------------------

#[test]
fn what_runs_outside_the_filters_is_known_when_the_first_keys_are_put() {
    let bed = TestBed::new();
    let inside = bed.container().publish_all().start();
    let name = format!("{}-outside", bed.name);
    let outside = common::Container::of(common::WEB).name(&name).start();
    let registrar = bed.registrar().flag("--log-level", "debug").start();
    registrar.wait_for_log("in step", SOON);
    let log = registrar.log();
    let (before, after) = log
        .split_once("outside the filters: ")
        .expect("a word of it");
    assert!(!before.contains("in step"), "{log}");
    let marks: Vec<&str> = after.lines().next().unwrap().split(' ').collect();
    for mark in [outside.id(), outside.short_id(), &name] {
        assert!(marks.contains(&mark), "{mark} in {marks:?}");
    }
    assert!(!marks.contains(&inside.id()), "{marks:?}");
    docker(&["rm", "--force", outside.id()]);
    assert_eq!(count(&log, "outside the filters"), 1);
}
