//! etcd v3: the only place that knows its client.

mod access;
mod failure;
mod reading;
mod tls;
mod txn;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use etcd_client::{
    Client, Error, LeaseClient, LeaseGrantOptions, LeaseTimeToLiveOptions, ResponseHeader,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

use super::{Found, Lease, LeaseId, Outcome, Store, StoreError, Transaction, patience};
use crate::base::deadline::within;
use crate::base::key::Key;
use crate::base::text::quote;
use access::Unconnected;
use failure::{explain, is_answer};

pub use access::{Access, Password, User};
pub use tls::{Tls, is_server_name};

/// How many leases are renewed at a time, and in one call, which has one time limit.
const LEASES_AT_ONCE: usize = 16;
const LEASES_IN_A_CALL: usize = 32;

/// The gRPC code of a call with a token that has expired, and what etcd says of one otherwise (`rpctypes/error.go`).
const UNAUTHENTICATED: i32 = 16;
const STALE_TOKEN: [&str; 2] = ["revision of auth store is old", "user name is empty"];

/// What etcd says to the grant of a lease that exists (`ErrGRPCLeaseExist` in its `rpctypes/error.go`).
const LEASE_EXISTS: &str = "lease already exists";

/// What a policy reads with.
pub fn reader(access: Access, ttl: u32) -> Rc<Mutex<EtcdStore>> {
    Rc::new(Mutex::new(EtcdStore::new(access, ttl)))
}

/// The endpoints of one etcd, one of which is in use; an error moves on to the next.
#[derive(Clone)]
pub struct EtcdStore {
    access: Access,
    current: usize,
    client: Option<Client>,
    timeout: Duration,
}

impl EtcdStore {
    /// For keys that live for `ttl` seconds. It connects when it is first used.
    pub fn new(access: Access, ttl: u32) -> Self {
        Self {
            access,
            current: 0,
            client: None,
            timeout: patience(ttl),
        }
    }

    /// Makes a call on the endpoint in use, and once more where etcd does not know the user's token any more: tokens
    /// expire, and some kinds end with any change of etcd's users. `part` is the part of the client that makes it, for
    /// the whole of it is much to copy.
    async fn call<C: Send, T, F: Future<Output = Result<T, Error>> + Send>(
        &mut self,
        part: fn(&Client) -> C,
        call: impl Fn(C) -> F + Send + Sync,
    ) -> Result<T, StoreError> {
        let endpoint = self.access.endpoints[self.current].clone();
        let timeout = self.timeout;
        let mut tries = 2;
        let error = loop {
            tries -= 1;
            let is_new = self.client.is_none();
            let result = within(timeout, async {
                if self.client.is_none() {
                    self.client = Some(self.access.connect(&endpoint, timeout).await?);
                }
                let Some(client) = &self.client else {
                    unreachable!("connected above");
                };
                Ok(call(part(client)).await?)
            })
            .await;
            match result {
                Some(Ok(value)) => return Ok(value),
                Some(Err(Unconnected::Here(error))) => return Err(StoreError::Failed(error)),
                Some(Err(Unconnected::There(error)))
                    if tries > 0 && self.is_stale_token(&error) =>
                {
                    self.client = None;
                }
                Some(Err(Unconnected::There(error))) if is_answer(&error) => {
                    return Err(match explain(&self.access, &endpoint, is_new, error) {
                        StoreError::Failed(error) => StoreError::Refused(error),
                        other => other,
                    });
                }
                Some(Err(Unconnected::There(error))) => {
                    break explain(&self.access, &endpoint, is_new, error);
                }
                None => {
                    break StoreError::Failed(anyhow!(
                        "etcd at {} did not answer within {:.1} seconds",
                        quote(&endpoint),
                        timeout.as_secs_f64()
                    ));
                }
            }
        };
        // Whatever is wrong with this member or with the connection, another one may do.
        self.client = None;
        self.current = (self.current + 1) % self.access.endpoints.len();
        Err(error)
    }

    fn is_stale_token(&self, error: &Error) -> bool {
        let Error::GRpcStatus(status) = error else {
            return false;
        };
        let says = |text: &&str| status.message().contains(*text);
        let is_stale = status.code() as i32 == UNAUTHENTICATED || STALE_TOKEN.iter().any(says);
        is_stale && self.client.is_some() && self.access.user.is_some()
    }

    /// Makes a call for each lease, several at a time. Returns for how many seconds each lives; those that do not are
    /// left out.
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
            let living = self.call(Client::lease_client, all).await?;
            alive.extend(living.into_iter().filter(|(_, ttl)| *ttl > 0));
        }
        Ok(alive)
    }
}

impl Store for EtcdStore {
    const MAX_OPERATIONS: usize = 128;

    fn pace(&mut self, ttl: u32) {
        self.timeout = patience(ttl);
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, StoreError> {
        let reply = self
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
            .call(Client::lease_client, |mut client| {
                let options = options.clone();
                async move { client.time_to_live(lease.0, Some(options)).await }
            })
            .await?;
        // A lease that does not exist has the TTL -1. A key that is no text is none of ours, whoever put it there.
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

    async fn claim(&mut self, lease: LeaseId, ttl: u32) -> Result<bool, StoreError> {
        let options = LeaseGrantOptions::new().with_id(lease.0);
        self.call(Client::lease_client, |mut client| {
            let options = options.clone();
            async move {
                match client.grant(i64::from(ttl), Some(options)).await {
                    Ok(_) => Ok(true),
                    Err(Error::GRpcStatus(status)) if status.message().contains(LEASE_EXISTS) => {
                        Ok(false)
                    }
                    Err(error) => Err(error),
                }
            }
        })
        .await
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        self.read_keys(keys).await
    }

    async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        self.read_leased_in(directories).await
    }

    async fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let reply = self
            .call(Client::kv_client, |mut client| {
                let request = txn::request(transaction);
                async move { client.txn(request).await }
            })
            .await?;
        Ok(txn::outcome(transaction, &reply))
    }

    async fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        match self
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

/// Grants a lease, or renews it where that cannot be, and returns for how many seconds it lives.
async fn grant(mut client: LeaseClient, lease: LeaseId) -> Result<u32, Error> {
    let options = LeaseGrantOptions::new().with_id(lease.0);
    match client.grant(i64::from(lease.ttl()), Some(options)).await {
        Ok(reply) => Ok(seconds(reply.ttl())),
        // It lives on from before this process, or another registrar wants the same shared key. An etcd that is out of
        // space grants nothing, and renews all the same.
        Err(error) => match renew(client, lease).await {
            Ok(renewed) if renewed > 0 => Ok(renewed),
            _ => Err(error),
        },
    }
}

/// For how many seconds the lease lives from now; 0 if it does not exist.
async fn renew(mut client: LeaseClient, lease: LeaseId) -> Result<u32, Error> {
    // The client makes the first renewal when it opens the stream, and keeps the answer to itself but for a TTL of zero,
    // which it turns into an error. Whatever else lives does so for the TTL in its id; a seat has none there.
    match client.keep_alive(lease.0).await {
        Ok(_) => Ok(lease.ttl().max(1)),
        Err(Error::LeaseKeepAliveError(_)) => Ok(0),
        Err(error) => Err(error),
    }
}

fn seconds(ttl: i64) -> u32 {
    u32::try_from(ttl.max(0)).unwrap_or(u32::MAX)
}
