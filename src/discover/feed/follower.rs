//! Follows the store's keys from a listing on, and decides which of them are published.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::gathering::Gathering;
use super::source::Source;
use super::{Feed, Freshness, random};
use crate::base::key::Key;
use crate::base::text::quote;
use crate::routes::Keys;
use crate::store::{Changes, Found, Listing, StoreError, Watching};

/// A mass removal takes away more than half of at least this many keys.
const MANY: usize = 10;
/// The same for the first listing of a store that was lost: it may have come back without its keys.
const MANY_AFTER_A_LOSS: usize = 1;
/// The time between a mass removal and the listing that confirms it.
const DOUBT: Duration = Duration::from_secs(5);
/// The longest time that the event of a change may arrive after a listing with that change.
const LATENESS: Duration = Duration::from_secs(1);

/// The time between two listings for each key, if that is more than `resync`. Else the listings of all readers would
/// grow with the square of the fleet: each reader lists the keys of all hosts.
const LISTING_PAUSE: Duration = Duration::from_millis(10);

/// What is known from one listing or watch to the next.
pub struct Follower {
    feed: Feed,
    directory: String,
    /// The store's keys.
    known: Keys,
    /// The time of the store's last answer.
    heard_at: Instant,
    gathering: Gathering,
    /// The time of the listing that confirms a mass removal, while there is one. Until then no key is taken from the
    /// published ones.
    doubt: Option<Instant>,
    /// Whether the store has been lost since the last listing.
    was_lost: bool,
    /// The watch's changes since the beginning of a listing that is compared with it, while there is one.
    compared: Option<Vec<Changes>>,
}

/// The reason for the end of a watch.
pub enum End {
    /// The keys have to be listed again.
    ListAgain,
    Failed(StoreError),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Follower {
    pub fn new(feed: Feed) -> Self {
        Self {
            directory: feed.directory(),
            feed,
            known: Keys::default(),
            heard_at: Instant::now(),
            gathering: Gathering::default(),
            doubt: None,
            was_lost: false,
            compared: None,
        }
    }

    /// Lists the keys, and publishes each of their changes for as long as the watch lasts.
    pub async fn follow(&mut self, source: &mut impl Source) -> End {
        let Err(end) = self.list_and_watch(source).await;
        end
    }

    /// Shows that the store is lost. Returns the pause before the next try.
    pub fn failed(&mut self, error: &StoreError) -> Duration {
        self.was_lost = true;
        self.feed.freshness.send_if_modified(|freshness| {
            let was_in_step = *freshness == Freshness::InStep;
            if was_in_step {
                *freshness = Freshness::StaleSince(self.heard_at);
            }
            was_in_step
        });
        self.feed.outage.failed(error.to_string())
    }

    async fn list_and_watch(&mut self, source: &mut impl Source) -> Result<Infallible, End> {
        let Listing { keys, revision } = source.scan(&self.directory).await?;
        self.heard_at = Instant::now();
        self.compared = None;
        self.known.replace(keys, revision);
        if std::mem::take(&mut self.was_lost) {
            // It confirms nothing, because the store may have lost its keys only now.
            self.doubt = self.doubt.map(|_| self.heard_at + DOUBT);
            self.publish(MANY_AFTER_A_LOSS);
        } else if self.doubt.is_some_and(|until| until <= self.heard_at) {
            self.doubt = None;
            self.confirm();
        } else {
            self.publish(MANY);
        }
        let mut watch = source.watch(&self.directory, revision + 1).await?;
        self.in_step();
        let end = self.watch(source, &mut watch).await;
        self.heard_at = watch.heard_at();
        end
    }

    /// Watches, and compares the watched keys with a listing every `resync`, unless the watch does that.
    async fn watch<S: Source>(
        &mut self,
        source: &mut S,
        watch: &mut S::Watching,
    ) -> Result<Infallible, End> {
        if watch.compares_itself() {
            return self.watch_during(watch, pending()).await;
        }
        loop {
            let keys = u32::try_from(self.known.found.len()).unwrap_or(u32::MAX);
            let resync = self.feed.resync.max(LISTING_PAUSE * keys);
            let pause = resync.saturating_sub(random(resync / 4));
            self.watch_during(watch, sleep(pause)).await?;
            self.compared = Some(Vec::new());
            let directory = self.directory.clone();
            let listing = self.watch_during(watch, source.scan(&directory)).await?;
            let listing = listing?;
            self.watch_during(watch, sleep(LATENESS)).await?;
            if !self.is_as_listed(listing) {
                return Err(End::ListAgain);
            }
        }
    }

    /// Watches until `other` is done.
    async fn watch_during<T>(
        &mut self,
        watch: &mut impl Watching,
        other: impl Future<Output = T>,
    ) -> Result<T, End> {
        let mut other = pin!(other);
        loop {
            // A burst without an end must not keep what is due from its turn, so the watch comes last.
            select! {
                biased;
                done = &mut other => return Ok(done),
                () = until(self.doubt) => return Err(End::ListAgain),
                () = until(self.gathering.due()) => self.publish(MANY),
                changes = watch.next() => self.take(changes?),
            }
        }
    }

    fn take(&mut self, changes: Changes) {
        self.in_step();
        self.gathering.add();
        if let Some(compared) = &mut self.compared {
            compared.push(changes.clone());
        }
        self.known.change(changes);
    }

    fn in_step(&mut self) {
        self.feed.outage.over();
        self.feed.freshness.send_if_modified(|freshness| {
            std::mem::replace(freshness, Freshness::InStep) != Freshness::InStep
        });
    }

    /// Whether the watch has told of every change that a listing shows.
    fn is_as_listed(&mut self, listing: Listing) -> bool {
        let mut expected = self.known.clone();
        expected.replace(listing.keys, listing.revision);
        for changes in self.compared.take().unwrap_or_default() {
            expected.change(changes);
        }
        let differing = expected.found.diff(&self.known.found);
        let differing: Vec<&Key> = differing
            .map(|item| match item {
                DiffItem::Add(key, _)
                | DiffItem::Remove(key, _)
                | DiffItem::Update { new: (key, _), .. } => key,
            })
            .collect();
        if let Some(first) = differing.first() {
            let (store, count, first) = (self.feed.store, differing.len(), quote(first));
            warn!(
                "{store}'s watch has missed changes of {count} keys, such as {first}: all keys are listed again"
            );
        }
        differing.is_empty()
    }

    /// Publishes the store's keys, with those of a mass removal that is in doubt. The removal of more than half of at
    /// least `many` keys is one.
    fn publish(&mut self, many: usize) {
        self.gathering.clear();
        let Some(published) = self.feed.keys.borrow().clone() else {
            return self.send(self.known.clone());
        };
        let missing = missing(&published.found, &self.known.found);
        let (gone, all) = (missing.len(), published.found.len());
        if self.doubt.is_none() && all >= many && 2 * gone > all {
            self.doubt = Some(Instant::now() + DOUBT);
            warn!(
                "{} no longer has {gone} of {all} keys below {}: they count as present until a second listing in {} s \
                 confirms it",
                self.feed.store,
                quote(&self.directory),
                DOUBT.as_secs()
            );
        }
        let mut keys = self.known.clone();
        if self.doubt.is_some() {
            if missing.is_empty() {
                self.doubt = None;
                info!("the keys that {} did not have are back", self.feed.store);
            }
            keys.found.extend(missing);
        }
        self.send(keys);
    }

    /// Publishes the store's keys after the listing that ends a doubt.
    fn confirm(&mut self) {
        let published = self.feed.keys.borrow().clone().unwrap_or_default();
        let gone = missing(&published.found, &self.known.found).len();
        let (all, directory) = (published.found.len(), quote(&self.directory));
        let store = self.feed.store;
        warn!("{store} confirms that {gone} of {all} keys below {directory} are gone");
        self.gathering.clear();
        self.send(self.known.clone());
    }

    /// Publishes these keys if they differ from the published ones.
    fn send(&self, keys: Keys) {
        self.feed.keys.send_if_modified(|published| {
            let is_new = match published {
                Some(published) => published.found.diff(&keys.found).next().is_some(),
                None => true,
            };
            if is_new {
                let (count, revision) = (keys.found.len(), keys.revision);
                debug!("{count} keys at revision {revision}");
                *published = Some(Arc::new(keys));
            }
            is_new
        });
    }
}

/// Waits until a time; for ever without one.
async fn until(time: Option<Instant>) {
    match time {
        // A timer would round it up to the next millisecond.
        Some(time) if time <= Instant::now() => {}
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// The keys that are only in the first of two maps.
fn missing(before: &OrdMap<Key, Found>, now: &OrdMap<Key, Found>) -> Vec<(Key, Found)> {
    let removed = before.diff(now).filter_map(|item| match item {
        DiffItem::Remove(key, found) => Some((key.clone(), found.clone())),
        _ => None,
    });
    removed.collect()
}
