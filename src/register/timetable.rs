//! The timetable of a lease's life, from its last renewal to its end. All parts of the registrar that renew, judge or
//! outlive a lease take their times from here.
//!
//! ```text
//! 0 ────────── the lease is renewed; one call may take ⅙ of the TTL (0.5 to 5 s)
//! ⅙ of the TTL the seat is renewed, which also shows that the store answers
//! ⅓            the keeper renews
//! 5/12         the keeper is late: the second thread renews
//! ½            the seat is late: the second thread renews it; and all leases, if the keeper is still renewing others
//! 7/12         a shared lease that nobody has renewed is abandoned
//! ⅔            the seat may be another process's by the time that a renewal arrives
//! 1            the lease ends, and its owned keys with it
//! TTL + 2 s    a shared lease ends, and its keys with it
//! ```

use std::time::Duration;

use crate::store::LeaseId;

/// The seconds that a shared lease outlives the owned keys beside it, so that the owned keys are removed first when a
/// registrar dies. etcd looks for expired leases twice a second and revokes them in no order, so a second and a half is
/// the least that keeps the order.
pub const SHARED_MARGIN: u32 = 2;

pub fn lifetime(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

/// The time limit of one call, so that a dead connection is noticed well before the next renewal.
pub fn call_limit(ttl: u32) -> Duration {
    (lifetime(ttl) / 6).clamp(Duration::from_millis(500), Duration::from_secs(5))
}

/// The time between two renewals.
pub fn renewal_pause(ttl: u32) -> Duration {
    lifetime(ttl) / 3
}

/// The time between the renewal of the keys' leases and that of the seat.
pub fn seat_offset(ttl: u32) -> Duration {
    renewal_pause(ttl) / 2
}

/// The time before a lease's end at which the keeper is late.
pub fn late_before_end(ttl: u32) -> Duration {
    lifetime(ttl) * 7 / 12
}

/// The time before a lease's end at which the keeper is late even if it is renewing other leases.
pub fn too_late_before_end(ttl: u32) -> Duration {
    lifetime(ttl) / 2
}

/// The time after the seat's renewal at which its next one is late.
pub fn seat_is_late_after(ttl: u32) -> Duration {
    lifetime(ttl) / 2
}

/// How long after its renewal the seat is certainly still ours.
pub fn seat_is_sure_for(ttl: u32) -> Duration {
    lifetime(ttl) * 2 / 3
}

/// Whether nobody renews a shared lease with `remaining` seconds left.
pub fn is_abandoned(lease: LeaseId, remaining: u32) -> bool {
    remaining * 12 < lease.ttl() * 5
}
