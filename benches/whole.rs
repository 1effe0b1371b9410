//! The whole way on two hosts: from a container's start on host A to its first answer through the proxy of host B.
//!
//! Host A is a network namespace with a Docker daemon of its own, and host B is this machine's network, with the reader
//! and its proxy. A cable (a veth pair) joins them: each request takes it from the proxy to the container's published
//! port at A's address. A's registrar and etcd run in B's network too, because the harness has etcd on loopback and A's
//! Docker is reached by its socket. So no program's calls to etcd take the cable.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::common::{
    Dockerd, ProxyKind, ProxyProgram, SOON, WEB, ask, envoys, eventually, let_time_pass, path_with,
};
use super::discover::{BURST, EXPOSED, Reader};
use super::store::{Place, Store};
use super::table::{BOTH, Budget, Program, Row, Running, milliseconds, scaled, since};

/// The number of turns of each program, and of samples in each turn.
const TURNS: usize = 5;
const SAMPLES: usize = 5;
/// The pause between two requests: without it, they would keep Docker from the processor.
const PAUSE: Duration = Duration::from_millis(1);

/// A proxy of host B, and the programs that docker-register is compared with there.
struct Peer {
    name: &'static str,
    proxy: ProxyProgram,
    /// The reader, and its first argument. The writer is always `bare`.
    reader: (&'static str, Option<&'static str>),
    budget: Option<Budget>,
}

/// Host A with two containers of one service. It ends when it goes out of scope.
struct Host {
    docker: Dockerd,
    address: String,
    /// The id of the one that comes and goes. The other stays, and with it the service.
    new: String,
    _pages: TempDir,
}

pub fn rows() -> Vec<Row> {
    let place = Place::new(Store::Etcd);
    let host = Host::start(&place);
    let row = |peer: &Peer| row(peer, &host, &place);
    peers().iter().map(row).collect()
}

fn peers() -> Vec<Peer> {
    let renderer = |name, proxy: ProxyProgram| Peer {
        name,
        reader: ("bare_render", Some(proxy.kind.name())),
        proxy,
        budget: None,
    };
    let [haproxy, nginx] = [ProxyKind::Haproxy, ProxyKind::Nginx].map(ProxyProgram::of);
    let bare = Peer {
        name: "HAProxy",
        proxy: haproxy.clone(),
        reader: ("bare_discover", None),
        budget: Some(Budget::Times(1.15, 1.3)),
    };
    let mut peers = vec![
        bare,
        renderer("HAProxy; peer: reloads", haproxy),
        renderer("nginx; peer: HUPs", nginx),
    ];
    let envoy = envoys().into_iter().next();
    peers.extend(envoy.map(|envoy| renderer("Envoy; peer: files", envoy)));
    peers
}

/// Docker's start event on A → the first answer by that container on B.
fn row(peer: &Peer, host: &Host, place: &Place) -> Row {
    let what = format!("A starts → B answers, {}", peer.name);
    let mut row = Row::new(&what, "ms", peer.budget);
    let bin = peer.proxy.program.is_absolute();
    let bin = bin.then(|| peer.proxy.install());
    for program in BOTH.repeat(TURNS) {
        place.forget();
        let mut writer = program.command_at(&host.address, place, None);
        let _writer = Running::new(writer.env("DOCKER_HOST", host.docker.host()));
        eventually(SOON, "the other's keys", || place.keys().len() == 4);
        let (name, argument) = peer.reader;
        let mut reader = Command::new(program.path(name));
        if program == Program::Bare {
            reader.args(argument);
        }
        reader.envs(bin.as_ref().map(|bin| ("PATH", path_with(bin.path()))));
        let _reader = Reader::of(peer.proxy.kind, reader, program, place, EXPOSED);
        // The first sample is a warm-up.
        for sample in 0..=scaled(SAMPLES) {
            let took = host.start_new();
            if sample > 0 {
                row.of(program).push(milliseconds(took));
            }
            host.stop_new(place);
        }
    }
    row
}

impl Host {
    fn start(place: &Place) -> Self {
        let docker = Dockerd::start(WEB, false);
        let address = docker.connect();
        let pages = TempDir::new().expect("a temporary directory");
        let label = place.bed.label();
        let create = |name: &str| {
            let page = pages.path().join(name);
            fs::create_dir(&page).expect("a directory can be made");
            fs::write(page.join("index.html"), name).expect("a file can be written");
            let volume = format!("{}:/www:ro", page.display());
            // Both ports of the image, as `bare` expects them.
            let create = ["create", "--pull", "never", "--publish-all"];
            let of_test = ["--label", &label, "--volume", &volume];
            // The server is the container's only process, so that it listens by the time of the start event: nginx and
            // Envoy leave a server that refuses a connection alone for seconds. It has no handler for TERM.
            let process = ["--stop-signal", "KILL", WEB, "httpd", "-f"];
            let port = EXPOSED.to_string();
            let serves = ["-p", &port, "-h", "/www"];
            docker.docker(&[&create[..], &of_test, &process, &serves].concat())
        };
        let [old, new] = ["old", "new"].map(create);
        docker.docker(&["start", &old]);
        Self {
            docker,
            address,
            new,
            _pages: pages,
        }
    }

    /// The time from the start event of the container that comes and goes to its first answer. The requests begin
    /// before the event, because Docker's client returns after it.
    fn start_new(&self) -> Duration {
        let answered = thread::scope(|scope| {
            let answered = scope.spawn(|| wait_for("new"));
            self.docker.docker(&["start", &self.new]);
            answered.join().expect("an answer")
        });
        since(self.docker.event_time(&self.new, "start"), answered)
    }

    /// Stops it, and waits until the next start is no part of a burst.
    fn stop_new(&self, place: &Place) {
        self.docker.docker(&["stop", &self.new]);
        let member = &self.new[..12];
        eventually(SOON, "no key of it", || {
            !place.keys().keys().any(|key| key.contains(member))
        });
        let_time_pass(BURST);
    }
}

/// Asks on B until a container answers that serves this page, and returns the time of that.
fn wait_for(page: &str) -> SystemTime {
    let (address, begun) = (format!("127.0.0.1:{EXPOSED}"), Instant::now());
    loop {
        if ask(&address, "x").as_deref() == Ok(page) {
            return SystemTime::now();
        }
        assert!(begun.elapsed() < SOON, "{page} does not answer");
        thread::sleep(PAUSE);
    }
}
