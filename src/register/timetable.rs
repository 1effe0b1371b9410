//! The timetable of a lease's life: when it is renewed, when it is late, and how long a call may take beside it.

use std::time::Duration;

use crate::store::LeaseId;

/// How many seconds longer a shared lease lives than the owned keys beside it, so that these go first when a registrar
/// dies. etcd looks for expired leases twice a second and revokes them in no order, so a second and a half is the least
/// that keeps the order.
pub const SHARED_MARGIN: u32 = 2;

/// The time limit of a call to a partner where keys live for `ttl` seconds: a sixth of it, so that a dead connection is
/// noticed well within the third after which leases are renewed.
pub fn call_limit(ttl: u32) -> Duration {
    (Duration::from_secs(u64::from(ttl)) / 6)
        .clamp(Duration::from_millis(500), Duration::from_secs(5))
}

/// Whether nobody renews a shared lease any more that has so many seconds left. A registrar renews it each third of its
/// TTL, or after seven twelfths of it while a script hangs.
pub fn is_abandoned(lease: LeaseId, remaining: u32) -> bool {
    remaining * 12 < lease.ttl() * 5
}
