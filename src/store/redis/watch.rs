//! A watch of a prefix. Redis tells which keys have changed, and the watch reads them; a listing every few seconds finds
//! the changes that Redis has not told of, such as keys that have expired and that nobody has asked for since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use redis::cmd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::connection::Connection;
use super::link::Request;
use super::reading::escaped;
use super::settings::Settings;
use super::touched::Touched;
use super::value::{list, text};
use crate::base::key::Key;
use crate::base::text::quote;
use crate::store::{Change, Changes, Found, StoreError, Watching};

/// The pause between two listings.
const PAUSE: Duration = Duration::from_secs(5);
/// The least pause between two listings, in times that one takes: they may take no more than this part of Redis.
const LEAST_PAUSE: u32 = 20;
/// The most changes that wait for their reader. Until then, no more are read.
const QUEUE: usize = 16;
/// The classes of events that a watch needs: events by key, of strings, of all types, of expired and of evicted keys
/// (`notify.c` in Redis).
const CLASSES: &str = "K$gxe";

/// A process says once each how it gets Redis to tell of changes.
static ASKED_FOR: AtomicBool = AtomicBool::new(false);
static UNTOLD: AtomicBool = AtomicBool::new(false);

/// The changes of the keys that begin with a prefix.
///
/// It ends with its first error: the connection is lost, or Redis hangs, which is noticed within three times the limit of
/// a call. The revisions of its changes are its own, because Redis has none for changes by hand.
pub struct RedisWatch {
    changes: mpsc::Receiver<Result<Changes, StoreError>>,
    touched: Touched,
    /// Ends with the watch.
    task: AbortHandle,
}

/// The keys of a listing, which a watch goes on from.
#[derive(Debug)]
pub struct Known {
    pub prefix: String,
    pub keys: BTreeMap<Key, Found>,
}

/// The work of a watch.
struct Work {
    connection: Connection,
    touched: Touched,
    known: Known,
    /// That of the next changes.
    revision: i64,
    changes: mpsc::Sender<Result<Changes, StoreError>>,
}

impl RedisWatch {
    /// Watches the keys that begin with the known prefix. `revision` is that of the first changes.
    pub async fn open(
        settings: Settings,
        limit: Duration,
        known: Known,
        revision: i64,
    ) -> Result<Self, StoreError> {
        let touched = Touched::new(settings.db);
        let mut connection = Connection::new(settings, limit, Some(touched.clone()));
        subscribe(&mut connection, &touched, &known.prefix).await?;
        let (sender, changes) = mpsc::channel(QUEUE);
        let work = Work {
            connection,
            touched: touched.clone(),
            known,
            revision,
            changes: sender,
        };
        Ok(Self {
            changes,
            touched,
            task: tokio::spawn(work.run()).abort_handle(),
        })
    }
}

impl Drop for RedisWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching for RedisWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        let next = self.changes.recv().await;
        next.unwrap_or_else(|| Err(StoreError::Failed(anyhow!("the watch of Redis has ended"))))
    }

    fn heard_at(&self) -> Instant {
        self.touched.heard_at()
    }

    fn compares_itself(&self) -> bool {
        true
    }
}

impl Work {
    async fn run(mut self) {
        if let Err(error) = self.follow().await {
            // Nobody reads it any more if this fails.
            let _ = self.changes.send(Err(error)).await;
        }
    }

    /// Returns only with an error.
    async fn follow(&mut self) -> Result<(), StoreError> {
        // The first listing also finds the changes between the listing before and the subscription.
        let mut list_at = self.list().await?;
        loop {
            let ping_at = self.touched.heard_at() + 2 * self.connection.limit();
            tokio::select! {
                () = self.touched.wait() => self.read_touched().await?,
                () = sleep_until(list_at) => list_at = self.list().await?,
                () = sleep_until(ping_at) => {
                    self.connection.call(&Request::Command(cmd("PING"))).await?;
                    self.touched.hear();
                }
            }
        }
    }

    /// Lists the keys. Returns the time of the next listing.
    async fn list(&mut self) -> Result<Instant, StoreError> {
        let begun = Instant::now();
        let listing = self.connection.list(&self.known.prefix).await?;
        self.touched.hear();
        let keys = listing.keys.into_iter();
        let found: BTreeMap<Key, Found> =
            keys.map(|found| (Arc::clone(&found.key), found)).collect();
        let gone = self
            .known
            .keys
            .keys()
            .filter(|key| !found.contains_key(*key));
        let gone: Vec<Key> = gone.cloned().collect();
        self.tell(gone, found.into_values().collect()).await;
        Ok(Instant::now() + PAUSE.max(begun.elapsed() * LEAST_PAUSE))
    }

    /// Reads the keys that Redis has told of.
    async fn read_touched(&mut self) -> Result<(), StoreError> {
        let Some(keys) = self.touched.take() else {
            let at = self.connection.shown();
            return Err(StoreError::Failed(anyhow!(
                "Redis at {} has closed the connection",
                quote(&at)
            )));
        };
        let keys: Vec<Key> = keys.into_iter().collect();
        let found = self.connection.read(&keys).await?;
        self.touched.hear();
        let found: BTreeMap<Key, Found> = found
            .into_iter()
            .map(|found| (Arc::clone(&found.key), found))
            .collect();
        let gone = keys.into_iter().filter(|key| !found.contains_key(key));
        let gone = gone.collect();
        self.tell(gone, found.into_values().collect()).await;
        Ok(())
    }

    /// Tells of the keys that differ from what was told before.
    async fn tell(&mut self, gone: Vec<Key>, found: Vec<Found>) {
        let mut changes = Vec::new();
        for key in gone {
            if self.known.keys.remove(&key).is_some() {
                changes.push(Change::Delete(key));
            }
        }
        for found in found {
            let known = self.known.keys.get(&found.key);
            if known.is_none_or(|known| !is_same(known, &found)) {
                let revision = self.revision;
                changes.push(Change::Put(Found {
                    revision,
                    ..found.clone()
                }));
                self.known.keys.insert(Arc::clone(&found.key), found);
            }
        }
        if !changes.is_empty() {
            let revision = self.revision;
            self.revision += 1;
            // Nobody reads it any more if this fails.
            let _ = self.changes.send(Ok(Changes { revision, changes })).await;
        }
    }
}

/// Whether a reader can tell no difference. A registrar that puts what is there changes the revision alone.
fn is_same(known: &Found, found: &Found) -> bool {
    known.value == found.value && known.on == found.on && known.created == found.created
}

/// Subscribes to the changes of the keys that begin with a prefix. Where that is denied, only listings find changes.
async fn subscribe(
    connection: &mut Connection,
    touched: &Touched,
    prefix: &str,
) -> Result<(), StoreError> {
    match enable_events(connection).await {
        Ok(()) => {}
        // Another program may have set it, so this goes on.
        Err(StoreError::Refused(error)) => untold(&error),
        Err(error) => return Err(error),
    }
    let pattern = format!("{}{}*", touched.channel(), escaped(prefix));
    match connection.call(&Request::Subscribe(pattern)).await {
        Err(StoreError::Refused(error)) => {
            untold(&error);
            Ok(())
        }
        answer => answer.map(drop),
    }
}

/// Makes Redis tell of changes.
async fn enable_events(connection: &mut Connection) -> Result<(), StoreError> {
    const SETTING: &str = "notify-keyspace-events";
    let mut get = cmd("CONFIG");
    get.arg("GET").arg(SETTING);
    // Over each way to Redis; all that follows is on the same connection.
    let answer = connection.call_any(&Request::Command(get)).await?;
    let classes = match answer {
        redis::Value::Map(pairs) => pairs.into_iter().find_map(|(_, classes)| text(classes)),
        other => list(other)
            .and_then(|pair| pair.into_iter().nth(1))
            .and_then(text),
    };
    let classes = classes.unwrap_or_default();
    let Some(wanted) = with_needed(&classes) else {
        return Ok(());
    };
    let mut set = cmd("CONFIG");
    set.arg("SET").arg(SETTING).arg(&wanted);
    connection.call(&Request::Command(set)).await?;
    if !ASKED_FOR.swap(true, Ordering::Relaxed) {
        let at = quote(&connection.shown());
        info!(
            "Redis at {at} tells of changed keys from now on: `{SETTING}` was {}, and is {}",
            quote(&classes),
            quote(&wanted)
        );
    }
    Ok(())
}

/// The setting with the classes that are missing; none if no class is.
fn with_needed(classes: &str) -> Option<String> {
    // `A` stands for all classes but `K`, `E`, and those of misses and new keys.
    let has = |class: &char| classes.contains(*class) || (*class != 'K' && classes.contains('A'));
    let missing: String = CLASSES.chars().filter(|class| !has(class)).collect();
    (!missing.is_empty()).then(|| format!("{classes}{missing}"))
}

fn untold(error: &anyhow::Error) {
    if !UNTOLD.swap(true, Ordering::Relaxed) {
        warn!(
            "Redis may not tell of changed keys, so they may be noticed {} seconds late: {error:#}; set \
             `notify-keyspace-events {CLASSES}` there",
            PAUSE.as_secs()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_events_are_added_and_none_is_taken_away() {
        for (classes, wanted) in [
            ("", Some("K$gxe")),
            ("AKE", None),
            ("AE", Some("AEK")),
            ("gxE", Some("gxEK$e")),
            ("$gxeK", None),
        ] {
            assert_eq!(with_needed(classes).as_deref(), wanted, "{classes}");
        }
    }
}
