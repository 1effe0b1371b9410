//! The crash of a store's only server.

use super::*;

impl<S: Bench> Trial<S> {
    /// Puts the key `a` on a lease, and `b` on none, before the server is killed and started again.
    async fn survive(&mut self, server: &mut impl Server, lease: LeaseId, down: Duration) {
        self.put(lease, &["a"]).await;
        self.put_by_hand("b").await;
        server.restart(down).await;
        let answers = async {
            while self.store.leases().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let done = tokio::time::timeout(SOON, answers).await;
        assert!(done.is_ok(), "{}: no answer", self.name);
    }

    async fn assert_lives(&mut self, lease: LeaseId, lives: bool) {
        assert_eq!(self.find("a").await.is_some(), lives, "{}", self.name);
        let found = self.store.lookup(lease).await.expect("an answer");
        assert_eq!(found.is_some(), lives, "{}: {found:?}", self.name);
    }
}

pub async fn keys_survive_a_crash_or_not<S: Bench>(store: &S, server: &mut impl Server) {
    let mut trial = Trial::new(store, "keys_survive_a_crash_or_not");
    let lease = trial.granted(TTL).await;
    trial.survive(server, lease, Duration::ZERO).await;
    trial.assert_lives(lease, S::FACTS.survives_a_crash).await;
    let by_hand = trial.find("b").await;
    assert_eq!(by_hand.is_some(), S::FACTS.survives_a_crash);
}

pub async fn keys_outlive_the_ttl_or_not<S: Bench>(store: &S, server: &mut impl Server) {
    let mut trial = Trial::new(store, "keys_outlive_the_ttl_or_not");
    let lease = trial.granted(5).await;
    trial.survive(server, lease, Duration::from_secs(6)).await;
    trial.assert_lives(lease, S::FACTS.outlives_the_ttl).await;
    // The data is there; only the lease may have ended.
    trial.assert_left(&["b"], &[]).await;
}
