//! Random calls on a store and on the model give the same answers. The model has etcd's semantics; the one difference that
//! these calls can show is told to it: a store whose sweeps see no key that was put by hand.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;

use super::*;
use crate::store::Sweep;

// Few, because a transaction of the model may be small.
const KEYS: [&str; 5] = ["/b/1/a", "/b/1/port", "/b/10/a", "/b/2/port", "/c"];
const DIRECTORIES: [&str; 4] = ["/b/1/", "/b/2/", "/b/", ""];
const VALUES: [&str; 2] = ["1", "2"];
/// The number of leases; the last is a seat.
const LEASES: usize = 5;

/// Makes random calls on the store of these connections and on the model. The test fails at the first answers that differ,
/// with the fewest calls that lead there.
pub fn answers_like_the_model<S: Bench>(runtime: &Runtime, connect: impl Fn() -> S) {
    // A case has about 25 calls; PROPTEST_CASES sets another number.
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    let mut runner = TestRunner::new(Config {
        cases: cases.unwrap_or(120),
        failure_persistence: None,
        ..Config::default()
    });
    let calls = proptest::collection::vec(call(), 1..50);
    let result = runner.run(&calls, |calls| {
        runtime.block_on(async {
            let mut both = Both::new(connect()).await;
            for call in &calls {
                both.make(call).await?;
            }
            Ok(())
        })
    });
    result.unwrap_or_else(|error| panic!("{}: {error}", connect().name()));
}

/// A call. Numbers are places in the lists above, and in that of the leases.
#[derive(Debug, Clone)]
enum Call {
    Grant(Vec<usize>),
    GrantNew(usize, u32),
    Renew(Vec<usize>),
    Revoke(usize),
    Lookup(usize),
    LeasedIn(Vec<usize>),
    Transact(Vec<(usize, Demand)>, Vec<Option<Change>>, Option<Last>),
    PutByHand(usize, usize),
    DeleteByHand(usize),
}

/// What a guard demands of its key.
#[derive(Debug, Clone)]
enum Demand {
    Missing,
    OnLease(usize),
    Loose(usize),
    /// What is true of the key now, so that many transactions are carried out.
    AsItIs,
}

/// What is done with a key.
#[derive(Debug, Clone)]
enum Change {
    Put(usize, usize),
    Delete,
}

/// A sweep: its directory, which keys it expects, and the key that it deletes with its lease; none is the key's own.
#[derive(Debug, Clone)]
struct Last {
    directory: usize,
    expects: u8,
    deletes: usize,
    lease: Option<usize>,
}

fn call() -> impl Strategy<Value = Call> {
    let leases = || proptest::collection::vec(0..LEASES - 1, 1..3);
    let demand = prop_oneof![
        1 => Just(Demand::Missing),
        1 => (0..LEASES).prop_map(Demand::OnLease),
        1 => (0..VALUES.len()).prop_map(Demand::Loose),
        6 => Just(Demand::AsItIs),
    ];
    let change = prop_oneof![
        3 => Just(None),
        3 => (0..VALUES.len(), 0..LEASES - 1).prop_map(|(value, lease)| Some(Change::Put(value, lease))),
        1 => Just(Some(Change::Delete)),
    ];
    let lease = prop_oneof![1 => (0..LEASES).prop_map(Some), 4 => Just(None)];
    let last = (
        0..DIRECTORIES.len(),
        any::<u8>(),
        any::<u8>(),
        0..KEYS.len(),
        lease,
    );
    let last = last.prop_map(|(directory, some, more, deletes, lease)| Last {
        directory,
        expects: some | more,
        deletes,
        lease,
    });
    let transact = (
        proptest::collection::vec((0..KEYS.len(), demand), 0..3),
        proptest::collection::vec(change, KEYS.len()),
        proptest::option::of(last),
    );
    prop_oneof![
        4 => leases().prop_map(Call::Grant),
        1 => (0..LEASES, 60..70_u32).prop_map(|(lease, ttl)| Call::GrantNew(lease, ttl)),
        2 => proptest::collection::vec(0..LEASES, 0..4).prop_map(Call::Renew),
        1 => (0..LEASES).prop_map(Call::Revoke),
        2 => (0..LEASES).prop_map(Call::Lookup),
        1 => proptest::collection::vec(0..DIRECTORIES.len(), 0..3).prop_map(Call::LeasedIn),
        10 => transact.prop_map(|(guards, changes, last)| Call::Transact(guards, changes, last)),
        2 => (0..KEYS.len(), 0..VALUES.len()).prop_map(|(key, value)| Call::PutByHand(key, value)),
        1 => (0..KEYS.len()).prop_map(Call::DeleteByHand),
    ]
}

/// The store and its model.
struct Both<S> {
    store: S,
    model: ModelStore,
    leases: [LeaseId; LEASES],
    /// The keys that registrars have put, with the leases on which they were last put. The sweeps of some stores see these
    /// alone.
    counted: BTreeMap<Key, LeaseId>,
}

impl<S: Bench> Both<S> {
    /// Removes what the calls before have left.
    async fn new(mut store: S) -> Self {
        for lease in store.leases().await.expect("leases") {
            store.revoke(lease).await.expect("an end");
        }
        for key in KEYS {
            store.delete_by_hand(key).await;
        }
        let (a, b) = (Identity::new("a", ""), Identity::new("b", ""));
        let shared = |key| LeaseId::shared(key, 62);
        Self {
            store,
            model: ModelStore::default(),
            leases: [
                a.lease(60),
                b.lease(60),
                shared("/b/1/port"),
                shared("/b/2/port"),
                a.seat(),
            ],
            counted: BTreeMap::new(),
        }
    }

    fn pick(&self, places: &[usize]) -> Vec<LeaseId> {
        // Both would renew a lease twice.
        let places: BTreeSet<usize> = places.iter().copied().collect();
        places.into_iter().map(|place| self.leases[place]).collect()
    }

    async fn make(&mut self, call: &Call) -> Result<(), TestCaseError> {
        match call {
            Call::Grant(leases) => {
                let leases = self.pick(leases);
                let granted = self.store.grant(&leases).await.expect("an answer");
                prop_assert_eq!(
                    &granted,
                    &self.model.grant(&leases).await.expect("an answer")
                );
                self.forget_missing(&granted.keys().copied().collect());
            }
            Call::GrantNew(lease, ttl) => {
                let lease = self.leases[*lease];
                // The ids of the others have their TTL.
                let ttl = if lease.ttl() == 0 { *ttl } else { lease.ttl() };
                let granted = self.store.grant_new(lease, ttl).await.expect("an answer");
                prop_assert_eq!(
                    granted,
                    self.model.grant_new(lease, ttl).await.expect("an answer")
                );
            }
            Call::Renew(leases) => {
                let leases = self.pick(leases);
                let renewed = self.store.renew(&leases).await.expect("an answer");
                prop_assert_eq!(
                    &renewed,
                    &self.model.renew(&leases).await.expect("an answer")
                );
                self.forget_missing(&renewed.keys().copied().collect());
            }
            Call::Revoke(lease) => {
                let lease = self.leases[*lease];
                self.store.revoke(lease).await.expect("an end");
                self.model.revoke(lease).await.expect("an end");
                self.counted.retain(|_, on| *on != lease);
            }
            Call::Lookup(lease) => self.look_up(self.leases[*lease]).await?,
            Call::LeasedIn(directories) => {
                let directories: Vec<Arc<str>> = directories
                    .iter()
                    .map(|place| DIRECTORIES[*place].into())
                    .collect();
                let found = self.store.leased_in(&directories).await.expect("keys");
                let wanted = self.model.leased_in(&directories).await.expect("keys");
                let set = |pairs: Vec<(Key, LeaseId)>| pairs.into_iter().collect::<BTreeSet<_>>();
                prop_assert_eq!(set(found), set(wanted));
            }
            Call::Transact(guards, changes, last) => {
                let transaction = self.transaction(guards, changes, last.as_ref()).await;
                self.transact(&transaction).await?;
            }
            Call::PutByHand(key, value) => {
                let (key, value) = (KEYS[*key], VALUES[*value]);
                self.store.put_by_hand(key, value).await;
                self.model.model().put(&key.into(), value, None);
            }
            Call::DeleteByHand(key) => {
                let key = KEYS[*key];
                self.store.delete_by_hand(key).await;
                self.model.model().delete(key);
            }
        }
        self.compare().await
    }

    /// A renewal forgets the keys that are missing.
    fn forget_missing(&mut self, renewed: &BTreeSet<LeaseId>) {
        let model = self.model.model();
        let exists = |key: &Key| model.keys().contains_key(key);
        self.counted
            .retain(|key, lease| !renewed.contains(lease) || exists(key));
    }

    async fn look_up(&mut self, lease: LeaseId) -> Result<(), TestCaseError> {
        let found = self.store.lookup(lease).await.expect("an answer");
        let wanted = self.model.lookup(lease).await.expect("an answer");
        let (Some(mut found), Some(mut wanted)) = (found.clone(), wanted.clone()) else {
            prop_assert_eq!(found.is_some(), wanted.is_some());
            return Ok(());
        };
        found.keys.sort();
        wanted.keys.sort();
        prop_assert_eq!((&found.keys, found.granted), (&wanted.keys, wanted.granted));
        // The model's clock stands still in a call.
        prop_assert!(wanted.remaining.abs_diff(found.remaining) <= 1);
        Ok(())
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<(), TestCaseError> {
        let outcome = self.store.transact(transaction).await;
        let wanted = self.model.transact(&self.for_model(transaction)).await;
        match (&outcome, &wanted) {
            (Ok(outcome), Ok(wanted)) => prop_assert_eq!(outcome, wanted),
            (Err(StoreError::LeaseLost), Err(StoreError::LeaseLost)) => {}
            _ => prop_assert!(false, "{:?} and not {:?}", outcome, wanted),
        }
        if let Ok(Outcome::Done { swept }) = outcome {
            for step in &transaction.steps {
                match step {
                    Step::Put(key, _, lease) => drop(self.counted.insert(Arc::clone(key), *lease)),
                    Step::Delete(key) => drop(self.counted.remove(key)),
                    Step::Sweep(_) => {}
                }
            }
            for key in swept {
                self.counted.remove(&key);
            }
        }
        Ok(())
    }

    /// The transaction with the keys that the store does not see expected by its sweeps.
    fn for_model(&self, transaction: &Transaction) -> Transaction {
        let mut transaction = transaction.clone();
        if S::FACTS.sweeps_see_all {
            return transaction;
        }
        for step in &mut transaction.steps {
            if let Step::Sweep(sweep) = step {
                let model = self.model.model();
                let unseen = model
                    .keys()
                    .keys()
                    .filter(|key| !self.counted.contains_key(*key));
                sweep.expected.extend(unseen.cloned());
                sweep.expected.sort();
                sweep.expected.dedup();
            }
        }
        transaction
    }

    async fn transaction(
        &mut self,
        guards: &[(usize, Demand)],
        changes: &[Option<Change>],
        last: Option<&Last>,
    ) -> Transaction {
        let mut transaction = Transaction::default();
        for (key, demand) in guards {
            let key: Key = KEYS[*key].into();
            let found = self
                .model
                .read(std::slice::from_ref(&key))
                .await
                .expect("keys");
            let guard = match (demand, found.first().map(|found| (&found.on, &found.value))) {
                (Demand::OnLease(lease), _) => Guard::OnLease(key, self.leases[*lease]),
                (Demand::Loose(value), _) => Guard::Loose(key, VALUES[*value].into()),
                (Demand::AsItIs, Some((On::Lease(lease), _))) => Guard::OnLease(key, *lease),
                (Demand::AsItIs, Some((_, value))) => Guard::Loose(key, Arc::clone(value)),
                (Demand::Missing, _) | (Demand::AsItIs, None) => Guard::Missing(key),
            };
            transaction.guards.push(guard);
        }
        for (key, change) in KEYS.iter().zip(changes) {
            transaction
                .steps
                .extend(change.as_ref().map(|change| match change {
                    Change::Put(value, lease) => {
                        Step::Put((*key).into(), VALUES[*value].into(), self.leases[*lease])
                    }
                    Change::Delete => Step::Delete((*key).into()),
                }));
        }
        if let Some(last) = last {
            let is_written = transaction.keys().any(|key| &**key == KEYS[last.deletes]);
            // No key is written twice.
            if !is_written {
                let sweep = self.sweep(last).await;
                transaction.steps.push(Step::Sweep(sweep));
            }
        }
        transaction
    }

    async fn sweep(&mut self, last: &Last) -> Sweep {
        let key: Key = KEYS[last.deletes].into();
        let found = self
            .model
            .read(std::slice::from_ref(&key))
            .await
            .expect("keys");
        let own = found.first().and_then(Found::lease);
        let lease = last.lease.map(|lease| self.leases[lease]).or(own);
        let directory = DIRECTORIES[last.directory];
        let expected = KEYS.iter().enumerate().filter(|(place, key)| {
            let is_expected = (last.expects >> place) & 1 == 1 || *place == last.deletes;
            is_expected && key.starts_with(directory)
        });
        Sweep {
            directory: directory.into(),
            expected: expected.map(|(_, key)| Key::from(*key)).collect(),
            keys: vec![(key, lease.unwrap_or(self.leases[0]))],
        }
    }

    /// Both have the same keys with the same values on the same leases, and the same leases.
    async fn compare(&mut self) -> Result<(), TestCaseError> {
        let keys = KEYS.map(Key::from);
        let shown = |mut found: Vec<Found>| -> Vec<(Key, Arc<str>, On)> {
            found.sort_by(|a, b| a.key.cmp(&b.key));
            found
                .into_iter()
                .map(|found| (found.key, found.value, found.on))
                .collect()
        };
        let found = shown(self.store.read(&keys).await.expect("keys"));
        prop_assert_eq!(found, shown(self.model.read(&keys).await.expect("keys")));
        let mut leases = self.store.leases().await.expect("leases");
        leases.sort();
        let mut wanted = self.model.leases().await.expect("leases");
        wanted.sort();
        prop_assert_eq!(leases, wanted);
        Ok(())
    }
}
