//! The keeper works in the script's thread, so that nothing waits for another thread between an event and its keys. Here is
//! what becomes of the leases while a script does not let go of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error};

use super::lifetime;
use super::seat::is_sure;
use super::seating::seat_ttl;
use crate::register::status::{Held, Status};
use crate::register::timetable::call_limit;
use crate::store::{LeaseId, Store};

/// Renews leases, the seat's among them, where the keeper is late with it, in another thread and over a connection of its
/// own, which `connect` makes. Nothing else is done to the store here: what the keys are to be only the keeper knows.
pub async fn relieve<S: Store>(
    connect: impl Fn() -> S,
    ttl: u32,
    status: Arc<Status>,
) -> Infallible {
    let mut held = status.held.subscribe();
    let mut not_before = Instant::now();
    loop {
        let now_held = held.borrow_and_update().clone();
        let Some((shortest, late_at)) = late_at(&now_held, seat_ttl(ttl)) else {
            // The sender is in `status`, so that there is always a next time.
            let _ = held.changed().await;
            continue;
        };
        tokio::select! {
            _ = held.changed() => continue,
            () = sleep_until(late_at.max(not_before)) => {}
        }
        not_before = Instant::now() + call_limit(shortest);
        let mut store = connect();
        store.limit_calls(call_limit(shortest));
        match renew(&mut store, lifetime(seat_ttl(ttl)), &now_held).await {
            Ok(renewed) => {
                debug!("the keeper is late: its leases are renewed without it");
                status.held.send_if_modified(|held| {
                    // What the keeper has said meanwhile, of the seat too, is newer.
                    let is_same = *held == now_held;
                    if is_same {
                        *held = renewed;
                    }
                    is_same
                });
            }
            // The keeper meets the same, and tells.
            Err(why) => debug!("cannot renew leases for the keeper, which is late: {why}"),
        }
    }
}

/// Renews what is held, and returns what is held then: no lease any more if the seat, which lives for `ttl`, may be
/// another's by now.
async fn renew<S: Store>(store: &mut S, ttl: Duration, held: &Held) -> Result<Held, String> {
    let asked = Instant::now();
    let mut now_held = held.clone();
    if let Some((seat, renewed)) = held.seat {
        let alive = is_sure(renewed, ttl, asked)
            && store
                .renew(&[seat])
                .await
                .map_err(|error| error.to_string())?
                .contains_key(&seat);
        if !alive {
            return Ok(Held {
                until: held.until,
                ..Held::default()
            });
        }
        now_held.seat = Some((seat, asked));
    }
    // Shared ones have the higher ids, and go first.
    let leases: Vec<LeaseId> = held.leases.iter().rev().copied().collect();
    let alive = store
        .renew(&leases)
        .await
        .map_err(|error| error.to_string())?;
    if held.leases.iter().all(|lease| alive.contains_key(lease)) {
        let shortest = leases.iter().map(|lease| lease.ttl()).min();
        now_held.until = shortest.map(|ttl| asked + lifetime(ttl));
    }
    Ok(now_held)
}

/// When the keeper, which renews each third of a lease's life, is late by a quarter as long again, or by half as long with
/// the seat, which is still sure then; and the shortest life of a lease, in seconds. None if there is nothing to renew.
fn late_at(held: &Held, seat_ttl: u32) -> Option<(u32, Instant)> {
    let ttl = held.leases.iter().map(|lease| lease.ttl()).min()?;
    let late = held.until?.checked_sub(lifetime(ttl) * 7 / 12)?;
    let seat = held
        .seat
        .map(|(_, renewed)| renewed + lifetime(seat_ttl) / 2);
    Some((ttl, seat.map_or(late, |seat| late.min(seat))))
}

/// Logs it when the leases have run out, whatever keeps the keeper from it. Returns never.
pub async fn watch_expiry(status: Arc<Status>) -> Infallible {
    let mut held = status.held.subscribe();
    let mut told = None;
    loop {
        let until = held.borrow_and_update().until;
        let Some(until) = until.filter(|until| told != Some(*until)) else {
            let _ = held.changed().await;
            continue;
        };
        tokio::select! {
            _ = held.changed() => continue,
            () = sleep_until(until) => {}
        }
        error!(
            "the leases in etcd have run out, because it was not reached in time to renew them: the keys of this host \
             are presumed gone since {:.0}; they are put again once etcd is back",
            Timestamp::now()
        );
        told = Some(until);
    }
}
