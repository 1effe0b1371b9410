//! Gate and prober together, against services that are odd.

mod gate;
mod probe;
mod prober;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::wanted::check::{Kind, Probe, Tcp};
use crate::wanted::{Check, Claim, ContainerName, Entry};

/// A check whether `address` accepts a connection.
pub fn check(address: &str) -> Check {
    Check {
        probe: Some(Probe {
            address: address.into(),
            kind: Kind::Tcp(Tcp::default()),
        }),
        uptime: Duration::ZERO,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 3,
    }
}

/// A container with one key for each of these checks, and one without a check if it has none.
fn claim(name: &str, checks: &[Option<&Arc<Check>>]) -> Arc<Claim> {
    let entry = |(number, check): (usize, Option<&Arc<Check>>)| Entry {
        key: format!("/backends/{name}/{number}").into(),
        value: "1".into(),
        ttl: 60,
        shared: false,
        check: check.cloned(),
    };
    Arc::new(Claim {
        who: ContainerName {
            id: name.into(),
            name: name.into(),
        },
        age: "1".into(),
        entries: checks.iter().copied().enumerate().map(entry).collect(),
        unproven: [].into(),
    })
}

/// Starts a service that calls `answer` with each connection. Returns its address.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// One that reads a request and sends `answer`. It keeps the connection open if it is to hang.
async fn serve_text(answer: &'static str, hangs: bool) -> String {
    serve(move |mut stream| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        if hangs {
            std::future::pending::<()>().await;
        }
    })
    .await
}

/// An address that nobody listens on.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    listener.local_addr().expect("an address").to_string()
}
