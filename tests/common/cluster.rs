//! An etcd cluster of three members.

use super::etcd::Etcd;

/// How often to look for free ports.
const ATTEMPTS: usize = 10;

/// Three members of one etcd. Each can be asked, stopped, killed, paused and started again by itself.
pub struct Cluster {
    /// The members.
    pub members: [Etcd; 3],
}

impl Cluster {
    /// Starts the members and waits until each of them answers.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub fn start() -> Self {
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
                return Cluster { members };
            }
        }
        panic!("the members of an etcd cluster found no free ports in {ATTEMPTS} attempts");
    }

    /// All of them, for `--etcd`, the first member first.
    pub fn endpoints(&self) -> String {
        self.members.each_ref().map(Etcd::endpoint).join(",")
    }
}
