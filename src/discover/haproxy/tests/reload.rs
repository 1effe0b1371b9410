//! Reloads, and what survives them.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{maint, make, server, servers, with_socket};
use crate::discover::haproxy::RunningServer;
use crate::discover::haproxy::testing::{Place, programs};
use crate::discover::refused::Refused;

#[tokio::test]
async fn a_reload_returns_when_the_new_worker_runs() {
    for program in programs() {
        let place = Place::new();
        let running = place.start(&program).await;
        let haproxy = place.haproxy();
        let before = haproxy.workers().await.unwrap();
        assert_eq!(
            (before.master, before.old.len(), before.reloads),
            (running.pid(), 0, 0)
        );
        // An old worker lives on for this connection.
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = upstream.local_addr().unwrap().port();
        make(&haproxy, &[server("c", port, ""), maint("a"), maint("b")]).await;
        let _client = UnixStream::connect(place.path("front")).unwrap();
        let _accepted = upstream.accept().unwrap();

        place.configure("backend more\n  server x 127.0.0.1:9\n");
        let begun = Instant::now();
        haproxy.reload().await.unwrap();
        let took = begun.elapsed();
        let after = haproxy.running().await.unwrap();
        assert!(
            after.backends.contains_key("more"),
            "the new worker answers at once"
        );
        let workers = haproxy.workers().await.unwrap();
        assert_eq!(
            (workers.master, workers.old.len(), workers.reloads),
            (before.master, 1, 1)
        );
        assert!(workers.current.is_some() && workers.current != before.current);
        eprintln!("{}: reloaded in {took:?}", haproxy.version().await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_configuration_keeps_the_old_worker() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        let version = haproxy.version().await.unwrap();
        let before = haproxy.workers().await.unwrap();
        make(&haproxy, &[maint("a")]).await;
        place.configure("backend more\n  nonsense here\n");
        for _ in 0..2 {
            match haproxy.reload().await {
                Err(Refused::Bad(log)) if (version.major, version.minor) < (2, 7) => {
                    assert!(log.is_empty(), "{log:?}");
                }
                Err(Refused::Bad(log)) => {
                    assert!(log.iter().any(|line| line.contains("nonsense")), "{log:?}");
                }
                other => panic!("{version}: {other:?}"),
            }
            let workers = haproxy.workers().await.unwrap();
            assert_eq!(
                (workers.current, workers.old.len()),
                (before.current, 0),
                "{version}"
            );
            assert!(servers(&haproxy).await.contains(&("a".to_owned(), true)));
        }
        place.configure("");
        haproxy.reload().await.unwrap();
        assert_ne!(haproxy.workers().await.unwrap().current, before.current);
    }
}

#[tokio::test]
async fn a_state_file_brings_back_the_rows_that_hold_and_no_others() {
    for program in programs() {
        let place = Place::new();
        let _running = place.start(&program).await;
        let haproxy = place.haproxy();
        make(&haproxy, &[maint("a"), maint("b")]).await;
        let holds =
            |backend: &str, server: &RunningServer| backend == "web" && &*server.name == "a";
        haproxy
            .write_state(&place.path("state"), holds)
            .await
            .unwrap();
        haproxy.reload().await.unwrap();
        let expected = [("a".to_owned(), true), ("b".to_owned(), false)];
        assert_eq!(servers(&haproxy).await, expected);

        let missing = place.path("missing").join("state");
        let error = haproxy.write_state(&missing, holds).await.unwrap_err();
        assert!(
            format!("{error:#}").starts_with("cannot write `"),
            "{error:#}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_master_that_does_not_come_back_from_a_reload_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let proc = b"12 master 0 [failed: 0] 0d0 2.6.12\n# workers\n13 worker 0 0d0 2.6.12\n";
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(proc).await.unwrap();
        // Until the question has been read.
        connection.read_to_end(&mut Vec::new()).await.unwrap();
        let (mut reload, _) = listener.accept().await.unwrap();
        reload.read_to_end(&mut Vec::new()).await.unwrap();
        // Before the connection ends, so that no further one is waiting.
        drop(listener);
    });
    let error = with_socket(&path).reload().await.unwrap_err();
    // The time that passes while a socket is waited for may end the first answer too.
    assert!(matches!(error, Refused::Unknown(_)), "{error:?}");
}
