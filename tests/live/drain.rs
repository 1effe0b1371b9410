//! Draining: an operator takes keys away by a file, or for good by a signal.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{
    Container, HOST_IP, RegistrarBuilder, SOON, Script, TestBed, count, docker, eventually, get,
    in_step, joined, warnings, web_keys,
};
use tempfile::TempDir;

/// The promised time from a change of the file to that of the keys, and as much again for a busy machine.
const NOTICED: Duration = Duration::from_secs(2);

/// A path for a drain file, which does not exist yet.
struct DrainFile {
    directory: TempDir,
}

impl DrainFile {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("drain")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("a file can be written");
    }

    fn remove(&self) {
        fs::remove_file(self.path()).expect("the file is there");
    }
}

fn service(bed: &TestBed, name: &str) -> Container {
    let container = bed.container().env("SERVICE_NAME", name);
    container.publish_all().start()
}

fn keys_of(containers: &[(&str, &Container)]) -> BTreeMap<String, String> {
    let keys = containers.iter();
    keys.flat_map(|(name, container)| web_keys(name, container, HOST_IP))
        .collect()
}

fn draining(bed: &TestBed, file: &Path) -> RegistrarBuilder {
    bed.registrar()
        .flag("--drain-file", file)
        .flag("--listen", "127.0.0.1:0")
}

#[test]
fn the_keys_of_named_containers_are_taken_away_while_the_file_exists() {
    let bed = TestBed::new();
    let file = DrainFile::new();
    let (one, two, other) = (
        service(&bed, "one"),
        service(&bed, "two"),
        service(&bed, "other"),
    );
    let all = keys_of(&[("one", &one), ("two", &two), ("other", &other)]);
    let registrar = in_step(&draining(&bed, &file.path()));
    bed.wait_for_keys(&all, SOON);
    let address = registrar.address();
    let ready = || get(&address, "/readyz");
    eventually(SOON, "readiness", || ready().body == "ready\n");

    // By its name, and by twelve digits of its id.
    let written = Instant::now();
    file.write(&format!("{}\n\n {}\r\n", one.name(), two.short_id()));
    bed.wait_for_keys(&keys_of(&[("other", &other)]), NOTICED);
    let took = written.elapsed();
    assert!(took < NOTICED, "{took:?}");
    let drained = format!("while `{}` names them", file.path().display());
    eventually(SOON, "the drain in /readyz", || {
        let page = ready();
        page.status == 200
            && page.body.starts_with("ready\ndrain: the keys of ")
            && [&one.name(), &two.name(), &drained]
                .iter()
                .all(|text| page.body.contains(*text))
    });
    let page = get(&address, "/").body;
    assert!(
        page.contains("<dt>drain</dt>") && page.contains("<h2>Drained</h2>"),
        "{page}"
    );
    let metrics = get(&address, "/metrics").body;
    for line in [
        "docker_register_containers{state=\"drained\"} 2\n",
        "docker_register_containers{state=\"registered\"} 1\n",
        "docker_register_ready 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }

    // Each name by itself comes back when its line is removed.
    file.write(&one.name());
    bed.wait_for_keys(&keys_of(&[("two", &two), ("other", &other)]), NOTICED);
    // A container that starts with a name of the file has no keys from the first.
    let name = one.name();
    one.rm();
    let again = bed
        .container()
        .name(&name)
        .env("SERVICE_NAME", "again")
        .publish_all()
        .start();
    let late = service(&bed, "late");
    let without = keys_of(&[("two", &two), ("other", &other), ("late", &late)]);
    bed.wait_for_keys(&without, SOON);
    assert!(bed.etcd.history(&bed.key("again")).is_empty());

    file.remove();
    let again = keys_of(&[("again", &again)]);
    bed.wait_for_keys(&joined([&without, &again]), NOTICED);
    assert_eq!(ready().body, "ready\n");
    registrar.wait_for_log("is gone: all keys come back", SOON);
}

#[test]
fn an_empty_file_drains_the_whole_host_also_after_a_restart() {
    let bed = TestBed::new();
    let file = DrainFile::new();
    let script = Script::new(
        "local register = require 'register'\n\
         function register.host_entries()\n\
           return { { key = register.prefix .. '/alive', value = '1' } }\n\
         end\n\
         return register",
    );
    let (web, fails) = (service(&bed, "web"), service(&bed, "db"));
    let run = draining(&bed, &file.path()).flag("--script", script.path());
    let registrar = in_step(&run);
    let mut all = keys_of(&[("web", &web), ("db", &fails)]);
    all.insert("alive".to_owned(), "1".to_owned());
    bed.wait_for_keys(&all, SOON);
    file.write("");
    bed.wait_for_keys(&BTreeMap::new(), NOTICED);
    let address = registrar.address();
    let body = || get(&address, "/readyz").body;
    eventually(SOON, "the drain in /readyz", || {
        body().starts_with("ready\ndrain: the keys of all containers are taken away while ")
    });
    // Its leases are kept, and what changes meanwhile makes no key.
    let late = service(&bed, "late");
    registrar.terminate();
    let registrar = in_step(&run);
    eventually(SOON, "the drain in the log", || {
        registrar.log().contains("because it is empty")
    });
    assert_eq!(bed.keys(), BTreeMap::new());
    file.remove();
    all.extend(keys_of(&[("late", &late)]));
    bed.wait_for_keys(&all, NOTICED);
    let puts = bed.etcd.history(&bed.key("late/1/port")).len();
    assert_eq!(puts, 1, "it was drained from the first");
}

#[test]
fn a_registrar_that_starts_drained_removes_what_the_last_one_left() {
    let bed = TestBed::new();
    let file = DrainFile::new();
    let (web, stays) = (service(&bed, "web"), service(&bed, "stays"));
    let run = draining(&bed, &file.path()).flag("--ttl", "3");
    let registrar = in_step(&run);
    bed.wait_for_keys(&keys_of(&[("web", &web), ("stays", &stays)]), SOON);
    registrar.terminate();
    file.write(&web.name());
    let _registrar = in_step(&run);
    bed.wait_for_keys(&keys_of(&[("stays", &stays)]), SOON);
}

#[test]
fn a_file_that_cannot_be_read_is_told_of_and_loses_nothing() {
    let bed = TestBed::new();
    let file = DrainFile::new();
    let (web, other) = (service(&bed, "web"), service(&bed, "other"));
    fs::create_dir(file.path()).expect("a directory");
    let registrar = in_step(&draining(&bed, &file.path()));
    let all = keys_of(&[("web", &web), ("other", &other)]);
    bed.wait_for_keys(&all, SOON);
    let address = registrar.address();
    let cannot = format!("cannot read `{}`: ", file.path().display());
    registrar.wait_for_log(&format!("ERROR drain: {cannot}"), SOON);
    eventually(SOON, "the error in /readyz", || {
        let page = get(&address, "/readyz");
        page.status == 200 && page.body.contains(&format!("drain: {cannot}"))
    });

    fs::remove_dir(file.path()).expect("the directory");
    file.write(&web.name());
    let left = keys_of(&[("other", &other)]);
    bed.wait_for_keys(&left, SOON);
    file.remove();
    let errors = || count(&registrar.log(), "ERROR drain: ");
    let before = errors();
    symlink(file.path(), file.path()).expect("a link to itself");
    eventually(SOON, "another error", || errors() > before);
    // What it said before the error counts: the link came right after the file was gone, or some time later.
    let keys = bed.keys();
    assert!(keys == all || keys == left, "{keys:#?}");
    fs::remove_file(file.path()).expect("the link");
    bed.wait_for_keys(&all, SOON);
}

#[test]
fn a_name_that_fits_no_container_is_told_of_and_drains_nothing() {
    let bed = TestBed::new();
    let file = DrainFile::new();
    let web = service(&bed, "web");
    // Eleven digits of an id are too few.
    file.write(&format!("{}\nnot-there\n", &web.short_id()[..11]));
    let registrar = in_step(&draining(&bed, &file.path()));
    let why = "drain: no running container has a name or an id like ";
    registrar.wait_for_log(why, SOON);
    assert!(
        registrar.log().contains("`not-there`"),
        "{}",
        registrar.log()
    );
    let address = registrar.address();
    eventually(SOON, "the name in /readyz", || {
        let page = get(&address, "/readyz");
        page.status == 200 && page.body.contains(why)
    });
    assert_eq!(bed.keys(), keys_of(&[("web", &web)]));
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
}

#[test]
fn a_signal_removes_the_keys_for_good_and_ends_the_registrar() {
    let bed = TestBed::new();
    let web = bed.container_on("a").env("SERVICE_NAME", "web").start();
    let other = bed.container_on("b").env("SERVICE_NAME", "web").start();
    let stays = in_step(&bed.registrar_on("b", "192.0.2.2"));
    let registrar = in_step(&bed.registrar_on("a", HOST_IP));
    let left = web_keys("web", &other, "192.0.2.2");
    bed.wait_for_keys(&joined([&left, &web_keys("web", &web, HOST_IP)]), SOON);
    let leases = bed.etcd.leases().len();
    registrar.signal("USR1");
    assert!(registrar.wait(SOON).success());
    assert_eq!(bed.keys(), left, "shared keys stay for the other host");
    // Its own lease and its seat have ended; the shared ones are the other registrar's too.
    assert_eq!(bed.etcd.leases().len(), leases - 2);
    let log = registrar.log();
    assert!(log.contains("ending: SIGUSR1"), "{log}");
    assert!(
        log.ends_with(" INFO ending; the keys are removed\n"),
        "{log}"
    );
    bed.assert_each_member_always_had_its_port();
    stays.terminate();
    assert_eq!(bed.keys(), left, "another signal leaves the keys");
}

#[test]
fn a_registrar_in_a_container_leaves_by_the_same_signal_and_is_not_started_again() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let web = service(&bed, "web");
    let name = format!("{}-register", bed.name);
    docker(&[
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        &bed.label(),
        "--restart",
        "unless-stopped",
        "--network",
        "host",
        "-v",
        "/var/run/docker.sock:/var/run/docker.sock",
        "-e",
        "DOCKER_REGISTER_LISTEN=127.0.0.1:0",
        &image,
        "--etcd",
        &bed.etcd.endpoint(),
        "--prefix",
        &bed.prefix,
        "--host-ip",
        HOST_IP,
        "--filter",
        &bed.filter(),
        "--instance",
        &bed.name,
    ]);
    bed.wait_for_keys(&keys_of(&[("web", &web)]), SOON);
    docker(&["kill", "-s", "USR1", &name]);
    let state = || {
        let format = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}";
        docker(&["inspect", "--format", format, &name])
    };
    eventually(SOON, "its end", || state().trim() == "exited 0 0");
    assert_eq!(bed.keys(), BTreeMap::new());
    // Docker would start it again a tenth of a second later.
    common::let_time_pass(Duration::from_secs(1));
    assert_eq!(state().trim(), "exited 0 0");
}
