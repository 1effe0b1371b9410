//! Each call, with every real `HAProxy` that there is.

mod changes;
mod faults;
mod reload;

use std::path::Path;
use std::time::{Duration, Instant};

use super::testing::SOON;
use super::{Change, Haproxy, Sockets};
use crate::routes::Server;

fn server(name: &str, port: u16, options: &str) -> Change {
    Change::Add {
        backend: "web".into(),
        server: Server {
            name: name.into(),
            address: ([127, 0, 0, 1], port).into(),
            options: options.into(),
        },
    }
}

fn maint(name: &str) -> Change {
    let (backend, name) = ("web".into(), name.into());
    Change::Maint { backend, name }
}

fn ready(name: &str) -> Change {
    let (backend, name) = ("web".into(), name.into());
    Change::Ready { backend, name }
}

fn delete(name: &str) -> Change {
    let (backend, name) = ("web".into(), name.into());
    Change::Delete { backend, name }
}

fn disable(frontend: &str) -> Change {
    let frontend = frontend.into();
    Change::Disable { frontend }
}

fn enable(frontend: &str) -> Change {
    let frontend = frontend.into();
    Change::Enable { frontend }
}

async fn make(haproxy: &Haproxy, changes: &[Change]) {
    let refusals = haproxy.carry_out(changes).await.unwrap();
    assert_eq!(refusals, [], "{changes:?}");
}

async fn servers(haproxy: &Haproxy) -> Vec<(String, bool)> {
    let running = haproxy.running().await.unwrap();
    let servers = running.backends["web"].values();
    let seen = servers.map(|it| (it.name.to_string(), it.is_maint));
    seen.collect()
}

/// Polls until `holds`.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Both sockets are the same.
fn with_socket(path: &Path) -> Haproxy {
    Haproxy::new(Sockets {
        stats: path.to_owned(),
        master: Some(path.to_owned()),
    })
}
