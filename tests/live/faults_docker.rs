//! Failures of Docker, or of the connection to it: keys stay until Docker answers again, and then follow the
//! containers.

use crate::common;

use common::{
    ContainerBuilder, Dockerd, HOST_IP, Kind, Mode, Proxy, Registrar, RegistrarBuilder, Reply,
    SOON, Script, TestBed, WEB, assert_told_of, count, docker, eventually, in_step, inspection,
    joined, let_time_pass, map, summary, warnings, web_keys,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The time limit for all keys to be right after Docker is back.
const REPAIR: Duration = Duration::from_secs(2);

/// The tolerance of a test's observations, on a busy machine.
const SLACK: Duration = Duration::from_millis(250);

fn service(bed: &TestBed, name: &str) -> ContainerBuilder {
    bed.container().env("SERVICE_NAME", name).publish_all()
}

fn nothing() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// Checks that the log has the beginning and the end of each outage, and one error for each `serious` one, which
/// lasted for half a TTL.
#[track_caller]
fn assert_told(registrar: &Registrar, troubles: usize, serious: usize) {
    assert_told_of(registrar, "Docker", troubles);
    let log = registrar.log();
    assert_eq!(count(&log, "ERROR "), serious, "{log}");
}

#[track_caller]
fn assert_nothing_was_ever_deleted(bed: &TestBed) {
    let history = bed.etcd.history(&bed.prefix);
    let deleted = history.iter().find(|event| event.kind == Kind::Delete);
    assert_eq!(deleted, None, "it should have stood all the time");
}

// --- The connection --------------------------------------------------------------------------------------------------

#[test]
fn a_half_open_connection_is_noticed_within_a_third_of_the_ttl() {
    const TTL: u32 = 6;
    const THIRD: Duration = Duration::from_secs(TTL as u64 / 3);
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let proxy = Proxy::the_docker();
    let registrar = bed.registrar().env("DOCKER_HOST", proxy.address());
    let registrar = in_step(&registrar.flag("--ttl", TTL.to_string()));
    let revision = bed.etcd.revision();

    for trouble in 1..=3 {
        // At varying moments of the program's periods.
        let_time_pass(Duration::from_millis(700));
        let before = warnings(&registrar);
        proxy.set(Mode::Stall);
        let start = Instant::now();
        eventually(SOON, "the stall in the log", || {
            warnings(&registrar) > before
        });
        let took = start.elapsed();
        assert!(took <= THIRD + SLACK, "noticed after {took:?} only");
        proxy.set(Mode::Pass);
        assert_told(&registrar, trouble, 0);
    }
    assert_eq!(bed.keys(), web_keys("web", &web, HOST_IP));
    assert_eq!(bed.etcd.revision(), revision, "nothing was written");
}

/// The time limit of a connection to Docker.
const GIVEN_UP: Duration = Duration::from_secs(15);

/// Starts and stops containers while Docker cannot be reached, for longer than the TTL.
fn changes_are_made_up_for(away: Mode, serious: usize) {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let [lives, dies, pauses, moves] =
        ["web", "web", "web", "alone"].map(|name| service(&bed, name).start());
    let proxy = Proxy::the_docker();
    let registrar = bed.registrar().env("DOCKER_HOST", proxy.address());
    let registrar = in_step(&registrar.flag("--ttl", TTL.to_string()));
    let before = bed.keys();
    assert_eq!(before.len(), 12);

    let begun = Instant::now();
    proxy.set(away);
    dies.stop();
    pauses.pause();
    moves.restart();
    let comes = service(&bed, "new").start();
    service(&bed, "brief").start().rm();
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), before, "the keys stay as they were");
    proxy.set(Mode::Pass);
    let was_long = begun.elapsed() > GIVEN_UP;
    let wanted = joined([
        &web_keys("web", &lives, HOST_IP),
        &web_keys("alone", &moves, HOST_IP),
        &web_keys("new", &comes, HOST_IP),
    ]);
    bed.wait_for_keys(&wanted, REPAIR);
    // On a busy machine it may last so long that a connection that hangs is given up, which is an error.
    let errors = count(&registrar.log(), "ERROR ");
    let serious = if was_long {
        errors.clamp(serious, 1)
    } else {
        serious
    };
    assert_told(&registrar, 1, serious);

    // It follows events again.
    pauses.unpause();
    let wanted = joined([&wanted, &web_keys("web", &pauses, HOST_IP)]);
    bed.wait_for_keys(&wanted, SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn what_happened_while_docker_was_cut_off_is_made_up_for() {
    changes_are_made_up_for(Mode::Cut, 1);
}

#[test]
fn what_happened_while_docker_did_not_answer_is_made_up_for() {
    // A single try lasts for all that time, so there is no failure after the first.
    changes_are_made_up_for(Mode::Stall, 0);
}

#[test]
fn an_event_stream_that_ends_again_and_again_loses_nothing() {
    let bed = TestBed::new();
    let proxy = Proxy::the_docker();
    let registrar = bed.registrar().env("DOCKER_HOST", proxy.address());
    let registrar = in_step(&registrar);
    let stays = service(&bed, "web").start();
    for _ in 0..5 {
        proxy.set(Mode::Cut);
        proxy.set(Mode::Pass);
        let web = service(&bed, "web").start();
        proxy.set(Mode::Cut);
        proxy.set(Mode::Pass);
        let keys = joined([
            &web_keys("web", &stays, HOST_IP),
            &web_keys("web", &web, HOST_IP),
        ]);
        bed.wait_for_keys(&keys, REPAIR);
        web.kill("KILL");
    }
    bed.wait_for_keys(&web_keys("web", &stays, HOST_IP), SOON);
    assert!(registrar.exited().is_none());
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_slow_docker_is_no_trouble() {
    let bed = TestBed::new();
    let proxy = Proxy::the_docker();
    let registrar = bed.registrar().env("DOCKER_HOST", proxy.address());
    let registrar = in_step(&registrar.flag("--ttl", "12"));
    proxy.set(Mode::Delay(Duration::from_millis(150)));
    let (stays, goes) = (service(&bed, "web").start(), service(&bed, "web").start());
    goes.stop();
    bed.wait_for_keys(&web_keys("web", &stays, HOST_IP), SOON);
    bed.etcd.let_pass(12);
    assert_eq!(bed.keys(), web_keys("web", &stays, HOST_IP));
    assert_eq!(warnings(&registrar), 0);
}

/// The keys of the container that [`inspection`] describes.
pub fn simulated_keys(service: &str, number: u16, port: u16) -> BTreeMap<String, String> {
    let of_port = |(index, exposed)| {
        let address = format!("{HOST_IP}:{}", port + index - 1);
        [
            (format!("{service}/{index}/{number:0>12}"), address),
            (format!("{service}/{index}/port"), format!("{exposed}")),
        ]
    };
    map([(1, 8005), (2, 8006)].into_iter().flat_map(of_port))
}

/// A Docker that sends no event, like one that dropped them all.
#[test]
fn lost_events_are_made_up_for_by_listing_again() {
    let bed = TestBed::new();
    let running: Arc<Mutex<Vec<Value>>> = Arc::new(Mutex::new(vec![inspection(1, "web", 8000)]));
    let shown = Arc::clone(&running);
    let fake = common::FakeDocker::start(move |_, path| {
        let containers = shown.lock().unwrap();
        if path == "/containers/json" {
            return Some(Reply::Json(200, containers.iter().map(summary).collect()));
        }
        let is_asked =
            |c: &&Value| path == format!("/containers/{}/json", c["Id"].as_str().unwrap());
        let one = containers.iter().find(is_asked)?;
        Some(Reply::Json(200, one.clone()))
    });
    let registrar = in_step(&bed.registrar_of(&fake).flag("--resync", "1"));
    let keys = |number: u16, port: u16| simulated_keys("web", number, port);
    assert_eq!(bed.keys(), keys(1, 8000));
    *running.lock().unwrap() = vec![inspection(1, "web", 8002), inspection(2, "web", 8004)];
    bed.wait_for_keys(&joined([&keys(1, 8002), &keys(2, 8004)]), SOON);
    *running.lock().unwrap() = vec![inspection(2, "web", 8004)];
    bed.wait_for_keys(&keys(2, 8004), SOON);
    // The list does not show what has changed here, but all are inspected now and then.
    *running.lock().unwrap() = vec![inspection(2, "new", 8004)];
    bed.wait_for_keys(&simulated_keys("new", 2, 8004), SOON);
    running.lock().unwrap().clear();
    bed.wait_for_keys(&nothing(), SOON);
    // A silent stream may have been dropped by a proxy, so it is opened anew.
    eventually(SOON, "another stream of events", || {
        let requests = fake.requests();
        requests
            .iter()
            .filter(|path| *path == "GET /events")
            .count()
            > 1
    });
    assert_eq!(warnings(&registrar), 0);
}

/// A Docker that takes as long as several lists to inspect one of two containers, as after a boot with many
/// containers.
#[test]
fn one_that_is_shown_late_holds_up_neither_the_first_keys_nor_its_own() {
    const LATE: Duration = Duration::from_millis(2_500);
    let bed = TestBed::new();
    let containers = [inspection(1, "web", 8000), inspection(2, "web", 8002)];
    let first = AtomicBool::new(true);
    let fake = common::FakeDocker::start(move |_, path| {
        if path == "/containers/json" {
            return Some(Reply::Json(200, containers.iter().map(summary).collect()));
        }
        let is_asked =
            |c: &&Value| path == format!("/containers/{}/json", c["Id"].as_str().unwrap());
        let one = containers.iter().find(is_asked)?;
        if one == &containers[1] && first.swap(false, Ordering::SeqCst) {
            let_time_pass(LATE);
        }
        Some(Reply::Json(200, one.clone()))
    });
    let begun = Instant::now();
    let _registrar = in_step(&bed.registrar_of(&fake).flag("--resync", "1"));
    let took = begun.elapsed();
    let keys = |number: u16, port: u16| simulated_keys("web", number, port);
    if took < LATE {
        assert_eq!(bed.keys(), keys(1, 8000));
    }
    bed.wait_for_keys(&joined([&keys(1, 8000), &keys(2, 8002)]), SOON);
    let took = begun.elapsed();
    assert!(took >= LATE && took < 3 * LATE, "{took:?}");
}

/// A proxy that does not know inspect requests answers 404, Docker's status for a removed container.
#[test]
fn a_proxy_that_finds_no_page_takes_no_key() {
    let bed = TestBed::new();
    let here = inspection(1, "web", 8000);
    let list = json!([{ "Id": here["Id"] }]);
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let fake = common::FakeDocker::start(move |_, path| {
        if path == "/containers/json" {
            return Some(Reply::Json(200, list.clone()));
        }
        if !path.starts_with("/containers/") {
            return None;
        }
        let is_broken = is_broken.load(Ordering::Relaxed);
        Some(if is_broken {
            Reply::error(404, "page not found")
        } else {
            Reply::Json(200, here.clone())
        })
    });
    let registrar = in_step(&bed.registrar_of(&fake).flag("--resync", "1"));
    let keys = bed.keys();
    broken.store(true, Ordering::Relaxed);
    registrar.wait_for_log(
        "so its keys stay as they are: Docker answered with 404: page not found",
        SOON,
    );
    assert_eq!(bed.keys(), keys);
}

/// One container uses the network of another. The filters match only the first, and Docker cannot inspect the second.
#[test]
fn an_owner_of_a_network_that_cannot_be_shown_takes_no_key() {
    let bed = TestBed::new();
    let owner = inspection(2, "owner", 8000);
    let its_id = owner["Id"].as_str().unwrap().to_owned();
    let mut guest = inspection(1, "web", 8000);
    guest["HostConfig"]["NetworkMode"] = format!("container:{its_id}").into();
    guest["NetworkSettings"]["Ports"] = json!({});
    guest["Config"]["Labels"] = json!({ "seen": "1" });
    let path_of = |id: &str| format!("/containers/{id}/json");
    let (of_owner, of_guest) = (path_of(&its_id), path_of(guest["Id"].as_str().unwrap()));
    let request = format!("GET {of_owner}");
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let fake = common::FakeDocker::start(move |_, path| match path {
        "/containers/json" => Some(Reply::Json(200, json!([summary(&guest)]))),
        path if path == of_guest => Some(Reply::Json(200, guest.clone())),
        path if path == of_owner && is_broken.load(Ordering::SeqCst) => {
            Some(Reply::error(500, "no such layer"))
        }
        path if path == of_owner => Some(Reply::Json(200, owner.clone())),
        _ => None,
    });
    let command = bed.registrar_of(&fake).flag("--filter", "label=seen");
    let command = command.flag("--resync", "1");
    let registrar = in_step(&command);
    let keys = simulated_keys("web", 1, 8000);
    assert_eq!(bed.keys(), keys);

    // A registrar that has never seen the other does not treat it as a container without ports either.
    registrar.kill9();
    broken.store(true, Ordering::SeqCst);
    let _registrar = in_step(&command);
    let asked = || {
        fake.requests()
            .iter()
            .filter(|asked| **asked == request)
            .count()
    };
    let before = asked();
    eventually(SOON, "several lists", || asked() >= before + 5);
    assert_eq!(bed.keys(), keys);
    broken.store(false, Ordering::SeqCst);
    let before = asked();
    eventually(SOON, "it to be shown", || asked() > before);
    let history = bed.etcd.history(&bed.prefix);
    assert!(
        history.iter().all(|event| event.kind == Kind::Put),
        "{history:#?}"
    );
    assert_eq!(bed.keys(), keys);
}

/// A Docker that shows a container once in an unknown state, as Podman does between two states, and sends no event
/// when it ends.
#[test]
fn a_container_that_cannot_be_shown_is_asked_for_again() {
    let bed = TestBed::new();
    let here = inspection(1, "web", 8000);
    let mut strange = here.clone();
    strange["State"]["Status"] = "stopped".into();
    let path = format!("/containers/{}/json", here["Id"].as_str().unwrap());
    let list = json!([{ "Id": here["Id"] }]);
    let first = Mutex::new(Some(strange));
    let fake = common::FakeDocker::start(move |_, asked| {
        if asked == "/containers/json" {
            return Some(Reply::Json(200, list.clone()));
        }
        let shown = || first.lock().unwrap().take().unwrap_or_else(|| here.clone());
        (asked == path).then(|| Reply::Json(200, shown()))
    });
    let registrar = bed.registrar_of(&fake).flag("--resync", "3600").start();
    bed.wait_for_keys(&simulated_keys("web", 1, 8000), SOON);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
}

/// Podman lists no paused container, so that a registrar which starts meanwhile does not know it.
#[test]
fn a_container_that_is_not_listed_while_it_is_paused_has_keys_when_it_runs() {
    let bed = TestBed::new();
    let here = inspection(1, "web", 8000);
    let id = here["Id"].as_str().unwrap().to_owned();
    let (events, to_follow) = mpsc::channel();
    let to_follow = Mutex::new(Some(to_follow));
    let paused = Arc::new(AtomicBool::new(true));
    let (is_paused, its_path) = (Arc::clone(&paused), format!("/containers/{id}/json"));
    let its_id = id.clone();
    let fake = common::FakeDocker::start(move |_, asked| {
        let paused = is_paused.load(Ordering::SeqCst);
        let mut shown = here.clone();
        if paused {
            shown["State"]["Status"] = "paused".into();
        }
        match asked {
            "/events" => to_follow.lock().unwrap().take().map(Reply::Stream),
            "/containers/json" if paused => Some(Reply::Json(200, json!([]))),
            "/containers/json" => Some(Reply::Json(200, json!([{ "Id": its_id }]))),
            path => (path == its_path).then(|| Reply::Json(200, shown)),
        }
    });
    let _registrar = in_step(&bed.registrar_of(&fake).flag("--resync", "3600"));
    assert_eq!(bed.keys(), nothing());
    paused.store(false, Ordering::SeqCst);
    let event = json!({ "Type": "container", "Action": "unpause", "Actor": { "ID": id } });
    events.send(event).expect("a follower");
    bed.wait_for_keys(&simulated_keys("web", 1, 8000), SOON);
}

// --- The daemon ------------------------------------------------------------------------------------------------------

/// A registrar of a daemon of the test's own.
fn of_daemon(bed: &TestBed, daemon: &Dockerd) -> RegistrarBuilder {
    let registrar = Registrar::command()
        .flag("--etcd", bed.etcd.endpoint())
        .flag("--prefix", &bed.prefix)
        .flag("--host-ip", HOST_IP);
    registrar
        .flag("--ttl", "3")
        .env("DOCKER_HOST", daemon.host())
}

/// The keys of a container in the network of the host.
fn host_keys(service: &str, id: &str) -> BTreeMap<String, String> {
    let member = &id[..12];
    let of_port = |(index, port)| {
        [
            (
                format!("{service}/{index}/{member}"),
                format!("{HOST_IP}:{port}"),
            ),
            (format!("{service}/{index}/port"), format!("{port}")),
        ]
    };
    map([(1, 8005), (2, 8006)].into_iter().flat_map(of_port))
}

fn a_restart_with_live_restore(end: impl Fn(&Dockerd)) {
    let bed = TestBed::new();
    let daemon = Dockerd::start(WEB, true);
    let web = daemon.run(WEB, &["--env", "SERVICE_NAME=web"]);
    let registrar = in_step(&of_daemon(&bed, &daemon));
    assert_eq!(bed.keys(), host_keys("web", &web));
    end(&daemon);
    bed.etcd.let_pass(6);
    assert_eq!(bed.keys(), host_keys("web", &web));
    daemon.start_again();
    assert_told(&registrar, 1, 1);
    assert_eq!(bed.keys(), host_keys("web", &web));
    assert_nothing_was_ever_deleted(&bed);

    let new = daemon.run(WEB, &["--env", "SERVICE_NAME=new"]);
    let wanted = joined([&host_keys("web", &web), &host_keys("new", &new)]);
    bed.wait_for_keys(&wanted, SOON);
    daemon.docker(&["kill", &web]);
    bed.wait_for_keys(&host_keys("new", &new), SOON);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn a_daemon_that_restarts_with_live_restore_changes_nothing() {
    a_restart_with_live_restore(Dockerd::stop);
}

#[test]
fn a_daemon_that_crashes_with_live_restore_changes_nothing() {
    a_restart_with_live_restore(Dockerd::kill9);
}

fn a_restart_without_live_restore(end: impl Fn(&Dockerd)) {
    let bed = TestBed::new();
    let daemon = Dockerd::start(WEB, false);
    let web = daemon.run(WEB, &["--env", "SERVICE_NAME=web"]);
    let always = ["--env", "SERVICE_NAME=always", "--restart", "always"];
    let always = daemon.run(WEB, &always);
    let registrar = in_step(&of_daemon(&bed, &daemon));
    let wanted = joined([&host_keys("web", &web), &host_keys("always", &always)]);
    assert_eq!(bed.keys(), wanted);
    end(&daemon);
    bed.etcd.let_pass(6);
    daemon.start_again();
    // Its containers ended with it, and one is to be started again.
    bed.wait_for_keys(&host_keys("always", &always), SOON);
    assert_told(&registrar, 1, 1);
    let new = daemon.run(WEB, &["--env", "SERVICE_NAME=new"]);
    let wanted = joined([&host_keys("always", &always), &host_keys("new", &new)]);
    bed.wait_for_keys(&wanted, SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_daemon_that_restarts_takes_its_containers_with_it() {
    a_restart_without_live_restore(Dockerd::stop);
}

#[test]
fn a_daemon_that_crashes_takes_its_containers_with_it() {
    a_restart_without_live_restore(Dockerd::kill9);
}

#[test]
fn a_registrar_that_starts_while_the_daemon_is_away_keeps_the_keys_of_before() {
    let bed = TestBed::new();
    let daemon = Dockerd::start(WEB, true);
    let web = daemon.run(WEB, &["--env", "SERVICE_NAME=web"]);
    // The TTL is longer than the daemon's absence, because the keys cannot be renewed meanwhile: a registrar finds
    // them by the daemon's id.
    let registrar = of_daemon(&bed, &daemon).flag("--ttl", "60");
    in_step(&registrar).kill9();
    daemon.stop();
    let registrar = registrar.start();
    registrar.wait_for_log("WARN ", SOON);
    daemon.start_again();
    registrar.wait_for_log("in step", SOON);
    assert_eq!(bed.keys(), host_keys("web", &web));
    assert_nothing_was_ever_deleted(&bed);
}

// --- Containers in a hurry -------------------------------------------------------------------------------------------

#[test]
fn a_container_that_dies_at_once_a_hundred_times_leaves_nothing() {
    // With a shorter one, a Docker that is so busy answers a ping too late.
    const TTL: u32 = 9;
    let bed = TestBed::new();
    let registrar = in_step(&bed.registrar().flag("--ttl", TTL.to_string()));
    let stays = service(&bed, "web").start();
    let brief = || service(&bed, "web").command(&["true"]).create();
    let brief = [brief(), brief(), brief(), brief()];
    thread::scope(|scope| {
        for container in &brief {
            scope.spawn(|| (0..25).for_each(|_| container.start()));
        }
    });
    let wanted = web_keys("web", &stays, HOST_IP);
    let last = service(&bed, "last").start();
    let with_last = joined([&wanted, &web_keys("last", &last, HOST_IP)]);
    bed.wait_for_keys(&with_last, SOON);
    last.rm();
    bed.wait_for_keys(&wanted, SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), wanted);
    // One for the owned keys, one for each `port` key, and the seat.
    assert_eq!(bed.etcd.leases().len(), 4, "{:?}", bed.etcd.leases());
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_container_that_is_made_anew_under_its_name_has_the_keys_of_its_name() {
    let bed = TestBed::new();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.member(container) return container.name end\n\
         return register\n",
    );
    let registrar = bed.registrar().flag("--script", script.path());
    let registrar = in_step(&registrar);
    let name = format!("{}-by-name", bed.name);
    let keys = |container: &common::Container| {
        let by_id = web_keys("web", container, HOST_IP);
        let rename = |key: String| key.replace(container.short_id(), &container.name());
        map(by_id.into_iter().map(|(key, value)| (rename(key), value)))
    };
    let mut before = service(&bed, "web").name(&name).start();
    for _ in 0..5 {
        bed.wait_for_keys(&keys(&before), SOON);
        before.rm();
        before = service(&bed, "web").name(&name).start();
    }
    bed.wait_for_keys(&keys(&before), SOON);

    // The old one may also live on under another name.
    before.rename(&format!("{name}-old"));
    let new = service(&bed, "web").name(&name).start();
    bed.wait_for_keys(&joined([&keys(&before), &keys(&new)]), SOON);
    // Names may even be exchanged.
    before.rename(&format!("{name}-between"));
    new.rename(&format!("{name}-old"));
    before.rename(&name);
    bed.wait_for_keys(&joined([&keys(&before), &keys(&new)]), SOON);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
    bed.assert_each_member_always_had_its_port();
}

/// Docker answers an inspection of a container only when it has finished starting it. The keys of others do not wait
/// for that.
#[test]
fn a_container_that_docker_is_slow_to_show_holds_up_no_other() {
    let bed = TestBed::new();
    let [slow, other] = [(1, "slow", 8000), (2, "web", 8002)]
        .map(|(number, service, port)| inspection(number, service, port));
    let id = |container: &Value| container["Id"].as_str().unwrap().to_owned();
    let event = |action: &str, container: &Value, signal: &str| -> Value {
        json!({
            "Type": "container", "Action": action, "scope": "local", "time": 1,
            "Actor": { "ID": id(container), "Attributes": { "signal": signal } },
        })
    };
    let (events, stream) = mpsc::channel();
    let (proceed, may_answer) = mpsc::channel::<()>();
    let (stream, may_answer) = (Mutex::new(Some(stream)), Mutex::new(may_answer));
    let [path_of_slow, path_of_other] =
        [&slow, &other].map(|container| format!("/containers/{}/json", id(container)));
    let (shown_slow, shown_other) = (slow.clone(), other.clone());
    let looked_at = format!("GET {path_of_slow}");
    let fake = common::FakeDocker::start(move |_, path| match path {
        "/events" => stream.lock().unwrap().take().map(Reply::Stream),
        path if path == path_of_slow => {
            // This returns when the sender is dropped.
            let _ = may_answer.lock().unwrap().recv();
            Some(Reply::Json(200, shown_slow.clone()))
        }
        path if path == path_of_other => Some(Reply::Json(200, shown_other.clone())),
        _ => None,
    });
    let registrar = bed.registrar_of(&fake).flag("--ttl", "60");
    let _registrar = in_step(&registrar);

    events.send(event("start", &slow, "")).unwrap();
    eventually(SOON, "the slow one to be looked at", || {
        fake.requests().contains(&looked_at)
    });
    events.send(event("start", &other, "")).unwrap();
    let keys = simulated_keys("web", 2, 8002);
    bed.wait_for_keys(&keys, REPAIR);
    events.send(event("kill", &other, "15")).unwrap();
    bed.wait_for_keys(&nothing(), REPAIR);
    drop(proceed);
    bed.wait_for_keys(&simulated_keys("slow", 1, 8000), SOON);
}

/// `docker stop` sends TERM, waits for ten seconds, and kills.
#[test]
fn a_stop_that_ends_with_a_kill_after_ten_seconds_takes_the_keys_when_it_begins() {
    let bed = TestBed::new();
    let _registrar = in_step(&bed.registrar());
    let deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"];
    let web = service(&bed, "web").command(&deaf).start();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    thread::scope(|scope| {
        let stop = scope.spawn(|| docker(&["stop", web.id()]));
        bed.wait_for_keys(&nothing(), SOON);
        assert!(!stop.is_finished(), "the keys went with the container only");
    });
    // Once a later container has its keys, the earlier events have been handled.
    let later = service(&bed, "later").start();
    bed.wait_for_keys(&web_keys("later", &later, HOST_IP), SOON);
    let puts = bed.etcd.history(&bed.key("web/"));
    let puts = puts.iter().filter(|event| event.kind == Kind::Put).count();
    assert_eq!(puts, 4, "the keys did not come back in between");
}

/// On a host where containers start all the time, an inspection is always in flight.
#[test]
fn the_first_keys_do_not_wait_for_containers_that_come_meanwhile() {
    let bed = TestBed::new();
    let here = inspection(1, "web", 8000);
    let path = format!("/containers/{}/json", here["Id"].as_str().unwrap());
    let list = json!([{ "Id": here["Id"] }]);
    let (events, stream) = mpsc::channel();
    let (never, may_answer) = mpsc::channel::<()>();
    let (asks, is_asked) = mpsc::channel();
    let (stream, may_answer) = (Mutex::new(Some(stream)), Mutex::new(may_answer));
    let (asks, is_asked) = (Mutex::new(asks), Mutex::new(is_asked));
    let fake = common::FakeDocker::start(move |_, asked| match asked {
        "/events" => stream.lock().unwrap().take().map(Reply::Stream),
        "/containers/json" => Some(Reply::Json(200, list.clone())),
        // The listed one is answered once the other is being inspected, which never ends.
        asked if asked == path => {
            let _ = is_asked.lock().unwrap().recv_timeout(REPAIR);
            Some(Reply::Json(200, here.clone()))
        }
        asked if asked.starts_with("/containers/") => {
            let _ = asks.lock().unwrap().send(());
            let _ = may_answer.lock().unwrap().recv();
            None
        }
        _ => None,
    });
    let strange = inspection(2, "strange", 8002);
    events
        .send(json!({
            "Type": "container", "Action": "start", "scope": "local", "time": 1,
            "Actor": { "ID": strange["Id"], "Attributes": {} },
        }))
        .unwrap();
    let _registrar = bed.registrar_of(&fake).start();
    bed.wait_for_keys(&simulated_keys("web", 1, 8000), 2 * REPAIR);
    drop(never);
}
