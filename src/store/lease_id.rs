//! Ids of leases. They are derived, so that a restarted registrar finds its own keys without any state on disk, and
//! registrars of different hosts use the same lease for a key that they share.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A lease. Its keys are removed together when it ends. The id has its owner and its TTL:
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
    /// The lease of a key that several registrars want, with a TTL in seconds.
    pub fn shared(key: &str, ttl: u32) -> Self {
        Self(SHARED_BIT | hash(&["shared", key]) | i64::from(ttl))
    }

    /// Whether registrars share this lease for this key, with any TTL.
    pub fn is_shared_for(self, key: &str) -> bool {
        self.0 >> TTL_BITS << TTL_BITS == SHARED_BIT | hash(&["shared", key])
    }

    /// Whether a registrar's lease is for a shared key. Other programs' leases may have the same bit.
    pub fn is_shared(self) -> bool {
        self.0 & SHARED_BIT != 0
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

/// The identity of a registrar: the same after a restart, and different for each Docker daemon and `--instance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    hash: i64,
    /// That of the identity before, if the Docker daemon's id has changed.
    former: Option<i64>,
}

impl Identity {
    /// Derived from the id that `docker info` shows and from `--instance`.
    pub fn new(daemon_id: &str, instance: &str) -> Self {
        let hash = hash(&["owned", daemon_id, instance]);
        let former = None;
        Self { hash, former }
    }

    /// The identity whose own keys or seat a lease is for; none if it is a shared key's. Any lease of another program may
    /// look like a registrar's.
    pub fn of(lease: LeaseId) -> Option<Self> {
        let hash = lease.0 >> TTL_BITS << TTL_BITS;
        let former = None;
        (lease.0 > 0 && !lease.is_shared()).then_some(Self { hash, former })
    }

    /// This identity, of a registrar that had another one before.
    pub fn after(self, before: Self) -> Self {
        let former = (before.hash != self.hash).then_some(before.hash);
        Self { former, ..self }
    }

    /// The lease of this registrar's owned keys with a TTL in seconds.
    pub fn lease(self, ttl: u32) -> LeaseId {
        LeaseId(self.hash | i64::from(ttl))
    }

    /// The lease without keys that shows that a process of this identity is running. Its id does not depend on its TTL.
    pub fn seat(self) -> LeaseId {
        LeaseId(self.hash)
    }

    /// Whether a lease is for this registrar's owned keys, with any TTL.
    pub fn owns(self, lease: LeaseId) -> bool {
        lease.0 >> TTL_BITS << TTL_BITS == self.hash && lease != self.seat()
    }

    /// Whether a lease was for this registrar's owned keys under its former identity. Nothing renews it any more.
    pub fn owned_before(self, lease: LeaseId) -> bool {
        self.former == Some(lease.0 >> TTL_BITS << TTL_BITS)
    }
}

/// 45 bits, at their place in an id. They must be the same on every machine and in every version of this program.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_never_changes() {
        // Registrars of different versions use one etcd, so these numbers must never change.
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
        assert_eq!(Identity::of(a.lease(60)), Some(a));
        assert_eq!(Identity::of(b.seat()), Some(b));
        assert_eq!(Identity::of(LeaseId::shared("/x", 60)), None);
    }

    #[test]
    fn parts_of_an_identity_do_not_run_into_one_another() {
        assert_ne!(Identity::new("ab", "c"), Identity::new("a", "bc"));
    }
}
