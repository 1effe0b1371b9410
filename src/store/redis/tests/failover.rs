//! Failover by Sentinel: the promoted replica is found, with the keys that it had.

use std::fs;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn the_primary_is_the_one_that_sentinel_names() {
    let Some(primary) = Process::start(&[]).await else {
        return;
    };
    let (host, port) = primary.address().split_once(':').expect("a port");
    let replica = Process::start(&["--replicaof", host, port]).await;
    let replica = replica.expect("it is installed");
    let sentinel = Sentinel::start(&format!("{host} {port}"));
    let settings = |master: &str| Settings {
        place: Place::Sentinel {
            sentinels: vec!["127.0.0.1:1".to_owned(), sentinel.address.clone()],
            master: master.to_owned(),
        },
        ..primary.settings()
    };
    let mut unknown = RedisStore::new(settings("other"), SOON);
    let mut store = RedisStore::new(settings("mymaster"), SOON);
    let begun = Instant::now();
    // The first sentinel refuses connections, and the second one may not be up yet.
    while let Err(error) = store.leases().await {
        assert!(begun.elapsed() < SOON, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
    let _ = unknown.leases().await;
    let error = unknown
        .leases()
        .await
        .expect_err("it is unknown")
        .to_string();
    assert!(
        error.contains("knows no primary with the name `other`"),
        "{error}"
    );

    let lease = granted(&mut store, "failover", 60).await;
    put(&mut store, lease, &["/b/a"]).await.expect("a put");
    store.ask("WAIT 1 10000").await;
    drop(primary);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < SOON, "no failover");
        if store.get("/b/a").await.is_ok() && store.renew(&[lease]).await.is_ok() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let mut promoted = replica.store();
    assert_eq!(
        promoted.get("/b/a").await.expect("a key").as_deref(),
        Some("1")
    );
}

/// A sentinel of its own, which is killed on drop.
struct Sentinel {
    child: Child,
    address: String,
    _directory: TempDir,
}

impl Sentinel {
    /// Starts one that watches the primary at `host port`.
    fn start(primary: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let bound = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = bound.local_addr().expect("a port");
        drop(bound);
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster {primary} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n",
            address.port(),
            directory.path().display()
        );
        let file = directory.path().join("sentinel.conf");
        fs::write(&file, text).expect("a file");
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdout(log)
            .spawn();
        Self {
            child: child.expect("it is installed"),
            address: address.to_string(),
            _directory: directory,
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
