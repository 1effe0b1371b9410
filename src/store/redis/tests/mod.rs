//! A real Redis and a real Valkey keep the promises of every store, except for the stated differences; watches show every
//! change; and refusals say what to do.

mod access;
mod failover;
mod watching;

use redis::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::process::{Process, SOON, programs, user};
use super::value::text;
use super::*;
use crate::store::conformance::{Bench, Facts, answers_like_the_model, check, check_on_disk};
use crate::store::{Guard, Identity, On, Step};

impl Bench for RedisStore {
    const FACTS: Facts = Facts {
        counts_revisions: true,
        sweeps_see_all: false,
        lists_one_moment: false,
        writes_per_renewal: 1,
        events_per_renewal: 1,
        tells_expiries: false,
        survives_a_crash: false,
        outlives_the_ttl: false,
        fails_over_whole: false,
    };

    /// Lines of Redis's older protocol.
    type Events = Lines<BufReader<TcpStream>>;

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

    async fn delete_by_hand(&mut self, key: &str) {
        self.ask(&format!("DEL {key}")).await;
    }

    async fn writes(&mut self) -> i64 {
        let info = text(self.ask("INFO persistence").await).expect("a text");
        let mut lines = info.lines();
        let count = lines.find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        count.expect("a field").parse().expect("a number")
    }

    async fn subscribe(&mut self, prefix: &str) -> Self::Events {
        self.ask("CONFIG SET notify-keyspace-events KA").await;
        let address = &self.connection.settings().place.endpoints()[0];
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let subscribe = format!("PSUBSCRIBE {CHANNEL}{prefix}*\r\n");
        let sent = stream.write_all(subscribe.as_bytes()).await;
        sent.expect("a connection");
        let mut lines = BufReader::new(stream).lines();
        let answer = read_lines(&mut lines, 6).await;
        assert_eq!(answer[2], "psubscribe", "{answer:?}");
        lines
    }

    async fn told(events: &mut Self::Events) -> Vec<Key> {
        let event = read_lines(events, 9).await;
        assert_eq!(event[2], "pmessage", "{event:?}");
        let key = event[6].strip_prefix(CHANNEL).expect("our pattern");
        vec![key.into()]
    }

    async fn delay_expiry(&mut self) {
        self.ask("DEBUG SET-ACTIVE-EXPIRE 0").await;
    }
}

/// The part before the key in the name of a channel.
const CHANNEL: &str = "__keyspace@0__:";

async fn read_lines(lines: &mut Lines<BufReader<TcpStream>>, number: usize) -> Vec<String> {
    let mut read = Vec::new();
    while read.len() < number {
        let line = lines.next_line().await.expect("a connection");
        read.push(line.expect("no end"));
    }
    read
}

/// Puts keys on a lease, with the value `1`.
async fn put(store: &mut RedisStore, lease: LeaseId, keys: &[&str]) -> Result<Outcome, StoreError> {
    let steps = keys
        .iter()
        .map(|key| Step::Put((*key).into(), "1".into(), lease));
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

fn error<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result.expect_err("it is refused") {
        StoreError::Refused(error) => format!("{error:#}"),
        other => panic!("no refusal, but {other}"),
    }
}

#[tokio::test]
async fn redis_and_valkey_keep_every_promise() {
    for program in programs() {
        let debug = ["--enable-debug-command", "yes"];
        let mut process = Process::start_program(&program, &debug).await;
        check(&process.store(), &mut process).await;
        let on_disk = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut process = Process::start_program(&program, &on_disk).await;
        check_on_disk(&process.store(), &mut process).await;
    }
}

#[test]
fn random_calls_have_the_answers_of_the_model() {
    let runtime = Runtime::new().expect("a runtime");
    for program in programs() {
        let process = runtime.block_on(Process::start_program(&program, &[]));
        answers_like_the_model(&runtime, || process.store());
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
    assert!(
        matches!((before, store.ask("PTTL /b/0000").await), (Value::Int(a), Value::Int(b)) if b > a - 50)
    );
    let mut deadlines = Vec::new();
    for key in ["/b/0000", "/b/2222", "/b/4499"] {
        deadlines.push(store.ask(&format!("PEXPIRETIME {key}")).await);
    }
    deadlines.dedup();
    assert_eq!(deadlines.len(), 1, "{deadlines:?}");
    let found = store
        .lookup(lease)
        .await
        .expect("an answer")
        .expect("it exists");
    assert_eq!(found.keys.len(), keys.len());
    assert_eq!(
        store.leased_in(&["/b/".into()]).await.expect("keys").len(),
        keys.len()
    );
    assert_eq!(
        store.scan("/b/").await.expect("keys").keys.len(),
        keys.len()
    );
    store.revoke(lease).await.expect("an end");
    assert_eq!(store.scan("").await.expect("keys").keys, []);
    assert_eq!(
        store.ask("ZCARD docker-register:index").await,
        Value::Int(0)
    );
}

#[tokio::test]
async fn a_seat_is_renewed_by_its_holder_alone() {
    let Some(process) = Process::start(&[]).await else {
        return;
    };
    let mut store = process.store();
    let seat = Identity::new("a seat", "").seat();
    assert!(store.grant_new(seat, 60).await.expect("an answer"));
    assert!(
        store
            .renew(&[seat])
            .await
            .expect("an answer")
            .contains_key(&seat)
    );
    // Another process has it.
    let mut hold = redis::cmd("HSET");
    hold.arg("docker-register:grants")
        .arg(seat.to_string())
        .arg("60 another");
    store
        .connection
        .call(&Request::Command(hold))
        .await
        .expect("a change");
    assert!(store.renew(&[seat]).await.expect("an answer").is_empty());
    let found = store
        .lookup(seat)
        .await
        .expect("an answer")
        .expect("it exists");
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
    put(&mut store, lease, &["/b/a", "/b/b"])
        .await
        .expect("puts");
    store.ask("LPUSH /b/list 1").await;
    store.ask("SET /b/timed 1 EX 100").await;
    store.ask("SET /b/a 1").await;
    store.ask("SET /b/b 2 EX 100").await;
    let keys = ["/b/a", "/b/b", "/b/list", "/b/timed"].map(Key::from);
    let found = store.read(&keys).await.expect("keys");
    let on: Vec<String> = found.iter().map(|found| found.on.to_string()).collect();
    let wanted = [
        "on no lease",
        "a key with another TTL",
        "a key of the type `list`",
        "a key with another TTL",
    ];
    assert_eq!(on, wanted);
    let listing = store.scan("/b/").await.expect("keys");
    let listed: Vec<&str> = listing.keys.iter().map(|found| &*found.key).collect();
    assert_eq!(listed, ["/b/a", "/b/b", "/b/timed"], "strings alone");
    assert!(error(store.get("/b/list").await).contains("cannot read `/b/list`"));
    // A stranger's key is guarded against, whatever its type.
    for key in &keys[1..] {
        for guard in [
            Guard::Missing(key.clone()),
            Guard::OnLease(key.clone(), lease),
            Guard::Loose(key.clone(), "1".into()),
        ] {
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
    assert_eq!(
        store.ask("PTTL /b/a").await,
        Value::Int(-1),
        "a renewal leaves it alone"
    );
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
    assert_eq!(
        store.get("/bx/a").await.expect("a key").as_deref(),
        Some("1")
    );
    assert_eq!(store.get("/none").await.expect("an answer"), None);
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
