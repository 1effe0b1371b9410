//! A registrar that is started while Docker is away: with a state directory it renews the keys of the one before it.

use crate::common;
use crate::faults_docker::simulated_keys;

use common::{
    FakeDocker, HOST_IP, Registrar, RegistrarBuilder, SOON, TestBed, count, docker_of,
    docker_with_id, eventually, in_step, inspection, warnings,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use tempfile::TempDir;

const TTL: u32 = 4;

/// A directory with a link to Docker's socket, and a state directory.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("state")).expect("a directory");
        Host { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn state_files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("state")).expect("the state directory");
        files.map(|file| file.expect("a file").path()).collect()
    }

    /// Lets Docker run, or takes it away.
    fn set_docker(&self, docker: Option<&FakeDocker>) {
        let _ = fs::remove_file(self.path("docker.sock"));
        if let Some(docker) = docker {
            let host = docker.host();
            let socket = host.strip_prefix("unix://").expect("a Unix socket");
            symlink(socket, self.path("docker.sock")).expect("a link");
        }
    }

    fn registrar(&self, bed: &TestBed) -> RegistrarBuilder {
        let host = format!("unix://{}", self.path("docker.sock").display());
        Registrar::command()
            .flag("--etcd", bed.etcd.endpoint())
            .flag("--prefix", &bed.prefix)
            .flag("--host-ip", HOST_IP)
            .flag("--instance", &bed.name)
            .flag("--ttl", TTL.to_string())
            .env("DOCKER_HOST", host)
    }

    fn with_state(&self, bed: &TestBed) -> RegistrarBuilder {
        self.registrar(bed)
            .env("STATE_DIRECTORY", self.path("state"))
    }
}

fn keys_of(number: u16) -> BTreeMap<String, String> {
    simulated_keys("web", number, 20_000 + 2 * number)
}

fn web(number: u16) -> serde_json::Value {
    inspection(number, "web", 20_000 + 2 * number)
}

/// Lets a registrar with a state directory register two containers, kills it, and takes Docker away. Returns the keys.
fn leave_keys_of_two(bed: &TestBed, host: &Host) -> BTreeMap<String, String> {
    let docker = docker_of(vec![web(1), web(2)]);
    host.set_docker(Some(&docker));
    let registrar = in_step(&host.with_state(bed));
    eventually(SOON, "the remembered id", || host.state_files().len() == 1);
    registrar.kill9();
    host.set_docker(None);
    common::joined([&keys_of(1), &keys_of(2)])
}

#[test]
fn with_a_state_directory_the_keys_stay_while_docker_is_away() {
    let (bed, host) = (TestBed::new(), Host::new());
    let both = leave_keys_of_two(&bed, &host);
    let revision = bed.etcd.revision();

    let second = host.with_state(&bed).start();
    second.wait_for_log("keys that were held with its id FAKE are renewed", SOON);
    bed.etcd.let_pass(3 * TTL);
    assert_eq!((bed.keys(), bed.etcd.revision()), (both, revision));
    assert_eq!(warnings(&second), 1, "{}", second.log());

    // The container that ended meanwhile loses its keys, and nothing else is written.
    let later = docker_of(vec![web(1)]);
    host.set_docker(Some(&later));
    bed.wait_for_keys(&keys_of(1), SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), keys_of(1));
    assert_eq!(count(&second.log(), "WARN "), 1, "{}", second.log());
}

#[test]
fn without_a_state_directory_the_keys_expire_and_the_log_says_what_would_help() {
    let (bed, host) = (TestBed::new(), Host::new());
    let docker = docker_of(vec![web(1)]);
    host.set_docker(Some(&docker));
    in_step(&host.registrar(&bed)).kill9();
    host.set_docker(None);
    let second = host.registrar(&bed).start();
    second.wait_for_log("set STATE_DIRECTORY to a directory that stays", SOON);
    eventually(SOON, "the keys to expire", || bed.keys().is_empty());
    host.set_docker(Some(&docker));
    bed.wait_for_keys(&keys_of(1), SOON);
}

#[test]
fn a_docker_with_another_id_than_the_remembered_one_takes_over_its_running_containers() {
    let (bed, host) = (TestBed::new(), Host::new());
    let both = leave_keys_of_two(&bed, &host);
    let second = host.with_state(&bed).start();
    second.wait_for_log("are renewed", SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), both);

    // The key of the container that runs is moved, and that of the other expires.
    let another = docker_with_id("ANOTHER", vec![web(1)]);
    host.set_docker(Some(&another));
    second.wait_for_log("Docker's id was FAKE and is ANOTHER now", SOON);
    bed.wait_for_keys(&keys_of(1), SOON);
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys(), keys_of(1));
    crate::faults_etcd::assert_never_deleted(&bed, keys_of(1).keys());
    bed.assert_each_member_always_had_its_port();
    let text = fs::read_to_string(&host.state_files()[0]).expect("the file");
    assert!(text.contains("ANOTHER"), "{text}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_a_warning() {
    let (bed, host) = (TestBed::new(), Host::new());
    let docker = docker_of(vec![web(1)]);
    host.set_docker(Some(&docker));
    let nowhere = host
        .registrar(&bed)
        .env("STATE_DIRECTORY", host.path("none"));
    let registrar = in_step(&nowhere);
    registrar.wait_for_log("cannot write the Docker daemon's id", SOON);
    assert_eq!(bed.keys(), keys_of(1));
    registrar.kill9();
    drop(registrar);

    let registrar = in_step(&host.with_state(&bed));
    eventually(SOON, "the remembered id", || host.state_files().len() == 1);
    registrar.kill9();
    drop(registrar);
    let file = host.state_files().remove(0);
    fs::write(&file, "").expect("an empty file");
    let registrar = in_step(&host.with_state(&bed));
    registrar.wait_for_log("cannot read the Docker daemon's id", SOON);
    assert_eq!(warnings(&registrar), 1, "{}", registrar.log());
    eventually(SOON, "the id", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("FAKE"))
    });
}
