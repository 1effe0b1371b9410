//! The promises of every store, each a test that runs on the model and on every real store. A new store implements [`Bench`]
//! and passes all of them. Random calls on a real store and on the model must give the same answers.

mod leases;
mod oracle;
mod reading;
mod renewals;
mod restarts;
mod sweeps;
mod table;
mod transactions;
mod watching;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::model::ModelStore;
use super::{
    Change, Found, Guard, Identity, Lease, LeaseId, On, Outcome, Step, Store, StoreError,
    Transaction, Watching,
};
use crate::base::key::Key;

pub use oracle::answers_like_the_model;

/// The TTL of leases that must not expire during a test, in seconds.
const TTL: u32 = 60;
/// The longest time to wait for something. Far more than it takes, so that only a broken store fails.
const SOON: Duration = Duration::from_secs(30);

/// The differences of stores. Each fact but the last is asserted both ways: a store that lacks it is seen to lack it.
/// `table` compares them with `docs/stores.md`.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether a put of the same value on the same lease shows as a higher revision of the key.
    pub counts_revisions: bool,
    /// Whether a sweep looks at keys that were put by hand.
    pub sweeps_see_all: bool,
    /// Whether all keys of a listing are of one moment.
    pub lists_one_moment: bool,
    /// The writes of a renewal for each key on the lease.
    pub writes_per_renewal: i64,
    /// The events of a renewal for each key on the lease, as other programs watch them.
    pub events_per_renewal: i64,
    /// Whether other programs that watch are told in time that a key has expired, if nobody asks for it.
    pub tells_expiries: bool,
    /// Whether keys and leases are there after a crash of a store that is set up in no special way.
    pub survives_a_crash: bool,
    /// Whether keys and leases are there after a store with its data on disk was down for longer than the TTL.
    pub outlives_the_ttl: bool,
    /// Whether a failover loses no write that the store has confirmed. No promise here asserts it, because a bench has one
    /// server: `tests/live` has an etcd of three members, and a Redis with a replica.
    pub fails_over_whole: bool,
}

/// A store under test.
pub trait Bench: Store + Sized {
    const FACTS: Facts = Facts {
        counts_revisions: true,
        sweeps_see_all: true,
        lists_one_moment: true,
        writes_per_renewal: 0,
        events_per_renewal: 0,
        tells_expiries: true,
        survives_a_crash: true,
        outlives_the_ttl: true,
        fails_over_whole: true,
    };

    /// The events of the store's own watch.
    type Events;

    /// Another connection to the same store.
    fn connect(&self) -> Self;

    /// Puts a key on no lease.
    async fn put_by_hand(&mut self, key: &str, value: &str);

    async fn delete_by_hand(&mut self, key: &str);

    /// The number of writes so far.
    async fn writes(&mut self) -> i64 {
        self.scan("/none/").await.expect("keys").revision
    }

    /// Watches the keys that begin with a prefix, as other programs do.
    async fn subscribe(&mut self, prefix: &str) -> Self::Events;

    /// The keys of the next events.
    async fn told(events: &mut Self::Events) -> Vec<Key>;

    /// Makes the store notice expired keys as late as it ever may.
    async fn delay_expiry(&mut self) {}
}

/// The process of a store under test.
pub trait Server {
    /// Kills it, as a crash does, and starts it again after a time.
    async fn restart(&mut self, down: Duration);
}

impl Bench for ModelStore {
    type Events = <Self as Store>::Watching;

    fn connect(&self) -> Self {
        self.connect()
    }

    async fn put_by_hand(&mut self, key: &str, value: &str) {
        self.model().put(&key.into(), value, None);
    }

    async fn delete_by_hand(&mut self, key: &str) {
        self.model().delete(key);
    }

    async fn subscribe(&mut self, prefix: &str) -> Self::Events {
        subscribe(self, prefix).await
    }

    async fn told(events: &mut Self::Events) -> Vec<Key> {
        told(events).await
    }
}

impl Server for ModelStore {
    async fn restart(&mut self, down: Duration) {
        tokio::time::sleep(down).await;
        self.model().elect();
    }
}

/// [`Bench::subscribe`] of a store whose own watch is that of [`Store`].
pub async fn subscribe<S: Store>(store: &mut S, prefix: &str) -> S::Watching {
    let revision = store.scan(prefix).await.expect("keys").revision;
    store.watch(prefix, revision + 1).await.expect("a watch")
}

/// [`Bench::told`] of such a store.
pub async fn told(watch: &mut impl Watching) -> Vec<Key> {
    let changes = watch.next().await.expect("changes").changes;
    let keys = changes.into_iter().map(|change| match change {
        Change::Put(found) => found.key,
        Change::Delete(key) => key,
    });
    keys.collect()
}

/// One promise, by its name.
type Promise<S> = (
    &'static str,
    fn(Trial<S>) -> Pin<Box<dyn Future<Output = ()>>>,
);

macro_rules! promises {
    ($list:ident: $($room:ident::$name:ident,)*) => {
        fn $list<S: Bench>() -> Vec<Promise<S>> {
            vec![$((stringify!($name), |trial| Box::pin($room::$name(trial)))),*]
        }
    };
}

promises! { together:
    leases::a_granted_lease_lives_for_the_ttl_in_its_id,
    leases::a_grant_renews_a_lease_that_exists,
    leases::a_renewal_leaves_out_missing_leases,
    leases::a_claim_is_granted_once,
    leases::a_revoked_lease_removes_its_keys,
    leases::an_expired_lease_removes_its_keys,
    leases::a_renewal_gives_a_lease_its_whole_ttl_again,
    leases::a_lookup_returns_the_keys_that_are_on_the_lease_now,
    reading::a_read_leaves_out_missing_keys,
    reading::a_read_returns_value_lease_and_revision,
    reading::keys_on_leases_are_found_in_their_directories,
    reading::a_get_returns_the_value_of_any_key,
    reading::a_scan_lists_the_keys_that_begin_with_a_prefix,
    sweeps::a_sweep_deletes_the_last_keys_of_a_directory,
    sweeps::a_sweep_leaves_a_directory_that_holds_another_key,
    sweeps::a_sweep_may_overlook_keys_that_were_put_by_hand,
    sweeps::a_sweep_with_a_key_on_another_lease_deletes_none,
    sweeps::a_sweep_looks_at_the_store_before_its_transaction,
    sweeps::a_sweep_without_a_directory_looks_at_the_whole_store,
    transactions::a_guard_of_a_missing_key_holds_while_it_is_missing,
    transactions::a_guard_of_a_lease_holds_while_the_key_is_on_it,
    transactions::a_guard_of_a_loose_key_holds_while_it_has_its_value_and_no_lease,
    transactions::a_transaction_is_carried_out_whole_or_not_at_all,
    transactions::a_put_on_a_missing_lease_is_an_error,
    transactions::a_put_moves_a_key_to_another_lease,
    transactions::a_transaction_may_be_as_large_as_the_store_says,
    transactions::as_many_loose_keys_as_the_store_says_are_taken_at_once,
    watching::a_watch_goes_on_where_a_listing_ends,
    watching::a_watch_shows_the_end_of_a_lease,
}

promises! { alone:
    reading::a_listing_is_of_one_moment_or_not,
    renewals::a_renewal_writes_and_tells_as_often_as_stated,
    watching::an_expiry_is_told_of_in_time_or_not,
}

/// Checks all promises, each in its own directory: most of them at once, then those that count or stop what the whole
/// store does. The test fails with the name of the first broken one.
pub async fn check<S: Bench>(store: &S, server: &mut impl Server) {
    let trials = together::<S>().into_iter();
    let trials = trials.map(|(name, promise)| promise(Trial::new(store, name)));
    join_all(trials).await;
    for (name, promise) in alone::<S>() {
        promise(Trial::new(store, name)).await;
    }
    restarts::keys_survive_a_crash_or_not(store, server).await;
}

/// Checks the promises of a store that has its data on disk.
pub async fn check_on_disk<S: Bench>(store: &S, server: &mut impl Server) {
    restarts::keys_outlive_the_ttl_or_not(store, server).await;
}

/// A connection to the store, and a directory and leases that no other promise uses.
struct Trial<S> {
    store: S,
    name: &'static str,
    identity: Identity,
}

impl<S: Bench> Trial<S> {
    fn new(store: &S, name: &'static str) -> Self {
        Self {
            store: store.connect(),
            name,
            identity: Identity::new(name, "conformance"),
        }
    }

    /// A key in this trial's directory.
    fn key(&self, name: &str) -> Key {
        format!("/conformance/{}/{name}", self.name).into()
    }

    /// A lease of this trial's own, which does not exist yet, with a TTL in seconds.
    fn lease(&self, ttl: u32) -> LeaseId {
        self.identity.lease(ttl)
    }

    async fn granted(&mut self, ttl: u32) -> LeaseId {
        let lease = self.lease(ttl);
        let granted = self.store.grant(&[lease]).await;
        let granted = granted.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert!(granted.contains_key(&lease), "{}", self.name);
        lease
    }

    async fn transact(&mut self, guards: Vec<Guard>, steps: Vec<Step>) -> Outcome {
        let transaction = Transaction { guards, steps };
        let outcome = self.store.transact(&transaction).await;
        outcome.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Carries out steps, of which none is a sweep.
    async fn carry_out(&mut self, steps: Vec<Step>) {
        let outcome = self.transact(Vec::new(), steps).await;
        let done = Outcome::Done { swept: Vec::new() };
        assert_eq!(outcome, done, "{}", self.name);
    }

    /// Puts any number of keys, in several transactions. Returns their names, which are sorted.
    async fn put_many(&mut self, lease: LeaseId, number: usize) -> Vec<String> {
        let names: Vec<String> = (0..number).map(|number| format!("{number:05}")).collect();
        for names in names.chunks(self.store.limits().operations) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.put(lease, &names).await;
        }
        names
    }

    /// Puts keys, with the value `1`.
    async fn put(&mut self, lease: LeaseId, names: &[&str]) {
        let steps = names.iter().map(|name| put(&self.key(name), "1", lease));
        self.carry_out(steps.collect()).await;
    }

    async fn put_by_hand(&mut self, name: &str) {
        let key = self.key(name);
        self.store.put_by_hand(&key, "by hand").await;
    }

    async fn find(&mut self, name: &str) -> Option<Found> {
        let keys = [self.key(name)];
        let found = self.store.read(&keys).await;
        let mut found = found.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        found.pop()
    }

    /// Asserts that the keys in `left` exist and those in `gone` do not.
    async fn assert_left(&mut self, left: &[&str], gone: &[&str]) {
        for name in left {
            assert!(self.find(name).await.is_some(), "{}: {name}", self.name);
        }
        for name in gone {
            assert!(self.find(name).await.is_none(), "{}: {name}", self.name);
        }
    }

    /// Waits until a lease has ended.
    async fn await_end(&mut self, lease: LeaseId) {
        self.await_lease(lease, |found| found.is_none()).await;
    }

    /// Waits until a lease has at most this many seconds left.
    async fn await_remaining(&mut self, lease: LeaseId, seconds: u32) {
        let has_less = |found: Option<Lease>| found.expect("it exists").remaining <= seconds;
        self.await_lease(lease, has_less).await;
    }

    async fn await_lease(&mut self, lease: LeaseId, is_so: impl Fn(Option<Lease>) -> bool) {
        let waits = async {
            while !is_so(self.store.lookup(lease).await.expect("an answer")) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let done = tokio::time::timeout(SOON, waits).await;
        assert!(done.is_ok(), "{}: nothing becomes of {lease}", self.name);
    }
}

fn put(key: &Key, value: &str, lease: LeaseId) -> Step {
    Step::Put(Arc::clone(key), value.into(), lease)
}

fn delete(key: &Key) -> Step {
    Step::Delete(Arc::clone(key))
}

fn swept(keys: &[Key]) -> Outcome {
    Outcome::Done {
        swept: keys.to_vec(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_model_keeps_every_promise() {
    let store = ModelStore::default();
    check(&store, &mut store.connect()).await;
    check_on_disk(&store, &mut store.connect()).await;
}
