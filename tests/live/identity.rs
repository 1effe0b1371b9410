//! Two registrars with the same identity, by mistake: one gives way with an error, and takes over when the other ends.
//! Nothing else is ever mistaken for such a pair.

use crate::common;
use crate::faults_docker::simulated_keys;

use common::{
    FakeDocker, Mode, Proxy, Registrar, SOON, Script, TestBed, count, docker_of, eventually,
    in_step, inspection,
};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The message of the one that gives way.
const LOUD: &str = "another registrar of this Docker daemon and --instance is running";

/// A Docker with one container, which has this number.
fn docker_with(number: u16) -> FakeDocker {
    docker_of(vec![inspection(number, "web", 20_000 + 2 * number)])
}

fn keys_of(number: u16) -> BTreeMap<String, String> {
    simulated_keys("web", number, 20_000 + 2 * number)
}

/// Two registrars of one identity with different containers, of which the second gives way.
fn pair(
    bed: &TestBed,
    ttl: u32,
    flags: &[(&str, &str)],
) -> (FakeDocker, Registrar, FakeDocker, Registrar) {
    let start = |docker: &FakeDocker| {
        let registrar = bed.registrar_of(docker).flag("--ttl", ttl.to_string());
        let registrar = flags.iter().fold(registrar, |registrar, (flag, value)| {
            registrar.flag(flag, *value)
        });
        in_step(&registrar)
    };
    let docker_one = docker_with(1);
    let one = start(&docker_one);
    eventually(SOON, "the first one's seat", || {
        bed.etcd.leases().len() == 4
    });
    let docker_two = docker_with(2);
    let two = start(&docker_two);
    two.wait_for_log(LOUD, 4 * Duration::from_secs(ttl.into()));
    (docker_one, one, docker_two, two)
}

#[test]
fn the_second_of_one_identity_gives_way_and_takes_over_when_the_first_ends() {
    for ttl in [2, 6] {
        let bed = TestBed::new();
        let (_one, one, _two, two) = pair(&bed, ttl, &[]);
        bed.wait_for_keys(&keys_of(1), SOON);
        let revision = bed.etcd.revision();
        bed.etcd.let_pass(3 * ttl);
        assert_eq!(bed.keys(), keys_of(1));
        assert_eq!(bed.etcd.revision(), revision, "they fight no more");
        assert_eq!(count(&two.log(), LOUD), 1, "said once: {}", two.log());
        assert_eq!(count(&one.log(), "ERROR "), 0, "{}", one.log());

        // Its seat is released at once, so the other need not wait for the keys to expire.
        one.terminate();
        two.wait_for_log("this one writes again", SOON);
        bed.wait_for_keys(&keys_of(2), SOON);
        assert!(two.exited().is_none());
    }
}

#[test]
fn it_takes_over_from_one_that_was_killed_when_the_seat_has_run_out() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let (_one, one, _two, two) = pair(&bed, TTL, &[]);
    one.kill9();
    two.wait_for_log("this one writes again", 3 * Duration::from_secs(TTL.into()));
    bed.wait_for_keys(&keys_of(2), SOON);
}

#[test]
fn it_does_not_take_over_from_one_whose_script_hangs() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let script = Script::new("return require 'register'");
    let path = script.path();
    let path = path.to_str().expect("a path that is text");
    let (_one, one, _two, two) = pair(&bed, TTL, &[("--script", path)]);
    bed.wait_for_keys(&keys_of(1), SOON);
    let revision = bed.etcd.revision();
    let hangs = "local register = require 'register'\n\
         function register.run()\n\
           require('log').info('it hangs from here on')\n\
           return ('a'):rep(40):match(('a*'):rep(40) .. 'b')\n\
         end\n\
         return register\n";
    fs::write(path, hangs).expect("the script");
    one.signal("HUP");
    one.wait_for_log("it hangs from here on", SOON);
    bed.etcd.let_pass(4 * TTL);
    assert_eq!(bed.etcd.revision(), revision);
    assert_eq!(bed.keys(), keys_of(1));

    one.kill9();
    two.wait_for_log("this one writes again", 3 * Duration::from_secs(TTL.into()));
    bed.wait_for_keys(&keys_of(2), SOON);
}

#[test]
fn one_that_gives_way_removes_nothing_when_it_ends() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let (_one, _first, _two, two) = pair(&bed, TTL, &[("--on-exit", "remove")]);
    bed.wait_for_keys(&keys_of(1), SOON);
    let revision = bed.etcd.revision();
    two.terminate();
    assert!(
        two.log().contains("the keys belong to another registrar"),
        "{}",
        two.log()
    );
    assert_eq!(bed.etcd.revision(), revision);
    assert_eq!(bed.keys(), keys_of(1));
}

#[test]
fn two_that_start_together_settle_it() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let dockers = [docker_with(1), docker_with(2)];
    let both = dockers.each_ref().map(|docker| {
        bed.registrar_of(docker)
            .flag("--ttl", TTL.to_string())
            .start()
    });
    let gives_way = |registrar: &Registrar| registrar.log().contains(LOUD);
    eventually(SOON, "one of them to give way", || {
        both.iter().any(gives_way)
    });
    let stays = usize::from(gives_way(&both[0]));
    let keys = keys_of(if stays == 0 { 1 } else { 2 });
    bed.wait_for_keys(&keys, SOON);
    bed.etcd.let_pass(3 * TTL);
    assert_eq!(bed.keys(), keys);
    assert!(!gives_way(&both[stays]), "one of them works");
}

/// Lost answers and a restart of etcd may last for half of a short TTL or longer, and then log other errors.
#[track_caller]
fn assert_no_error_but_of_etcd(registrar: &Registrar) {
    let log = registrar.log();
    let mut errors = log.lines().filter(|line| line.contains("ERROR "));
    let is_of_etcd =
        |line: &str| line.contains("; retrying for ") || line.contains("presumed removed since");
    assert!(errors.all(is_of_etcd), "{log}");
}

#[test]
fn a_registrar_is_not_its_own_rival() {
    const TTL: u32 = 2;
    let (bed, docker) = (TestBed::new(), docker_with(1));
    let proxy = Proxy::tcp(&bed.etcd.endpoint());
    let start = || {
        let registrar = bed.registrar_of(&docker).flag("--ttl", TTL.to_string());
        in_step(&registrar.flag("--etcd", proxy.address()))
    };
    let mut registrar = start();
    for round in 0..3 {
        // Killed and restarted while its seat still exists; then with lost answers.
        bed.etcd.let_pass(1 + round % 2);
        registrar.kill9();
        registrar = start();
        bed.etcd.let_pass(TTL);
        proxy.set(Mode::HoldAnswers);
        bed.etcd.let_pass(1);
        proxy.set(Mode::Pass);
        bed.etcd.let_pass(2 * TTL);
        assert_no_error_but_of_etcd(&registrar);
        assert_eq!(bed.keys(), keys_of(1));
    }
    bed.etcd.stop();
    bed.etcd.start_again();
    bed.etcd.let_pass(3 * TTL);
    assert_no_error_but_of_etcd(&registrar);
    assert_eq!(bed.keys(), keys_of(1));
}
