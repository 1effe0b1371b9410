//! A watch of a prefix. Its user lists the prefix, watches it from the next revision on, and lists again when the watch
//! fails.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use anyhow::anyhow;
use etcd_client::{Event, EventType, KvClient, WatchOptions, WatchResponse, WatchStream};
use tokio::time::Instant;

use super::connection::{Connection, no_answer};
use super::failure::{explain, name_keys};
use super::reading::Range;
use super::settings::Settings;
use super::txn::found_of;
use crate::base::deadline::MOMENT;
use crate::base::deadline::within;
use crate::base::text::quote;
use crate::store::{Change, Changes, StoreError, Watching};

/// The changes of the keys that begin with a prefix.
///
/// It ends with its first error: etcd has compacted the revision, the connection is lost, the member has no leader, or
/// etcd hangs. The changes since then are not known, so the keys must be listed again. An etcd that hangs is noticed
/// within four times the limit of a call.
pub struct Watch {
    stream: WatchStream,
    /// Reads over the same connection.
    reads: KvClient,
    /// The key that it reads.
    from: Vec<u8>,
    endpoint: String,
    /// For the explanation of errors.
    settings: Settings,
    limit: Duration,
    /// Changes that have arrived and have not been returned yet.
    ready: VecDeque<Changes>,
    /// The time of the last answer.
    heard_at: Instant,
    /// The time at which etcd was asked for the watch's progress, if nothing has come since.
    asked: Option<Instant>,
    /// Whether etcd tells of progress; none if it has not been asked yet.
    tells_progress: Option<bool>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Watches the keys that begin with `prefix`, from the changes of `revision` on.
    pub(super) async fn watch(&mut self, prefix: &str, revision: i64) -> Result<Watch, StoreError> {
        let Range { from, end } = Range::of_prefix(prefix);
        let options = WatchOptions::new().with_range(end);
        let options = options.with_start_revision(revision);
        let opened = self
            .call_any(
                |link| (link.watch(), link.kv()),
                |(mut client, reads)| {
                    let (from, options) = (from.clone(), options.clone());
                    async move {
                        let mut stream = client.watch(from, Some(options)).await?;
                        let first = stream.message().await?;
                        Ok((stream, first, reads))
                    }
                },
            )
            .await;
        let (stream, first, reads) = name_keys(opened, || {
            format!("cannot watch the keys that begin with {}", quote(prefix))
        })?;
        let mut watch = Watch {
            stream,
            reads,
            from,
            endpoint: self.endpoint()?.shown(),
            settings: self.settings().clone(),
            limit: self.limit(),
            ready: VecDeque::new(),
            heard_at: Instant::now(),
            asked: None,
            tells_progress: None,
        };
        watch.take(first)?;
        Ok(watch)
    }
}

impl Watching for Watch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            if let Some(changes) = self.ready.pop_front() {
                return Ok(changes);
            }
            let wait = match self.asked {
                None => (2 * self.limit).saturating_sub(self.heard_at.elapsed()),
                Some(at) => self.limit.saturating_sub(at.elapsed()).max(MOMENT),
            };
            match within(wait, self.stream.message()).await {
                Some(response) => {
                    let response = response.map_err(|error| self.explain(error))?;
                    if self.asked.is_some() {
                        self.tells_progress = Some(true);
                    }
                    self.take(response)?;
                }
                None if self.asked.is_none() && self.tells_progress != Some(false) => {
                    // A watch gets nothing while nothing changes, so only this shows that it is dead.
                    let asked = self.stream.request_progress().await;
                    asked.map_err(|error| self.explain(error))?;
                    self.asked = Some(Instant::now());
                }
                None if self.tells_progress == Some(true) => {
                    return Err(no_answer(&self.endpoint, self.limit));
                }
                None => self.read().await?,
            }
        }
    }

    fn heard_at(&self) -> Instant {
        self.heard_at
    }
}

impl Watch {
    /// Queues the changes of a response; none is the end of the stream.
    fn take(&mut self, response: Option<WatchResponse>) -> Result<(), StoreError> {
        let at = quote(&self.endpoint);
        let Some(response) = response else {
            return Err(StoreError::Failed(anyhow!("etcd at {at} ended the watch")));
        };
        self.heard_at = Instant::now();
        self.asked = None;
        if response.compact_revision() > 0 {
            return Err(StoreError::Refused(anyhow!(
                "etcd at {at} has compacted its history up to revision {}",
                response.compact_revision()
            )));
        }
        if response.canceled() {
            let why = response.cancel_reason();
            return Err(StoreError::Refused(anyhow!(
                "etcd at {at} ended the watch: {why}"
            )));
        }
        // A watch that catches up gets several revisions at once; one revision is never in two responses.
        for event in response.events() {
            self.add(event);
        }
        Ok(())
    }

    /// Finds out by a read whether etcd answers: its gRPC proxy never tells of progress (etcd-io/etcd#19710). A watch that
    /// is dead while reads are answered is noticed by the next listing.
    async fn read(&mut self) -> Result<(), StoreError> {
        let from = self.from.clone();
        let response = tokio::select! {
            biased;
            response = self.stream.message() => Some(response),
            read = within(self.limit, self.reads.get(from, None)) => {
                let read = read.ok_or_else(|| no_answer(&self.endpoint, self.limit))?;
                read.map_err(|error| self.explain(error))?;
                None
            }
        };
        if let Some(response) = response {
            return self.take(response.map_err(|error| self.explain(error))?);
        }
        self.tells_progress = Some(false);
        self.heard_at = Instant::now();
        self.asked = None;
        Ok(())
    }

    fn add(&mut self, event: &Event) {
        // A key that is not UTF-8 is left out here too.
        let Some(found) = event.kv().and_then(found_of) else {
            return;
        };
        let revision = found.revision;
        let change = match event.event_type() {
            EventType::Put => Change::Put(found),
            EventType::Delete => Change::Delete(found.key),
        };
        match self.ready.back_mut() {
            Some(last) if last.revision == revision => last.changes.push(change),
            _ => self.ready.push_back(Changes {
                revision,
                changes: vec![change],
            }),
        }
    }

    fn explain(&self, error: etcd_client::Error) -> StoreError {
        explain(&self.settings, &self.endpoint, false, error)
    }
}
