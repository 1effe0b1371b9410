//! Sockets that are missing, silent, or another program's.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use super::{eventually, ready, with_socket};
use crate::discover::haproxy::testing::{Place, programs};
use crate::discover::haproxy::{Haproxy, LIMIT, Sockets, failure};

#[tokio::test]
async fn the_masters_socket_is_not_taken_for_the_workers() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let swapped = Haproxy::new(Sockets {
            stats: place.path("master"),
            master: Some(place.path("stats")),
        });
        let error = swapped.running().await.unwrap_err().to_string();
        assert!(
            error.contains("is the socket of HAProxy's master; pass it to"),
            "{error}"
        );
        let error = swapped.workers().await.unwrap_err().to_string();
        assert!(error.contains("is not HAProxy's"), "{error}");
    }
}

async fn errors(haproxy: &Haproxy) -> [String; 4] {
    let state = Path::new("/dev/null");
    [
        haproxy.running().await.unwrap_err().to_string(),
        haproxy
            .carry_out(&[ready("a")])
            .await
            .unwrap_err()
            .to_string(),
        haproxy
            .write_state(state, |_, _| true)
            .await
            .unwrap_err()
            .to_string(),
        haproxy.reload().await.unwrap_err().to_string(),
    ]
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_named_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    for error in errors(&with_socket(&path)).await {
        assert!(
            error.contains("does not exist; start HAProxy, or correct"),
            "{error}"
        );
    }
    drop(UnixListener::bind(&path).unwrap());
    // A child that another test starts has the socket until it executes its program.
    eventually("a socket without a listener", async || {
        UnixStream::connect(&path).is_err()
    })
    .await;
    for error in errors(&with_socket(&path)).await {
        assert!(error.contains("nobody listens on"), "{error}");
    }
    let none = Haproxy::new(Sockets {
        stats: path.clone(),
        master: None,
    });
    let error = none.reload().await.unwrap_err().to_string();
    assert!(
        error.contains("pass the same to `--master-socket`"),
        "{error}"
    );
    // Made here, because root may open every socket.
    let why = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = failure::unreachable(&path, &why).to_string();
    assert!(error.contains("may not be opened"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_never_answers_ends_the_call() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _silent = UnixListener::bind(&path).unwrap();
    let begun = tokio::time::Instant::now();
    for error in errors(&with_socket(&path)).await {
        assert!(
            error.contains("within 2 s; if this lasts, it hangs: restart it"),
            "{error}"
        );
    }
    assert!(begun.elapsed() < 5 * LIMIT);
}

#[tokio::test]
async fn a_socket_of_another_program_is_named() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "?", "SSH-2.0-x\r\n"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for connection in listener.incoming().take(4) {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 100]).unwrap();
                connection.write_all(answer.as_bytes()).unwrap();
            }
        });
        for error in errors(&with_socket(&path)).await {
            let named = error.contains("is not HAProxy's: `") || error.contains("HAProxy closed `");
            assert!(named, "{error}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.read(&mut [0; 100]).unwrap();
        connection.write_all(b"\n> 1\n# be_id be_na").unwrap();
    });
    let error = with_socket(&path).running().await.unwrap_err().to_string();
    assert!(
        error.contains("before it answered `show servers state`"),
        "{error}"
    );
}
