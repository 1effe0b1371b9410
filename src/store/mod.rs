//! The contract of every store: leases with ids that a registrar derives, and transactions that are carried out only if
//! the store still is as the registrar last saw it. `docs/keys-in-etcd.md` explains the terms.

mod any;
#[cfg(test)]
pub mod conformance;
mod endpoint;
pub mod etcd;
mod lease_id;
pub mod memory;
#[cfg(test)]
pub mod model;
pub mod print;
pub mod redis;
pub mod tls;
mod transaction;
mod user;
mod ways;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::key::Key;

pub use any::{AnyStore, Settings};
pub use lease_id::{Identity, LeaseId};
pub use tls::{Tls, is_server_name};
pub use transaction::{Guard, Outcome, Size, Step, Sweep, Transaction};
pub use user::{Password, User};
pub use ways::ask_any;

/// A key as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub key: Key,
    pub value: Arc<str>,
    pub on: On,
    /// The store's revision at the key's first put. A key that is deleted and put again is a new one.
    pub created: i64,
    /// The store's revision at the key's last change.
    pub revision: i64,
}

/// The lease of a key in the store, or its lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// The key is removed when the lease ends.
    Lease(LeaseId),
    /// The key stays until somebody deletes it.
    Nothing,
    /// The key belongs to somebody who is no registrar. The text follows "is" in messages: `a key with another TTL`.
    Stranger(Arc<str>),
}

/// The keys that begin with a prefix, all read at one revision if the store can do that.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Sorted by key.
    pub keys: Vec<Found>,
    /// The store's revision. A watch that follows begins with the next one.
    pub revision: i64,
}

/// The limits of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most [operations](Size::operations) of a transaction.
    pub operations: usize,
    /// The TTLs in seconds that leases may have.
    pub ttl: RangeInclusive<u32>,
}

/// A lease as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The keys on it, unsorted.
    pub keys: Vec<Key>,
    /// The TTL that it was granted with, in seconds.
    pub granted: u32,
    /// The seconds until it expires, rounded down.
    pub remaining: u32,
    /// The raft term of the store's leader, which measures the time. A new leader gives all leases their whole TTL.
    pub term: u64,
}

/// The changes of one revision, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub revision: i64,
    /// At least one.
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key after its put.
    Put(Found),
    /// Deleted, or removed with its lease.
    Delete(Key),
}

#[derive(Debug)]
pub enum StoreError {
    /// A put named a lease that does not exist (any more).
    LeaseLost,
    /// The store answered with a refusal, explained for the operator. Another request may succeed.
    Refused(anyhow::Error),
    /// There was no answer, or none that can be understood. Explained for the operator.
    Failed(anyhow::Error),
    /// The store is gone for good: the reader of its output has closed it.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseLost => f.write_str("a lease expired or was revoked"),
            Self::Closed => f.write_str("nobody reads the output any more"),
            Self::Refused(error) | Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl Found {
    /// The lease that the key is on, if it is on one.
    pub fn lease(&self) -> Option<LeaseId> {
        self.on.lease()
    }
}

impl On {
    pub fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Lease(lease) => Some(*lease),
            Self::Nothing | Self::Stranger(_) => None,
        }
    }
}

impl From<Option<LeaseId>> for On {
    fn from(lease: Option<LeaseId>) -> Self {
        lease.map_or(Self::Nothing, Self::Lease)
    }
}

impl fmt::Display for On {
    /// As it follows "is" in a message about the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(lease) => write!(f, "on lease {lease}"),
            Self::Nothing => f.write_str("on no lease"),
            Self::Stranger(what) => f.write_str(what),
        }
    }
}

/// A key-value store with leases.
///
/// After an error the call may have had its effect or not, so the caller reads the store again before it writes. The
/// same holds for a future that is dropped half-way. `conformance` tests these promises.
pub trait Store: Send + 'static {
    type Watching: Watching;

    /// The store's name in messages: `etcd`, `Redis`.
    fn name(&self) -> &'static str;

    fn limits(&self) -> Limits;

    /// Sets the time limit of each call.
    fn limit_calls(&mut self, limit: Duration);

    /// Hears from the registrar that its keys are in the store. `is_proven` is false while some of them wait for the first
    /// verdict of their check.
    fn in_step(&self, _is_proven: bool) {}

    /// The number of known ways to the store, such as endpoints. A call that fails makes the next one take another.
    fn ways(&self) -> usize {
        1
    }

    /// All leases that exist, including those of others.
    fn leases(&mut self) -> impl Future<Output = Result<Vec<LeaseId>, StoreError>> + Send;

    /// A lease as the store has it, if it exists. This does not renew it.
    fn lookup(
        &mut self,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Renews leases. Returns the seconds that each of them lives from now; missing ones are left out.
    fn renew(
        &mut self,
        leases: &[LeaseId],
    ) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, StoreError>> + Send;

    /// Grants leases, each for the TTL in its id, and renews those that exist. Returns the seconds that each of them
    /// lives from now.
    fn grant(
        &mut self,
        leases: &[LeaseId],
    ) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, StoreError>> + Send;

    /// Grants a lease for `ttl` seconds. Returns false, and changes nothing, if it exists.
    fn grant_new(
        &mut self,
        lease: LeaseId,
        ttl: u32,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Reads these keys. Missing keys are left out.
    fn read(&mut self, keys: &[Key])
    -> impl Future<Output = Result<Vec<Found>, StoreError>> + Send;

    /// The keys in these directories that are on a lease, with their leases; a key that is in several of them may come
    /// several times. They come without values, because there may be any number of them.
    fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<(Key, LeaseId)>, StoreError>> + Send;

    /// Carries out a transaction, or nothing of it.
    fn transact(
        &mut self,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Ends a lease and deletes the keys on it. One that does not exist is no error.
    fn revoke(&mut self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The value of one key, if it exists. Bytes that are not UTF-8 are replaced.
    fn get(&mut self, key: &str)
    -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// All keys that begin with `prefix`, which may be empty.
    fn scan(&mut self, prefix: &str) -> impl Future<Output = Result<Listing, StoreError>> + Send;

    /// Watches the keys that begin with `prefix`, from the changes of `revision` on: those of [`Listing::revision`] are
    /// in the listing, so a watch begins with the next.
    fn watch(
        &mut self,
        prefix: &str,
        revision: i64,
    ) -> impl Future<Output = Result<Self::Watching, StoreError>> + Send;
}

/// A watch, which ends with its first error. The changes since then are not known, so the keys must be listed again.
pub trait Watching: Send {
    /// The changes of the next revision that has any. If this future is dropped, nothing is lost.
    fn next(&mut self) -> impl Future<Output = Result<Changes, StoreError>> + Send;

    /// The time of the store's last answer.
    fn heard_at(&self) -> Instant;

    /// Whether it compares what it has told with listings of its own. Its revisions may then differ from those of a
    /// listing, so nobody else can compare them.
    fn compares_itself(&self) -> bool {
        false
    }
}
