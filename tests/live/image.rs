//! The image, as the Dockerfile has it but for its base, which cannot be pulled here, and for the compilation; and the
//! Compose file, with images of this machine in the place of those that would be pulled.

use crate::common;

use common::{HOST_IP, SOON, TestBed, docker, eventually, eventually_some};
use serde_json::json;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

const SOCKET: &str = "/var/run/docker.sock";

/// The arguments of `docker run` with which the registrar sees this test's containers and reaches its etcd, which listens
/// on loopback.
fn registrar_args(bed: &TestBed) -> Vec<String> {
    let variables = [
        ("HOST_IP", HOST_IP.to_owned()),
        ("ETCD_HOST", bed.etcd.endpoint()),
        ("DOCKER_REGISTER_PREFIX", bed.prefix.clone()),
        ("DOCKER_REGISTER_INSTANCE", bed.name.clone()),
        ("DOCKER_REGISTER_FILTER", bed.filter()),
    ];
    let mut args = ["--network", "host", "--volume"]
        .map(str::to_owned)
        .to_vec();
    args.push(format!("{SOCKET}:{SOCKET}"));
    for (name, value) in variables {
        args.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    args
}

#[test]
fn it_needs_no_rights_but_to_read_the_socket_and_ends_when_told() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let web = bed.container().publish_all().start();
    let group = std::fs::metadata(SOCKET).expect("Docker's socket").gid();
    let mut registrar = bed.container_of(&image);
    for arg in registrar_args(&bed) {
        registrar = registrar.arg(&arg);
    }
    let few = ["--read-only", "--user", "65534:65534", "--cap-drop", "ALL"];
    let few = few.iter().chain(&["--security-opt", "no-new-privileges"]);
    let registrar = few.fold(registrar, |registrar, arg| registrar.arg(arg));
    let registrar = registrar.arg("--group-add").arg(&group.to_string()).start();

    bed.wait_for_keys(&common::web_keys("web", &web, HOST_IP), SOON);

    // As process 1 it would not hear a signal that it has no handler for, and be killed after ten seconds.
    let start = Instant::now();
    registrar.stop();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(registrar.inspect()["State"]["ExitCode"], 0);
}

#[test]
fn it_registers_itself_only_if_asked() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let start = |label: &[&str]| {
        // In the host's network every exposed port counts as published.
        let args = registrar_args(&bed);
        let registrar = bed.container_of(&image).expose("9380");
        let registrar = args
            .iter()
            .fold(registrar, |registrar, arg| registrar.arg(arg));
        label
            .iter()
            .fold(registrar, |registrar, arg| registrar.arg(arg))
            .start()
    };
    let other = bed.container().publish_all().start();
    let alone = start(&[]);
    bed.wait_for_keys(&common::web_keys("web", &other, HOST_IP), SOON);
    alone.rm();

    let asked = start(&["--label", "SERVICE_IGNORE=false"]);
    let key = bed.key(&format!("{}/1/{}", image_name(&image), asked.short_id()));
    eventually(SOON, "its own key", || {
        bed.etcd
            .kv(&key)
            .is_some_and(|found| found.value == format!("{HOST_IP}:9380"))
    });
}

/// The name under which a container of the image is registered.
fn image_name(image: &str) -> &str {
    image.rsplit('/').next().expect("the last part")
}

/// A Compose project that is taken down, with its volumes, at the end of a test.
struct Project {
    name: String,
    files: Vec<String>,
}

impl Project {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command.args(["--project-name", &self.name]);
        for file in &self.files {
            command.args(["--file", file]);
        }
        command.args(args).env("HOST_IP", HOST_IP);
        command
    }

    /// Runs a command of Compose and returns what it prints.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self
            .command(args)
            .output()
            .expect("`make test` installs `docker-compose`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self
            .command(&["down", "--volumes", "--timeout", "1"])
            .output();
    }
}

#[test]
fn the_compose_file_registers_its_two_services() {
    let bed = TestBed::new();
    let register = bed.register_image();
    let etcd = bed.program_image(&["etcd", "etcdctl"]);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let instead = directory.path().join("instead.json");
    let service = |image: &str| json!({ "image": image, "labels": [bed.label()] });
    let mut services = json!({
        "etcd": service(&etcd),
        "docker-register": service(&register),
        "web": service(common::WEB),
        "hello": service(common::WEB),
    });
    let filter = format!("DOCKER_REGISTER_FILTER={}", bed.filter());
    services["docker-register"]["environment"] = json!([filter]);
    let text = json!({ "services": services }).to_string();
    std::fs::write(&instead, text).expect("a file can be written");
    let project = Project {
        name: bed.name.clone(),
        files: vec![
            "examples/compose.yaml".to_owned(),
            instead.display().to_string(),
        ],
    };
    project.run(&["up", "--detach", "--no-build"]);

    let key = |service: &str, name: &str| {
        let id = project.run(&["ps", "--quiet", service]);
        let port = docker(&["port", &id, "80/tcp"]);
        let (_, port) = port
            .lines()
            .next()
            .and_then(|line| line.rsplit_once(':'))
            .expect("a port");
        format!("/backends/{name}/1/{}\n{HOST_IP}:{port}", &id[..12])
    };
    let wanted = [
        key("hello", "hello"),
        "/backends/hello/1/port\n80".to_owned(),
        key("web", "web"),
        "/backends/web/1/port\n80".to_owned(),
    ];
    let get = [
        "exec",
        "-T",
        "etcd",
        "etcdctl",
        "get",
        "--prefix",
        "/backends",
    ];
    eventually_some(SOON, "the keys of the two services", || {
        let output = project.command(&get).output().ok()?;
        (String::from_utf8_lossy(&output.stdout).trim() == wanted.join("\n")).then_some(())
    });
}
