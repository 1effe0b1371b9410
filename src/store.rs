//! What every store can do, in the terms of `docs/keys-in-etcd.md`: leases whose ids a registrar
//! derives and finds again, and transactions that hold only if the store is as the registrar believes.

pub mod etcd;
#[cfg(test)]
pub mod model;
pub mod print;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::entry::Key;

/// A lease: what lives and dies together.
///
/// The id says whose it is and how long it lives, so that a restarted registrar finds its own keys with no state on
/// disk, and registrars of different hosts meet on the lease of a key that they share:
///
/// ```text
/// bit 62       0: owned, 1: shared
/// bits 17-61   a hash: of the registrar's identity, or of the shared key
/// bits 0-16    the TTL in seconds; 0 for an identity's seat
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

const SHARED_BIT: i64 = 1 << 62;
const TTL_BITS: u32 = 17;

impl LeaseId {
    /// The lease of a key that several registrars want, for `ttl` seconds.
    pub fn shared(key: &str, ttl: u32) -> Self {
        Self(SHARED_BIT | hash(&["shared", key]) | i64::from(ttl))
    }

    /// Whether this is a lease, of whatever TTL, that registrars share for this key.
    pub fn is_shared_for(self, key: &str) -> bool {
        self.0 >> TTL_BITS << TTL_BITS == SHARED_BIT | hash(&["shared", key])
    }

    /// Whether this, which is one of a registrar's own or of a shared key's, is the latter. A stranger's may have the bit
    /// too.
    pub fn is_shared(self) -> bool {
        self.0 & SHARED_BIT != 0
    }

    /// Whether a shared lease with so many seconds left has nobody who renews it: those who do renew it each third of its
    /// life, or after seven twelfths of it where a script hangs.
    pub fn is_left_at(self, remaining: u32) -> bool {
        remaining * 12 < self.ttl() * 5
    }

    /// The TTL in seconds, of an owned or a shared lease.
    pub fn ttl(self) -> u32 {
        u32::try_from(self.0 & ((1 << TTL_BITS) - 1)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for LeaseId {
    /// As `etcdctl lease list` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Who a registrar is: the same after a restart, and another for each Docker daemon and `--instance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(i64);

impl Identity {
    /// Derived from the id that `docker info` shows and from `--instance`.
    pub fn new(daemon_id: &str, instance: &str) -> Self {
        Self(hash(&["owned", daemon_id, instance]))
    }

    /// The lease of this registrar's owned keys with that TTL in seconds.
    pub fn lease(self, ttl: u32) -> LeaseId {
        LeaseId(self.0 | i64::from(ttl))
    }

    /// The lease without keys that says that a process is at work under this identity. Its id is the same whatever its
    /// TTL.
    pub fn seat(self) -> LeaseId {
        LeaseId(self.0)
    }

    /// Whether a lease is for this registrar's owned keys, of whatever TTL.
    pub fn owns(self, lease: LeaseId) -> bool {
        lease.0 >> TTL_BITS << TTL_BITS == self.0 && lease != self.seat()
    }
}

/// 45 bits, in their place in an id, that are the same on every machine and in every version of this program.
fn hash(parts: &[&str]) -> i64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (i64::from_be_bytes(first) & (SHARED_BIT - 1)) >> TTL_BITS << TTL_BITS
}

/// A key as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Arc<str>,
    /// Its lease, if it is on one.
    pub lease: Option<LeaseId>,
    /// The store's revision at its last change.
    pub revision: i64,
}

/// A lease as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The keys on it, in no order.
    pub keys: Vec<Key>,
    /// For how many seconds it lives, rounded down.
    pub remaining: u32,
    /// The raft term of the store's leader, which measures the time. A new leader gives all leases their whole TTL.
    pub term: u64,
}

/// How long one call to a partner may take where keys live for `ttl` seconds: a sixth of it, so that a dead connection
/// is noticed well within the third after which leases are renewed.
pub fn patience(ttl: u32) -> Duration {
    (Duration::from_secs(u64::from(ttl)) / 6)
        .clamp(Duration::from_millis(500), Duration::from_secs(5))
}

/// What must be true of the store for a transaction to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Missing(Key),
    /// The key exists on this lease.
    OnLease(Key, LeaseId),
    /// The key was last changed at this revision.
    Unchanged(Key, i64),
}

impl Guard {
    /// The key that is guarded.
    pub fn key(&self) -> &Key {
        match self {
            Self::Missing(key) | Self::OnLease(key, _) | Self::Unchanged(key, _) => key,
        }
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Puts the key on the lease.
    Put(Key, Arc<str>, LeaseId),
    /// Deletes the key.
    Delete(Key),
    /// Deletes these keys if their directory, which is one of the keys' own, holds nothing but them and the keys
    /// that the same transaction deletes.
    Sweep {
        /// All that may be in the directory, sorted: the keys to sweep and those that are deleted anyway.
        expected: Vec<Key>,
        /// The directory, with the slash at its end.
        directory: Arc<str>,
        /// The keys to delete, each if it is on this lease.
        sweep: Vec<(Key, LeaseId)>,
    },
}

/// Steps that are carried out all together if every guard holds, and not at all otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must be true.
    pub guards: Vec<Guard>,
    /// What is done then.
    pub steps: Vec<Step>,
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done {
        /// The keys that its sweeps deleted.
        swept: Vec<Key>,
    },
    /// A guard did not hold.
    Refused,
}

/// Why a store did not do as it was told.
#[derive(Debug)]
pub enum StoreError {
    /// A put named a lease that does not exist (any more).
    LeaseLost,
    /// The store answered, and said no; in the operator's words. Another request may go well.
    Refused(anyhow::Error),
    /// There was no answer, or none that can be understood; in the operator's words.
    Failed(anyhow::Error),
    /// The store is gone for good: nobody reads what it prints.
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

/// A key-value store with leases.
///
/// An error leaves open what the store has, so the caller reads it again before it writes. Dropping one of these
/// futures half-way is like an error.
pub trait Store: Send + 'static {
    /// The most operations that a transaction may have: the longer of its lists of guards and of steps, and on top
    /// of it the largest [`Step::nested_size`]. So etcd counts them (`checkTxnRequest` in its `v3rpc/key.go`).
    const MAX_OPERATIONS: usize;

    /// Takes note that keys live for `ttl` seconds, which is what a call must not take too much of.
    fn pace(&mut self, ttl: u32);

    /// All leases that exist, whoever's.
    fn leases(&mut self) -> impl Future<Output = Result<Vec<LeaseId>, StoreError>> + Send;

    /// What the store has of a lease, if it exists. This does not renew it.
    fn lookup(
        &mut self,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Renews leases. Returns for how many seconds each of them lives now; those that do not exist are left out.
    fn renew(
        &mut self,
        leases: &[LeaseId],
    ) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, StoreError>> + Send;

    /// Grants leases, each for the TTL that is in its id; one that exists is renewed. Returns for how many seconds each
    /// of them lives now.
    fn grant(
        &mut self,
        leases: &[LeaseId],
    ) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, StoreError>> + Send;

    /// Grants a lease for `ttl` seconds, and returns false if it exists.
    fn claim(
        &mut self,
        lease: LeaseId,
        ttl: u32,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// What the store has of these keys; those that do not exist are left out.
    fn read(&mut self, keys: &[Key])
    -> impl Future<Output = Result<Vec<Found>, StoreError>> + Send;

    /// The keys in these directories that are on a lease, with their leases. There may be any number of them, so they
    /// come without their values.
    fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<(Key, LeaseId)>, StoreError>> + Send;

    /// Carries out a transaction.
    fn transact(
        &mut self,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Ends a lease and deletes the keys on it. One that does not exist is no error.
    fn revoke(&mut self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Step {
    /// The longest list in the transactions that etcd nests for this step.
    pub fn nested_size(&self) -> usize {
        match self {
            Self::Put(..) | Self::Delete(..) => 0,
            // The gaps between the keys that it expects, and the lease of each key that it deletes.
            Self::Sweep {
                expected, sweep, ..
            } => expected.len() + 1 + sweep.len(),
        }
    }

    /// About how many bytes of keys and values it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value, _) => 2 * key.len() + value.len(),
            Self::Delete(key) => 2 * key.len(),
            Self::Sweep { expected, .. } => expected.iter().map(|key| 5 * key.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_is_the_same_for_ever() {
        // Registrars of different versions meet in one etcd: these numbers must never change.
        let identity = Identity::new("CO7M:QV3V", "a");
        assert_eq!(identity.lease(60).to_string(), "1571ff812862003c");
        assert_eq!(
            LeaseId::shared("/backends/web/1/port", 62).to_string(),
            "780e46d47dac003e"
        );
    }

    #[test]
    fn an_identity_knows_its_own_leases() {
        let (a, b) = (Identity::new("daemon", "a"), Identity::new("daemon", "b"));
        assert_ne!(a, b);
        for ttl in [1, 60, 86_402] {
            assert!(a.owns(a.lease(ttl)) && !b.owns(a.lease(ttl)));
            assert_eq!(a.lease(ttl).ttl(), ttl);
            let shared = LeaseId::shared("/x", ttl);
            assert!(shared.is_shared_for("/x") && !shared.is_shared_for("/y"));
            assert!(shared.is_shared() && !a.lease(ttl).is_shared());
            assert_eq!(shared.ttl(), ttl);
            assert!(!a.owns(shared) && !a.lease(ttl).is_shared_for("/x"));
            assert!(a.lease(ttl).0 > 0 && shared.0 > 0);
        }
        assert_ne!(a.lease(30), a.lease(60));
        assert!(!a.owns(a.seat()) && a.seat() != b.seat());
    }

    #[test]
    fn parts_of_an_identity_do_not_run_into_one_another() {
        assert_ne!(Identity::new("ab", "c"), Identity::new("a", "bc"));
    }
}
