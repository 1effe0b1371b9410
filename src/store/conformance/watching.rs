//! Watches. A store may show several changes of a key as one, so they are followed to the state that they end in.

use tokio::time::Instant;

use super::*;

/// The values of keys, by their names in the trial's directory.
type Values = BTreeMap<String, String>;

impl<S: Bench> Trial<S> {
    /// Lists this trial's directory, and returns the values with the listing's revision.
    async fn list(&mut self) -> (Values, i64) {
        let directory = self.key("");
        let listing = self.store.scan(&directory).await.expect("keys");
        let name = |key: &Key| key[directory.len()..].to_owned();
        let keys = listing.keys.iter();
        let values = keys.map(|found| (name(&found.key), found.value.to_string()));
        (values.collect(), listing.revision)
    }

    /// Watches this trial's directory, as other programs do.
    pub async fn subscribe(&mut self) -> S::Events {
        let directory = self.key("");
        self.store.subscribe(&directory).await
    }

    /// The keys of all events up to now.
    pub async fn told_by_now(&mut self, events: &mut S::Events) -> Vec<Key> {
        let mark = self.key("mark");
        self.put_by_hand("mark").await;
        let mut told = Vec::new();
        let tells = async {
            while !told.contains(&mark) {
                told.extend(S::told(events).await);
            }
        };
        let done = tokio::time::timeout(SOON, tells).await;
        assert!(done.is_ok(), "{}: {told:?}", self.name);
        told.retain(|key| *key != mark);
        told
    }

    /// Watches this trial's directory.
    async fn watch(&mut self, revision: i64) -> S::Watching {
        let directory = self.key("");
        let watch = self.store.watch(&directory, revision).await;
        watch.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Follows a watch until the values are these.
    async fn follow(&self, watch: &mut S::Watching, values: &mut Values, wanted: &[(&str, &str)]) {
        let directory = self.key("");
        let name = |key: &Key| key[directory.len()..].to_owned();
        let of = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let wanted: Values = wanted.iter().map(of).collect();
        let follows = async {
            while *values != wanted {
                let changes = watch.next().await;
                let changes = changes.unwrap_or_else(|error| panic!("{}: {error}", self.name));
                for change in changes.changes {
                    match change {
                        Change::Put(found) => {
                            values.insert(name(&found.key), found.value.to_string());
                        }
                        Change::Delete(key) => drop(values.remove(&name(&key))),
                    }
                }
            }
        };
        let done = tokio::time::timeout(SOON, follows).await;
        assert!(done.is_ok(), "{}: {values:?}, not {wanted:?}", self.name);
    }
}

pub async fn a_watch_goes_on_where_a_listing_ends(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    trial.put(lease, &["a", "before"]).await;
    let (mut values, revision) = trial.list().await;
    // A put before the watch begins is in neither the listing nor lost.
    trial.put(lease, &["b"]).await;
    let mut watch = trial.watch(revision + 1).await;
    let wanted = [("a", "1"), ("b", "1"), ("before", "1")];
    trial.follow(&mut watch, &mut values, &wanted).await;
    let (a, before, c) = (trial.key("a"), trial.key("before"), trial.key("c"));
    let steps = vec![put(&a, "2", lease), put(&c, "1", lease), delete(&before)];
    trial.carry_out(steps).await;
    let wanted = [("a", "2"), ("b", "1"), ("c", "1")];
    trial.follow(&mut watch, &mut values, &wanted).await;
    trial.put_by_hand("a").await;
    let wanted = [("a", "by hand"), ("b", "1"), ("c", "1")];
    trial.follow(&mut watch, &mut values, &wanted).await;
    let mut other = trial.store.connect();
    other.revoke(lease).await.expect("an end");
    let wanted = [("a", "by hand")];
    trial.follow(&mut watch, &mut values, &wanted).await;
}

pub async fn a_watch_shows_the_end_of_a_lease(mut trial: Trial<impl Bench>) {
    // Long enough for the puts on a busy machine.
    let lease = trial.granted(3).await;
    trial.put(lease, &["a"]).await;
    let (mut values, revision) = trial.list().await;
    let mut watch = trial.watch(revision + 1).await;
    trial.await_end(lease).await;
    trial.follow(&mut watch, &mut values, &[]).await;
}

pub async fn an_expiry_is_told_of_in_time_or_not<S: Bench>(mut trial: Trial<S>) {
    // Long enough for the puts on a busy machine.
    const SECONDS: u32 = 3;
    trial.store.delay_expiry().await;
    let lease = trial.granted(SECONDS).await;
    trial.put(lease, &["a"]).await;
    let mut events = trial.subscribe().await;
    let patience = if S::FACTS.tells_expiries {
        SOON
    } else {
        Duration::from_secs(u64::from(2 * SECONDS))
    };
    let (begun, a) = (Instant::now(), trial.key("a"));
    let mut told = Vec::new();
    while !told.contains(&a) && begun.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(100)).await;
        told.extend(trial.told_by_now(&mut events).await);
        // Only the model waits for a call.
        trial.find("mark").await;
    }
    assert_eq!(told.contains(&a), S::FACTS.tells_expiries, "{told:?}");
    // Readers miss it in any case.
    trial.assert_left(&[], &["a"]).await;
}
