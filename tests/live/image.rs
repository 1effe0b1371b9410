//! The image, as in the Dockerfile except for its base, which cannot be pulled here, and the compilation. And the
//! Compose file, with local images in the place of those that would be pulled.

use crate::common;

use common::{Container, HOST_IP, SOON, TestBed, ask, docker, eventually, eventually_some};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

const LOOPBACK: &str = "127.0.0.1";
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

#[test]
fn it_has_the_licences_of_what_is_in_it() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let registrar = bed.container_of(&image).create();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let to = directory.path().join("licences");
    let from = format!("{}:/usr/share/doc/docker-register/licences", registrar.id());
    docker(&["cp", &from, &to.display().to_string()]);
    let licences = std::fs::read_to_string(to).expect("the list");
    let lock = include_str!("../../Cargo.lock");
    assert!(licences.contains("Lua 5.4: MIT\n"), "{licences}");
    for name in ["tokio", "etcd-client", "bollard", "mlua"] {
        let line = licences
            .lines()
            .find(|line| line.starts_with(&format!("{name} v")));
        let (version, licence) = line.expect(name).split_once(": ").expect("a licence");
        let (_, version) = version.split_once(" v").expect("a version");
        assert!(
            lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")),
            "{name}"
        );
        assert!(
            licence.contains("MIT") || licence.contains("Apache-2.0"),
            "{licence}"
        );
    }
    // Tests and benchmarks are not in the program.
    assert!(!licences.contains("criterion"), "{licences}");
}

#[test]
fn prometheus_reaches_it_on_a_published_port() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let docs = include_str!("../../docs/operations.md");
    let flags = "-e DOCKER_REGISTER_LISTEN=0.0.0.0:9380 -p 10.0.0.1:9380:9380";
    assert!(docs.contains(&format!("`docker run {flags} …`")));
    let flags = flags.replace("-p 10.0.0.1:9380:", "-p 127.0.0.1::");
    let flags: Vec<&str> = flags.split(' ').collect();
    let registrar = bed
        .container_of(&image)
        .env("HOST_IP", HOST_IP)
        .args(&["--volume", &format!("{SOCKET}:{SOCKET}")])
        .args(&flags)
        .start();
    let address = format!("{LOOPBACK}:{}", registrar.host_port("9380/tcp"));
    eventually(SOON, "the port", || {
        std::net::TcpStream::connect(&address).is_ok()
    });
    let metrics = common::get(&address, "/metrics").body;
    assert!(metrics.contains("docker_register_build_info{"), "{metrics}");
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
    etcd_port: u16,
}

impl Project {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command.args(["--project-name", &self.name]);
        for file in &self.files {
            command.args(["--file", file]);
        }
        command.args(args).env("HOST_IP", LOOPBACK);
        command.env("ETCD_PORT", self.etcd_port.to_string());
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
fn the_compose_file_registers_and_reaches_its_two_services() {
    let bed = TestBed::new();
    let [register, discover] = [bed.register_image(), bed.discover_image()];
    let [etcd_port, web_port, hello_port] = [(); 3].map(|()| common::free_port());
    let etcd = bed.program_image(&["etcd", "etcdctl"]);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let listen = format!("DOCKER_REGISTER_LISTEN={}", free_address());
    let instead = directory.path().join("instead.json");
    let service = |image: &str| json!({ "image": image, "labels": [bed.label()] });
    // It serves on port 80 in the place of the images' servers.
    let reached = |port: u16| {
        let labels = [bed.label(), format!("SERVICE_80_PORT={port}")];
        json!({ "image": common::WEB, "labels": labels, "command": ["/serve", "80"] })
    };
    let mut services = json!({
        "etcd": service(&etcd),
        "docker-register": service(&register),
        "docker-discover": service(&discover),
        "web": reached(web_port),
        "hello": reached(hello_port),
    });
    // The host's other services are not this test's.
    let environment = ["DOCKER_REGISTER_SET=bind=127.0.0.1", &listen];
    services["docker-discover"]["environment"] = json!(environment);
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
        etcd_port,
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
        format!("/backends/{name}/1/{}\n{LOOPBACK}:{port}", &id[..12])
    };
    let wanted = [
        key("hello", "hello"),
        format!("/backends/hello/1/port\n{hello_port}"),
        key("web", "web"),
        format!("/backends/web/1/port\n{web_port}"),
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
    for (service, port) in [("web", web_port), ("hello", hello_port)] {
        let id = project.run(&["ps", "--quiet", service]);
        let answer = format!("{} 80\n", &id[..12]);
        eventually(SOON, &format!("{service} to answer"), || {
            ask(&format!("{LOOPBACK}:{port}"), "x").as_ref() == Ok(&answer)
        });
    }
    let id = project.run(&["ps", "--quiet", "docker-discover"]);
    eventually(SOON, "docker-discover to be healthy", || {
        docker(&["inspect", "--format", "{{.State.Health.Status}}", &id]) == "healthy"
    });
    let start = Instant::now();
    docker(&["stop", &id]);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(
        docker(&["inspect", "--format", "{{.State.ExitCode}}", &id]),
        "0"
    );
}
