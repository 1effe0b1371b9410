//! The store in etcd v3. Only this module uses the etcd client.

mod connection;
mod failure;
#[cfg(test)]
mod process;
mod reading;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod txn;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the reading role is its first user")
)]
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Error, LeaseClient, LeaseGrantOptions, LeaseTimeToLiveOptions, ResponseHeader,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Found, Lease, LeaseId, Outcome, Store, StoreError, Transaction};
use crate::base::key::Key;

pub use connection::Connection;
pub use settings::{Password, Settings, User};
pub use tls::{Tls, is_server_name};

/// The number of leases that are renewed at a time, and under one time limit.
const LEASES_AT_ONCE: usize = 16;
const LEASES_IN_A_CALL: usize = 32;

/// etcd's message for the grant of a lease that exists (`ErrGRPCLeaseExist` in its `rpctypes/error.go`).
const LEASE_EXISTS: &str = "lease already exists";

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

    /// Makes a call for each lease, several at a time. Returns the seconds that each lives, without missing leases.
    async fn each<F: Future<Output = Result<u32, Error>> + Send>(
        &mut self,
        leases: &[LeaseId],
        call: impl Fn(LeaseClient, LeaseId) -> F + Send + Sync + Copy,
    ) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        let mut alive = BTreeMap::new();
        for chunk in leases.chunks(LEASES_IN_A_CALL) {
            let all = |client: LeaseClient| {
                stream::iter(chunk.to_vec())
                    .map(move |lease| {
                        let called = call(client.clone(), lease);
                        async move { Ok((lease, called.await?)) }
                    })
                    .buffer_unordered(LEASES_AT_ONCE)
                    .try_collect::<Vec<(LeaseId, u32)>>()
            };
            let living = self.connection.call(Client::lease_client, all).await?;
            alive.extend(living.into_iter().filter(|(_, ttl)| *ttl > 0));
        }
        Ok(alive)
    }
}

impl Store for EtcdStore {
    const MAX_OPERATIONS: usize = 128;

    fn limit_calls(&mut self, limit: Duration) {
        self.connection.limit_calls(limit);
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        let reply = self
            .connection
            .call(Client::lease_client, |mut client| async move {
                client.leases().await
            })
            .await?;
        Ok(reply
            .leases()
            .iter()
            .map(|lease| LeaseId(lease.id()))
            .collect())
    }

    async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let reply = self
            .connection
            .call(Client::lease_client, |mut client| {
                let options = options.clone();
                async move { client.time_to_live(lease.0, Some(options)).await }
            })
            .await?;
        // A lease that does not exist has the TTL -1. A key that is not UTF-8 is not ours.
        let text = |key: &Vec<u8>| str::from_utf8(key).ok().map(Key::from);
        Ok((reply.ttl() >= 0).then(|| Lease {
            keys: reply.keys().iter().filter_map(text).collect(),
            remaining: seconds(reply.ttl()),
            term: reply.header().map_or(0, ResponseHeader::raft_term),
        }))
    }

    async fn renew(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.each(leases, renew).await
    }

    async fn grant(&mut self, leases: &[LeaseId]) -> Result<BTreeMap<LeaseId, u32>, StoreError> {
        self.each(leases, grant).await
    }

    async fn grant_new(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        let options = LeaseGrantOptions::new().with_id(lease.0);
        self.connection
            .call(Client::lease_client, |mut client| {
                let options = options.clone();
                async move {
                    match client.grant(i64::from(ttl), Some(options)).await {
                        Ok(_) => Ok(true),
                        Err(Error::GRpcStatus(status))
                            if status.message().contains(LEASE_EXISTS) =>
                        {
                            Ok(false)
                        }
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
        let reply = self
            .connection
            .call(Client::kv_client, |mut client| {
                let request = txn::request(transaction);
                async move { client.txn(request).await }
            })
            .await?;
        Ok(txn::outcome(transaction, &reply))
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        match self
            .connection
            .call(Client::lease_client, |mut client| async move {
                client.revoke(lease.0).await
            })
            .await
        {
            Ok(_) | Err(StoreError::LeaseLost) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Grants a lease, or renews one that exists. Returns the seconds that it lives.
async fn grant(mut client: LeaseClient, lease: LeaseId) -> Result<u32, Error> {
    let options = LeaseGrantOptions::new().with_id(lease.0);
    match client.grant(i64::from(lease.ttl()), Some(options)).await {
        Ok(reply) => Ok(seconds(reply.ttl())),
        // The lease is from an earlier process, or from another registrar that wants the same shared key. An etcd
        // without space grants no lease, and renews leases that exist.
        Err(error) => match renew(client, lease).await {
            Ok(renewed) if renewed > 0 => Ok(renewed),
            _ => Err(error),
        },
    }
}

/// Returns the seconds that the lease lives from now; 0 if it does not exist.
async fn renew(mut client: LeaseClient, lease: LeaseId) -> Result<u32, Error> {
    // The client makes the first renewal when it opens the stream. It does not return the answer, but makes an error of
    // a TTL of zero. A lease that exists lives for the TTL in its id; a seat's id has none.
    match client.keep_alive(lease.0).await {
        Ok(_) => Ok(lease.ttl().max(1)),
        Err(Error::LeaseKeepAliveError(_)) => Ok(0),
        Err(error) => Err(error),
    }
}

fn seconds(ttl: i64) -> u32 {
    u32::try_from(ttl.max(0)).unwrap_or(u32::MAX)
}
