//! Each change of a container is soon followed by its keys, and changes of its keys by hand are soon repaired.

use crate::common;

use common::{
    Container, ContainerBuilder, FakeDocker, HOST_IP, Kind, Reply, SOON, Script, TestBed, docker,
    eventually, joined, map, web_keys,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn web(bed: &TestBed) -> ContainerBuilder {
    bed.container().env("SERVICE_NAME", "web").publish_all()
}

fn nothing() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// The numbers of puts and deletions of keys with this beginning.
fn counts(bed: &TestBed, key: &str) -> (usize, usize) {
    let history = bed.etcd.history(&bed.key(key));
    let deleted = history.iter().filter(|event| event.kind == Kind::Delete);
    let deleted = deleted.count();
    (history.len() - deleted, deleted)
}

/// Waits until the program has handled all of Docker's events so far: until a container that starts now has its key.
fn catch_up(bed: &TestBed) {
    let container = bed.container().env("SERVICE_NAME", "barrier");
    let container = container.publish("8005").start();
    let key = bed.key(&format!("barrier/1/{}", container.short_id()));
    eventually(SOON, "the keys of the barrier", || {
        bed.etcd.kv(&key).is_some()
    });
    container.rm();
    eventually(SOON, "the keys of the barrier to go", || {
        bed.etcd.get(&bed.key("barrier")).is_empty()
    });
}

#[test]
fn a_paused_container_has_no_keys() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed).start();
    let keys = web_keys("web", &container, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    container.pause();
    bed.wait_for_keys(&nothing(), SOON);
    container.unpause();
    bed.wait_for_keys(&keys, SOON);
}

#[test]
fn a_container_with_a_health_check_has_keys_while_it_is_healthy() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed)
        .arg("--health-cmd=test -e /tmp/well")
        .arg("--health-interval=300ms")
        .arg("--health-retries=1")
        .arg("--health-start-period=1h")
        .start();
    catch_up(&bed);
    assert_eq!(counts(&bed, "web"), (0, 0), "its health is not known yet");

    let keys = web_keys("web", &container, HOST_IP);
    container.exec(&["touch", "/tmp/well"]);
    bed.wait_for_keys(&keys, SOON);
    container.exec(&["rm", "/tmp/well"]);
    bed.wait_for_keys(&nothing(), SOON);
    container.exec(&["touch", "/tmp/well"]);
    bed.wait_for_keys(&keys, SOON);
}

#[test]
fn keys_follow_a_rename() {
    let bed = TestBed::new();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.member(container) return container.name end\n\
         return register\n",
    );
    let _registrar = bed.registrar().flag("--script", script.path()).start();
    let container = web(&bed).start();
    let keys = || {
        let keys = web_keys("web", &container, HOST_IP).into_iter();
        map(keys.map(|(key, value)| (key.replace(container.short_id(), &container.name()), value)))
    };
    bed.wait_for_keys(&keys(), SOON);
    container.rename(&format!("{}-renamed", container.name()));
    bed.wait_for_keys(&keys(), SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
    // The container was reachable at all times, so it always had a key.
    let states = bed.states();
    let first = states.first().expect("there were keys").0;
    assert!(
        states
            .iter()
            .all(|(revision, keys)| *revision == first || keys.len() >= 4)
    );
}

#[test]
fn keys_follow_the_published_ports_of_a_restarted_container() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed).start();
    let before = web_keys("web", &container, HOST_IP);
    bed.wait_for_keys(&before, SOON);
    // Docker gives the port away that the container leaves.
    container.restart();
    let after = web_keys("web", &container, HOST_IP);
    assert_ne!(before, after, "Docker published it elsewhere");
    bed.wait_for_keys(&after, SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn keys_follow_the_networks_of_a_container() {
    let bed = TestBed::new();
    let network = bed.network();
    let script = Script::new(
        "local register, options = require 'register', require 'options'\n\
         function register.accept_port(container, port)\n\
           return container.networks[options.network] ~= nil, 'not in the network'\n\
         end\n\
         function register.address(container, port)\n\
           return container.networks[options.network].ip .. ':' .. port.port\n\
         end\n\
         return register\n",
    );
    let _registrar = bed
        .registrar()
        .flag("--script", script.path())
        .flag("--set", format!("network={network}"))
        .start();
    let container = bed.container().start();
    catch_up_without_ports(&bed, &network);
    assert_eq!(counts(&bed, "web"), (0, 0));

    docker(&["network", "connect", &network, container.id()]);
    let ip = container.inspect()["NetworkSettings"]["Networks"][&network]["IPAddress"].clone();
    let ip = ip.as_str().expect("it has an address in the network");
    let id = container.short_id();
    let keys = map([
        (format!("web/1/{id}"), format!("{ip}:8005")),
        ("web/1/port".to_owned(), "8005".to_owned()),
        (format!("web/2/{id}"), format!("{ip}:8006")),
        ("web/2/port".to_owned(), "8006".to_owned()),
    ]);
    bed.wait_for_keys(&keys, SOON);
    docker(&["network", "disconnect", &network, container.id()]);
    bed.wait_for_keys(&nothing(), SOON);
}

/// Like [`catch_up`], for a policy that registers the containers of a network.
fn catch_up_without_ports(bed: &TestBed, network: &str) {
    let container = bed.container().env("SERVICE_NAME", "barrier");
    let container = container.network(network).start();
    eventually(SOON, "the keys of the barrier", || {
        !bed.etcd.get(&bed.key("barrier")).is_empty()
    });
    container.rm();
    eventually(SOON, "the keys of the barrier to go", || {
        bed.etcd.get(&bed.key("barrier")).is_empty()
    });
}

#[test]
fn a_signal_that_is_not_meant_to_end_a_container_changes_nothing() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed).start();
    let keys = web_keys("web", &container, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    let before = counts(&bed, "web");
    container.kill("HUP");
    container.kill("USR1");
    catch_up(&bed);
    assert_eq!(counts(&bed, "web"), before);
    assert_eq!(bed.keys(), keys);
}

#[test]
fn keys_go_when_a_stop_begins() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed)
        .command(&[
            "sh",
            "-c",
            "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done",
        ])
        .start();
    bed.wait_for_keys(&web_keys("web", &container, HOST_IP), SOON);
    thread::scope(|scope| {
        let stop = scope.spawn(|| container.stop());
        bed.wait_for_keys(&nothing(), SOON);
        assert!(!stop.is_finished(), "the keys went with the container only");
        assert_eq!(container.inspect()["State"]["Running"], true);
    });
    catch_up(&bed);
    assert_eq!(counts(&bed, "web"), (4, 4), "they went once, and for good");
}

#[test]
fn keys_go_when_a_stop_with_a_signal_of_its_own_begins() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed)
        .arg("--stop-signal=QUIT")
        .command(&[
            "sh",
            "-c",
            "trap 'sleep 3; exit 0' QUIT; while :; do sleep 0.1; done",
        ])
        .start();
    bed.wait_for_keys(&web_keys("web", &container, HOST_IP), SOON);
    thread::scope(|scope| {
        let stop = scope.spawn(|| container.stop());
        bed.wait_for_keys(&nothing(), SOON);
        assert!(!stop.is_finished(), "the keys went with the container only");
    });
}

#[test]
fn keys_come_back_if_a_container_survives_its_signal() {
    let bed = TestBed::new();
    let _registrar = bed.registrar().start();
    let container = web(&bed)
        .arg("--stop-timeout=1")
        .command(&["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"])
        .start();
    let keys = web_keys("web", &container, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    container.kill("TERM");
    bed.wait_for_keys(&nothing(), SOON);
    bed.wait_for_keys(&keys, SOON);
    assert_eq!(container.inspect()["State"]["Running"], true);
}

/// A stop may begin while the program still inspects the container that has just started. A fake Docker forces that.
#[test]
fn a_stop_that_begins_while_a_container_is_looked_at_is_not_forgotten() {
    let bed = TestBed::new();
    let [stopped, other] = ["a", "b"].map(|digit| digit.repeat(64));
    let inspect = |id: &str| {
        json!({
            "Id": id, "Name": format!("/{}", &id[..4]), "Created": "2024-01-01T00:00:00Z",
            "State": { "Status": "running", "Running": true },
            "Config": { "Image": "web", "ExposedPorts": { "80/tcp": {} } },
            "HostConfig": { "NetworkMode": "default" },
            "NetworkSettings": { "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8000" }] } },
        })
    };
    let event = |action: &str, id: &str, signal: &str| -> Value {
        json!({
            "Type": "container", "Action": action, "scope": "local", "time": 1,
            "Actor": { "ID": id, "Attributes": { "signal": signal } },
        })
    };
    let (events, stream) = mpsc::channel();
    let (proceed, may_answer) = mpsc::channel::<()>();
    let (stream, may_answer) = (Mutex::new(Some(stream)), Mutex::new(may_answer));
    let (first, second) = (inspect(&stopped), inspect(&other));
    let [path_of_first, path_of_second] =
        [&stopped, &other].map(|id| format!("/containers/{id}/json"));
    let looked_at = path_of_first.clone();
    let fake = FakeDocker::start(move |_, path| match path {
        "/events" => stream.lock().unwrap().take().map(Reply::Stream),
        path if path == path_of_first => {
            // This returns when the sender is dropped.
            let _ = may_answer.lock().unwrap().recv();
            Some(Reply::Json(200, first.clone()))
        }
        path if path == path_of_second => Some(Reply::Json(200, second.clone())),
        _ => None,
    });
    let registrar = bed.registrar_of(&fake).start();
    registrar.wait_for_log("in step", SOON);

    events.send(event("start", &stopped, "")).unwrap();
    let request = format!("GET {looked_at}");
    eventually(SOON, "the container to be looked at", || {
        fake.requests().contains(&request)
    });
    events.send(event("kill", &stopped, "15")).unwrap();
    events.send(event("start", &other, "")).unwrap();
    drop(proceed);
    let member = format!("web/1/{}", &other[..12]);
    let address = format!("{HOST_IP}:8000");
    let of_other = map([(member.as_str(), address.as_str()), ("web/1/port", "80")]);
    bed.wait_for_keys(&of_other, SOON);
}

#[test]
fn what_is_deleted_or_taken_by_hand_is_mended_within_a_third_of_the_ttl() {
    // A third of the TTL is 3 s; the rest is for a busy machine.
    const TTL: &str = "9";
    const THIRD: Duration = Duration::from_millis(3_000 + 1_500);
    let bed = TestBed::new();
    let registrar = bed.registrar().flag("--ttl", TTL).start();
    let container = web(&bed).start();
    let keys = web_keys("web", &container, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    let member = bed.key(&format!("web/1/{}", container.short_id()));
    let port = bed.key("web/1/port");
    let [of_member, of_port] =
        [&member, &port].map(|key| bed.etcd.kv(key).expect("the key exists").lease);
    let mended = |what: &str| {
        let start = Instant::now();
        bed.wait_for_keys(&keys, SOON);
        let took = start.elapsed();
        assert!(took <= THIRD, "{what} took {took:?} to be mended");
        let leases = [&member, &port].map(|key| bed.etcd.kv(key).expect("the key exists").lease);
        assert_eq!(leases, [of_member, of_port], "after {what}");
    };

    bed.etcd.delete(&member);
    bed.etcd.delete(&port);
    mended("deleted keys");

    bed.etcd.revoke(of_member);
    assert_eq!(bed.keys().len(), 2);
    mended("a revoked lease of the member keys");

    bed.etcd.revoke(of_port);
    assert_eq!(bed.keys().len(), 3);
    mended("a revoked lease of a port key");

    bed.etcd.put(&member, "192.0.2.99:1");
    mended("a key without a lease");
    registrar.wait_for_log(&format!("WARN `{member}` was on no lease"), SOON);

    let revision = bed.etcd.revision();
    bed.etcd.put_with_lease(&member, "192.0.2.99:1", of_member);
    mended("a wrong value");
    assert_eq!(bed.etcd.revision(), revision + 2);
    assert!(registrar.exited().is_none());
}

#[test]
fn a_key_on_a_lease_of_somebody_else_is_left_until_it_is_free() {
    let bed = TestBed::new();
    let registrar = bed.registrar().flag("--ttl", "6").start();
    let container = web(&bed).start();
    let keys = web_keys("web", &container, HOST_IP);
    bed.wait_for_keys(&keys, SOON);
    let name = format!("web/1/{}", container.short_id());
    let member = bed.key(&name);
    let foreign = bed.etcd.grant(600, 0);
    bed.etcd.put_with_lease(&member, "192.0.2.99:1", foreign);
    registrar.wait_for_log(&format!("WARN `{member}` is on lease {foreign:x}"), SOON);
    bed.etcd.let_pass(6);
    let taken = bed.etcd.kv(&member).expect("the key exists");
    assert_eq!(
        (taken.value.as_str(), taken.lease),
        ("192.0.2.99:1", foreign)
    );
    let warnings = registrar.log().matches("is on lease").count();
    assert_eq!(warnings, 1, "it is said once");

    // A stranger's key is not removed with the container's own keys either.
    container.stop();
    let others = map([(name.as_str(), "192.0.2.99:1"), ("web/1/port", "8005")]);
    bed.wait_for_keys(&others, SOON);
    container.start();
    let mut keys = web_keys("web", &container, HOST_IP);
    let own = keys.insert(name.clone(), "192.0.2.99:1".to_owned());
    bed.wait_for_keys(&keys, SOON);

    bed.etcd.revoke(foreign);
    keys.insert(name, own.expect("the container has the key"));
    bed.wait_for_keys(&keys, SOON);
}

#[test]
fn a_burst_of_containers_is_got_right() {
    const BURST: usize = 20;
    let bed = TestBed::new();
    let registrar = bed.registrar().start();
    let (first, second) = (web(&bed).start(), web(&bed).start());
    registrar.wait_for_log("in step", SOON);
    let keys = [&first, &second].map(|container| web_keys("web", container, HOST_IP));
    let before = joined([&keys[0], &keys[1]]);
    bed.wait_for_keys(&before, SOON);
    let leases = bed.etcd.leases();

    let burst: Vec<Container> = thread::scope(|scope| {
        let starts: Vec<_> = (0..BURST)
            .map(|_| scope.spawn(|| web(&bed).start()))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().expect("Docker starts it"))
            .collect()
    });
    let all = burst.iter().fold(before.clone(), |all, container| {
        joined([&all, &web_keys("web", container, HOST_IP)])
    });
    bed.wait_for_keys(&all, SOON);
    assert_eq!(bed.etcd.leases(), leases, "containers take no leases");

    let ids = burst.iter().map(Container::id);
    docker(&[&["rm", "--force"], &ids.collect::<Vec<_>>()[..]].concat());
    bed.wait_for_keys(&before, SOON);
    assert_eq!(bed.etcd.leases(), leases);
    // Each key was put and deleted once, and the two that stayed were left alone.
    assert_eq!(counts(&bed, "web"), (2 * (BURST + 2) + 2, 2 * BURST));
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}
