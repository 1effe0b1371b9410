//! Refusals of Redis, in words.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::watching::await_change;
use super::*;
use crate::store::Tls;

#[tokio::test]
async fn a_denied_key_leaves_a_transaction_undone() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let rights = "~docker-register:* ~/b/* resetchannels +@all -@admin -config -info";
    store
        .ask(&format!("ACL SETUSER registrar on >secret {rights}"))
        .await;
    let settings = |password| Settings {
        user: Some(user("registrar", password)),
        ..process.settings()
    };
    let mut denied = RedisStore::new(settings("wrong"), SOON);
    let refused = error(denied.leases().await);
    assert!(
        refused.contains("DOCKER_REGISTER_STORE_PASSWORD"),
        "{refused}"
    );

    let mut store = RedisStore::new(settings("secret"), SOON);
    let lease = granted(&mut store, "denied", 60).await;
    let refused = error(put(&mut store, lease, &["/b/a", "/c/a"]).await);
    for words in [
        "cannot change `/b/a` and another key",
        "ACL SETUSER registrar",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(store.get("/b/a").await.expect("an answer"), None);
    put(&mut store, lease, &["/b/a"]).await.expect("a put");
    let keys = ["/b/a", "/c/a"].map(Key::from);
    assert_eq!(store.read(&keys).await.expect("keys").len(), 1);
    assert!(error(store.read(&keys[1..]).await).contains("cannot read `/c/a`"));
    // It may neither subscribe nor look at the settings, so a listing finds the change.
    let listing = store.scan("/b/").await.expect("keys");
    let watch = store.watch("/b/", listing.revision + 1).await;
    let mut watch = watch.expect("a watch without events");
    put(&mut store, lease, &["/b/b"]).await.expect("a put");
    assert_eq!(await_change(&mut watch, "put /b/b 1").await.len(), 1);
}

#[tokio::test]
async fn a_redis_with_full_memory_renews_and_deletes() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let lease = granted(&mut store, "full", 60).await;
    put(&mut store, lease, &["/b/a", "/b/b"])
        .await
        .expect("puts");
    store.ask("CONFIG SET maxmemory 1").await;
    let refused = error(put(&mut store, lease, &["/b/c"]).await);
    assert!(refused.contains("raise its `maxmemory`"), "{refused}");
    assert_eq!(store.renew(&[lease]).await.expect("a renewal").len(), 1);
    let transaction = Transaction {
        guards: vec![Guard::OnLease("/b/a".into(), lease)],
        steps: vec![Step::Delete("/b/a".into())],
    };
    store.transact(&transaction).await.expect("a delete");
    let left = store.scan("/b/").await.expect("keys").keys;
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn other_servers_and_settings_are_refused_in_words() {
    let Some(process) = Process::start(&["--requirepass", "secret", "--databases", "2"]).await
    else {
        return;
    };
    let refused = async |settings: Settings| {
        let mut store = RedisStore::new(settings, SOON);
        store.leases().await.expect_err("refused").to_string()
    };
    let none = refused(process.settings()).await;
    assert!(none.contains("--store-password-file"), "{none}");
    let known = Settings {
        user: Some(user("default", "secret")),
        ..process.settings()
    };
    let wrong = refused(Settings {
        db: 2,
        ..known.clone()
    })
    .await;
    assert!(wrong.contains("it has no database 2"), "{wrong}");
    // It waits for the rest of a line.
    let with_tls = Settings {
        tls: Some(Tls::default()),
        ..known.clone()
    };
    let mut tls = RedisStore::new(with_tls, Duration::from_secs(1));
    let tls = tls.leases().await.expect_err("refused").to_string();
    assert!(tls.contains("redis://"), "{tls}");

    let (host, port) = process.address().split_once(':').expect("a port");
    let replica = Process::start(&["--replicaof", host, port, "--masterauth", "secret"]).await;
    let replica = replica.expect("it is installed");
    let refused = refused(replica.settings()).await;
    assert!(
        refused.contains("is a replica") || refused.contains("loading"),
        "{refused}"
    );
    // The next server is used.
    let both = [replica.address(), process.address()].map(str::to_owned);
    let place = Place::Servers(both.to_vec());
    let mut store = RedisStore::new(Settings { place, ..known }, SOON);
    assert_eq!(store.ways(), 2);
    let begun = Instant::now();
    while let Err(error) = store.leases().await {
        assert!(matches!(error, StoreError::Failed(_)), "{error}");
        assert!(begun.elapsed() < SOON, "{error}");
    }
}

#[tokio::test]
async fn a_cluster_is_refused() {
    let Some(process) = Process::start(&["--cluster-enabled", "yes"]).await else {
        return;
    };
    let refused = error(process.store().leases().await);
    assert!(refused.contains("part of a cluster"), "{refused}");
}

/// Makes certificates in a directory: a CA, and one for the server and one for us that it has signed.
fn make_certificates(directory: &Path) {
    let openssl = |args: &str| {
        let command = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(directory)
            .output();
        let output = command.expect("openssl is there");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    fs::write(
        directory.join("names"),
        "subjectAltName=IP:127.0.0.1,DNS:redis.test\n",
    )
    .expect("a file");
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.crt",
    );
    for name in ["server", "client"] {
        openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.crt"
        ));
    }
}

#[tokio::test]
async fn tls_needs_the_right_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    make_certificates(directory.path());
    let (ca, cert, key) = (path("ca.crt"), path("server.crt"), path("server.key"));
    let text = |path: &Path| path.display().to_string();
    let files = [text(&ca), text(&cert), text(&key)];
    let Some(process) = Process::start_tls(&files).await else {
        return;
    };
    let settings = |tls| Settings {
        tls: Some(tls),
        ..process.settings()
    };
    let good = Tls {
        authorities: Some(ca.clone()),
        identity: Some((path("client.crt"), path("client.key"))),
        server_name: None,
    };
    let mut store = RedisStore::new(settings(good.clone()), SOON);
    store.leases().await.expect("an answer over TLS");
    let refused = async |tls| {
        let mut store = RedisStore::new(settings(tls), SOON);
        store.leases().await.expect_err("refused").to_string()
    };
    let without = refused(Tls {
        identity: None,
        ..good.clone()
    })
    .await;
    assert!(without.contains("--store-cert FILE"), "{without}");
    let named = refused(Tls {
        server_name: Some("other.test".to_owned()),
        ..good.clone()
    })
    .await;
    assert!(
        named.contains("is for") && named.contains("`other.test`"),
        "{named}"
    );
    let unsigned = refused(Tls {
        authorities: Some(path("client.crt")),
        ..good.clone()
    })
    .await;
    assert!(unsigned.contains("is not signed by a CA"), "{unsigned}");
    let missing = refused(Tls {
        authorities: Some(path("none")),
        ..good
    })
    .await;
    assert!(missing.contains("cannot read Redis's CA"), "{missing}");
    let plain = RedisStore::new(process.settings(), SOON)
        .leases()
        .await
        .expect_err("refused");
    assert!(plain.to_string().contains("rediss://"), "{plain}");
}
