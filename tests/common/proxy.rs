//! A proxy in front of etcd or Docker that simulates network faults: it cuts, stalls and delays connections.

use super::UNPOISONED;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The fault that a [`Proxy`] simulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// None: data is forwarded at once.
    Pass,
    /// Every connection is closed, and each new one at once.
    Cut,
    /// Connections stay open and new ones are accepted, but no data is forwarded. At the end the held data arrives
    /// late, as from a network that retransmits lost packets.
    Stall,
    /// Like [`Mode::Stall`] for the answers only: requests are forwarded and have their effect.
    HoldAnswers,
    /// Data is forwarded after this delay, in both directions.
    Delay(Duration),
}

/// A proxy, which ends when it goes out of scope. It begins in [`Mode::Pass`].
pub struct Proxy {
    entrance: Address,
    shared: Arc<Shared>,
    _directory: Option<TempDir>,
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(String),
    Unix(PathBuf),
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    /// Set once, when the proxy ends.
    over: bool,
    /// The number of connections since the start.
    accepted: u64,
    links: BTreeMap<u64, [Stream; 2]>,
}

impl Proxy {
    /// A proxy on a free TCP port, to `target`: `127.0.0.1:2379` or `unix://<path>`.
    ///
    /// # Panics
    ///
    /// If no port can be had.
    pub fn tcp(target: &str) -> Self {
        Self::tcp_on("127.0.0.1:0", target)
    }

    /// The same, on an address of this machine.
    ///
    /// # Panics
    ///
    /// If the address cannot be had.
    pub fn tcp_on(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a port can be bound");
        let address = listener.local_addr().expect("a port was bound").to_string();
        let accept = move || listener.accept().map(|(stream, _)| Stream::Tcp(stream));
        let target = Address::of(target);
        Self::start(accept, Address::Tcp(address), target, None)
    }

    /// A proxy on a Unix socket, to a Docker daemon whose address has the form of `DOCKER_HOST`.
    ///
    /// # Panics
    ///
    /// If no socket can be made, or the address has another form.
    pub fn docker(host: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket can be made");
        let accept = move || listener.accept().map(|(stream, _)| Stream::Unix(stream));
        let target = Address::of(host);
        Self::start(accept, Address::Unix(path), target, Some(directory))
    }

    /// A proxy to the tests' Docker daemon.
    pub fn the_docker() -> Self {
        Self::docker(&the_docker())
    }

    /// Its address: `127.0.0.1:<port>`, or `unix://<path>` for `DOCKER_HOST`.
    pub fn address(&self) -> String {
        match &self.entrance {
            Address::Tcp(address) => address.clone(),
            Address::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// Changes the mode, also of open connections.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        if mode == Mode::Cut {
            state.close_all();
        }
        self.shared.changed.notify_all();
    }

    /// The number of connections since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    fn start(
        accept: impl Fn() -> io::Result<Stream> + Send + 'static,
        entrance: Address,
        target: Address,
        directory: Option<TempDir>,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                mode: Mode::Pass,
                over: false,
                accepted: 0,
                links: BTreeMap::new(),
            }),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok(client) = accept() {
                let (shared, target) = (Arc::clone(&for_thread), target.clone());
                {
                    let mut state = shared.lock();
                    if state.over {
                        return;
                    }
                    state.accepted += 1;
                    if state.mode == Mode::Cut {
                        continue;
                    }
                }
                // Cut connections fail here, by design.
                thread::spawn(move || drop(serve(client, &target, &shared)));
            }
        });
        Proxy {
            entrance,
            shared,
            _directory: directory,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.over = true;
            state.mode = Mode::Cut;
            state.close_all();
            self.shared.changed.notify_all();
        }
        // Wakes the thread that waits for the next connection.
        let _ = self.entrance.connect();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// Waits until data may pass in a direction, and returns its delay; none if the connection is cut.
    fn may_pass(&self, direction: Direction) -> Option<Duration> {
        let state = self.lock();
        let held = |mode| match direction {
            Direction::Request => mode == Mode::Stall,
            Direction::Answer => mode == Mode::Stall || mode == Mode::HoldAnswers,
        };
        let state = self
            .changed
            .wait_while(state, |state| held(state.mode))
            .expect(UNPOISONED);
        match state.mode {
            Mode::Cut => None,
            Mode::Delay(delay) => Some(delay),
            _ => Some(Duration::ZERO),
        }
    }
}

impl State {
    fn close_all(&mut self) {
        for stream in std::mem::take(&mut self.links).into_values().flatten() {
            stream.shutdown(Shutdown::Both);
        }
    }
}

/// The address of the tests' Docker daemon, in the form of `DOCKER_HOST`.
pub fn the_docker() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
}

#[derive(Clone, Copy)]
enum Direction {
    Request,
    Answer,
}

/// Carries one connection until both its directions have ended.
fn serve(client: Stream, target: &Address, shared: &Arc<Shared>) -> io::Result<()> {
    // In a stall, the client's connection is accepted, but the target is not connected to.
    if shared.may_pass(Direction::Request).is_none() {
        return Ok(());
    }
    let server = target.connect()?;
    let links = [client.try_clone()?, server.try_clone()?];
    let number = {
        let mut state = shared.lock();
        if state.mode == Mode::Cut {
            return Ok(());
        }
        let number = state.links.last_key_value().map_or(0, |(last, _)| last + 1);
        state.links.insert(number, links);
        number
    };
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let for_answers = Arc::clone(shared);
    let answers = thread::spawn(move || carry(from, to, &for_answers, Direction::Answer));
    carry(client, server, shared, Direction::Request);
    let _ = answers.join();
    shared.lock().links.remove(&number);
    Ok(())
}

fn carry(mut from: Stream, mut to: Stream, shared: &Shared, direction: Direction) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let Some(delay) = shared.may_pass(direction) else {
            break;
        };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        if to.write_all(&buffer[..count]).is_err() {
            from.shutdown(Shutdown::Both);
            break;
        }
    }
    // The end of the stream is held and delayed like data.
    let _ = shared.may_pass(direction);
    to.shutdown(Shutdown::Write);
}

impl Address {
    /// Reads `HOST:PORT`, or an address in the form of `DOCKER_HOST`.
    fn of(text: &str) -> Self {
        match text.split_once("://") {
            Some(("unix", path)) => Address::Unix(path.into()),
            Some(("tcp" | "http", address)) => Address::Tcp(address.to_owned()),
            Some(_) => panic!("`{text}` is not unix://… or tcp://…"),
            None => Address::Tcp(text.to_owned()),
        }
    }

    fn connect(&self) -> io::Result<Stream> {
        Ok(match self {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        })
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    /// It may be closed already.
    fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        };
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }
}
