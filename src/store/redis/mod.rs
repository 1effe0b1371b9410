//! The store in Redis from 6.2, and in Valkey. Only this module uses the Redis client.
//!
//! Keys are plain strings with a TTL, as their readers expect. Leases are records of our own, below `docker-register:`
//! and outside of any reader's prefix (`scripts/common.lua` lists them), and each call that changes them is one script,
//! which Redis carries out with nothing in between. All keys on a lease have one deadline, to the ms, and a renewal sets
//! it for each of them, so it is a write and an event for each key, unlike in etcd.
//!
//! What else differs from etcd: deadlines are times of the day, so a Redis that is away for longer than a TTL loses the
//! keys; a failover may lose the last writes; a key that was put by hand does not keep a directory from being swept; a
//! watch may notice late that a key has expired; and a listing is not of one moment.

mod connection;
mod failure;
mod leases;
mod link;
#[cfg(test)]
pub mod process;
mod reading;
mod script;
mod sentinel;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod touched;
mod txn;
mod value;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Found, Lease, LeaseId, Limits, Listing, Outcome, Store, StoreError, Transaction};
use crate::base::key::{self, Key};
use connection::Connection;
use failure::name_keys;
use leases::Missing;
use link::Request;
use watch::Known;

pub use settings::{Place, Settings};
pub use watch::RedisWatch;

/// The store's name in messages.
pub const NAME: &str = "Redis";
/// The most operations of a transaction: Redis does nothing else for about ten ms then.
pub const MAX_OPERATIONS: usize = 1000;

pub struct RedisStore {
    connection: Connection,
    /// The newest listing with its prefix, which a watch goes on from. It shares all texts with the reader's.
    listed: Option<(String, Listing)>,
}

impl RedisStore {
    /// `limit` is the time limit of each call. It connects at its first call.
    pub fn new(settings: Settings, limit: Duration) -> Self {
        Self {
            connection: Connection::new(settings, limit, None),
            listed: None,
        }
    }
}

impl Store for RedisStore {
    type Watching = RedisWatch;

    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> Limits {
        Limits {
            operations: MAX_OPERATIONS,
            ttl: 1..=u32::MAX,
        }
    }

    fn limit_calls(&mut self, limit: Duration) {
        self.connection.limit_calls(limit);
    }

    fn ways(&self) -> usize {
        self.connection.ways()
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        self.connection.leases().await
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.connection.lookup(lease).await
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.connection.renew(leases, Missing::LeaveOut).await
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.connection.renew(leases, Missing::Grant).await
    }

    async fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        self.connection.claim(lease, ttl).await
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        self.connection.read(keys).await
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        self.connection.leased_in(directories).await
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let request = Request::Script(&script::TRANSACT, txn::input(transaction));
        let answer = self.connection.call(&request).await;
        let answer = name_keys(answer, || {
            format!("cannot change {}", key::in_words(transaction.keys()))
        });
        txn::outcome(answer?)
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.connection.revoke(lease).await
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection.get(key).await
    }

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        let listing = self.connection.list(prefix).await?;
        self.listed = Some((prefix.to_owned(), listing.clone()));
        Ok(listing)
    }

    /// A watch goes on from the last listing of this connection. If that was of another prefix, the watch begins with a
    /// listing, and cannot tell of keys that have been deleted before it.
    async fn watch(&mut self, prefix: &str, revision: i64) -> Result<RedisWatch, StoreError> {
        let listed = self
            .listed
            .take()
            .filter(|(of, listing)| of == prefix && listing.revision + 1 == revision);
        let keys = listed.map_or_else(Vec::new, |(_, listing)| listing.keys);
        let known = Known {
            prefix: prefix.to_owned(),
            keys: keys
                .into_iter()
                .map(|found| (Arc::clone(&found.key), found))
                .collect(),
        };
        let (settings, limit) = (self.connection.settings().clone(), self.connection.limit());
        RedisWatch::open(settings, limit, known, revision).await
    }
}
