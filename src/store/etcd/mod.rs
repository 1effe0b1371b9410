//! The store in etcd v3. Only this module uses the etcd client.

mod connection;
mod failure;
mod leases;
mod link;
#[cfg(test)]
pub mod process;
mod reading;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod txn;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{LeaseGrantOptions, LeaseTimeToLiveOptions, ResponseHeader};

use super::tls::Words;
use super::{Found, Lease, LeaseId, Limits, Listing, Outcome, Store, StoreError, Transaction};
use crate::base::key::{self, Key};
use connection::Connection;
use failure::name_keys;
use link::Link;

pub use settings::Settings;
pub use watch::Watch;

/// The store's name in messages.
pub const NAME: &str = "etcd";
/// The most operations of a transaction (the default of etcd's `--max-txn-ops`).
pub const MAX_OPERATIONS: usize = 128;

/// Its words in messages about TLS.
const WORDS: Words = Words {
    store: NAME,
    flags: "--etcd",
    plain: "http://",
    client_ca: "--trusted-ca-file",
};

pub struct EtcdStore {
    connection: Connection,
}

impl EtcdStore {
    /// `limit` is the time limit of each call. It connects at its first call.
    pub fn new(settings: Settings, limit: Duration) -> Self {
        Self {
            connection: Connection::new(settings, limit),
        }
    }
}

impl Store for EtcdStore {
    type Watching = Watch;

    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> Limits {
        Limits {
            operations: MAX_OPERATIONS,
            // etcd raises shorter TTLs to its least one, which follows from its election timeout.
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
        let reply = self
            .connection
            .call(
                Link::leases,
                |mut client| async move { client.leases().await },
            )
            .await?;
        Ok(reply
            .leases()
            .iter()
            .map(|lease| LeaseId(lease.id()))
            .collect())
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let reply = self.connection.call(Link::leases, |mut client| {
            let options = options.clone();
            async move { client.time_to_live(lease.0, Some(options)).await }
        });
        let reply = name_keys(reply.await, || {
            format!("cannot list the keys on lease {lease}")
        })?;
        // A lease that does not exist has the TTL -1. A key that is not UTF-8 is not ours.
        let text = |key: &Vec<u8>| str::from_utf8(key).ok().map(Key::from);
        Ok((reply.ttl() >= 0).then(|| Lease {
            keys: reply.keys().iter().filter_map(text).collect(),
            granted: seconds(reply.granted_ttl()),
            remaining: seconds(reply.ttl()),
            term: reply.header().map_or(0, ResponseHeader::raft_term),
        }))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        leases::renew(&mut self.connection, leases).await
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        leases::grant(&mut self.connection, leases).await
    }

    async fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        let options = LeaseGrantOptions::new().with_id(lease.0);
        self.connection
            .call(Link::leases, |mut client| {
                let options = options.clone();
                async move {
                    match client.grant(i64::from(ttl), Some(options)).await {
                        Ok(_) => Ok(true),
                        Err(error) if leases::exists_already(&error) => Ok(false),
                        Err(error) => Err(error),
                    }
                }
            })
            .await
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
        let reply = self.connection.call(Link::kv, |mut client| {
            let request = txn::request(transaction);
            async move { client.txn(request).await }
        });
        let reply = name_keys(reply.await, || {
            format!("cannot change {}", key::in_words(transaction.keys()))
        });
        Ok(txn::outcome(transaction, &reply?))
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let revoked = self
            .connection
            .call(Link::leases, |mut client| async move {
                client.revoke(lease.0).await
            })
            .await;
        match name_keys(revoked, || {
            format!("cannot remove the keys on lease {lease}")
        }) {
            Ok(_) | Err(StoreError::LeaseLost) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        self.connection.get(key).await
    }

    async fn scan(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        self.connection.list(prefix).await
    }

    async fn watch(&mut self, prefix: &str, revision: i64) -> Result<Watch, StoreError> {
        self.connection.watch(prefix, revision).await
    }
}

fn seconds(ttl: i64) -> u32 {
    u32::try_from(ttl.max(0)).unwrap_or(u32::MAX)
}
