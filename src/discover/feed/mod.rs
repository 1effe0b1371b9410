//! The feed: publishes all keys below a prefix whenever they have changed, for as long as the process lives.
//!
//! It lists them, watches from the next revision on, and lists again when the watch ends. An error never changes what
//! is published. Besides:
//!
//! - etcd 3.4 and 3.5 can lose an event, so all keys are listed every `resync`, or rarer if there are very many, and
//!   compared with those of the watch. The watch of Redis does that by itself.
//! - A store that was restored or restarted empty answers like one without services. Of a mass removal no key is taken
//!   from the published ones until a second listing confirms it. After a lost connection, also the removal of a few keys
//!   is one.

mod follower;
mod gathering;
mod source;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::ops::outage::Outage;
use crate::routes::Keys;
use follower::{End, Follower};

pub use source::Source;

/// All readers of one store lose it at the same moment. They list its keys again within this time.
const SPREAD: Duration = Duration::from_secs(1);

/// A feed, and the parts of the program that it reports to.
pub struct Feed {
    /// The store's name in messages.
    pub store: &'static str,
    /// The directory of the keys, such as `/backends`. Empty for all keys of the store.
    pub prefix: String,
    /// How often all keys are listed again.
    pub resync: Duration,
    /// Hears of each failure and each return of the store.
    pub outage: Outage,
    /// Gets each snapshot, the first one after the first listing.
    pub keys: watch::Sender<Option<Arc<Keys>>>,
    pub freshness: watch::Sender<Freshness>,
}

/// How current the published keys are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Freshness {
    /// No watch has begun yet.
    #[default]
    Unknown,
    /// A watch tells of each change. A store that hangs is noticed within four times the time limit of a call.
    InStep,
    /// The time of the last answer of a store that is lost.
    StaleSince(Instant),
}

impl Feed {
    /// Runs for ever.
    pub async fn run(self, mut source: impl Source) -> Infallible {
        let mut follower = Follower::new(self);
        loop {
            if let End::Failed(error) = follower.follow(&mut source).await {
                let pause = follower.failed(&error);
                sleep(pause + random(SPREAD)).await;
            }
        }
    }

    /// The beginning of all keys below the prefix: `/backends/`, so that `/backends2` is none of them.
    fn directory(&self) -> String {
        match self.prefix.trim_end_matches('/') {
            "" => self.prefix.clone(),
            prefix => format!("{prefix}/"),
        }
    }
}

/// A random time below `limit`.
fn random(limit: Duration) -> Duration {
    let [a, b, ..] = RandomState::new().hash_one(0).to_ne_bytes();
    limit * u32::from(u16::from_ne_bytes([a, b])) / (1 << 16)
}
