//! Probes of services that answer, and of those that do so oddly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::unbounded_channel;

use super::{check, nobody, serve, serve_text};
use crate::checks::probe::{Client, Outcome};
use crate::wanted::Check;
use crate::wanted::check::{ANY_GOOD_STATUS, Http, Kind, Probe, Tcp};

fn http(address: &str) -> Check {
    let http = Http {
        tls: None,
        path: "/health".into(),
        method: "GET".into(),
        host: None,
        headers: Vec::new(),
        status: ANY_GOOD_STATUS.to_vec(),
    };
    with(address, Kind::Http(http))
}

fn with(address: &str, kind: Kind) -> Check {
    Check {
        probe: Some(Probe {
            address: address.into(),
            kind,
        }),
        timeout: Duration::from_millis(300),
        ..check(address)
    }
}

async fn outcome(check: &Check) -> Outcome {
    Client::default().probe(check).await
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed(why.to_owned())
}

#[tokio::test]
async fn http_answers_are_judged_whole() {
    let silent = || Outcome::Silent("no whole answer in 0.3 s".to_owned());
    let closes = || failed("it closes the connection before it has answered");
    for (answer, hangs, expected) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            true,
            Outcome::Passed,
        ),
        ("HTTP/1.0 204 No Content\r\n\r\n", false, Outcome::Passed),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\ncontent-length: 0\r\n\r\n",
            true,
            Outcome::Passed,
        ),
        (
            "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
            true,
            failed("its status is 500"),
        ),
        (
            "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
            true,
            failed("its status is 404"),
        ),
        ("", true, silent()),
        ("", false, closes()),
        ("HTTP/1.1 20", true, silent()),
        ("HTTP/1.1 20", false, closes()),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            true,
            silent(),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            false,
            closes(),
        ),
        (
            "220 smtp.example ready\r\n",
            true,
            failed("its answer is not HTTP"),
        ),
    ] {
        let address = serve_text(answer, hangs).await;
        assert_eq!(outcome(&http(&address)).await, expected, "{answer:?}");
    }
    let refused = failed("connection refused");
    assert_eq!(outcome(&http(&nobody().await)).await, refused);
}

#[tokio::test]
async fn an_answer_without_an_end_is_no_answer() {
    let endless = |head: &'static str, line: &'static str| {
        serve(move |mut stream| async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(line.as_bytes()).await.is_ok() {}
        })
    };
    let body = endless("HTTP/1.1 200 OK\r\n\r\n", "and so on, ").await;
    assert!(matches!(outcome(&http(&body)).await, Outcome::Silent(_)));
    let head = endless("HTTP/1.1 200 OK\r\n", "x: y\r\n").await;
    let outcome = outcome(&http(&head)).await;
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.contains("head of its answer") || why.contains("not HTTP")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn redirects_to_the_same_address_are_followed_to_their_end() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = serve(move |mut stream| {
        let seen = Arc::clone(&count);
        async move {
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            seen.fetch_add(1, Ordering::Relaxed);
            let answer = if request.starts_with("GET /health ") {
                "HTTP/1.1 301 Moved\r\nlocation: /ready?full=1\r\ncontent-length: 0\r\n\r\n"
            } else if request.starts_with("GET /ready?full=1 ") {
                "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 302 Found\r\nlocation: /circle\r\ncontent-length: 0\r\n\r\n"
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let at = |path: &str, status: Vec<_>| {
        let mut check = http(&address);
        if let Some(Kind::Http(http)) = check.probe.as_mut().map(|probe| &mut probe.kind) {
            http.path = path.into();
            http.status = status;
        }
        check
    };
    let any = || ANY_GOOD_STATUS.to_vec();
    assert_eq!(
        outcome(&at("/health", any())).await,
        failed("its status is 503")
    );
    assert_eq!(
        outcome(&at("/circle", any())).await,
        failed("it redirects more than 5 times, the last time to `/circle`")
    );
    seen.store(0, Ordering::Relaxed);
    // A status that is asked for is that of the path itself.
    assert_eq!(
        outcome(&at("/health", vec![301..=301])).await,
        Outcome::Passed
    );
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_request_has_the_method_the_host_and_the_headers() {
    let (sender, mut requests) = unbounded_channel();
    let address = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let _ = sender.send(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    })
    .await;
    let mut check = http(&address);
    if let Some(Kind::Http(http)) = check.probe.as_mut().map(|probe| &mut probe.kind) {
        http.method = "HEAD".into();
        http.host = Some("shop.example".into());
        http.headers = vec![("X-Probe".into(), "1".into())];
    }
    assert_eq!(outcome(&check).await, Outcome::Passed);
    let request = requests.recv().await.expect("a request").to_lowercase();
    assert!(
        request.starts_with("head /health http/1.1\r\n"),
        "{request}"
    );
    for line in [
        "host: shop.example\r\n",
        "x-probe: 1\r\n",
        "connection: close\r\n",
    ] {
        assert!(request.contains(line), "{request}");
    }
}

#[tokio::test]
async fn tcp_sends_and_expects() {
    let ping = |expect: &str| {
        Kind::Tcp(Tcp {
            send: "PING\r\n".into(),
            expect: expect.into(),
        })
    };
    let redis = serve_text("+PONG\r\n", true).await;
    assert_eq!(outcome(&with(&redis, ping("+PONG"))).await, Outcome::Passed);
    assert_eq!(
        outcome(&with(&redis, ping("-LOADING"))).await,
        Outcome::Silent("no whole answer in 0.3 s".to_owned())
    );
    let ends = serve_text("-ERR\r\n", false).await;
    assert_eq!(
        outcome(&with(&ends, ping("+PONG"))).await,
        failed("its answer is `-ERR\\r\\n`, without `+PONG`")
    );
    let says_nothing = serve_text("", false).await;
    assert_eq!(
        outcome(&with(&says_nothing, ping("+PONG"))).await,
        failed("its answer is empty, without `+PONG`")
    );
    // In pieces, after other text.
    let slow = serve(|mut stream| async move {
        for piece in ["much else ", "+P", "ON", "G"] {
            let _ = stream.write_all(piece.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(outcome(&with(&slow, ping("+PONG"))).await, Outcome::Passed);
    let endless =
        serve(|mut stream| async move { while stream.write_all(&[b'x'; 1000]).await.is_ok() {} })
            .await;
    let Outcome::Failed(why) = outcome(&with(&endless, ping("+PONG"))).await else {
        panic!("it has no end");
    };
    assert!(why.starts_with("the first 65536 bytes"), "{why}");
    // A connection alone.
    let plain = Kind::Tcp(Tcp::default());
    assert_eq!(
        outcome(&with(&says_nothing, plain.clone())).await,
        Outcome::Passed
    );
    assert_eq!(
        outcome(&with(&nobody().await, plain)).await,
        failed("connection refused")
    );
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_says_nothing_about_the_service() {
    let outcome = outcome(&with("no-such-host.invalid:80", Kind::Tcp(Tcp::default()))).await;
    assert!(
        matches!(outcome, Outcome::Unasked(_) | Outcome::Silent(_)),
        "{outcome:?}"
    );
}
