//! An etcd with authentication: a user without the right to write, and one without a password.

use crate::common;

use common::{
    HOST_IP, Registrar, SOON, Script, TestBed, count, eventually, get, make_fifo, warnings,
    web_keys,
};
use std::process::Command;

/// Runs etcdctl as root, whose password is `root`.
pub fn etcdctl(bed: &TestBed, arguments: &str) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &bed.etcd.endpoint(), "--user", "root:root"])
        .args(arguments.split(' '))
        .output()
        .expect("`etcdctl` can be run: `make test` installs it");
    assert!(output.status.success(), "etcdctl {arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An etcd with the read-only user `registrar`, whose password is `secret`.
fn bed_with_reader() -> TestBed {
    let bed = TestBed::new();
    with_reader(&bed);
    bed
}

/// Makes such a user, and turns on etcd's authentication.
pub fn with_reader(bed: &TestBed) {
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
        etcdctl(bed, arguments);
    }
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
        "etcd at `{}` answered: permission denied: give user `registrar` the role to read and write the keys \
         (`etcdctl role grant-permission`); retrying",
        bed.etcd.endpoint()
    );
    registrar.wait_for_log(&denied, SOON);
    // It names the container and a key.
    let named = format!(
        "cannot change the keys of `{}`: cannot change `{}",
        web.name(),
        bed.key("web/")
    );
    registrar.wait_for_log(&named, SOON);
    common::let_time_pass(std::time::Duration::from_secs(5));
    let log = registrar.log();
    let told = log
        .lines()
        .filter(|line| line.contains("permission denied"));
    let levels: Vec<_> = told.map(|line| line.split_whitespace().nth(1)).collect();
    // Logged once, and once more after half a TTL.
    assert_eq!(levels, [Some("WARN"), Some("ERROR")], "{log}");

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

/// Old versions ask for no user's token at a renewal, new ones do.
#[test]
fn a_restart_as_a_user_of_one_prefix_finds_its_keys_again() {
    for program in common::etcds() {
        let mut bed = TestBed::new();
        bed.etcd = common::Etcd::start_program(&program);
        with_reader(&bed);
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
                .flag("--ttl", "3")
                .start();
            registrar.wait_for_log("in step", SOON);
            registrar
        };
        let registrar = start();
        registrar.kill9();
        goes.rm();
        let registrar = start();
        // It renews its leases meanwhile.
        common::let_time_pass(std::time::Duration::from_secs(6));
        assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
        etcdctl(&bed, "auth disable");
        assert_eq!(bed.keys(), web_keys("web", &stays, HOST_IP));
        let put = |key: &String| bed.etcd.history(&bed.key(key)).len();
        assert!(
            bed.keys().keys().all(|key| put(key) == 1),
            "they were left alone"
        );
    }
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
        &format!("{at}user name is empty: it requires a user, so pass --etcd-user"),
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
            "error: --etcd-user needs a password: pass --etcd-password-file FILE, or set DOCKER_REGISTER_ETCD_PASSWORD"
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

#[test]
fn a_key_that_the_user_may_not_write_takes_no_other_with_it() {
    let bed = bed_with_reader();
    let prefix = format!("{} --prefix=true", bed.prefix);
    etcdctl(
        &bed,
        &format!("role grant-permission site readwrite {prefix}"),
    );
    let web = |service: &str| bed.container().env("SERVICE_NAME", service).publish_all();
    let (good, bad) = (web("good").start(), web("bad").start());
    let script = Script::new(
        "local register = require 'register'\n\
         local entries = register.entries\n\
         function register.entries(container)\n\
           if container.env.SERVICE_NAME == 'bad' then return { { key = '/other/x', value = '1' } } end\n\
           return entries(container)\n\
         end\n\
         return register\n",
    );
    let registrar = reader(&bed)
        .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret")
        .flag("--script", script.path());
    let registrar = registrar.start();
    registrar.wait_for_log(&format!("cannot change the keys of `{}`", bad.name()), SOON);
    // Later containers are registered too.
    let late = web("late").start();
    registrar.wait_for_log(&format!("late/1/{}", late.short_id()), SOON);
    etcdctl(&bed, "auth disable");
    for (service, container) in [("good", &good), ("late", &late)] {
        let keys = bed.keys();
        assert!(
            keys.contains_key(&format!("{service}/1/{}", container.short_id())),
            "{keys:#?}"
        );
    }
}

#[test]
fn a_token_that_ends_with_a_change_of_the_users_is_renewed_in_silence() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| files.path().join(name).display().to_string();
    for arguments in [
        format!("genrsa -out {} 2048", path("key")),
        format!("rsa -in {} -pubout -out {}", path("key"), path("pub")),
    ] {
        let output = Command::new("openssl").args(arguments.split(' ')).output();
        assert!(output.expect("`openssl` can be run").status.success());
    }
    let token = format!(
        "jwt,pub-key={},priv-key={},sign-method=RS256,ttl=10m",
        path("pub"),
        path("key")
    );
    let mut bed = TestBed::new();
    bed.etcd = common::Etcd::start_with(&["--auth-token", &token]);
    with_reader(&bed);
    let prefix = format!("{} --prefix=true", bed.prefix);
    etcdctl(
        &bed,
        &format!("role grant-permission site readwrite {prefix}"),
    );
    let web = || {
        bed.container()
            .env("SERVICE_NAME", "web")
            .publish_all()
            .start()
    };
    let one = web();
    let registrar = reader(&bed)
        .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret")
        .start();
    registrar.wait_for_log("in step", SOON);
    etcdctl(&bed, "user add another:secret");
    let two = web();
    registrar.wait_for_log(&format!("web/2/{}", two.short_id()), SOON);
    assert_eq!(warnings(&registrar), 0, "{}", registrar.log());
    etcdctl(&bed, "auth disable");
    let keys = [&one, &two].map(|container| web_keys("web", container, HOST_IP));
    assert_eq!(bed.keys(), common::joined([&keys[0], &keys[1]]));
}

#[test]
fn files_for_etcd_that_are_no_regular_files_are_refused_and_keep_nothing_waiting() {
    let bed = TestBed::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pipe = directory.path().join("pipe");
    make_fifo(&pipe);
    for flag in ["--etcd-password-file", "--etcd-cacert"] {
        let registrar = reader(&bed).env("DOCKER_REGISTER_ETCD_PASSWORD", "secret");
        let registrar = registrar
            .flag("--listen", "127.0.0.1:0")
            .flag(flag, &pipe)
            .start();
        let message = format!(
            "from `{}`: it is a named pipe, and only a regular file is read",
            pipe.display()
        );
        registrar.wait_for_log(&message, SOON);
        assert_eq!(get(&registrar.address(), "/healthz").status, 200);
        assert!(registrar.terminate().success());
    }
}
