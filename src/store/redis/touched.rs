//! The keys that Redis tells of, until somebody reads them. A key that is told of many times takes the place of one.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::key::Key;

/// The event of a new TTL. It changes neither a key's value nor whether it exists, and each renewal sends one for each key.
const RENEWED: &[u8] = b"expire";

/// A clone is the same.
#[derive(Clone)]
pub struct Touched(Arc<Inner>);

struct Inner {
    /// What comes before the key in the name of a channel.
    channel: String,
    state: Mutex<State>,
    notify: Notify,
}

struct State {
    keys: BTreeSet<Key>,
    /// The number of connections so far. Those before the last say nothing any more.
    connections: u64,
    is_connected: bool,
    heard_at: Instant,
}

impl Touched {
    /// The changes of the database `db`.
    pub fn new(db: u32) -> Self {
        Self(Arc::new(Inner {
            channel: format!("__keyspace@{db}__:"),
            state: Mutex::new(State {
                keys: BTreeSet::new(),
                connections: 0,
                is_connected: true,
                heard_at: Instant::now(),
            }),
            notify: Notify::new(),
        }))
    }

    /// What comes before the key in the name of a channel.
    pub fn channel(&self) -> &str {
        &self.0.channel
    }

    /// Takes what Redis tells without having been asked, on a new connection.
    pub fn sender(&self) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
        let touched = self.clone();
        let mut state = self.lock();
        state.connections += 1;
        state.is_connected = true;
        let connection = state.connections;
        drop(state);
        move |info| {
            touched.take_push(&info, connection);
            Ok(())
        }
    }

    /// Waits until a key is told of, or the connection is lost. The keys are then to be taken.
    pub async fn wait(&self) {
        loop {
            let notified = self.0.notify.notified();
            if self.is_ready() {
                return;
            }
            notified.await;
        }
    }

    fn is_ready(&self) -> bool {
        let state = self.lock();
        !state.keys.is_empty() || !state.is_connected
    }

    /// The keys since this was last called; none if the connection is lost.
    pub fn take(&self) -> Option<BTreeSet<Key>> {
        let mut state = self.lock();
        state.is_connected.then(|| mem::take(&mut state.keys))
    }

    /// Records that Redis has answered.
    pub fn hear(&self) {
        self.lock().heard_at = Instant::now();
    }

    /// The time of Redis's last answer.
    pub fn heard_at(&self) -> Instant {
        self.lock().heard_at
    }

    fn take_push(&self, info: &PushInfo, connection: u64) {
        let mut state = self.lock();
        if state.connections != connection {
            return;
        }
        match info.kind {
            PushKind::Disconnection => state.is_connected = false,
            PushKind::PMessage => {
                state.heard_at = Instant::now();
                let Some(key) = self.changed(&info.data) else {
                    return;
                };
                state.keys.insert(key);
            }
            _ => return,
        }
        drop(state);
        self.0.notify.notify_one();
    }

    /// The key that a message tells of, whose parts are the pattern, the channel and the event. One that is not UTF-8 is
    /// left out, because no policy can want it.
    fn changed(&self, parts: &[Value]) -> Option<Key> {
        let [_, Value::BulkString(channel), Value::BulkString(event)] = parts else {
            return None;
        };
        let channel = str::from_utf8(channel).ok()?;
        let key = channel.strip_prefix(&self.0.channel)?;
        (event != RENEWED).then(|| key.into())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can leave it half-done.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(channel: &str, event: &str) -> PushInfo {
        let text = |text: &str| Value::BulkString(text.into());
        PushInfo {
            kind: PushKind::PMessage,
            data: vec![text("pattern"), text(channel), text(event)],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_told_of_once_and_a_renewal_is_not() {
        let touched = Touched::new(3);
        let send = touched.sender();
        for (channel, event) in [
            ("__keyspace@3__:/b/1", "set"),
            ("__keyspace@3__:/b/1", "del"),
            ("__keyspace@3__:/b/2", "expire"),
            ("__keyspace@0__:/b/3", "set"),
            ("other", "set"),
        ] {
            send(message(channel, event)).expect("taken");
        }
        touched.wait().await;
        assert_eq!(touched.take(), Some(["/b/1".into()].into()));
        assert_eq!(touched.take(), Some(BTreeSet::new()));
        send(PushInfo {
            kind: PushKind::Disconnection,
            data: Vec::new(),
        })
        .expect("taken");
        touched.wait().await;
        assert_eq!(touched.take(), None);
    }
}
