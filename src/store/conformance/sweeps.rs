//! Sweeps: the last keys of a directory.

use super::*;
use crate::store::Sweep;

impl<S: Bench> Trial<S> {
    /// Two leases, a member of a directory on the first, and its `port` and `rule` on the second.
    async fn directory(&mut self) -> (LeaseId, LeaseId) {
        let (ours, shared) = (self.granted(TTL).await, self.granted(TTL + 2).await);
        self.put(ours, &["1/a"]).await;
        self.put(shared, &["1/port", "1/rule"]).await;
        (ours, shared)
    }

    /// Deletes the member, and sweeps the others if they are on this lease.
    async fn delete_and_sweep(&mut self, shared: LeaseId) -> Outcome {
        let sweep = Sweep {
            directory: self.key("1/"),
            expected: ["1/a", "1/port", "1/rule"]
                .map(|name| self.key(name))
                .into(),
            keys: ["1/port", "1/rule"]
                .map(|name| (self.key(name), shared))
                .into(),
        };
        let steps = vec![delete(&self.key("1/a")), Step::Sweep(sweep)];
        self.transact(Vec::new(), steps).await
    }
}

pub async fn a_sweep_deletes_the_last_keys_of_a_directory(mut trial: Trial<impl Bench>) {
    let (ours, shared) = trial.directory().await;
    // Keys that sort before and after the directory.
    let neighbours = ["0/a", "1", "10/a", "1-/a", "2/a"];
    trial.put(ours, &neighbours).await;
    let outcome = trial.delete_and_sweep(shared).await;
    assert_eq!(
        outcome,
        swept(&["1/port", "1/rule"].map(|name| trial.key(name)))
    );
    let gone = ["1/a", "1/port", "1/rule"];
    trial.assert_left(&neighbours, &gone).await;
}

pub async fn a_sweep_leaves_a_directory_that_holds_another_key<S: Bench>(mut trial: Trial<S>) {
    let (ours, shared) = trial.directory().await;
    // Keys that sort before, between and after the expected keys; on a lease, on none, and in a subdirectory.
    for name in ["1/", "1/Z", "1/b/c", "1/porter", "1/zzz"] {
        trial.put(ours, &["1/a"]).await;
        if name == "1/Z" && S::FACTS.sweeps_see_all {
            trial.put_by_hand(name).await;
        } else {
            trial.put(ours, &[name]).await;
        }
        assert_eq!(trial.delete_and_sweep(shared).await, swept(&[]), "{name}");
        trial.assert_left(&["1/port", "1/rule"], &["1/a"]).await;
        let delete = delete(&trial.key(name));
        trial.carry_out(vec![delete]).await;
    }
}

pub async fn a_sweep_may_overlook_keys_that_were_put_by_hand<S: Bench>(mut trial: Trial<S>) {
    let (_, shared) = trial.directory().await;
    trial.put_by_hand("1/Z").await;
    let keys = ["1/port", "1/rule"].map(|name| trial.key(name));
    let wanted = if S::FACTS.sweeps_see_all {
        swept(&[])
    } else {
        swept(&keys)
    };
    assert_eq!(trial.delete_and_sweep(shared).await, wanted);
    trial.assert_left(&["1/Z"], &["1/a"]).await;
}

pub async fn a_sweep_with_a_key_on_another_lease_deletes_none(mut trial: Trial<impl Bench>) {
    let (ours, shared) = trial.directory().await;
    trial.put(ours, &["1/rule"]).await;
    assert_eq!(trial.delete_and_sweep(shared).await, swept(&[]));
    trial.assert_left(&["1/port", "1/rule"], &["1/a"]).await;
    // The same for a key that does not exist.
    let delete = delete(&trial.key("1/rule"));
    trial.carry_out(vec![delete]).await;
    assert_eq!(trial.delete_and_sweep(shared).await, swept(&[]));
    trial.assert_left(&["1/port"], &["1/rule"]).await;
}

pub async fn a_sweep_looks_at_the_store_before_its_transaction(mut trial: Trial<impl Bench>) {
    let (_, shared) = trial.directory().await;
    let (a, port) = (trial.key("1/a"), trial.key("1/port"));
    // It does not expect the key that the same transaction deletes.
    let sweep = Sweep {
        directory: trial.key("1/"),
        expected: vec![port.clone(), trial.key("1/rule")],
        keys: vec![(port.clone(), shared)],
    };
    let steps = vec![delete(&a), Step::Sweep(sweep.clone())];
    assert_eq!(trial.transact(Vec::new(), steps).await, swept(&[]));
    trial.assert_left(&["1/port", "1/rule"], &["1/a"]).await;
    // The key that the same transaction puts is not there yet.
    let steps = vec![Step::Sweep(sweep), put(&a, "1", shared)];
    assert_eq!(trial.transact(Vec::new(), steps).await, swept(&[port]));
    trial.assert_left(&["1/a", "1/rule"], &["1/port"]).await;
}

pub async fn a_sweep_without_a_directory_looks_at_the_whole_store(mut trial: Trial<impl Bench>) {
    let lease = trial.granted(TTL).await;
    trial.put(lease, &["a", "port"]).await;
    let port = trial.key("port");
    let sweep = Sweep {
        directory: "".into(),
        expected: vec![port.clone()],
        keys: vec![(port, lease)],
    };
    let steps = vec![Step::Sweep(sweep)];
    assert_eq!(trial.transact(Vec::new(), steps).await, swept(&[]));
    trial.assert_left(&["port"], &[]).await;
}
