//! An etcd that asks who is there: a user that may not write, and one without a password.

use crate::common;

use common::{HOST_IP, Registrar, SOON, Script, TestBed, count, eventually, warnings, web_keys};
use std::process::Command;

/// Runs etcdctl as root, whose password is `root`.
fn etcdctl(bed: &TestBed, arguments: &str) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &bed.etcd.endpoint(), "--user", "root:root"])
        .args(arguments.split(' '))
        .output()
        .expect("`etcdctl` can be run: `make test` installs it");
    assert!(output.status.success(), "etcdctl {arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An etcd with a user `registrar` of the password `secret` that may only read.
fn bed_with_reader() -> TestBed {
    let bed = TestBed::new();
    let prefix = format!("{} --prefix=true", bed.prefix);
    for arguments in [
        "user add root:root",
        "user grant-role root root",
        "user add registrar:secret",
        "role add site",
        &format!("role grant-permission site read {prefix}"),
        "user grant-role registrar site",
        "auth enable",
    ] {
        etcdctl(&bed, arguments);
    }
    bed
}

fn reader(bed: &TestBed) -> common::RegistrarBuilder {
    bed.registrar().flag("--etcd-user", "registrar")
}

#[test]
fn a_user_who_may_only_read_is_told_so_once_and_served_when_he_may_write() {
    let bed = bed_with_reader();
    let web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .start();
    let password = Script::new("secret\n");
    let registrar = reader(&bed)
        .flag("--etcd-password-file", password.path())
        .flag("--ttl", "3")
        .start();
    let denied = format!(
        "etcd at `{}` answered: permission denied: give its user the role to read and write the keys \
         (`etcdctl role grant-permission`); retrying",
        bed.etcd.endpoint()
    );
    registrar.wait_for_log(&denied, SOON);
    common::let_time_pass(std::time::Duration::from_secs(5));
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());

    let prefix = format!("{} --prefix=true", bed.prefix);
    etcdctl(
        &bed,
        &format!("role grant-permission site readwrite {prefix}"),
    );
    registrar.wait_for_log("in step", SOON);
    etcdctl(&bed, "auth disable");
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    assert!(
        registrar.log().contains("etcd is back after"),
        "{}",
        registrar.log()
    );
}

#[test]
fn a_restart_as_a_user_of_one_prefix_finds_its_keys_again() {
    let bed = bed_with_reader();
    let prefix = format!("{} --prefix=true", bed.prefix);
    etcdctl(
        &bed,
        &format!("role grant-permission site readwrite {prefix}"),
    );
    let web = || bed.container().env("SERVICE_NAME", "web").publish_all();
    let (stays, goes) = (web().start(), web().start());
    let start = || {
        let registrar = reader(&bed)
            .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret")
            .start();
        registrar.wait_for_log("in step", SOON);
        registrar
    };
    let registrar = start();
    registrar.kill9();
    goes.rm();
    let registrar = start();
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
    etcdctl(&bed, "auth disable");
    assert_eq!(bed.keys(), web_keys("web", &stays, HOST_IP));
    let put = |key: &String| bed.etcd.history(&bed.key(key)).len();
    assert!(
        bed.keys().keys().all(|key| put(key) == 1),
        "they were left alone"
    );
}

#[test]
fn a_wrong_password_and_none_are_told_of_in_words() {
    let bed = bed_with_reader();
    let _web = bed.container().publish_all().start();
    let at = format!("etcd at `{}` answered: ", bed.etcd.endpoint());
    let wrong = reader(&bed)
        .env("DOCKER_REGISTER_ETCD_PASSWORD", "guess")
        .start();
    wrong.wait_for_log(
        &format!("{at}authentication failed, invalid user ID or password"),
        SOON,
    );
    let none = bed.registrar().start();
    none.wait_for_log(
        &format!("{at}user name is empty: it asks for a user, so say --etcd-user"),
        SOON,
    );
    for registrar in [wrong, none] {
        eventually(SOON, "a warning", || warnings(&registrar) >= 1);
        assert!(!registrar.log().contains("guess"), "{}", registrar.log());
        registrar.terminate();
    }

    let missing = reader(&bed)
        .flag("--etcd-password-file", "/nonexistent")
        .start();
    missing.wait_for_log(
        "cannot read the password of etcd's user `registrar` from `/nonexistent`: No such file or directory",
        SOON,
    );
    assert_eq!(count(&missing.log(), "WARN "), 1);

    let without = Registrar::command()
        .flag("--etcd-user", "registrar")
        .run("run");
    assert_eq!(without.status.code(), Some(2));
    assert!(
        without.stderr.starts_with(
            "error: --etcd-user needs a password: say --etcd-password-file FILE, or set DOCKER_REGISTER_ETCD_PASSWORD"
        ),
        "{}",
        without.stderr
    );
    etcdctl(&bed, "auth disable");
}

#[test]
fn a_user_where_etcd_knows_none_is_told_to_be_left_out() {
    let bed = TestBed::new();
    let registrar = reader(&bed)
        .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret")
        .start();
    registrar.wait_for_log(
        "authentication is not enabled: it knows no users, so leave out --etcd-user",
        SOON,
    );
}
