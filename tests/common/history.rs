//! The changes in etcd: from the first revision on, or from now on. Redis tells of the latter too.

use super::SOON;
use super::etcd::{Etcd, text};
use etcd_client::{Client, Error, EventType, WatchOptions, WatchResponse, WatchStream};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::SystemTime;

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The same for all changes of one transaction.
    pub revision: i64,
    pub kind: Kind,
    pub key: String,
    /// The new value; empty for a deletion.
    pub value: String,
    /// The lease that it was put on, 0 for none or a deletion.
    pub lease: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    /// It was deleted, or its lease ended.
    Delete,
}

impl Etcd {
    /// Every change, from the first revision to the present one, of keys that begin with `prefix`.
    pub fn history(&self, prefix: &str) -> Vec<Event> {
        let revision = self.revision();
        let mut events = Vec::new();
        if revision > 1 {
            // Every revision except the first, the empty store's, changed some key. So a watch of all keys is complete
            // when it reaches the present revision. A watch of one prefix might never reach it.
            events = self.call(async |etcd| {
                let mut events = Vec::new();
                let mut stream = watch(etcd, "", 1).await?;
                while events.last().is_none_or(|e: &Event| e.revision < revision) {
                    events.extend(events_of(&next(&mut stream).await?));
                }
                Ok(events)
            });
        }
        events.retain(|event| event.revision <= revision && event.key.starts_with(prefix));
        events
    }

    /// The keys that began with `prefix`, and their values, at each revision that changed one of them.
    pub fn states(&self, prefix: &str) -> Vec<(i64, BTreeMap<String, String>)> {
        let mut states: Vec<(i64, BTreeMap<String, String>)> = Vec::new();
        let mut state = BTreeMap::new();
        for event in self.history(prefix) {
            match event.kind {
                Kind::Put => state.insert(event.key, event.value),
                Kind::Delete => state.remove(&event.key),
            };
            match states.last_mut() {
                Some((revision, last)) if *revision == event.revision => last.clone_from(&state),
                _ => states.push((event.revision, state.clone())),
            }
        }
        states
    }

    /// Follows the keys below `prefix` from now on, with the time at which each change is seen.
    pub fn watch(&self, prefix: &str) -> Watch {
        let from = self.revision() + 1;
        let mut stream = self.call(async |etcd| watch(etcd, prefix, from).await);
        let (sender, receiver) = mpsc::channel();
        self.runtime.spawn(async move {
            while let Ok(answer) = next(&mut stream).await {
                let now = SystemTime::now();
                for event in events_of(&answer) {
                    if sender.send((now, event)).is_err() {
                        return;
                    }
                }
            }
        });
        Watch { receiver }
    }
}

/// Changes as they happen; see [`Etcd::watch`] and [`super::Redis::watch`].
pub struct Watch {
    pub(super) receiver: mpsc::Receiver<(SystemTime, Event)>,
}

impl Watch {
    /// The next change for which `wanted` holds, and the time at which it was seen. Others are skipped.
    ///
    /// # Panics
    ///
    /// If none comes within [`SOON`] of the last.
    #[track_caller]
    pub fn next(&self, wanted: impl Fn(&Event) -> bool) -> (SystemTime, Event) {
        loop {
            let Ok((time, event)) = self.receiver.recv_timeout(SOON) else {
                panic!("waited {SOON:?} in vain for a change in the store");
            };
            if wanted(&event) {
                return (time, event);
            }
        }
    }
}

async fn watch(mut etcd: Client, prefix: &str, from: i64) -> Result<WatchStream, Error> {
    let options = WatchOptions::new().with_start_revision(from);
    let options = if prefix.is_empty() {
        options.with_all_keys()
    } else {
        options.with_prefix()
    };
    etcd.watch(prefix, Some(options)).await
}

async fn next(stream: &mut WatchStream) -> Result<WatchResponse, Error> {
    let answer = stream.message().await?;
    answer.ok_or_else(|| Error::WatchError("the stream ended".to_owned()))
}

fn events_of(answer: &WatchResponse) -> Vec<Event> {
    let events = answer.events().iter().filter_map(|event| {
        let kv = event.kv()?;
        Some(Event {
            revision: kv.mod_revision(),
            kind: match event.event_type() {
                EventType::Put => Kind::Put,
                EventType::Delete => Kind::Delete,
            },
            key: text(kv.key()),
            value: text(kv.value()),
            lease: kv.lease(),
        })
    });
    events.collect()
}
