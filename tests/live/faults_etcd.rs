//! Failures of etcd, or of the network to it: no key is stale or lost, and the log has one line for the failure and
//! one for its end.

use crate::common;

use common::{
    Container, ContainerBuilder, Etcd, FEW, HOST_IP, Kind, Mode, Proxy, Registrar,
    RegistrarBuilder, SOON, Script, TestBed, assert_told_of, cluster, count, docker_of, endpoints,
    eventually, in_step, inspection, joined, let_time_pass, map, warnings, web_keys,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const HOST_A: &str = "192.0.2.1";
const HOST_B: &str = "192.0.2.2";

/// The time limit for all keys to be right after etcd is back.
const REPAIR: Duration = Duration::from_secs(2);

/// The tolerance of a test's observations, on a busy machine.
const SLACK: Duration = Duration::from_millis(250);

fn service(bed: &TestBed, name: &str) -> ContainerBuilder {
    bed.container().env("SERVICE_NAME", name).publish_all()
}

fn ttl(registrar: RegistrarBuilder, seconds: u32) -> RegistrarBuilder {
    registrar.flag("--ttl", seconds.to_string())
}

/// Checks that the log has the beginning and the end of each outage, and one error for each of the `serious` ones,
/// which lasted for half a TTL, and for each of the `expired` ones, in which the leases expired.
#[track_caller]
fn assert_told(registrar: &Registrar, troubles: usize, serious: usize, expired: usize) {
    assert_told_of(registrar, "etcd", troubles);
    let log = registrar.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR ")).collect();
    let count = |part| errors.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("; retrying for "), serious, "{log}");
    assert_eq!(count("presumed removed since"), expired, "{log}");
    // It never mistook itself for another registrar, although etcd may have executed a request twice.
    assert_eq!(errors.len(), serious + expired, "{log}");
}

/// The keys with their revisions, which show whether they were written again.
fn revisions(bed: &TestBed) -> BTreeMap<String, i64> {
    let revision = |key: &String| bed.etcd.kv(&bed.key(key)).map_or(0, |kv| kv.mod_revision);
    let keys = bed.keys().into_keys();
    keys.map(|key| (key.clone(), revision(&key))).collect()
}

/// Checks that these keys existed at every revision after they all first did.
#[track_caller]
pub fn assert_never_deleted<'a>(bed: &TestBed, keys: impl IntoIterator<Item = &'a String>) {
    let history = bed.etcd.history(&bed.prefix);
    for key in keys {
        let key = bed.key(key);
        let deleted = history
            .iter()
            .find(|event| event.key == key && event.kind == Kind::Delete);
        assert_eq!(deleted, None, "it should have stood all the time");
    }
}

fn members_of(container: &Container, service: &str) -> [String; 2] {
    [1, 2].map(|index| format!("{service}/{index}/{}", container.short_id()))
}

// --- Absence ---------------------------------------------------------------------------------------------------------

const HUNDRED: u16 = 100;

fn hundred() -> common::FakeDocker {
    let container = |number| inspection(number, &format!("s{}", number % 10), 20_000 + 2 * number);
    docker_of((0..HUNDRED).map(container).collect())
}

fn keys_of_hundred() -> BTreeMap<String, String> {
    let members = (0..HUNDRED).flat_map(|number| {
        [1, 2].map(|index| {
            let port = 20_000 + 2 * number + index - 1;
            let key = format!("s{}/{index}/{number:0>12}", number % 10);
            (key, format!("{HOST_IP}:{port}"))
        })
    });
    let ports = (0..10).flat_map(|service| {
        [(1, "8005"), (2, "8006")]
            .map(|(index, port)| (format!("s{service}/{index}/port"), port.to_owned()))
    });
    map(members.chain(ports))
}

#[test]
fn a_hundred_containers_are_right_soon_after_they_could_not_reach_etcd_for_three_ttls() {
    const TTL: u32 = 3;
    let (bed, docker) = (TestBed::new(), hundred());
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = bed.registrar_of(&docker).flag("--etcd", proxy.address());
    let registrar = in_step(&ttl(registrar, TTL));
    assert_eq!(bed.keys(), keys_of_hundred());

    proxy.set(Mode::Cut);
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(
        bed.keys(),
        map::<&str, &str>([]),
        "nobody kept the keys alive"
    );
    proxy.set(Mode::Pass);
    bed.wait_for_keys(&keys_of_hundred(), REPAIR);
    assert_told(&registrar, 1, 1, 1);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn a_hundred_containers_are_right_soon_after_etcd_was_down_for_three_ttls() {
    const TTL: u32 = 3;
    let (bed, docker) = (TestBed::new(), hundred());
    let registrar = in_step(&ttl(bed.registrar_of(&docker), TTL));
    assert_eq!(bed.keys(), keys_of_hundred());

    bed.etcd.stop();
    let_time_pass(3 * Duration::from_secs(TTL.into()));
    bed.etcd.start_again();
    bed.wait_for_keys(&keys_of_hundred(), REPAIR);
    assert_told(&registrar, 1, 1, 1);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), keys_of_hundred());
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn an_etcd_that_lost_its_data_has_all_keys_again() {
    const TTL: u32 = 3;
    let (bed, docker) = (TestBed::new(), hundred());
    let registrar = in_step(&ttl(bed.registrar_of(&docker), TTL));
    bed.etcd.kill9();
    bed.etcd.lose_data();
    bed.etcd.start_again();
    bed.wait_for_keys(&keys_of_hundred(), REPAIR);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), keys_of_hundred());
    let missing = format!("{} keys were missing in etcd", keys_of_hundred().len());
    assert_eq!(count(&registrar.log(), &missing), 1, "{}", registrar.log());
    assert!(registrar.exited().is_none());
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn containers_that_came_and_went_while_etcd_was_away_are_right() {
    const TTL: u32 = 30;
    let bed = TestBed::new();
    let [lives, dies, moves, alone] =
        ["web", "web", "web", "alone"].map(|name| service(&bed, name).start());
    let registrar = in_step(&ttl(bed.registrar(), TTL));
    assert_eq!(bed.keys().len(), 12);
    let before = revisions(&bed);

    bed.etcd.kill9();
    dies.stop();
    moves.restart();
    alone.rm();
    let comes = service(&bed, "new").start();
    let brief = service(&bed, "brief").start();
    brief.rm();
    registrar.wait_for_log("WARN ", SOON);
    bed.etcd.start_again();
    let wanted = joined([
        &web_keys("web", &lives, HOST_IP),
        &web_keys("web", &moves, HOST_IP),
        &web_keys("new", &comes, HOST_IP),
    ]);
    bed.wait_for_keys(&wanted, REPAIR);
    assert_told(&registrar, 1, 0, 0);
    let after = revisions(&bed);
    for key in web_keys("web", &lives, HOST_IP).keys() {
        assert_eq!(after[key], before[key], "{key} was written anew");
    }
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn an_etcd_that_was_compacted_meanwhile_is_no_trouble() {
    const TTL: u32 = 30;
    let bed = TestBed::new();
    let [lives, dies] = ["web", "alone"].map(|name| service(&bed, name).start());
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = ttl(bed.registrar().flag("--etcd", proxy.address()), TTL);
    let registrar = in_step(&registrar);
    let before = revisions(&bed);

    proxy.set(Mode::Cut);
    dies.stop();
    let comes = service(&bed, "new").start();
    registrar.wait_for_log("WARN ", SOON);
    bed.etcd.put("/elsewhere", "1");
    bed.etcd.put("/elsewhere", "2");
    bed.etcd.compact();
    proxy.set(Mode::Pass);
    let of_lives = web_keys("web", &lives, HOST_IP);
    let of_comes = web_keys("new", &comes, HOST_IP);
    bed.wait_for_keys(&joined([&of_lives, &of_comes]), REPAIR);
    for key in of_lives.keys() {
        assert_eq!(revisions(&bed)[key], before[key], "{key} was written anew");
    }

    bed.etcd.put("/elsewhere", "3");
    bed.etcd.compact();
    comes.stop();
    bed.wait_for_keys(&of_lives, SOON);
    assert_told(&registrar, 1, 0, 0);
}

// --- Connections that are open in name only --------------------------------------------------------------------------

/// Stalls the connection, and checks that it is noticed in time and that no key changes.
fn a_stall_is_noticed(mode: Mode) {
    const TTL: u32 = 6;
    const THIRD: Duration = Duration::from_secs(TTL as u64 / 3);
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = ttl(bed.registrar().flag("--etcd", proxy.address()), TTL);
    let registrar = in_step(&registrar);
    let revision = bed.etcd.revision();

    for trouble in 1..=3 {
        // At varying moments of the program's periods.
        let_time_pass(Duration::from_millis(700));
        let before = warnings(&registrar);
        proxy.set(mode);
        let start = Instant::now();
        eventually(SOON, "the stall in the log", || {
            warnings(&registrar) > before
        });
        let took = start.elapsed();
        assert!(took <= THIRD + SLACK, "noticed after {took:?} only");
        proxy.set(Mode::Pass);
        assert_told(&registrar, trouble, 0, 0);
    }
    assert_eq!(bed.keys(), web_keys("web", &web, HOST_IP));
    assert_eq!(bed.etcd.revision(), revision, "nothing was written");
}

#[test]
fn a_half_open_connection_is_noticed_within_a_third_of_the_ttl() {
    a_stall_is_noticed(Mode::Stall);
}

#[test]
fn answers_that_never_arrive_are_noticed_within_a_third_of_the_ttl() {
    a_stall_is_noticed(Mode::HoldAnswers);
}

#[test]
fn a_half_open_connection_is_noticed_on_a_host_without_containers() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = ttl(bed.registrar().flag("--etcd", proxy.address()), TTL);
    let registrar = in_step(&registrar);
    proxy.set(Mode::Stall);
    let start = Instant::now();
    registrar.wait_for_log("WARN ", SOON);
    let took = start.elapsed();
    assert!(
        took <= Duration::from_secs(u64::from(TTL) / 3) + SLACK,
        "noticed after {took:?} only"
    );
}

#[test]
fn a_stall_that_outlasts_the_ttl_is_mended_when_it_is_over() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let [lives, dies] = ["web", "web"].map(|name| service(&bed, name).start());
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = ttl(bed.registrar().flag("--etcd", proxy.address()), TTL);
    let registrar = in_step(&registrar);
    proxy.set(Mode::Stall);
    dies.stop();
    let comes = service(&bed, "new").start();
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(
        bed.keys(),
        map::<&str, &str>([]),
        "nobody kept the keys alive"
    );
    // All requests of that time arrive now, long after their timeouts.
    proxy.set(Mode::Pass);
    let wanted = joined([
        &web_keys("web", &lives, HOST_IP),
        &web_keys("new", &comes, HOST_IP),
    ]);
    bed.wait_for_keys(&wanted, REPAIR);
    assert_told(&registrar, 1, 1, 1);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), wanted);
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn a_write_whose_answer_is_lost_is_not_repeated() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = ttl(bed.registrar().flag("--etcd", proxy.address()), TTL);
    let registrar = in_step(&registrar);
    proxy.set(Mode::HoldAnswers);
    let web = service(&bed, "web").start();
    registrar.wait_for_log("WARN ", SOON);
    proxy.set(Mode::Pass);
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    assert_told(&registrar, 1, 0, 0);
    web.stop();
    bed.wait_for_keys(&map::<&str, &str>([]), SOON);
    for key in members_of(&web, "web") {
        let history = bed.etcd.history(&bed.key(&key));
        let kinds: Vec<Kind> = history.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Put, Kind::Delete], "{history:#?}");
    }
}

#[test]
fn a_slow_etcd_is_no_trouble() {
    const TTL: u32 = 12;
    let bed = TestBed::new();
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = ttl(bed.registrar().flag("--etcd", proxy.address()), TTL);
    let registrar = in_step(&registrar);
    proxy.set(Mode::Delay(Duration::from_millis(150)));
    let stays = service(&bed, "web").start();
    for _ in 0..5 {
        service(&bed, "web").start().rm();
    }
    let wanted = web_keys("web", &stays, HOST_IP);
    bed.wait_for_keys(&wanted, SOON);
    bed.etcd.let_pass(TTL);
    assert_eq!(bed.keys(), wanted);
    assert_never_deleted(&bed, wanted.keys());
    assert_eq!(warnings(&registrar), 0);
    bed.assert_each_member_always_had_its_port();
}

// --- A cluster -------------------------------------------------------------------------------------------------------

/// A test bed on the last of three members, and the two others.
fn bed_on_cluster() -> (TestBed, Etcd, Etcd) {
    let mut bed = TestBed::new();
    let [one, two, three] = cluster();
    bed.etcd = three;
    (bed, one, two)
}

fn on_all(bed: &TestBed, one: &Etcd, two: &Etcd, seconds: u32) -> RegistrarBuilder {
    let all = endpoints([one, two, &bed.etcd]);
    ttl(bed.registrar().flag("--etcd", all), seconds)
}

#[test]
fn a_member_that_is_lost_is_replaced_by_another() {
    const TTL: u32 = 6;
    let (bed, one, two) = bed_on_cluster();
    let web = service(&bed, "web").start();
    let registrar = in_step(&on_all(&bed, &one, &two, TTL));
    let of_web = web_keys("web", &web, HOST_IP);
    bed.wait_for_keys(&of_web, SOON);

    // First the member that is in use, then the one that is in use instead of it.
    one.kill9();
    bed.etcd.wait_for_leader();
    let new = service(&bed, "new").start();
    let wanted = joined([&of_web, &web_keys("new", &new, HOST_IP)]);
    bed.wait_for_keys(&wanted, SOON);
    bed.etcd.let_pass(2 * TTL);
    one.start_again();
    two.stop();
    bed.etcd.wait_for_leader();
    new.stop();
    bed.wait_for_keys(&of_web, SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), of_web);
    assert_never_deleted(&bed, of_web.keys());
    assert!(
        warnings(&registrar) <= 2 * FEW,
        "one line at most for each retry"
    );
    assert!(registrar.exited().is_none());
}

#[test]
fn a_member_that_freezes_is_replaced_by_another() {
    const TTL: u32 = 6;
    let (bed, one, two) = bed_on_cluster();
    let web = service(&bed, "web").start();
    let registrar = in_step(&on_all(&bed, &one, &two, TTL));
    let of_web = web_keys("web", &web, HOST_IP);
    bed.wait_for_keys(&of_web, SOON);

    one.pause();
    let start = Instant::now();
    registrar.wait_for_log("WARN ", SOON);
    let took = start.elapsed();
    assert!(
        took <= Duration::from_secs(u64::from(TTL) / 3) + SLACK,
        "noticed after {took:?} only"
    );
    bed.etcd.wait_for_leader();
    let new = service(&bed, "new").start();
    let wanted = joined([&of_web, &web_keys("new", &new, HOST_IP)]);
    bed.wait_for_keys(&wanted, SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), wanted);
    assert_never_deleted(&bed, wanted.keys());

    // If the frozen member was the leader, it may believe for a moment that it still is, and revoke all leases that it
    // saw no renewal of. etcd before 3.4.31 and 3.5.13 accepts that (etcd-io/etcd#15247). The deleted keys are put
    // back.
    one.resume();
    bed.etcd.wait_for_leader();
    let_time_pass(Duration::from_secs(u64::from(TTL) / 3) + SLACK);
    bed.wait_for_keys(&wanted, SOON);
    bed.etcd.let_pass(TTL);
    assert_eq!(bed.keys(), wanted);
}

#[test]
fn a_cluster_that_lost_its_quorum_is_told_of_in_few_words() {
    const TTL: u32 = 3;
    let (bed, one, two) = bed_on_cluster();
    let web = service(&bed, "web").start();
    let registrar = in_step(&on_all(&bed, &one, &two, TTL));
    let of_web = web_keys("web", &web, HOST_IP);
    bed.wait_for_keys(&of_web, SOON);
    one.kill9();
    two.kill9();
    let new = service(&bed, "new").start();
    let_time_pass(3 * Duration::from_secs(TTL.into()));
    one.start_again();
    bed.etcd.wait_for_leader();
    let wanted = joined([&of_web, &web_keys("new", &new, HOST_IP)]);
    bed.wait_for_keys(&wanted, SOON);
    // Each of the three members fails in a different way.
    let warnings = warnings(&registrar);
    assert!(warnings <= 3 * FEW, "{warnings} warnings");
}

#[test]
fn endpoints_that_are_all_away_are_not_told_of_at_each_retry() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let endpoint = bed.etcd.endpoint();
    let other_name = endpoint.replace("127.0.0.1", "localhost");
    let both = format!("{endpoint},{other_name}");
    let registrar = bed.registrar().flag("--etcd", both);
    let registrar = in_step(&ttl(registrar, TTL));
    bed.etcd.stop();
    let_time_pass(3 * Duration::from_secs(TTL.into()));
    bed.etcd.start_again();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), REPAIR);
    eventually(SOON, "etcd to be back", || {
        registrar.log().contains("etcd is back")
    });
    let warnings = warnings(&registrar);
    assert!(warnings <= 2 * FEW, "{warnings} warnings of two endpoints");
}

// --- Meddling --------------------------------------------------------------------------------------------------------

#[test]
fn a_shared_key_that_is_overwritten_by_hand_is_not_fought_over() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let registrar = in_step(&ttl(bed.registrar(), TTL));
    let wanted = web_keys("web", &web, HOST_IP);
    bed.wait_for_keys(&wanted, SOON);
    let key = bed.key("web/1/port");
    let lease = bed.etcd.kv(&key).expect("the key exists").lease;

    // The last writer's value stands.
    bed.etcd.put_with_lease(&key, "9999", lease);
    let revision = bed.etcd.revision();
    registrar.wait_for_log("9999", SOON);
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(bed.etcd.revision(), revision, "{:#?}", bed.etcd.history(""));
    assert_eq!(warnings(&registrar), 1, "it is said once");
    let kv = bed.etcd.kv(&key).expect("the key exists");
    assert_eq!((kv.value.as_str(), kv.lease), ("9999", lease));

    // A key without a lease has no owner.
    bed.etcd.put(&key, "9998");
    bed.wait_for_keys(&wanted, SOON);
    let revision = bed.etcd.revision();
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.etcd.revision(), revision, "{:#?}", bed.etcd.history(""));
    let kv = bed.etcd.kv(&key).expect("the key exists");
    assert_eq!((kv.value.as_str(), kv.lease), ("8005", lease));

    // If it is deleted, it is put again.
    bed.etcd.delete(&key);
    bed.wait_for_keys(&wanted, SOON);
}

#[test]
fn two_hosts_that_differ_about_a_shared_key_do_not_fight() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.port_value() return '9999' end\n\
         return register\n",
    );
    let member = |host| bed.container_on(host).env("SERVICE_NAME", "web").start();
    let (a, b) = (member("a"), member("b"));
    let on_a = in_step(&ttl(bed.registrar_on("a", HOST_A), TTL));
    let on_b = bed
        .registrar_on("b", HOST_B)
        .flag("--script", script.path());
    let on_b = in_step(&ttl(on_b, TTL));
    on_a.wait_for_log("9999", SOON);
    let revision = bed.etcd.revision();
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(bed.etcd.revision(), revision, "{:#?}", bed.etcd.history(""));
    for index in [1, 2] {
        let key = bed.key(&format!("web/{index}/port"));
        let kv = bed.etcd.kv(&key).expect("the key exists");
        assert_eq!(kv.value, "9999", "the last writer's value stands");
        let puts = bed.etcd.history(&key).len();
        assert_eq!(puts, 2, "each of them wrote once");
    }
    assert_eq!(
        (warnings(&on_a), warnings(&on_b)),
        (2, 0),
        "one for each key"
    );

    // When one of them has no container left, the other one's key lives on.
    b.stop();
    eventually(SOON, "the keys of b to go", || bed.keys().len() == 4);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys().len(), 4, "{:#?}", bed.keys());
    a.stop();
    bed.wait_for_keys(&map::<&str, &str>([]), SOON);
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

#[test]
fn a_registrar_that_slept_for_longer_than_the_ttl_sets_all_right_when_it_wakes() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let member = |host| bed.container_on(host).env("SERVICE_NAME", "web");
    let [a, dies] = [member("a").start(), member("a").start()];
    let b = member("b").start();
    let on_a = in_step(&ttl(bed.registrar_on("a", HOST_A), TTL));
    let _on_b = in_step(&ttl(bed.registrar_on("b", HOST_B), TTL));
    let keys_b = web_keys("web", &b, HOST_B);
    eventually(SOON, "all keys", || bed.keys().len() == 8);

    on_a.signal("STOP");
    dies.stop();
    let new = bed.container_on("a").env("SERVICE_NAME", "new").start();
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), keys_b, "nobody kept the keys of a alive");
    on_a.signal("CONT");
    let wanted = joined([
        &web_keys("web", &a, HOST_A),
        &web_keys("new", &new, HOST_A),
        &keys_b,
    ]);
    bed.wait_for_keys(&wanted, REPAIR);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), wanted);
    assert_never_deleted(&bed, keys_b.keys());
    bed.assert_each_member_always_had_its_port();
    bed.assert_each_port_always_had_a_member();
}

// --- The end ---------------------------------------------------------------------------------------------------------

/// Sends TERM, checks that the program ends in time, and returns its log.
#[track_caller]
fn ends_in_time(registrar: Registrar) -> String {
    let start = Instant::now();
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    let took = start.elapsed();
    let log = output.stderr;
    assert!(took <= Duration::from_secs(5), "it took {took:?}: {log}");
    assert_eq!(output.status.code(), Some(0), "{log}");
    log
}

#[test]
fn sigterm_during_a_sync_leaves_nothing_half_done() {
    for on_exit in ["leave", "remove"] {
        let (bed, docker) = (TestBed::new(), hundred());
        let proxy = Proxy::tcp(&bed.etcd.endpoint());
        proxy.set(Mode::Delay(Duration::from_millis(50)));
        let registrar = bed.registrar_of(&docker).flag("--etcd", proxy.address());
        let registrar = registrar.flag("--on-exit", on_exit).start();
        eventually(SOON, "the first keys", || !bed.keys().is_empty());
        let log = ends_in_time(registrar);
        if on_exit == "leave" {
            assert!(log.contains("the keys stay"), "{log}");
            assert!(!bed.keys().is_empty());
            for (revision, state) in bed.states() {
                let members = state.keys().filter(|key| !key.ends_with("/port"));
                let by_container: Vec<&str> = members.map(|key| &key[key.len() - 12..]).collect();
                for member in &by_container {
                    let keys = by_container.iter().filter(|other| other == &member).count();
                    assert_eq!(keys, 2, "at revision {revision} {member} is half there");
                }
            }
        } else {
            assert!(log.contains("the keys are removed"), "{log}");
            // A write in flight at the signal has also arrived by now.
            proxy.set(Mode::Pass);
            bed.etcd.let_pass(1);
            assert_eq!(bed.keys(), map::<&str, &str>([]), "{log}");
        }
        bed.assert_each_member_always_had_its_port();
        bed.assert_each_port_always_had_a_member();
    }
}

#[test]
fn sigterm_ends_it_in_time_while_etcd_is_away() {
    for on_exit in ["leave", "remove"] {
        for away in [Mode::Cut, Mode::Stall] {
            let bed = TestBed::new();
            let _web = service(&bed, "web").start();
            let proxy = Proxy::tcp(&bed.etcd.endpoint());
            let registrar = bed.registrar().flag("--etcd", proxy.address());
            let registrar = in_step(&registrar.flag("--on-exit", on_exit));
            proxy.set(away);
            let log = ends_in_time(registrar);
            assert!(log.contains("the keys stay until their TTL ends"), "{log}");
        }
    }
}

#[test]
fn sigterm_ends_it_in_time_if_etcd_was_never_there() {
    let bed = TestBed::new();
    let _web = service(&bed, "web").start();
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    proxy.set(Mode::Stall);
    let registrar = bed.registrar().flag("--etcd", proxy.address());
    let registrar = registrar.flag("--on-exit", "remove").start();
    registrar.wait_for_log("WARN ", SOON);
    ends_in_time(registrar);
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let bed = TestBed::new();
    let _web = service(&bed, "web").start();
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let registrar = bed.registrar().flag("--etcd", proxy.address());
    let registrar = in_step(&registrar.flag("--on-exit", "remove"));
    proxy.set(Mode::Stall);
    registrar.signal("TERM");
    registrar.wait_for_log("SIGTERM", SOON);
    let start = Instant::now();
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    let took = start.elapsed();
    assert!(
        took <= Duration::from_secs(1),
        "{took:?}: {}",
        output.stderr
    );
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
}

#[test]
fn keys_live_on_while_a_script_hangs() {
    const TTL: u32 = 2;
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.service(container)\n\
           if container.env.HANG then\n\
             require('log').info('it hangs from here on')\n\
             return ('a'):rep(40):match(('a*'):rep(40) .. 'b')\n\
           end\n\
           return 'web'\n\
         end\n\
         return register\n",
    );
    let registrar = ttl(bed.registrar(), TTL).flag("--script", script.path());
    let registrar = in_step(&registrar);
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    let before = revisions(&bed);
    let _hangs = bed.container().env("HANG", "1").publish_all().start();
    registrar.wait_for_log("it hangs from here on", SOON);
    let_time_pass(4 * Duration::from_secs(TTL.into()));
    assert_eq!(revisions(&bed), before);
}

#[test]
fn sigterm_ends_a_script_that_hangs_where_nothing_can_stop_it() {
    let (bed, docker) = (TestBed::new(), hundred());
    // A single call of Lua's own library, which takes longer than a lifetime.
    let script = Script::new(
        "local register = require 'register'\n\
         function register.service(container)\n\
           if container.name ~= 'c7' then return 'web' end\n\
           require('log').info('it hangs from here on')\n\
           return ('a'):rep(40):match(('a*'):rep(40) .. 'b')\n\
         end\n\
         return register\n",
    );
    let registrar = bed.registrar_of(&docker).flag("--script", script.path());
    let registrar = registrar.start();
    registrar.wait_for_log("it hangs from here on", SOON);
    let start = Instant::now();
    registrar.signal("TERM");
    let output = registrar.output(SOON);
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("the script hangs"),
        "{}",
        output.stderr
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_policy_that_reads_etcd_waits_for_it() {
    let bed = TestBed::new();
    let web = service(&bed, "web").start();
    let script = Script::new(
        "local register, docker, etcd = require 'register', require 'docker', require 'etcd'\n\
         function register.run()\n\
           local name = etcd.get('/name')\n\
           function register.service() return name end\n\
           for containers in docker.watch() do etcd.sync(containers, register.entries) end\n\
         end\n\
         return register\n",
    );
    bed.etcd.put("/name", "read");
    bed.etcd.stop();
    let registrar = bed.registrar().flag("--script", script.path()).start();
    registrar.wait_for_log("the policy, which reads etcd, waits", SOON);
    bed.etcd.start_again();
    bed.wait_for_keys(&web_keys("read", &web, HOST_IP), SOON);
    // One warning for the policy that waits, and one for the keys that an earlier process may have held.
    assert_eq!(warnings(&registrar), 2, "{}", registrar.log());
}

// --- No space --------------------------------------------------------------------------------------------------------

#[test]
fn an_etcd_without_space_loses_and_keeps_nothing_that_it_should_not() {
    const TTL: u32 = 3;
    const JUNK: &str = "/junk";
    let mut bed = TestBed::new();
    bed.etcd = Etcd::start_with(&["--quota-backend-bytes", "16777216"]);
    let [lives, goes, later] = ["web", "web", "alone"].map(|name| service(&bed, name).start());
    let registrar = in_step(&ttl(bed.registrar(), TTL));
    let [of_lives, of_goes, of_later] = [("web", &lives), ("web", &goes), ("alone", &later)]
        .map(|(name, container)| web_keys(name, container, HOST_IP));
    let two = joined([&of_lives, &of_later]);
    bed.wait_for_keys(&joined([&two, &of_goes]), SOON);
    let before = revisions(&bed);
    bed.etcd.fill(JUNK);

    // Deletions take no space.
    goes.stop();
    bed.wait_for_keys(&two, SOON);
    let new = service(&bed, "new").start();
    eventually(SOON, "the lack of space in the log", || {
        registrar.log().contains("space")
    });
    later.stop();
    bed.wait_for_keys(&of_lives, SOON);

    // Existing keys are kept alive.
    let_time_pass(3 * Duration::from_secs(TTL.into()));
    assert_eq!(bed.keys(), of_lives);
    let warned = warnings(&registrar);
    assert!((1..=FEW).contains(&warned), "{warned} warnings");

    // A registrar that starts now finds its lease, and the keys of containers that stopped meanwhile.
    let extra = service(&bed, "web").start();
    registrar.kill9();
    drop(registrar);
    let registrar = ttl(bed.registrar(), TTL).start();
    registrar.wait_for_log("space", SOON);
    let_time_pass(3 * Duration::from_secs(TTL.into()));
    assert_eq!(bed.keys(), of_lives);
    for key in of_lives.keys() {
        assert_eq!(revisions(&bed)[key], before[key], "{key} was written anew");
    }
    extra.stop();

    bed.etcd.make_room(JUNK);
    let wanted = joined([&of_lives, &web_keys("new", &new, HOST_IP)]);
    bed.wait_for_keys(&wanted, REPAIR);
    assert_told(&registrar, 1, 1, 0);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), wanted);
}

#[test]
fn a_registrar_that_starts_without_space_removes_what_went_meanwhile() {
    const TTL: u32 = 30;
    const JUNK: &str = "/junk";
    let mut bed = TestBed::new();
    bed.etcd = Etcd::start_with(&["--quota-backend-bytes", "16777216"]);
    let [lives, goes] = ["web", "alone"].map(|name| service(&bed, name).start());
    in_step(&ttl(bed.registrar(), TTL)).kill9();
    bed.etcd.fill(JUNK);
    goes.stop();
    let _new = service(&bed, "new").start();
    let _registrar = ttl(bed.registrar(), TTL).start();
    bed.wait_for_keys(&web_keys("web", &lives, HOST_IP), SOON);
}
