//! The cost of a renewal for a store and for those who watch it.

use super::*;

pub async fn a_renewal_writes_and_tells_as_often_as_stated<S: Bench>(mut trial: Trial<S>) {
    const KEYS: i64 = 100;
    let number = usize::try_from(KEYS).expect("it is small");
    let lease = trial.granted(TTL).await;
    trial.put_many(lease, number).await;
    // This one also clears away what the promises before it have left.
    trial.store.renew(&[lease]).await.expect("a renewal");
    let mut events = trial.subscribe().await;
    let before = trial.store.writes().await;
    let renewed = trial.store.renew(&[lease]).await.expect("a renewal");
    assert_eq!(renewed, [(lease, TTL)].into());
    let writes = trial.store.writes().await - before;
    // A store that writes for each key writes for the lease too.
    let lowest = KEYS * S::FACTS.writes_per_renewal;
    assert!(
        (lowest..=lowest + lowest / 10).contains(&writes),
        "{writes}"
    );
    let told = trial.told_by_now(&mut events).await;
    let wanted = KEYS * S::FACTS.events_per_renewal;
    assert_eq!(i64::try_from(told.len()), Ok(wanted), "{told:?}");
}
