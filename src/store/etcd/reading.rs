//! Reads of single keys, and of ranges in pages, because a directory may not fit into one answer.

use std::sync::Arc;

use etcd_client::{GetOptions, GetResponse, ResponseHeader, Txn, TxnOp, TxnOpResponse};
use tracing::debug;

use super::connection::Connection;
use super::failure::name_keys;
use super::link::Link;
use super::txn::found_of;
use crate::base::key::{self, Key};
use crate::base::text::quote;
use crate::store::{Found, LeaseId, Listing, StoreError};

/// The most keys or ranges in one call: etcd's limit on the operations of a transaction (`--max-txn-ops`).
const READS_AT_ONCE: usize = 128;
/// The most keys of a range in one answer: with their values, and without.
const PAGE: i64 = 200;
const PAGE_OF_KEYS: i64 = 1000;
/// The most tries of a listing whose revision etcd compacts before the last page is read.
const MAX_LISTINGS: usize = 3;
/// etcd's message for a revision that it no longer has (`ErrGRPCCompacted` in `rpctypes/error.go`).
const COMPACTED: &str = "required revision has been compacted";

/// A range of keys from `from` up to `end`, which is not in it.
pub(super) struct Range {
    pub from: Vec<u8>,
    pub end: Vec<u8>,
}

impl Connection {
    /// The value of one key.
    pub(super) async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let reply = self.get_range(key.into(), GetOptions::new()).await;
        let reply = name_keys(reply, || format!("cannot read {}", quote(key)))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(reply.kvs().first().map(|kv| text(kv.value())))
    }

    /// All keys that begin with `prefix`.
    pub(super) async fn list(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        let mut tries = MAX_LISTINGS;
        loop {
            tries -= 1;
            match self.list_pages(prefix).await {
                Err(StoreError::Refused(error))
                    if tries > 0 && error.to_string().contains(COMPACTED) => {}
                listing => {
                    return name_keys(listing, || {
                        format!("cannot read the keys that begin with {}", quote(prefix))
                    });
                }
            }
        }
    }

    async fn list_pages(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        let mut keys = Vec::new();
        // 0 is the newest.
        let mut revision = 0;
        let mut rest = Some(Range::of_prefix(prefix));
        while let Some(range) = rest {
            let options = GetOptions::new().with_range(range.end.as_slice());
            let options = options.with_limit(PAGE).with_revision(revision);
            let reply = self.get_range(range.from.clone(), options).await?;
            if revision == 0 {
                revision = reply.header().map_or(0, ResponseHeader::revision);
            }
            keys.extend(found_in(&reply));
            rest = range.after(&reply);
        }
        Ok(Listing { keys, revision })
    }

    async fn get_range(
        &mut self,
        key: Vec<u8>,
        options: GetOptions,
    ) -> Result<GetResponse, StoreError> {
        self.call_any(Link::kv, |mut client| {
            let (key, options) = (key.clone(), options.clone());
            async move { client.get(key, Some(options)).await }
        })
        .await
    }

    /// Reads these keys. Missing keys are left out, and keys that the user may not read; an error if it may read none.
    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        let get = |key: &Key| TxnOp::get(key.as_bytes(), None);
        let denied = || format!("cannot read {}", key::in_words(keys.iter()));
        match self.gets(keys.iter().map(get).collect()).await {
            Err(StoreError::Refused(_)) if keys.len() > 1 => {}
            replies => {
                let replies = name_keys(replies, denied)?;
                return Ok(replies.iter().flat_map(found_in).collect());
            }
        }
        let (mut found, mut refusals) = (Vec::new(), Vec::new());
        for key in keys {
            match self.gets(vec![get(key)]).await {
                Ok(replies) => found.extend(replies.iter().flat_map(found_in)),
                Err(StoreError::Refused(error)) => {
                    debug!("cannot read {}: {error:#}", quote(key));
                    refusals.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        match refusals.pop() {
            Some(error) if refusals.len() + 1 == keys.len() => {
                name_keys(Err(StoreError::Refused(error)), denied)
            }
            _ => Ok(found),
        }
    }

    /// The keys in these directories that are on a lease, with their leases.
    pub(super) async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        let mut leased = Vec::new();
        let mut ranges: Vec<Range> = directories
            .iter()
            .map(|directory| Range::of_prefix(directory))
            .collect();
        while !ranges.is_empty() {
            let asked = ranges.split_off(ranges.len().saturating_sub(READS_AT_ONCE));
            let get = |range: &Range| {
                let options = GetOptions::new().with_range(range.end.as_slice());
                let options = options.with_limit(PAGE_OF_KEYS).with_keys_only();
                TxnOp::get(range.from.as_slice(), Some(options))
            };
            let replies = self.gets(asked.iter().map(get).collect()).await;
            let replies = name_keys(replies, || {
                let directories = directories.first().map(|first| quote(first));
                format!("cannot read keys below {}", directories.unwrap_or_default())
            })?;
            for (range, reply) in asked.into_iter().zip(replies) {
                let found = found_in(&reply);
                leased.extend(
                    found.filter_map(|found| found.lease().map(|lease| (found.key, lease))),
                );
                ranges.extend(range.after(&reply));
            }
        }
        Ok(leased)
    }

    async fn gets(&mut self, gets: Vec<TxnOp>) -> Result<Vec<GetResponse>, StoreError> {
        let mut replies = Vec::with_capacity(gets.len());
        for chunk in gets.chunks(READS_AT_ONCE) {
            let txn = Txn::new().and_then(chunk.to_vec());
            let reply = self
                .call(Link::kv, |mut client| {
                    let txn = txn.clone();
                    async move { client.txn(txn).await }
                })
                .await?;
            let get = |response| match response {
                TxnOpResponse::Get(reply) => Some(reply),
                _ => None,
            };
            replies.extend(reply.op_responses().into_iter().filter_map(get));
        }
        Ok(replies)
    }
}

impl Range {
    pub fn of_prefix(prefix: &str) -> Self {
        let from = prefix.as_bytes().to_vec();
        let mut end = from.clone();
        match end.last_mut() {
            // No byte of UTF-8 text is 255.
            Some(last) => *last += 1,
            // A zero byte means "from the first key" and "without an end"; etcd refuses an empty key.
            None => {
                return Self {
                    from: vec![0],
                    end: vec![0],
                };
            }
        }
        Self { from, end }
    }

    /// The rest of the range after an answer, if there are more keys.
    fn after(self, reply: &GetResponse) -> Option<Self> {
        let last = reply.kvs().last().filter(|_| reply.more())?;
        let from = [last.key(), &[0]].concat();
        Some(Self { from, ..self })
    }
}

fn found_in(reply: &GetResponse) -> impl Iterator<Item = Found> {
    reply.kvs().iter().filter_map(found_of)
}
