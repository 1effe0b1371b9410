//! The store that is chosen when the program starts. Each call goes on to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::etcd::{self, EtcdStore};
use super::memory::{self, MemoryStore, MemoryWatch};
use super::redis::{self, Place, RedisStore};
use super::{
    Changes, Found, Lease, LeaseId, Limits, Listing, Outcome, Store, StoreError, Transaction,
    Watching,
};
use crate::base::calls::Calls;
use crate::base::key::Key;

/// The settings of a store, which say which one it is.
#[derive(Debug, Clone)]
pub enum Settings {
    Etcd(etcd::Settings),
    Redis(redis::Settings),
    /// Every connection of this process is to this one.
    Memory(MemoryStore),
}

#[expect(clippy::large_enum_variant, reason = "a process has few of them")]
pub enum AnyStore {
    Etcd(EtcdStore),
    Redis(RedisStore),
    Memory(MemoryStore),
}

#[expect(clippy::large_enum_variant, reason = "a process has few of them")]
pub enum AnyWatching {
    Etcd(<EtcdStore as Store>::Watching),
    Redis(<RedisStore as Store>::Watching),
    Memory(MemoryWatch),
}

impl Settings {
    /// A new connection. It connects at its first call. `limit` is the time limit of each call.
    pub fn open(&self, limit: Duration) -> AnyStore {
        match self {
            Self::Etcd(settings) => AnyStore::Etcd(EtcdStore::new(settings.clone(), limit)),
            Self::Redis(settings) => AnyStore::Redis(RedisStore::new(settings.clone(), limit)),
            Self::Memory(store) => AnyStore::Memory(store.clone()),
        }
    }

    /// The store's name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => etcd::NAME,
            Self::Redis(_) => redis::NAME,
            Self::Memory(_) => memory::NAME,
        }
    }

    /// Whether its keys outlast this process.
    pub fn lasts(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }

    /// The name of the store's condition and of its metrics' label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Redis(_) => "redis",
            Self::Memory(_) => "memory",
        }
    }

    /// The name of the fact about its endpoints on the page.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd endpoints",
            Self::Redis(_) => "Redis endpoints",
            Self::Memory(_) => "store",
        }
    }

    /// The addresses that are connected to, `host:port` each. None if the store is in memory.
    pub fn endpoints(&self) -> &[String] {
        match self {
            Self::Etcd(settings) => &settings.endpoints,
            Self::Redis(settings) => settings.place.endpoints(),
            Self::Memory(_) => &[],
        }
    }

    /// The place of the store: its endpoints with commas between them, and what is behind them.
    pub fn shown(&self) -> String {
        let endpoints = self.endpoints().join(",");
        match self {
            Self::Etcd(_) => endpoints,
            Self::Redis(settings) => match &settings.place {
                Place::Servers(_) => format!("{endpoints}/{}", settings.db),
                Place::Sentinel { master, .. } => format!("{endpoints}/{master}/{}", settings.db),
            },
            Self::Memory(_) => "in-process".to_owned(),
        }
    }

    /// How to look at a lease with the store's own tools, as it goes on in a message; empty if there is no way.
    pub fn look_at(&self, lease: LeaseId) -> String {
        match self {
            Self::Etcd(_) => {
                format!("; `etcdctl lease timetolive {lease} --keys` shows its keys")
            }
            Self::Redis(_) | Self::Memory(_) => String::new(),
        }
    }

    /// Tells `calls` of each call from now on. One in memory takes no time.
    pub fn tell_calls(&mut self, calls: Calls) {
        match self {
            Self::Etcd(settings) => settings.calls = calls,
            Self::Redis(settings) => settings.calls = calls,
            Self::Memory(_) => {}
        }
    }
}

impl Default for Settings {
    /// An etcd without an endpoint.
    fn default() -> Self {
        Self::Etcd(etcd::Settings::default())
    }
}

/// The same call of whichever store it is.
macro_rules! either {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            Self::Etcd($store) => $call,
            Self::Redis($store) => $call,
            Self::Memory($store) => $call,
        }
    };
}

impl Store for AnyStore {
    type Watching = AnyWatching;

    fn name(&self) -> &'static str {
        either!(self, store => store.name())
    }

    fn limits(&self) -> Limits {
        either!(self, store => store.limits())
    }

    fn limit_calls(&mut self, limit: Duration) {
        either!(self, store => store.limit_calls(limit));
    }

    fn in_step(&self, is_proven: bool) {
        either!(self, store => store.in_step(is_proven));
    }

    fn ways(&self) -> usize {
        either!(self, store => store.ways())
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        either!(self, store => store.leases().await)
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        either!(self, store => store.lookup(lease).await)
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        either!(self, store => store.renew(leases).await)
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        either!(self, store => store.grant(leases).await)
    }

    async fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        either!(self, store => store.grant_new(lease, ttl).await)
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        either!(self, store => store.read(keys).await)
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        either!(self, store => store.leased_in(directories).await)
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        either!(self, store => store.transact(transaction).await)
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        either!(self, store => store.revoke(lease).await)
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        either!(self, store => store.get(key).await)
    }

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        either!(self, store => store.scan(prefix).await)
    }

    async fn watch(&mut self, prefix: &str, revision: i64) -> Result<AnyWatching, StoreError> {
        Ok(match self {
            Self::Etcd(store) => AnyWatching::Etcd(store.watch(prefix, revision).await?),
            Self::Redis(store) => AnyWatching::Redis(store.watch(prefix, revision).await?),
            Self::Memory(store) => AnyWatching::Memory(store.watch(prefix, revision).await?),
        })
    }
}

impl Watching for AnyWatching {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        either!(self, watching => watching.next().await)
    }

    fn heard_at(&self) -> Instant {
        either!(self, watching => watching.heard_at())
    }

    fn compares_itself(&self) -> bool {
        either!(self, watching => watching.compares_itself())
    }
}
