//! `--listen` with slow, silent or strange clients: they delay neither a health check nor the registrar's work.

use crate::common;

use common::{
    Page, Registrar, SOON, TestBed, docker_of, eventually, get, in_step, inspection, let_time_pass,
};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Port 0 is a free one.
const ANY: &str = "127.0.0.1:0";

/// The time limit of a health check.
const IN_TIME: Duration = Duration::from_secs(1);

/// The limit of additional descriptors: 64 connections, one that waits for a place, and those that Docker and etcd
/// need at times.
const MOST: usize = 70;

fn descriptors(registrar: &Registrar) -> usize {
    let directory = format!("/proc/{}/fd", registrar.pid());
    std::fs::read_dir(directory).expect("it runs").count()
}

/// Asks for a path, and checks that the answer comes in time.
#[track_caller]
fn ask_in_time(address: &str, path: &str) -> Page {
    let begun = Instant::now();
    let page = get(address, path);
    let took = begun.elapsed();
    assert!(took < IN_TIME, "{path} took {took:?}");
    page
}

/// A connection on which reads end after [`SOON`].
fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a time limit");
    stream
}

/// Reads a connection to its end, which may be a reset.
fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it does not end: {error}"),
    }
    String::from_utf8(bytes).expect("text")
}

/// Sends bytes, and returns the whole answer.
fn say(address: &str, text: &str) -> String {
    let mut stream = connect(address);
    // The server may close before all is sent.
    let _ = stream.write_all(text.as_bytes());
    read_to_end(&mut stream)
}

/// Holds many connections that never finish a request, until it is stopped. Half of them send a byte per second, the
/// others nothing. A closed one is replaced at once. Returns the number of connections made.
fn be_slow(address: &str, over: &AtomicBool) -> usize {
    let open = || {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nonblocking(true).expect("a mode");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..200).map(|_| open()).collect();
    let (mut made, mut spoken) = (streams.len(), Instant::now());
    while !over.load(Ordering::Relaxed) {
        let speak = spoken.elapsed() >= Duration::from_secs(1);
        if speak {
            spoken = Instant::now();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            if speak && index % 2 == 0 {
                let _ = stream.write(b"G");
            }
            let is_open =
                matches!(stream.read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
            if !is_open {
                *stream = open();
                made += 1;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    made
}

#[test]
fn two_hundred_slow_clients_keep_nobody_from_a_health_check() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let docker = docker_of(
        (0..3)
            .map(|n| inspection(n, "web", 20_000 + 2 * n))
            .collect(),
    );
    let registrar = bed.registrar_of(&docker).flag("--listen", ANY);
    let registrar = in_step(&registrar.flag("--ttl", TTL.to_string()));
    let address = registrar.address();
    let (keys, revision) = (bed.keys(), bed.etcd.revision());
    assert_eq!(ask_in_time(&address, "/readyz").status, 200);
    let before = descriptors(&registrar);
    let over = AtomicBool::new(false);
    let made = thread::scope(|scope| {
        let slow = scope.spawn(|| be_slow(&address, &over));
        // The thread must end after a failure too, because the scope waits for it.
        let checks = scope.spawn(|| {
            let (begun, mut checks) = (Instant::now(), 0);
            while begun.elapsed() < 2 * Duration::from_secs(TTL.into()) {
                for path in ["/readyz", "/healthz"] {
                    assert_eq!(ask_in_time(&address, path).status, 200);
                    let open = descriptors(&registrar).saturating_sub(before);
                    assert!(open <= MOST, "{open} more descriptors");
                    checks += 1;
                }
            }
            checks
        });
        let checks = checks.join();
        over.store(true, Ordering::Relaxed);
        let made = slow.join().expect("slow clients");
        assert!(checks.expect("health checks in time") > 10);
        made
    });
    assert!(made > 400, "none was displaced: {made}");
    assert_eq!((bed.keys(), bed.etcd.revision()), (keys, revision));
    eventually(SOON, "the connections to end", || {
        descriptors(&registrar) <= before
    });
    assert!(registrar.terminate().success());
}

#[test]
fn a_request_that_does_not_come_is_waited_for_two_seconds() {
    let bed = TestBed::new();
    let docker = docker_of(Vec::new());
    let registrar = in_step(&bed.registrar_of(&docker).flag("--listen", ANY));
    let address = registrar.address();
    // Empty lines before a request are not part of its head.
    for text in ["", "GET /healthz HTTP/1.1\r\nHost: test\r\n", "\r\n\r\n"] {
        let begun = Instant::now();
        say(&address, text);
        let took = begun.elapsed();
        let in_time = Duration::from_millis(1_900)..Duration::from_secs(4);
        assert!(in_time.contains(&took), "{text:?}: {took:?}");
    }
}

#[test]
fn strange_clients_have_one_answer_and_do_no_harm() {
    let bed = TestBed::new();
    let docker = docker_of(
        (0..50)
            .map(|n| inspection(n, "web", 20_000 + 2 * n))
            .collect(),
    );
    let registrar = in_step(&bed.registrar_of(&docker).flag("--listen", ANY));
    let address = registrar.address();
    ask_in_time(&address, "/readyz");
    let before = descriptors(&registrar);
    let begun = Instant::now();
    let is_last = |answer: &str| {
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    };

    // A client that would keep its connection open.
    let answer = say(&address, "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n");
    is_last(&answer);
    assert!(answer.ends_with("\r\n\r\nalive\n"), "{answer}");
    is_last(&say(
        &address,
        "GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n",
    ));

    let head = say(&address, "HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    is_last(&head);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "a body: {head}");

    let twice = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2);
    is_last(&say(&address, &twice));

    let long = format!("GET / HTTP/1.1\r\nLong: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = say(&address, &long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );

    let mut in_pieces = connect(&address);
    for piece in ["GET /healthz HTTP/1.1\r", "\nHost: test\r\n\r", "\n"] {
        let_time_pass(Duration::from_millis(100));
        in_pieces.write_all(piece.as_bytes()).expect("it listens");
    }
    assert!(read_to_end(&mut in_pieces).ends_with("alive\n"));
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "one was waited for: {took:?}"
    );

    // Clients that do not read their answers, and one that reads slowly.
    let page = get(&address, "/").body;
    let mut deaf: Vec<TcpStream> = (0..100).map(|_| connect(&address)).collect();
    for stream in &mut deaf {
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        asked.expect("it listens");
    }
    assert_eq!(ask_in_time(&address, "/healthz").status, 200);
    let slow = deaf.last_mut().expect("one of them");
    let mut first = [0; 512];
    slow.read_exact(&mut first).expect("an answer");
    let_time_pass(Duration::from_secs(3));
    let rest = read_to_end(slow);
    let end = &page[page.len() - 100..];
    assert!(rest.ends_with(end), "it was cut off: {rest}");
    drop(deaf);
    eventually(SOON, "the connections to end", || {
        descriptors(&registrar) <= before
    });
    assert!(registrar.terminate().success());
}
