//! Two registrars, the containers of their hosts, and the etcd that both write to.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::acts::{Act, Asked, Host, address, name, wanted};
use super::{LAYOUTS, REGISTRARS, TTLS};
use crate::base::key::Key;
use crate::register::keeper::tests::*;
use crate::store::model::{Model, ModelStore};
use crate::wanted::Claim;

pub(super) struct World {
    pub(super) etcd: ModelStore,
    pub(super) keepers: Vec<Keeper<ModelStore>>,
    pub(super) newest: Vec<watch::Sender<Option<Arc<Wanted>>>>,
    pub(super) hosts: Arc<Mutex<[Host; REGISTRARS]>>,
    /// Whether somebody has changed a key by hand between two transactions of a step.
    pub(super) meddled: Arc<AtomicBool>,
}

impl World {
    pub(super) fn new() -> Self {
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

    pub(super) fn keeper(&self, registrar: usize) -> Keeper<ModelStore> {
        let mut keeper = Keeper::new(
            self.etcd.connect(),
            Identity::new("daemon", &registrar.to_string()),
            TTLS[registrar],
            self.newest[registrar].subscribe(),
            Arc::new(Status::new(TTLS[registrar], &store::Settings::default())),
        );
        keeper
            .plan
            .want(&wanted(registrar, &self.hosts()[registrar]).into());
        keeper
    }

    pub(super) async fn act(&mut self, act: &Act) {
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
            Act::Restart(registrar, forgets) => {
                if *forgets {
                    self.judge(*registrar, Some(true), None);
                }
                self.keepers[*registrar] = self.keeper(*registrar);
            }
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

    /// Changes the verdicts on a host's checks that are `from`.
    pub(super) fn judge(&self, registrar: usize, from: Option<bool>, to: Option<bool>) {
        let mut hosts = self.hosts.lock().expect("no test panicked with it");
        let host = &mut hosts[registrar];
        let all = host.iter_mut().flatten();
        let changed = all.filter(|asked| asked.passes == from);
        changed.for_each(|asked| asked.passes = to);
        self.newest[registrar].send_replace(Some(wanted(registrar, host).into()));
    }

    /// One round of the keeper's own loop.
    pub(super) async fn step(&mut self, registrar: usize) {
        let keeper = &mut self.keepers[registrar];
        let before = self.hosts.lock().expect("no test panicked with it")[registrar];
        keeper.look();
        if keeper.bring_in_step().await.is_err() {
            keeper.forget();
        }
        assert!(keeper.gives_way.is_none(), "it has no rival");
        self.assert_no_container_lost_all(registrar, &before);
    }

    pub(super) fn hosts(&self) -> [Host; REGISTRARS] {
        *self.hosts.lock().expect("no test panicked with it")
    }

    /// Asserts that no transaction deleted the last key of a running container, whatever etcd refused.
    pub(super) fn assert_no_container_lost_all(&self, registrar: usize, earlier: &Host) {
        let now = self.hosts()[registrar];
        let transactions = std::mem::take(&mut self.etcd.model().transactions);
        if self.meddled.swap(false, Ordering::Relaxed) {
            return; // The new keys may be gone by hand before the old ones are deleted.
        }
        for [before, after] in transactions {
            for container in 0..6 {
                let (Some(earlier), Some(now)) = (earlier[container], now[container]) else {
                    continue;
                };
                let is_same = Asked {
                    passes: earlier.passes,
                    ..now
                } == earlier;
                // Keys stay until a check fails. Without a verdict they stay as they are.
                let [fails, is_unproven] = [Some(false), None]
                    .map(|verdict| earlier.passes == verdict || now.passes == verdict);
                if fails || is_unproven && !is_same {
                    continue;
                }
                let end = format!("/{}", name(registrar, container));
                let address = address(registrar, now);
                let keys = |state: &BTreeMap<Key, Arc<str>>| {
                    let its = state.iter().filter(|(key, _)| key.ends_with(&end));
                    let is_wanted = |key: &Key, value: &str| {
                        let is_there = now.wide || key.contains("/1/");
                        is_there && key.starts_with(LAYOUTS[now.layout]) && *value == *address
                    };
                    its.filter(|(key, value)| !is_unproven || is_wanted(key, value))
                        .count()
                };
                assert!(
                    keys(&before) == 0 || keys(&after) > 0,
                    "{end} runs and lost its keys: {before:?} {after:?}"
                );
            }
        }
    }

    /// Lets a second pass in two halves. The registrars from `first` on run after each half.
    pub(super) async fn second(&mut self, first: usize) {
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
    pub(super) fn wanted(&self) -> BTreeMap<String, String> {
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
    pub(super) fn held(&self) -> BTreeMap<String, String> {
        let model = self.etcd.model();
        let wanted = self.wanted();
        model
            .keys()
            .values()
            .filter(|found| found.lease().is_some() || wanted.contains_key(&*found.key))
            .map(|found| (found.key.to_string(), found.value.to_string()))
            .collect()
    }
}
