//! All readers list at once: when all hosts start at once, and after a restart of etcd. These readers are simulated:
//! they do with etcd what `discover` does (`src/discover/feed`, `src/store/etcd`), and nothing else. They share one
//! thread of this program, so that etcd has the other processor.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use etcd_client::{Channel, Client, ConnectOptions, Error, GetOptions, WatchOptions};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;

use super::counts::{
    BYTES, COUNTED, Counts, PROCESSOR, RANGES, counted, difference, named, of, peak,
};
use super::{LONG, PREFIX};
use crate::common::{Etcd, eventually};
use crate::table::{milliseconds, scaled};

const READERS: usize = 200;
const KEYS: usize = 10_000;
/// The end of the range of all keys.
const END: &str = "/backends0";
/// The same as docker-register's: the most keys in an answer, the time limit of a call, the first and the longest wait
/// after an error, and the random time that is added to it.
const PAGE: i64 = 200;
const LIMIT: Duration = Duration::from_secs(2);
const WAITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
const SPREAD: Duration = Duration::from_secs(1);
/// The most operations in a transaction that etcd takes by default.
const OPERATIONS: usize = 128;

/// A simulated reader.
struct Reader {
    endpoint: String,
    /// The random time that is added to each wait.
    spread: Duration,
    seen: Arc<Seen>,
}

/// What all readers have seen.
#[derive(Default)]
struct Seen {
    /// The duration of each listing that a watch has followed.
    listings: Mutex<Vec<Duration>>,
    /// The number of calls without an answer within the limit. After each, a listing begins anew.
    late: AtomicUsize,
}

/// Measures, and prints the table. Returns its numbers.
pub fn print() -> Value {
    let (readers, keys) = (scaled(READERS), scaled(KEYS));
    let heads = [
        "all list, ms",
        "longest, ms",
        "late calls",
        "Range calls",
        "bytes",
        "processor, ms",
        "MiB at most",
    ];
    println!(
        "{readers} simulated readers of {keys} keys\n{:42}{}",
        "since the start of the readers, or of etcd",
        heads.map(|head| format!("{head:>14}")).concat()
    );
    let etcd = Etcd::start();
    put_keys(&etcd, keys);
    let nothing = [0.0; COUNTED.len()];
    let begun = restart(&etcd);
    let mut rows = vec![row(
        "etcd restarts, no reader",
        &etcd,
        &Seen::default(),
        0,
        begun,
        &nothing,
    )];
    for (spread, how) in [
        (SPREAD, "each waits up to 1 s more"),
        (Duration::ZERO, "all wait equally"),
    ] {
        // Its peak of memory begins anew.
        restart(&etcd);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a tokio runtime can be made");
        let seen = Arc::<Seen>::default();
        let (before, begun) = (counted(&etcd, None), Instant::now());
        for _ in 0..readers {
            let reader = Reader {
                endpoint: etcd.endpoint(),
                spread,
                seen: Arc::clone(&seen),
            };
            runtime.spawn(reader.run());
        }
        rows.push(row(
            "all readers start",
            &etcd,
            &seen,
            readers,
            begun,
            &before,
        ));
        seen.forget();
        let begun = restart(&etcd);
        let what = format!("etcd restarts, {how}");
        rows.push(row(&what, &etcd, &seen, readers, begun, &nothing));
    }
    rows.into()
}

/// Waits until all readers have listed and watch, and prints the cost since `begun`.
fn row(
    what: &str,
    etcd: &Etcd,
    seen: &Seen,
    readers: usize,
    begun: Instant,
    before: &Counts,
) -> Value {
    eventually(LONG, "all listings", || seen.listings().len() >= readers);
    let took = milliseconds(begun.elapsed());
    let counts = difference(before, &counted(etcd, None));
    let longest = seen.listings().iter().max().copied().unwrap_or_default();
    let (longest, late) = (milliseconds(longest), seen.late.load(Ordering::Relaxed));
    let peak = peak(etcd.pid());
    let [ranges, bytes, processor] = [RANGES, BYTES, PROCESSOR].map(|name| of(&counts, name));
    println!(
        "{what:42}{took:>14.0}{longest:>14.0}{late:>14}{ranges:>14}{bytes:>14}{processor:>14.0}{peak:>14.0}"
    );
    json!({
        "what": what, "milliseconds until all have listed": took, "longest listing in milliseconds": longest,
        "late calls": late, "counts": named(&counts), "MiB of etcd at most": peak,
    })
}

/// Kills etcd and starts it again. Returns the time of its start.
fn restart(etcd: &Etcd) -> Instant {
    etcd.kill9();
    let begun = Instant::now();
    etcd.start_again();
    begun
}

/// Puts keys as those of registrars.
fn put_keys(etcd: &Etcd, keys: usize) {
    let pair = |number: usize| {
        let key = format!("{PREFIX}service-{}/1/{number:0>12}", number % 10);
        (key, "192.0.2.1:32768".to_owned())
    };
    let pairs: Vec<(String, String)> = (0..keys).map(pair).collect();
    pairs
        .chunks(OPERATIONS)
        .for_each(|pairs| etcd.put_together(pairs));
}

impl Seen {
    fn listings(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.listings.lock().expect("no thread panics")
    }

    fn forget(&self) {
        self.listings().clear();
        self.late.store(0, Ordering::Relaxed);
    }
}

impl Reader {
    /// Runs until its runtime ends.
    async fn run(self) {
        let mut wait = WAITS[0];
        loop {
            // It ends with an error, whatever that is.
            let _ = Box::pin(self.follow()).await;
            sleep(wait + random(self.spread)).await;
            wait = (2 * wait).min(WAITS[1]);
        }
    }

    /// Lists all keys at one revision, and watches from the next for as long as the connection lasts.
    async fn follow(&self) -> anyhow::Result<()> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.endpoint))?;
        let channel = Channel::Tonic(endpoint.connect_timeout(LIMIT).connect_lazy());
        let options = ConnectOptions::new().with_require_leader(true);
        let mut client = Client::from_channel(channel, Some(options)).await?;
        let begun = Instant::now();
        // 0 is the newest.
        let (mut from, mut revision) = (PREFIX.as_bytes().to_vec(), 0);
        loop {
            let options = GetOptions::new().with_range(END);
            let options = options.with_limit(PAGE).with_revision(revision);
            let page = self.within(client.get(from, Some(options))).await?;
            if revision == 0 {
                revision = page.header().context("no header")?.revision();
            }
            let Some(last) = page.kvs().last().filter(|_| page.more()) else {
                break;
            };
            from = [last.key(), &[0]].concat();
        }
        let took = begun.elapsed();
        let options = WatchOptions::new().with_range(END);
        let options = options.with_start_revision(revision + 1);
        let opened = self.within(async {
            let mut changes = client.watch(PREFIX, Some(options)).await?;
            changes.message().await?;
            Ok::<_, Error>(changes)
        });
        let mut changes = opened.await?;
        self.seen.listings().push(took);
        while changes.message().await?.is_some() {}
        Ok(())
    }

    /// The answer to a call, if it comes within the limit.
    async fn within<T>(&self, call: impl Future<Output = Result<T, Error>>) -> anyhow::Result<T> {
        let answer = timeout(LIMIT, Box::pin(call)).await;
        if answer.is_err() {
            self.seen.late.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer??)
    }
}

/// A random time below `limit`.
fn random(limit: Duration) -> Duration {
    let [a, b, ..] = RandomState::new().hash_one(0).to_ne_bytes();
    limit * u32::from(u16::from_ne_bytes([a, b])) / (1 << 16)
}
