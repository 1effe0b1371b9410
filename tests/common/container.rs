//! Docker containers for tests, by way of the `docker` command-line client.

use super::{SOON, UNPOISONED, eventually};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An image that exposes TCP ports 8005 and 8006 and serves a page of `<hostname> <port>` on each.
pub const WEB: &str = "docker-register-test/web:1";

/// An image that exposes no port.
pub const BARE: &str = "docker-register-test/bare:1";

/// Makes sure that a Docker daemon answers and has the test images.
///
/// # Panics
///
/// If it does not answer, or if the images cannot be built.
pub fn require_docker() {
    static READY: OnceLock<Result<(), &str>> = OnceLock::new();
    if let Err(why) = READY.get_or_init(prepare_docker) {
        panic!("{why}");
    }
}

fn prepare_docker() -> Result<(), &'static str> {
    let succeeds = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !succeeds(Command::new("docker").arg("info")) {
        return Err("no Docker daemon answers: `make test` starts one");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/image.sh");
    if !succeeds(Command::new("bash").args([script, "test"])) {
        return Err("the test images cannot be built: `bash tests/image.sh test` says why");
    }
    Ok(())
}

/// Runs the `docker` client and returns what it prints.
///
/// # Panics
///
/// With what it says on stderr if it fails.
#[track_caller]
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("`docker` can be run");
    assert!(
        output.status.success(),
        "`docker {}` failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// [`Container::event_time`] of a container by its id, with the client of its daemon.
pub(super) fn event_time(id: &str, event: &str, docker: impl Fn(&[&str]) -> String) -> SystemTime {
    let (container, event) = (format!("container={id}"), format!("event={event}"));
    let filters = ["--filter", &container, "--filter", &event];
    let now = UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let until_now = ["events", "--since", "1", "--until", &until];
    let format = ["--format", "{{.TimeNano}}"];
    let times = docker(&[&until_now[..], &filters, &format].concat());
    let last = times.lines().last().expect("Docker remembers the event");
    UNIX_EPOCH + Duration::from_nanos(last.parse().expect("a time is a number"))
}

/// Removes with `remove` everything that `list` finds for the filter. It ignores failures, because drop calls it.
pub(super) fn remove_all(list: &[&str], remove: &[&str], filter: &str) {
    let listing = Command::new("docker")
        .args(list)
        .args(["--quiet", "--filter", filter])
        .output();
    let Ok(listing) = listing else { return };
    let ids = String::from_utf8_lossy(&listing.stdout).into_owned();
    if !ids.is_empty() {
        let ids = ids.split_whitespace();
        let _ = Command::new("docker").args(remove).args(ids).output();
    }
}

/// A container that is removed, running or not, when it goes out of scope.
pub struct Container {
    id: String,
    name: Mutex<String>,
}

impl Container {
    /// A builder for a container of an image. [`super::TestBed::container`] also names and labels it.
    pub fn of(image: &str) -> ContainerBuilder {
        ContainerBuilder {
            image: image.to_owned(),
            ..ContainerBuilder::default()
        }
    }

    /// All 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first 12 digits, which name the container in etcd.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// The present name.
    pub fn name(&self) -> String {
        self.name.lock().expect(UNPOISONED).clone()
    }

    /// Sends the stop signal, and waits for the container's end. Docker kills it after ten seconds.
    pub fn stop(&self) {
        docker(&["stop", &self.id]);
    }

    /// Starts it again after a stop. A port that was published without a number may get a new one.
    pub fn start(&self) {
        docker(&["start", &self.id]);
    }

    pub fn restart(&self) {
        docker(&["restart", &self.id]);
    }

    /// Sends it a signal, such as `KILL` or `HUP`.
    pub fn kill(&self, signal: &str) {
        docker(&["kill", "--signal", signal, &self.id]);
    }

    pub fn pause(&self) {
        docker(&["pause", &self.id]);
    }

    pub fn unpause(&self) {
        docker(&["unpause", &self.id]);
    }

    pub fn rename(&self, name: &str) {
        docker(&["rename", &self.id, name]);
        name.clone_into(&mut self.name.lock().expect(UNPOISONED));
    }

    /// Removes it, running or not.
    pub fn rm(&self) {
        docker(&["rm", "--force", "--volumes", &self.id]);
    }

    /// Runs a command inside and returns what it prints.
    pub fn exec(&self, command: &[&str]) -> String {
        docker(&[&["exec", &self.id], command].concat())
    }

    /// The port of the host, on IPv4, that leads to a port of the container such as `8005/tcp`.
    pub fn host_port(&self, port: &str) -> u16 {
        let bindings = docker(&["port", &self.id, port]);
        let first = bindings
            .lines()
            .next()
            .expect("`docker port` prints a binding");
        let (_, port) = first.rsplit_once(':').expect("a binding is `ip:port`");
        port.parse().expect("a port is a number")
    }

    /// The output of `docker inspect`.
    pub fn inspect(&self) -> Value {
        let json = docker(&["inspect", "--type", "container", &self.id]);
        let list: Value = serde_json::from_str(&json).expect("`docker inspect` prints JSON");
        list[0].clone()
    }

    /// The time of the last event of this container with this name, such as `start` or `kill`, to compare with
    /// [`super::Watch`].
    ///
    /// # Panics
    ///
    /// If there is none: Docker keeps only the last 256 events.
    pub fn event_time(&self, event: &str) -> SystemTime {
        event_time(&self.id, event, docker)
    }

    /// Waits until its health check says `status`, such as `healthy`.
    #[track_caller]
    pub fn wait_for_health(&self, status: &str) {
        eventually(SOON, &format!("{} to be {status}", self.name()), || {
            self.inspect()["State"]["Health"]["Status"] == status
        });
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.id])
            .output();
    }
}

/// The description of a [`Container`].
#[derive(Clone, Default)]
pub struct ContainerBuilder {
    image: String,
    name: Option<String>,
    args: Vec<String>,
    command: Vec<String>,
}

impl ContainerBuilder {
    /// Adds an argument of `docker run` as it is.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds arguments of `docker run` as they are.
    pub fn args(self, args: &[impl AsRef<str>]) -> Self {
        args.iter()
            .fold(self, |builder, arg| builder.arg(arg.as_ref()))
    }

    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    pub fn label(self, name: &str, value: &str) -> Self {
        self.arg("--label").arg(&format!("{name}={value}"))
    }

    /// Adds a variable to its environment.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.arg("--env").arg(&format!("{name}={value}"))
    }

    /// Exposes a further port, such as `53/udp`.
    pub fn expose(self, port: &str) -> Self {
        self.arg("--expose").arg(port)
    }

    /// Publishes every exposed port on a port of the host that Docker chooses.
    pub fn publish_all(self) -> Self {
        self.arg("--publish-all")
    }

    /// Publishes a port in Docker's syntax, such as `8005`, `127.0.0.1::8005` or `53/udp`.
    pub fn publish(self, port: &str) -> Self {
        self.arg("--publish").arg(port)
    }

    /// Chooses the network: `host`, `none`, `container:<name>`, or one of [`super::TestBed::network`].
    pub fn network(self, network: &str) -> Self {
        self.arg("--network").arg(network)
    }

    /// Replaces the image's command.
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Creates the container and starts it.
    ///
    /// # Panics
    ///
    /// With what Docker says if it refuses.
    #[track_caller]
    pub fn start(self) -> Container {
        self.make(&["run", "--detach"])
    }

    /// Creates the container without starting it.
    ///
    /// # Panics
    ///
    /// With what Docker says if it refuses.
    #[track_caller]
    pub fn create(self) -> Container {
        self.make(&["create"])
    }

    #[track_caller]
    fn make(self, verb: &[&str]) -> Container {
        let name = self.name.unwrap_or_else(super::unique_name);
        let mut args = [verb, &["--pull", "never", "--name", &name]].concat();
        args.extend(self.args.iter().map(String::as_str));
        args.push(&self.image);
        args.extend(self.command.iter().map(String::as_str));
        Container {
            id: docker(&args),
            name: Mutex::new(name),
        }
    }
}
