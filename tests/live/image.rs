//! The image, as in the Dockerfile except for its base, which cannot be pulled here, and the compilation. And the
//! Compose file, with local images in the place of those that would be pulled.

use crate::common;

use common::{Container, HOST_IP, SOON, TestBed, docker, eventually, eventually_some};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

const SOCKET: &str = "/var/run/docker.sock";

/// The arguments of `docker run` for a registrar that sees this test's containers and reaches its etcd on loopback.
fn registrar_args(bed: &TestBed) -> Vec<String> {
    let variables = [
        ("HOST_IP", HOST_IP.to_owned()),
        ("ETCD_HOST", bed.etcd.endpoint()),
        ("DOCKER_REGISTER_PREFIX", bed.prefix.clone()),
        ("DOCKER_REGISTER_INSTANCE", bed.name.clone()),
        ("DOCKER_REGISTER_FILTER", bed.filter()),
        ("DOCKER_REGISTER_LISTEN", free_address()),
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

/// A free loopback address.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    let address = listener.local_addr().expect("a port was bound");
    address.to_string()
}

#[test]
fn it_needs_no_rights_but_to_read_the_socket_and_ends_when_told() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let web = bed.container().publish_all().start();
    let group = std::fs::metadata(SOCKET).expect("Docker's socket").gid();
    let registrar = bed
        .container_of(&image)
        .arg("--read-only")
        .args(&["--user", "65534:65534", "--group-add", &group.to_string()])
        .args(&["--cap-drop", "ALL", "--security-opt", "no-new-privileges"])
        .args(&registrar_args(&bed))
        .start();

    bed.wait_for_keys(&common::web_keys("web", &web, HOST_IP), SOON);
    registrar.wait_for_health("healthy");

    // Process 1 ignores signals without a handler, and would be killed only after ten seconds.
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
        // In the host's network every exposed port counts as published, of a container that is healthy.
        let registrar = bed.container_of(&image).expose("9380");
        let registrar = registrar.env("DOCKER_REGISTER_EXPLAIN", "1");
        registrar.args(&registrar_args(&bed)).args(label).start()
    };
    let alone = start(&[]);
    eventually(SOON, "the reason why it is left out", || {
        log(&alone).contains("SERVICE_IGNORE is set")
    });
    assert_eq!(bed.keys(), common::map([("", ""); 0]));
    alone.stop();

    let asked = start(&["--label", "SERVICE_IGNORE=false"]);
    let (_, name) = image.rsplit_once('/').expect("a name of two parts");
    let key = bed.key(&format!("{name}/1/{}", asked.short_id()));
    eventually(SOON, "its own key", || {
        bed.etcd
            .kv(&key)
            .is_some_and(|found| found.value == format!("{HOST_IP}:9380"))
    });
}

/// The log of a container so far.
fn log(container: &Container) -> String {
    let output = Command::new("docker")
        .args(["logs", container.id()])
        .output();
    let output = output.expect("`docker` can be run");
    String::from_utf8_lossy(&output.stderr).into_owned()
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
