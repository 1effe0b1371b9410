//! Random schedules of two registrars against a model of etcd. Whatever happens, the model ends with the wanted keys,
//! no member key ever exists without the port key of its directory, and no registrar deletes the last key of a running
//! container. The wanted keys change in layout, value, TTL and kind, and etcd refuses puts and takes deletes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::base::key::{Key, directory};
use crate::store::model::{Model, ModelStore, Refuses};
use crate::wanted::{Claim, ContainerName, Entry};

/// The TTLs of the registrars, in seconds: they need not agree.
const TTLS: [u32; REGISTRARS] = [6, 9];
const REGISTRARS: usize = 2;

/// The TTLs of entries, in seconds. A shared key's TTL changes with its container.
const ENTRY_TTLS: [u32; 3] = [6, 9, 24];
/// The prefixes of the layouts.
const LAYOUTS: [&str; 2] = ["/old/", "/new/"];

/// The containers of one registrar's host, in six places. Even places are of one service, odd ones of another.
type Host = [Option<Asked>; 6];

/// The policy's decision for one container.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The version of its address.
    version: u8,
    layout: usize,
    ttl: usize,
    /// Whether the keys that can be owned or shared are shared.
    shared: bool,
    /// Whether it has so many ports that its keys need several transactions.
    wide: bool,
}

#[derive(Debug, Clone)]
enum Act {
    /// The host's containers change, and the registrar learns of it.
    Want(usize, Host),
    /// The host's containers change after a number of further transactions, and the registrar learns of it then.
    Meanwhile(usize, Host, usize),
    /// The registrar does its pending work.
    Step(usize),
    /// One of its next calls fails, with or without its effect.
    Fault(usize, usize, bool),
    /// It is killed, and started again with the same identity.
    Restart(usize),
    /// Seconds pass, while the first registrar may be stopped.
    Pass(u8, bool),
    /// etcd elects a new leader.
    Elect,
    /// etcd refuses some puts from now on, or takes all of them again.
    Refuse(Refuses),
    /// Somebody changes a key by hand, at once or right after the next refused transaction.
    Meddle(Meddling, Index, bool),
}

#[derive(Debug, Clone, Copy)]
enum Meddling {
    Delete,
    Overwrite,
    Revoke,
}

impl Meddling {
    fn with(self, model: &mut Model, index: Index) {
        if model.keys().is_empty() {
            return;
        }
        let keys: Vec<Key> = model.keys().keys().cloned().collect();
        let key = index.get(&keys);
        match self {
            Self::Delete => model.delete(key),
            Self::Overwrite => model.put(key, "meddled", None),
            Self::Revoke => {
                let lease = model.keys()[key].lease;
                if let Some(lease) = lease {
                    model.end(lease);
                }
            }
        }
    }
}

struct World {
    etcd: ModelStore,
    keepers: Vec<Keeper<ModelStore>>,
    newest: Vec<watch::Sender<Option<Arc<Wanted>>>>,
    hosts: Arc<Mutex<[Host; REGISTRARS]>>,
    /// Whether somebody has changed a key by hand between two transactions of a step.
    meddled: Arc<AtomicBool>,
}

impl World {
    fn new() -> Self {
        let etcd = ModelStore::default();
        let mut world = Self {
            etcd,
            keepers: Vec::new(),
            newest: (0..REGISTRARS).map(|_| watch::Sender::default()).collect(),
            hosts: Arc::default(),
            meddled: Arc::default(),
        };
        for registrar in 0..REGISTRARS {
            world.keepers.push(world.keeper(registrar));
        }
        world
    }

    fn keeper(&self, registrar: usize) -> Keeper<ModelStore> {
        let mut keeper = Keeper::new(
            self.etcd.connect(),
            Identity::new("daemon", &registrar.to_string()),
            TTLS[registrar],
            self.newest[registrar].subscribe(),
            Arc::new(Status::new(TTLS[registrar])),
        );
        keeper
            .plan
            .want(&wanted(registrar, &self.hosts()[registrar]).into());
        keeper
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Want(registrar, host) => {
                self.hosts.lock().expect("no test panicked with it")[*registrar] = *host;
                self.newest[*registrar].send_replace(Some(wanted(*registrar, host).into()));
                self.step(*registrar).await;
            }
            Act::Meanwhile(registrar, host, after) => {
                let (registrar, host, hosts) = (*registrar, *host, Arc::clone(&self.hosts));
                let newest = self.newest[registrar].clone();
                let change = move |_: &mut Model| {
                    hosts.lock().expect("no test panicked with it")[registrar] = host;
                    newest.send_replace(Some(wanted(registrar, &host).into()));
                };
                self.etcd.model().after_transactions = Some((*after, Box::new(change)));
            }
            Act::Step(registrar) => self.step(*registrar).await,
            Act::Fault(registrar, after, with_effect) => {
                self.keepers[*registrar].store.fail(*after, *with_effect);
            }
            Act::Restart(registrar) => self.keepers[*registrar] = self.keeper(*registrar),
            Act::Pass(seconds, first_stopped) => {
                for _ in 0..*seconds {
                    self.second(usize::from(*first_stopped)).await;
                }
            }
            Act::Elect => self.etcd.model().elect(),
            Act::Refuse(refuses) => self.etcd.model().refuses = *refuses,
            Act::Meddle(meddling, index, is_later) => {
                let mut model = self.etcd.model();
                if *is_later {
                    let (meddling, index) = (*meddling, *index);
                    let meddled = Arc::clone(&self.meddled);
                    let meddle = move |model: &mut Model| {
                        meddling.with(model, index);
                        meddled.store(true, Ordering::Relaxed);
                    };
                    model.after_guard_failed = Some(Box::new(meddle));
                } else {
                    meddling.with(&mut model, *index);
                }
            }
        }
    }

    /// One round of the keeper's own loop.
    async fn step(&mut self, registrar: usize) {
        let keeper = &mut self.keepers[registrar];
        let before = self.hosts.lock().expect("no test panicked with it")[registrar];
        keeper.look();
        if keeper.bring_in_step().await.is_err() {
            keeper.forget();
        }
        assert!(keeper.gives_way.is_none(), "it has no rival");
        self.assert_no_container_lost_all(registrar, &before);
    }

    fn hosts(&self) -> [Host; REGISTRARS] {
        *self.hosts.lock().expect("no test panicked with it")
    }

    /// Asserts that no transaction deleted the last key of a running container, whatever etcd refused.
    fn assert_no_container_lost_all(&self, registrar: usize, earlier: &Host) {
        let now = self.hosts()[registrar];
        let transactions = std::mem::take(&mut self.etcd.model().transactions);
        if self.meddled.swap(false, Ordering::Relaxed) {
            return; // The new keys may be gone by hand before the old ones are deleted.
        }
        for [before, after] in transactions {
            for container in 0..6 {
                if earlier[container].is_none() || now[container].is_none() {
                    continue;
                }
                let end = format!("/{}", name(registrar, container));
                let keys = |state: &BTreeMap<Key, Arc<str>>| {
                    state.keys().filter(|key| key.ends_with(&end)).count()
                };
                assert!(
                    keys(&before) == 0 || keys(&after) > 0,
                    "{end} runs and lost its keys: {before:?} {after:?}"
                );
            }
        }
    }

    /// Lets a second pass in two halves. The registrars from `first` on run after each half.
    async fn second(&mut self, first: usize) {
        for _ in 0..2 {
            tokio::time::advance(Duration::from_millis(500)).await;
            self.etcd.model().expire();
            for registrar in first..REGISTRARS {
                let keeper = &self.keepers[registrar];
                if keeper.knowledge != Knowledge::Whole || Instant::now() >= keeper.next_at() {
                    self.step(registrar).await;
                }
            }
        }
    }

    /// The keys that etcd must have in the end. Of two containers of one host, the older one's entry counts.
    fn wanted(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (registrar, host) in self.hosts().iter().enumerate() {
            let mut claims: Vec<Arc<Claim>> =
                wanted(registrar, host).claims.iter().cloned().collect();
            claims.reverse();
            let entries = claims.iter().flat_map(|claim| claim.entries.iter());
            all.extend(entries.map(|entry| (entry.key.to_string(), entry.value.to_string())));
        }
        all
    }

    /// The keys in etcd, without unwanted keys on no lease: those are not ours to delete.
    fn held(&self) -> BTreeMap<String, String> {
        let model = self.etcd.model();
        let wanted = self.wanted();
        model
            .keys()
            .values()
            .filter(|found| found.lease.is_some() || wanted.contains_key(&*found.key))
            .map(|found| (found.key.to_string(), found.value.to_string()))
            .collect()
    }
}

fn name(registrar: usize, container: usize) -> String {
    format!("r{registrar}c{container}")
}

fn wanted(registrar: usize, host: &Host) -> Wanted {
    let claims = host.iter().enumerate().filter_map(|(container, asked)| {
        let asked = (*asked)?;
        let (service, name) = (container % 2, name(registrar, container));
        let entry = |key: String, value: String, shared| Entry {
            key: key.into(),
            value: value.into(),
            ttl: ENTRY_TTLS[asked.ttl],
            shared,
            check: None,
        };
        let who = ContainerName {
            id: name.as_str().into(),
            name: name.as_str().into(),
        };
        let address = format!("10.0.0.{registrar}:{}", asked.version);
        let ports = 1..=if asked.wide { 8 } else { 1 };
        let in_directories = ports.flat_map(|port| {
            let directory = format!("{}s{service}/{port}/", LAYOUTS[asked.layout]);
            [
                entry(format!("{directory}{name}"), address.clone(), false),
                entry(format!("{directory}port"), "80".to_owned(), true),
            ]
        });
        let entries = in_directories.chain([
            // A key that this registrar alone wants, and a key that both want.
            entry(
                format!("/own/r{registrar}s{service}"),
                address.clone(),
                asked.shared,
            ),
            entry(format!("/all/s{service}"), "all".to_owned(), asked.shared),
        ]);
        Some(Arc::new(Claim {
            // Not in the order of the ids.
            age: format!("{}", 9 - container).into(),
            who,
            entries: entries.collect(),
        }))
    });
    Wanted {
        claims: claims.collect(),
        ..Wanted::default()
    }
}

fn act(meddling: bool) -> impl Strategy<Value = Act> {
    let registrar = 0..REGISTRARS;
    let (is_shared, is_wide) = (any::<bool>(), prop::bool::weighted(0.2));
    let asked = (1..4u8, 0..2usize, 0..3usize, is_shared, is_wide);
    let asked = asked.prop_map(|(version, layout, ttl, shared, wide)| Asked {
        version,
        layout,
        ttl,
        shared,
        wide,
    });
    let host = prop::array::uniform6(prop::option::of(asked));
    let refuses = prop_oneof![
        2 => Just(Refuses::Nothing),
        1 => Just(Refuses::Below(LAYOUTS[1])),
        1 => Just(Refuses::Below("/new/s0/1/port")),
        1 => Just(Refuses::Everything),
    ];
    let meddlings = prop_oneof![
        Just(Meddling::Delete),
        Just(Meddling::Overwrite),
        Just(Meddling::Revoke)
    ];
    prop_oneof![
        6 => (registrar.clone(), host.clone()).prop_map(|(registrar, host)| Act::Want(registrar, host)),
        3 => (registrar.clone(), host, 0..6usize)
            .prop_map(|(registrar, host, after)| Act::Meanwhile(registrar, host, after)),
        2 => registrar.clone().prop_map(Act::Step),
        3 => (registrar.clone(), 0..8usize, any::<bool>())
            .prop_map(|(registrar, after, with_effect)| Act::Fault(registrar, after, with_effect)),
        1 => registrar.prop_map(Act::Restart),
        1 => Just(Act::Elect),
        2 => refuses.prop_map(Act::Refuse),
        3 => (1..12u8, any::<bool>()).prop_map(|(seconds, stopped)| Act::Pass(seconds, stopped)),
        if meddling { 3 } else { 0 } =>
            (meddlings, any::<Index>(), any::<bool>())
                .prop_map(|(meddling, index, is_later)| Act::Meddle(meddling, index, is_later)),
    ]
}

/// Runs a schedule, lets time pass, and checks that etcd then has the wanted keys.
fn run(acts: &[Act], check_history: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new();
        for act in acts {
            world.act(act).await;
        }
        world.etcd.model().after_guard_failed = None;
        world.etcd.model().after_transactions = None;
        world.etcd.model().refuses = Refuses::Nothing;
        // Long enough for all leftovers of failures to expire, with the margin of shared leases.
        for _ in 0..3 * ENTRY_TTLS[2] {
            world.second(0).await;
        }
        assert_eq!(world.held(), world.wanted());
        let revisions = world.etcd.model().history.len();
        for _ in 0..2 * ENTRY_TTLS[2] {
            world.second(0).await;
        }
        assert_eq!(
            world.etcd.model().history.len(),
            revisions,
            "the steady state writes nothing"
        );
        let model = world.etcd.model();
        for state in model.history.iter().filter(|_| check_history) {
            let is_beside = |key: &&Key| LAYOUTS.iter().any(|layout| key.starts_with(layout));
            for key in state.keys().filter(is_beside) {
                let port: Key = format!("{}port", directory(key)).into();
                assert!(state.contains_key(&port), "{key} without port: {state:?}");
            }
        }
    });
}

proptest! {
    // These take about a second; PROPTEST_CASES sets another number.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_schedule_ends_with_exactly_the_wanted_keys(acts in prop::collection::vec(act(false), 1..40)) {
        run(&acts, true);
    }

    #[test]
    fn every_change_by_hand_is_mended(acts in prop::collection::vec(act(true), 1..40)) {
        run(&acts, false);
    }
}
