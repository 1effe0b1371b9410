//! An etcd cluster of three members.

use super::etcd::Etcd;
use super::{SOON, eventually};

/// The number of tries to find free ports.
const ATTEMPTS: usize = 10;

/// Starts three members of one cluster, and waits until each answers. Each can be stopped, killed, paused and started
/// again by itself.
///
/// # Panics
///
/// If they do not answer.
pub fn cluster() -> [Etcd; 3] {
    for _ in 0..ATTEMPTS {
        let mut members = [Etcd::prepare(), Etcd::prepare(), Etcd::prepare()];
        let names = ["one", "two", "three"];
        let all: Vec<String> = names
            .iter()
            .zip(&members)
            .map(|(name, member)| format!("{name}={}", member.peer_url()))
            .collect();
        for (member, name) in members.iter_mut().zip(names) {
            member.join(name, &all.join(","));
        }
        // None of them answers before a second one runs.
        members.iter().for_each(Etcd::launch);
        if members.iter().all(Etcd::answers) {
            return members;
        }
    }
    panic!("the members of an etcd cluster found no free ports in {ATTEMPTS} attempts");
}

/// The members, for `--etcd`, in this order.
pub fn endpoints<'a>(members: impl IntoIterator<Item = &'a Etcd>) -> String {
    let endpoints: Vec<String> = members.into_iter().map(Etcd::endpoint).collect();
    endpoints.join(",")
}

impl Etcd {
    /// Waits until the cluster of this member has a leader, for instance after it lost one.
    ///
    /// # Panics
    ///
    /// If it has none before [`SOON`] has passed.
    #[track_caller]
    pub fn wait_for_leader(&self) {
        let mut in_a_row = 0;
        eventually(SOON, "a leader of the cluster", || {
            in_a_row = if self.connect() { in_a_row + 1 } else { 0 };
            // A lost leader is noticed only after an election timeout.
            in_a_row >= 100
        });
    }
}
