//! Renews the leases from the second thread when the keeper is late. The keeper shares the script's thread for speed,
//! so a script that hangs would let every lease expire. Nothing else is done to the store here, because only the keeper
//! knows the wanted keys.

use std::convert::Infallible;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error};

use crate::register::leases::{Kept, Leases};
use crate::register::timetable::{
    call_limit, late_before_end, lifetime, seat_is_late_after, too_late_before_end,
};
use crate::store::{LeaseId, Store, StoreError};

/// Renews leases, the seat's among them, whenever the keeper is late. `connect` makes a new connection for each time.
pub async fn renew_late<S: Store>(connect: impl Fn() -> S, leases: Leases) -> Infallible {
    let mut changes = leases.subscribe();
    let mut not_before = Instant::now();
    loop {
        // Not cloned before it is late, because there may be thousands of leases, and each grant is a change.
        let late = late_at(&changes.borrow_and_update());
        let Some((shortest, at)) = late else {
            // The sender is in `leases`, so there is always a next change.
            let _ = changes.changed().await;
            continue;
        };
        tokio::select! {
            _ = changes.changed() => continue,
            () = sleep_until(at.max(not_before)) => {}
        }
        let before = changes.borrow_and_update().clone();
        if late_at(&before) != late {
            continue;
        }
        not_before = Instant::now() + call_limit(shortest);
        let mut store = connect();
        store.limit_calls(call_limit(shortest));
        match renew(&mut store, &before).await {
            Ok(after) => {
                debug!("the keeper is late: its leases are renewed without it");
                leases.replace_if_same(&before, after);
            }
            // The keeper meets the same error, and logs it.
            Err(error) => debug!("cannot renew leases for the keeper, which is late: {error}"),
        }
    }
}

/// Renews all kept leases. If the seat may be another process's by now, it renews nothing, and leaves later renewals to
/// the keeper.
async fn renew<S: Store>(store: &mut S, before: &Kept) -> Result<Kept, StoreError> {
    let asked = Instant::now();
    let mut after = before.clone();
    if let Some((seat, _)) = before.seat.renewed() {
        let may_renew = before.seat.may_renew(asked);
        if !may_renew || !store.renew(&[seat]).await?.contains_key(&seat) {
            after.keeper_only = true;
            return Ok(after);
        }
        after.seat.hold(seat, asked);
    }
    let mut leases: Vec<LeaseId> = before.renewed.union(&before.guarded).copied().collect();
    // Shared leases have the higher ids, and are begun first; the store renews several at a time.
    leases.reverse();
    let alive = store.renew(&leases).await?;
    if leases.iter().all(|lease| alive.contains_key(lease)) {
        let shortest = alive.values().min();
        after.until = shortest.map(|seconds| asked + lifetime(*seconds));
    }
    Ok(after)
}

/// The shortest TTL of the leases, in seconds, and the time at which the keeper is late; none if there is no lease.
fn late_at(kept: &Kept) -> Option<(u32, Instant)> {
    if kept.keeper_only {
        return None;
    }
    let leases = kept.renewed.union(&kept.guarded);
    let ttl = leases.map(|lease| lease.ttl()).min()?;
    let until = kept.until?;
    let mut late = until.checked_sub(late_before_end(ttl))?;
    if let Some(progress) = kept.progress {
        // Many leases take long, and the keeper's calls would take longer beside these.
        let too_late = until.checked_sub(too_late_before_end(ttl))?;
        late = late.max(too_late.min(progress + call_limit(ttl)));
    }
    let seat = kept.seat.renewed();
    let seat = seat.map(|(_, renewed)| renewed + seat_is_late_after(kept.seat.ttl()));
    Some((ttl, seat.map_or(late, |seat| late.min(seat))))
}

/// Logs an error when the leases have expired, whatever keeps the keeper from renewing them. `store` is the store's name.
pub async fn watch_expiry(leases: Leases, store: &'static str) -> Infallible {
    let mut changes = leases.subscribe();
    let mut told = None;
    loop {
        let until = changes.borrow_and_update().until;
        let Some(until) = until.filter(|until| told != Some(*until)) else {
            let _ = changes.changed().await;
            continue;
        };
        tokio::select! {
            _ = changes.changed() => continue,
            () = sleep_until(until) => {}
        }
        error!(
            "the leases in {store} have expired, because {store} was not reached in time to renew them: the keys of \
             this host are presumed removed since {:.0}; they are put again once {store} is back",
            Timestamp::now()
        );
        told = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::store::Identity;
    use crate::store::model::ModelStore;

    const TTL: u32 = 12;

    /// A registrar that has granted the lease of its keys and its seat, with late renewal at work.
    async fn registrar() -> (ModelStore, Leases, Identity) {
        let (mut store, identity) = (ModelStore::default(), Identity::new("daemon", ""));
        let leases = Leases::new(TTL);
        take(&mut store, &leases, identity).await;
        let (etcd, kept) = (store.connect(), leases.clone());
        tokio::spawn(renew_late(move || etcd.connect(), kept));
        (store, leases, identity)
    }

    /// Grants the lease of the keys and the seat, as the keeper does.
    async fn take(store: &mut ModelStore, leases: &Leases, identity: Identity) {
        let (lease, seat) = (identity.lease(TTL), identity.seat());
        store.grant(&[lease]).await.expect("a lease");
        assert!(store.grant_new(seat, TTL).await.expect("the seat"));
        let now = Instant::now();
        leases.replace([lease].into(), [].into(), Some(now + lifetime(TTL)));
        leases.set_seat(|kept| kept.hold(seat, now));
    }

    async fn seconds(seconds: u32) {
        sleep(Duration::from_secs(seconds.into())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_leases_and_the_seat_outlive_a_keeper_that_is_late() {
        let (mut store, leases, identity) = registrar().await;
        seconds(10 * TTL).await;
        for lease in [identity.lease(TTL), identity.seat()] {
            assert!(store.lookup(lease).await.expect("an answer").is_some());
        }
        assert!(leases.now().seat.is_ours() && leases.now().left() > Some(lifetime(TTL) / 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_registrar_that_has_lost_its_seat_renews_nothing_until_the_keeper_does() {
        let (mut store, leases, identity) = registrar().await;
        store.revoke(identity.seat()).await.expect("an answer");
        seconds(2 * TTL).await;
        assert!(leases.now().keeper_only);
        let lease = identity.lease(TTL);
        assert_eq!(store.lookup(lease).await.expect("an answer"), None);
        take(&mut store, &leases, identity).await;
        seconds(2 * TTL).await;
        assert!(store.lookup(lease).await.expect("an answer").is_some());
        assert!(!leases.now().keeper_only);
    }

    #[tokio::test(start_paused = true)]
    async fn the_keepers_change_during_a_renewal_is_newer() {
        let (_, leases, identity) = registrar().await;
        let before = leases.now().clone();
        leases.give_up();
        let renewed = Kept {
            until: Some(Instant::now() + lifetime(2 * TTL)),
            ..before.clone()
        };
        leases.replace_if_same(&before, renewed);
        assert_eq!(leases.now().until, None);
        assert!(!leases.contains(identity.lease(TTL)));
    }
}
