//! The state that all connections share, its clock, and the changes that watches have yet to tell.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Memory;
use crate::store::Changes;

/// The number of revisions that are kept for watches.
const KEPT: usize = 1024;
/// The time after a lease's end at which the process itself must have stood still: it was stopped, or its machine was.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// The lock is held for one call, and never while anything is waited for.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    /// Shows each change of the keys, and of the leases' ends.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    memory: Memory,
    /// The last changes, oldest first.
    log: VecDeque<Changes>,
    /// The newest revision that is no longer in the log.
    forgotten: i64,
}

/// The answer to a watch.
pub enum Told {
    Changes(Changes),
    /// Changes that it has not told are no longer known.
    TooLate,
    Nothing {
        /// The end of the first lease, unless it is renewed.
        first_end: Option<Instant>,
    },
}

impl Shared {
    /// Makes a call at this time, after the end of the leases that are over.
    pub fn call<T>(&self, call: impl FnOnce(&mut Memory, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.lock();
        let before = state.memory.first_end();
        state.expire(now);
        let answer = call(&mut state.memory, now);
        let has_changed = state.keep_log();
        // A watch waits for the end that was the first.
        let ends_sooner = match (before, state.memory.first_end()) {
            (Some(before), Some(first)) => first < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        drop(state);
        if has_changed || ends_sooner {
            self.changed.send_replace(());
        }
        answer
    }

    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The next changes below `prefix` from `revision` on, which is moved behind them.
    pub fn tell(&self, prefix: &str, revision: &mut i64) -> Told {
        self.call(|_, _| ());
        let state = self.lock();
        if *revision <= state.forgotten {
            return Told::TooLate;
        }
        let first = state.log.partition_point(|it| it.revision < *revision);
        for changes in state.log.range(first..) {
            *revision = changes.revision + 1;
            if let Some(changes) = changes.below(prefix) {
                return Told::Changes(changes);
            }
        }
        let first_end = state.memory.first_end();
        Told::Nothing { first_end }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A call that panics leaves at worst a part of a transaction, which the next read finds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the leases that are over. If their ends are noticed this late, nobody could renew them, so all leases get
    /// their whole TTL, as a new leader of etcd gives it.
    fn expire(&mut self, now: Instant) {
        let over = self.memory.over(now);
        if over.first().is_some_and(|(at, _)| *at + STOOD_STILL < now) {
            return self.memory.elect(now);
        }
        for (_, lease) in over {
            self.memory.revoke(lease);
        }
    }

    /// Takes the state's changes into the log. Returns whether there are any.
    fn keep_log(&mut self) -> bool {
        let new = self.memory.take_log();
        let has_changed = !new.is_empty();
        self.log.extend(new);
        while self.log.len() > KEPT {
            if let Some(oldest) = self.log.pop_front() {
                self.forgotten = oldest.revision;
            }
        }
        has_changed
    }
}
