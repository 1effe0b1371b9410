//! A real Redis and a real Valkey keep the promises of every store, except for the stated differences; watches show every
//! change; and refusals say what to do.

use std::fs;
use std::process::{Child, Command};

use redis::Value;
use tokio::time::{Instant, sleep, timeout};

use super::process::{Process, SOON, programs, user};
use super::*;
use crate::base::calls::Calls;
use crate::store::conformance::{Bench, check};
use crate::store::{Change, Changes, Guard, Identity, On, Step, StoreError, Tls, Watching as _};

impl Bench for RedisStore {
    fn connect(&self) -> Self {
        let (settings, limit) = (self.connection.settings(), self.connection.limit());
        Self::new(settings.clone(), limit)
    }

    async fn put_by_hand(&mut self, key: &str, value: &str) {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value);
        let put = self.connection.call(&Request::Command(set)).await;
        put.expect("a put");
    }
}

/// Puts keys on a lease, with the value `1`.
async fn put(store: &mut RedisStore, lease: LeaseId, keys: &[&str]) -> Result<Outcome, StoreError> {
    let steps = keys.iter().map(|key| Step::Put((*key).into(), "1".into(), lease));
    let transaction = Transaction {
        guards: Vec::new(),
        steps: steps.collect(),
    };
    store.transact(&transaction).await
}

async fn granted(store: &mut RedisStore, name: &str, ttl: u32) -> LeaseId {
    let lease = Identity::new(name, "").lease(ttl);
    store.grant(&[lease]).await.expect("a lease");
    lease
}

async fn next(watch: &mut RedisWatch) -> Result<Changes, StoreError> {
    let next = timeout(SOON, watch.next()).await;
    next.expect("the watch gets changes")
}

/// The next changes in words, up to the one that is wanted.
async fn await_change(watch: &mut RedisWatch, wanted: &str) -> Vec<String> {
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != wanted) {
        let changes = next(watch).await.expect("changes").changes;
        told.extend(changes.into_iter().map(|change| match change {
            Change::Put(found) => format!("put {} {}", found.key, found.value),
            Change::Delete(key) => format!("delete {key}"),
        }));
    }
    told
}

fn error<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result.expect_err("it is refused") {
        StoreError::Refused(error) => format!("{error:#}"),
        other => panic!("no refusal, but {other}"),
    }
}

#[tokio::test]
async fn redis_and_valkey_keep_every_promise() {
    for program in programs() {
        let process = Process::start_program(&program, &[]).await;
        check(&process.store()).await;
    }
}

#[tokio::test]
async fn a_lease_with_more_keys_than_a_call_is_renewed_and_ended_whole() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let lease = granted(&mut store, "large", 60).await;
    let keys: Vec<String> = (0..4500).map(|number| format!("/b/{number:04}")).collect();
    for keys in keys.chunks(MAX_OPERATIONS) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        put(&mut store, lease, &keys).await.expect("puts");
    }
    let before = store.ask("PTTL /b/0000").await;
    sleep(Duration::from_millis(50)).await;
    let renewed = store.renew(&[lease]).await.expect("a renewal");
    assert_eq!(renewed, [(lease, 60)].into());
    assert!(matches!((before, store.ask("PTTL /b/0000").await), (Value::Int(a), Value::Int(b)) if b > a - 50));
    let mut deadlines = Vec::new();
    for key in ["/b/0000", "/b/2222", "/b/4499"] {
        deadlines.push(store.ask(&format!("PEXPIRETIME {key}")).await);
    }
    deadlines.dedup();
    assert_eq!(deadlines.len(), 1, "{deadlines:?}");
    let found = store.lookup(lease).await.expect("an answer").expect("it exists");
    assert_eq!(found.keys.len(), keys.len());
    assert_eq!(store.leased_in(&["/b/".into()]).await.expect("keys").len(), keys.len());
    assert_eq!(store.scan("/b/").await.expect("keys").keys.len(), keys.len());
    store.revoke(lease).await.expect("an end");
    assert_eq!(store.scan("").await.expect("keys").keys, []);
    assert_eq!(store.ask("ZCARD docker-register:index").await, Value::Int(0));
}

#[tokio::test]
async fn a_seat_is_renewed_by_its_holder_alone() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let seat = Identity::new("a seat", "").seat();
    assert!(store.grant_new(seat, 60).await.expect("an answer"));
    assert!(store.renew(&[seat]).await.expect("an answer").contains_key(&seat));
    // Another process has it.
    let mut set = redis::cmd("HSET");
    set.arg("docker-register:grants").arg(seat.to_string()).arg("60 another");
    store.connection.call(&Request::Command(set)).await.expect("a change");
    assert!(store.renew(&[seat]).await.expect("an answer").is_empty());
    let found = store.lookup(seat).await.expect("an answer").expect("it exists");
    assert_eq!(found.granted, 60);
    assert!(!store.grant_new(seat, 60).await.expect("an answer"));
}

#[tokio::test]
async fn keys_of_other_programs_are_strangers() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let lease = granted(&mut store, "strangers", 60).await;
    put(&mut store, lease, &["/b/a", "/b/b"]).await.expect("puts");
    store.ask("LPUSH /b/list 1").await;
    store.ask("SET /b/timed 1 EX 100").await;
    store.ask("SET /b/a 1").await;
    store.ask("SET /b/b 2 EX 100").await;
    let keys = ["/b/a", "/b/b", "/b/list", "/b/timed"].map(Key::from);
    let found = store.read(&keys).await.expect("keys");
    let on: Vec<String> = found.iter().map(|found| found.on.to_string()).collect();
    let wanted = ["on no lease", "a key with another TTL", "a key of the type `list`", "a key with another TTL"];
    assert_eq!(on, wanted);
    let listing = store.scan("/b/").await.expect("keys");
    let listed: Vec<&str> = listing.keys.iter().map(|found| &*found.key).collect();
    assert_eq!(listed, ["/b/a", "/b/b", "/b/timed"], "strings alone");
    assert!(error(store.get("/b/list").await).contains("cannot read `/b/list`"));
    // A stranger's key is guarded against, whatever its type.
    for key in &keys[1..] {
        for guard in [Guard::Missing(key.clone()), Guard::OnLease(key.clone(), lease), Guard::Loose(key.clone(), "1".into())] {
            let transaction = Transaction {
                guards: vec![guard],
                steps: vec![Step::Put(key.clone(), "1".into(), lease)],
            };
            let outcome = store.transact(&transaction).await.expect("an answer");
            assert_eq!(outcome, Outcome::GuardFailed);
        }
    }
    let renewed = store.renew(&[lease]).await.expect("an answer");
    assert_eq!(renewed.len(), 1);
    assert_eq!(store.ask("PTTL /b/a").await, Value::Int(-1), "a renewal leaves it alone");
}

#[tokio::test]
async fn a_prefix_has_no_patterns_in_it() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    for key in ["/b*/a", "/bx/a", "/b[x]/a", "/b?/a"] {
        store.put_by_hand(key, "1").await;
    }
    for prefix in ["/b*/", "/b[x]/", "/b?/"] {
        let listing = store.scan(prefix).await.expect("keys");
        assert_eq!(listing.keys.len(), 1, "{prefix}");
        assert_eq!(listing.keys[0].on, On::Nothing);
    }
    assert_eq!(store.get("/bx/a").await.expect("a key").as_deref(), Some("1"));
    assert_eq!(store.get("/none").await.expect("an answer"), None);
}

#[tokio::test]
async fn a_denied_key_leaves_a_transaction_undone() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let rights = "~docker-register:* ~/b/* resetchannels +@all -@admin -config -info";
    store.ask(&format!("ACL SETUSER registrar on >secret {rights}")).await;
    let settings = |password| Settings {
        user: Some(user("registrar", password)),
        ..process.settings()
    };
    let mut denied = RedisStore::new(settings("wrong"), SOON);
    let refused = error(denied.leases().await);
    assert!(refused.contains("DOCKER_REGISTER_STORE_PASSWORD"), "{refused}");

    let mut store = RedisStore::new(settings("secret"), SOON);
    let lease = granted(&mut store, "denied", 60).await;
    let refused = error(put(&mut store, lease, &["/b/a", "/c/a"]).await);
    for words in ["cannot change `/b/a` and another key", "ACL SETUSER registrar"] {
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
    put(&mut store, lease, &["/b/a", "/b/b"]).await.expect("puts");
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
    let Some(process) = Process::start(&["--requirepass", "secret", "--databases", "2"]).await else {
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
    let wrong = refused(Settings { db: 2, ..known.clone() }).await;
    assert!(wrong.contains("it has no database 2"), "{wrong}");
    let tls = refused(Settings { tls: Some(Tls::default()), ..known.clone() }).await;
    assert!(tls.contains("CA") || tls.contains("TLS"), "{tls}");

    let replica = process.address().replace(':', " ");
    let replica = Process::start(&["--replicaof", &replica, "--masterauth", "secret"]).await;
    let replica = replica.expect("it is installed");
    let refused = refused(replica.settings()).await;
    assert!(refused.contains("is a replica") || refused.contains("loading"), "{refused}");
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

#[tokio::test]
async fn a_watch_goes_on_where_a_listing_ends() {
    for program in programs() {
        let process = Process::start_program(&program, &[]).await;
        let (mut store, mut other) = (process.store(), process.store());
        let lease = granted(&mut store, "a watch", 60).await;
        put(&mut store, lease, &["/b/before", "/b/stays"]).await.expect("puts");
        let listing = store.scan("/b/").await.expect("keys");
        // Changes before the watch begins are in neither the listing nor lost.
        put(&mut other, lease, &["/b/a"]).await.expect("a put");
        other.ask("DEL /b/before").await;
        let watch = store.watch("/b/", listing.revision + 1).await;
        let mut watch = watch.expect("a watch");
        let first = next(&mut watch).await.expect("changes");
        assert_eq!(first.revision, listing.revision + 1);
        assert_eq!(first.changes[0], Change::Delete("/b/before".into()));
        assert!(matches!(&first.changes[1..], [Change::Put(found)] if found.on == On::Lease(lease)));

        // A renewal, a change outside and a put of the same are no change.
        other.renew(&[lease]).await.expect("a renewal");
        other.put_by_hand("/bb", "1").await;
        put(&mut other, lease, &["/b/a"]).await.expect("a put");
        other.put_by_hand("/b/hand", "1").await;
        assert_eq!(await_change(&mut watch, "put /b/hand 1").await.len(), 1);
        let begun = Instant::now();
        other.revoke(lease).await.expect("an end");
        let mut told = await_change(&mut watch, "delete /b/stays").await;
        told.sort();
        assert_eq!(told, ["delete /b/a", "delete /b/stays"]);
        assert!(begun.elapsed() < Duration::from_secs(4), "told of, and not found by a listing");
    }
}

#[tokio::test]
async fn a_watch_finds_what_redis_does_not_tell() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let (mut store, mut other) = (process.store(), process.store());
    let mut watch = store.watch("/b/", 1).await.expect("a watch");
    other.ask("CONFIG SET notify-keyspace-events x").await;
    other.put_by_hand("/b/a", "1").await;
    assert_eq!(await_change(&mut watch, "put /b/a 1").await.len(), 1);
    // Without being asked for them, Redis deletes expired keys when it comes across them.
    other.ask("DEBUG SET-ACTIVE-EXPIRE 0").await;
    let lease = granted(&mut other, "expires", 1).await;
    put(&mut other, lease, &["/b/b"]).await.expect("a put");
    await_change(&mut watch, "delete /b/b").await;
}

#[tokio::test]
async fn a_watch_of_a_redis_that_hangs_or_ends_fails() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    store.limit_calls(Duration::from_secs(1));
    let mut watch = store.watch("/b/", 1).await.expect("a watch");
    // While nothing changes, Redis is asked for a sign of life again and again.
    let quiet = timeout(Duration::from_millis(2500), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert!(watch.heard_at().elapsed() < Duration::from_millis(2400));
    process.freeze();
    let begun = Instant::now();
    let error = next(&mut watch).await.expect_err("nobody answers");
    assert!(error.to_string().contains("did not answer"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut watch = process.store().watch("/b/", 1).await.expect("a watch");
    drop(process);
    let error = next(&mut watch).await.expect_err("the connection is lost");
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
}

#[tokio::test]
async fn the_scripts_are_sent_again_after_a_restart() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    store.leases().await.expect("an answer");
    store.ask("SCRIPT FLUSH").await;
    store.leases().await.expect("an answer");
}

#[tokio::test]
async fn the_primary_is_the_one_that_sentinel_names() {
    let Some(primary) = Process::start(&[]).await else {
        return;
    };
    let address = primary.address().replace(':', " ");
    let replica = Process::start(&["--replicaof", &address]).await;
    let replica = replica.expect("it is installed");
    let sentinel = Sentinel::start(&address);
    let settings = |master: &str| Settings {
        place: Place::Sentinel {
            sentinels: vec!["127.0.0.1:1".to_owned(), sentinel.address.clone()],
            master: master.to_owned(),
        },
        calls: Calls::default(),
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
    let error = unknown.leases().await.expect_err("it is unknown").to_string();
    assert!(error.contains("knows no primary with the name `other`"), "{error}");

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
    assert_eq!(promoted.get("/b/a").await.expect("a key").as_deref(), Some("1"));
}

/// A sentinel of its own, which is killed on drop.
struct Sentinel {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
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
