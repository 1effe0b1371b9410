//! Servers behind a proxy, and requests through it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::UNPOISONED;

/// The time limit of a request. Where Docker's own proxy is between, it holds a connection to a container that was just
/// killed for some seconds.
const LIMIT: Duration = Duration::from_secs(20);

/// The time limit of a datagram's answer. Nobody sends a datagram again.
const UDP_LIMIT: Duration = Duration::from_secs(2);

/// An answer that takes longer is slow. A connection to a server that is not there costs 500 ms by the default policy.
const SLOW: Duration = Duration::from_millis(400);

/// An HTTP server on a port of its own, which answers every request with its name. It ends when it goes out of scope.
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    stops: Arc<AtomicBool>,
    /// The requests that it has answered.
    answered: Arc<AtomicU64>,
    /// Open connections by their numbers, which `kill` cuts.
    open: Arc<Mutex<BTreeMap<u64, TcpStream>>>,
}

impl Backend {
    pub fn start(name: &str) -> Self {
        Self::start_slow(name, Duration::ZERO)
    }

    /// A server that takes a time for each answer.
    pub fn start_slow(name: &str, takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let backend = Self {
            name: name.to_owned(),
            address: listener.local_addr().expect("an address"),
            stops: Arc::default(),
            answered: Arc::default(),
            open: Arc::default(),
        };
        let (name, stops) = (name.to_owned(), Arc::clone(&backend.stops));
        let (answered, open) = (Arc::clone(&backend.answered), Arc::clone(&backend.open));
        thread::spawn(move || {
            for number in 0.. {
                let stream = listener.accept();
                if stops.load(Ordering::SeqCst) {
                    // Connections from before the end are still answered.
                    let limited = listener.set_nonblocking(true);
                    limited.expect("a listener can be asked without waiting");
                }
                let stream = match stream {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(_) => continue,
                };
                let blocking = stream.set_nonblocking(false);
                blocking.expect("a stream can be waited for");
                if let Ok(copy) = stream.try_clone() {
                    open.lock().expect(UNPOISONED).insert(number, copy);
                }
                let (name, answered) = (name.clone(), Arc::clone(&answered));
                let open = Arc::clone(&open);
                thread::spawn(move || {
                    serve(stream, &name, takes, &answered);
                    open.lock().expect(UNPOISONED).remove(&number);
                });
            }
        });
        backend
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Accepts no more connections, as a well-behaved server does: those that are open, or have connected, go on.
    pub fn stop(&self) {
        if !self.stops.swap(true, Ordering::SeqCst) {
            // The listener wakes up and closes.
            let _ = TcpStream::connect(self.address);
        }
    }

    /// Ends at once, with all its connections.
    pub fn kill(&self) {
        self.stop();
        for stream in self.open.lock().expect(UNPOISONED).values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Answers requests until the client closes.
fn serve(mut stream: TcpStream, name: &str, takes: Duration, answered: &AtomicU64) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    loop {
        let (mut is_request, mut is_last) = (false, false);
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {
                    is_request = true;
                    is_last |= line.eq_ignore_ascii_case("Connection: close\r\n");
                }
            }
        }
        if !is_request {
            return;
        }
        thread::sleep(takes);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
            name.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        answered.fetch_add(1, Ordering::SeqCst);
        if is_last {
            // `kill` has a copy, which keeps it open.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// A UDP server on a port of its own, which answers every datagram with the same text and its name. It ends when it
/// goes out of scope.
pub struct UdpBackend {
    pub name: String,
    pub address: SocketAddr,
    ends: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl UdpBackend {
    pub fn start(name: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let limited = socket.set_read_timeout(Some(Duration::from_millis(100)));
        limited.expect("a time limit can be set");
        let backend = Self {
            name: name.to_owned(),
            address: socket.local_addr().expect("an address"),
            ends: Arc::default(),
            answered: Arc::default(),
        };
        let (name, ends) = (name.to_owned(), Arc::clone(&backend.ends));
        let answered = Arc::clone(&backend.answered);
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ends.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let answer = [&buffer[..length], name.as_bytes()].concat();
                if socket.send_to(&answer, from).is_ok() {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        backend
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }
}

impl Drop for UdpBackend {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}

/// The name of the server that answers a datagram from a socket of its own, as a resolver sends it.
pub fn ask_udp(address: &str) -> Result<String, String> {
    const QUESTION: &str = "question ";
    let asked = || -> std::io::Result<String> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(UDP_LIMIT))?;
        socket.connect(address)?;
        socket.send(QUESTION.as_bytes())?;
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let answer = asked().map_err(|error| error.to_string())?;
    match answer.strip_prefix(QUESTION) {
        Some(name) => Ok(name.to_owned()),
        None => Err(format!("no good answer: {answer:?}")),
    }
}

/// The name of the server that answers a request for `host` on a new connection.
pub fn ask(address: &str, host: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).map_err(|error| error.to_string())?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let limited = stream.set_read_timeout(Some(LIMIT));
    limited.expect("a time limit can be set");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(|error| error.to_string())?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(format!("no good answer: {answer:?}"));
    };
    let mut lines = head.lines();
    let is_good = lines.next().is_some_and(|first| first.contains(" 200"));
    // A server that is killed may be cut off in the middle.
    let is_whole = lines.all(|line| {
        let length = line.to_ascii_lowercase();
        let length = length.strip_prefix("content-length: ");
        length.is_none_or(|length| length == body.len().to_string())
    });
    if is_good && is_whole {
        return Ok(body.to_owned());
    }
    Err(format!("no good answer: {answer:?}"))
}

/// Requests at a steady rate, each on a new connection, whether the ones before have been answered or not.
pub struct Load {
    stops: Arc<AtomicBool>,
    results: Arc<Mutex<Vec<Result<String, String>>>>,
    /// The answers that took longer than [`SLOW`].
    slow: Arc<AtomicU64>,
    sender: Option<JoinHandle<()>>,
}

impl Load {
    /// `rate` is in requests a second.
    pub fn start(address: &str, host: &str, rate: u32) -> Self {
        let (address, host) = (address.to_owned(), host.to_owned());
        Self::of(rate, move || ask(&address, &host))
    }

    /// Datagrams, each from a socket of its own.
    pub fn start_udp(address: &str, rate: u32) -> Self {
        let address = address.to_owned();
        Self::of(rate, move || ask_udp(&address))
    }

    fn of(rate: u32, request: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        let request = Arc::new(request);
        let (stops, results) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let load = Self {
            stops: Arc::clone(&stops),
            results: Arc::clone(&results),
            slow: Arc::default(),
            sender: None,
        };
        let slow = Arc::clone(&load.slow);
        let sender = thread::spawn(move || {
            let begun = Instant::now();
            let mut requests = Vec::new();
            for number in 0.. {
                if stops.load(Ordering::SeqCst) {
                    break;
                }
                let at = Duration::from_secs(1) / rate * number;
                thread::sleep(at.saturating_sub(begun.elapsed()));
                let request = Arc::clone(&request);
                let (results, slow) = (Arc::clone(&results), Arc::clone(&slow));
                requests.push(thread::spawn(move || {
                    let begun = Instant::now();
                    let result = request();
                    if result.is_ok() && begun.elapsed() > SLOW {
                        slow.fetch_add(1, Ordering::SeqCst);
                    }
                    results.lock().expect(UNPOISONED).push(result);
                }));
                requests.retain(|request| !request.is_finished());
            }
            for request in requests {
                let _ = request.join();
            }
        });
        Self {
            sender: Some(sender),
            ..load
        }
    }

    /// The number of requests that have been answered or have failed so far.
    pub fn count(&self) -> usize {
        self.results.lock().expect(UNPOISONED).len()
    }

    /// The number of answers so far that were slow.
    pub fn slow(&self) -> u64 {
        self.slow.load(Ordering::SeqCst)
    }

    /// Stops, and returns the answers and the failures.
    pub fn stop(mut self) -> (Vec<String>, Vec<String>) {
        self.stops.store(true, Ordering::SeqCst);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        let results = std::mem::take(&mut *self.results.lock().expect(UNPOISONED));
        let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        (
            good.into_iter().filter_map(Result::ok).collect(),
            bad.into_iter().filter_map(Result::err).collect(),
        )
    }
}

/// A port of this host that nobody has, another one at each call. It is below those that Linux gives to clients and
/// Docker to containers: any connection could take such a port between this call and its use.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another test program begins elsewhere.
    let begin = std::process::id().wrapping_mul(7919);
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = u16::try_from(FIRST + number % COUNT).expect("a small number");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
