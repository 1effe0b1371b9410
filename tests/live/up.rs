//! `up` with a real Docker and a real HAProxy: one process registers this host's containers and routes to them, without
//! any store beside it, and with one.

use crate::common;

use common::{
    ContainerBuilder, Load, Mode, Proxy, ProxyDirectory, Registrar, RegistrarBuilder, SOON, Script,
    TestBed, ask, eventually, free_port, get, processes,
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::discover::{wait_until_ready, wait_until_refused};

/// The time within which a container of a known service answers, and one of a new service. They are far less on an idle
/// machine: the test prints them.
const KNOWN: Duration = Duration::from_secs(2);
const NEW: Duration = Duration::from_secs(5);

struct Site {
    bed: TestBed,
    directory: ProxyDirectory,
    /// The port at which the containers' service is reached.
    port: u16,
}

impl Site {
    fn new() -> Self {
        Self {
            bed: TestBed::new(),
            directory: ProxyDirectory::new(),
            port: free_port(),
        }
    }

    fn command(&self) -> RegistrarBuilder {
        Registrar::command()
            .filter(&self.bed.filter())
            .flag("--directory", self.directory.path())
            .flag("--discover-set", "bind=127.0.0.1")
            .flag("--reload-interval", "0")
            .flag("--listen", "127.0.0.1:0")
    }

    /// `up`, once both roles are ready.
    fn start(&self) -> Registrar {
        let up = self.command().start_command("up");
        wait_until_ready(&up);
        up
    }

    /// A container that answers with `NAME 8005`, of a service that is reached at the site's port. Port 8005 itself
    /// belongs to all tests.
    fn unpublished(&self, name: &str) -> ContainerBuilder {
        self.bed
            .container()
            .args(&["--hostname", name])
            .env("SERVICE_NAME", "web")
            .env("SERVICE_8005_PORT", &self.port.to_string())
            .env("SERVICE_8006_IGNORE", "true")
    }

    fn web(&self, name: &str) -> ContainerBuilder {
        self.unpublished(name).publish_all()
    }

    /// The time of the first answer of a container.
    fn first_answer(&self, name: &str) -> JoinHandle<SystemTime> {
        let (address, wanted) = (format!("127.0.0.1:{}", self.port), format!("{name} 8005"));
        thread::spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < SOON {
                // The page ends with a line break.
                if ask(&address, "x").is_ok_and(|answer| answer.trim_end() == wanted) {
                    return SystemTime::now();
                }
                thread::sleep(Duration::from_millis(1));
            }
            panic!("no answer of {wanted}");
        })
    }

    fn load(&self) -> Load {
        Load::start(&format!("127.0.0.1:{}", self.port), "x", 100)
    }

    #[track_caller]
    fn wait_for_answer(&self, name: &str) {
        self.first_answer(name).join().expect("an answer");
    }
}

#[track_caller]
fn assert_none_failed(load: Load) {
    let (good, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    assert!(!good.is_empty());
}

#[test]
fn a_host_with_docker_and_haproxy_needs_nothing_else() {
    let site = Site::new();
    let up = site.start();
    assert!(up.log().contains("the keys are in this process alone"));
    let mut containers = Vec::new();
    for (name, what, limit) in [("a", "new", NEW), ("b", "known", KNOWN)] {
        let answer = site.first_answer(name);
        let container = site.web(name).start();
        let answered = answer.join().expect("an answer");
        let started = container.event_time("start");
        let took = answered.duration_since(started).unwrap_or_default();
        println!("a container of a {what} service answers {took:?} after its start");
        assert!(took < limit, "{what}: {took:?}");
        containers.push(container);
    }

    let address = up.address();
    let index = get(&address, "/").body;
    assert!(index.contains("href=\"/register\"") && index.contains("href=\"/discover\""));
    assert!(
        get(&address, "/register")
            .body
            .contains(&containers[0].name())
    );
    assert!(get(&address, "/discover").body.contains("web"));
    let metrics = get(&address, "/metrics").body;
    for line in [
        "docker_register_ready 1\n",
        "docker_register_discover_ready 1\n",
        "docker_register_up{partner=\"memory\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let mut types: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .collect();
    assert!(types.contains(&"# TYPE process_open_fds gauge"));
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), all, "{types:?}");

    containers[0].stop();
    eventually(SOON, "answers of b alone", || {
        let mut answers = (0..20).map(|_| ask(&format!("127.0.0.1:{}", site.port), "x"));
        answers.all(|answer| answer.is_ok_and(|answer| answer.trim_end() == "b 8005"))
    });
    containers[1].stop();
    wait_until_refused(site.port);
    containers[0].start();
    site.wait_for_answer("a");

    assert!(up.terminate().success());
    assert_eq!(processes(site.directory.path()), [""; 0]);
    let log = up.log();
    assert_eq!(log.matches("ending: SIGTERM").count(), 1, "{log}");
    assert!(!log.contains("ending at once"), "{log}");
}

#[test]
fn no_request_fails_while_it_is_killed_and_started_again() {
    let site = Site::new();
    let _web = site.web("a").start();
    let mut up = site.start();
    site.wait_for_answer("a");
    let before = processes(site.directory.path());
    let load = site.load();
    for _ in 0..3 {
        up.kill9();
        up = site.start();
        assert_eq!(processes(site.directory.path()), before, "{}", up.log());
    }
    // Upgrades are no event either.
    drop(up);
    let leaving = site.command().flag("--on-exit", "leave");
    for _ in 0..2 {
        let up = leaving.start_command("up");
        wait_until_ready(&up);
        assert!(up.terminate().success());
        assert_eq!(processes(site.directory.path()), before, "{}", up.log());
    }
    assert_none_failed(load);
}

#[test]
fn a_docker_that_does_not_answer_at_the_start_takes_no_route_away() {
    let site = Site::new();
    let _web = site.web("a").start();
    let up = site.start();
    site.wait_for_answer("a");
    let load = site.load();
    up.kill9();
    let docker = Proxy::the_docker();
    docker.set(Mode::Cut);
    let up = site
        .command()
        .env("DOCKER_HOST", docker.address())
        .start_command("up");
    up.wait_for_log("using it", SOON);
    let ready = get(&up.address(), "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("register: docker: "), "{}", ready.body);
    assert!(
        ready.body.contains("discover: store: no answer yet"),
        "{}",
        ready.body
    );
    let asked = load.count();
    eventually(SOON, "a hundred requests meanwhile", || {
        load.count() > asked + 100
    });
    docker.set(Mode::Pass);
    wait_until_ready(&up);
    assert_none_failed(load);
}

#[test]
fn a_port_that_is_published_on_loopback_alone_is_reached_too() {
    let site = Site::new();
    let _up = site.start();
    let _web = site.unpublished("a").publish("127.0.0.1::8005").start();
    site.wait_for_answer("a");
}

#[test]
fn with_a_store_it_is_both_roles_on_that() {
    let site = Site::new();
    let web = site.web("a").start();
    let up = site
        .command()
        .flag("--etcd", site.bed.etcd.endpoint())
        .flag("--prefix", &site.bed.prefix)
        .flag("--instance", &site.bed.name)
        .flag("--host-ip", "127.0.0.1")
        .flag("--on-exit", "remove")
        .start_command("up");
    wait_until_ready(&up);
    site.wait_for_answer("a");
    let key = format!("web/1/{}", web.short_id());
    let value = format!("127.0.0.1:{}", web.host_port("8005/tcp"));
    assert_eq!(site.bed.keys().get(&key), Some(&value));
    assert!(!up.log().contains("in this process alone"));
    assert!(up.terminate().success());
    assert!(site.bed.keys().is_empty());
    assert_eq!(processes(site.directory.path()), [""; 0]);
}

#[test]
fn if_one_role_cannot_run_the_other_ends_too() {
    let site = Site::new();
    let script = Script::new("error('no routes today')\n");
    let up = site
        .command()
        .flag("--discover-script", script.path())
        .run("up");
    assert_eq!(up.status.code(), Some(1), "{}", up.stderr);
    assert!(up.stderr.contains("no routes today"), "{}", up.stderr);
    assert!(
        up.stderr.contains("another role has ended"),
        "{}",
        up.stderr
    );
}

#[test]
fn other_commands_cannot_reach_a_store_in_memory() {
    for command in ["run", "discover", "services", "keys", "diff", "leases"] {
        let output = Registrar::command().flag("--store", "memory:").run(command);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(
            output.stderr.contains("run `docker-register up`"),
            "{}",
            output.stderr
        );
    }
}
