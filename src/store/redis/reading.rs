//! Reads single keys, and all keys that begin with a prefix.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::anyhow;
use redis::{Value, cmd, pipe};
use tracing::debug;

use super::connection::Connection;
use super::failure::name_keys;
use super::link::Request;
use super::script::{INDEX, Input, LOOKUP, NAMESPACE, READ, REVISION};
use super::txn::bounds;
use super::value::{exact_text, list, number, text, texts};
use crate::base::key::{self, Key};
use crate::base::text::quote;
use crate::store::{Found, Lease, LeaseId, Listing, On, StoreError};

/// The most keys that one script reads. Redis does nothing else meanwhile.
const READS_AT_ONCE: usize = 500;
/// The number of directories in one call.
const DIRECTORIES_AT_ONCE: usize = 128;
/// The most keys of a directory in one answer.
const PAGE: usize = 1000;
/// The number of keys that one step of a scan looks at.
const SCAN_COUNT: usize = 1000;

/// Whether a read returns values too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Values,
    Names,
}

impl Connection {
    /// The value of one key.
    pub async fn get(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let mut get = cmd("GET");
        get.arg(key);
        let value = self.call_any(&Request::Command(get)).await;
        let value = name_keys(value, || format!("cannot read {}", quote(key)))?;
        Ok(text(value))
    }

    /// Reads these keys. Missing keys are left out, and keys that the user may not read; an error if it may read none.
    pub async fn read(&mut self, keys: &[Key]) -> Result<Vec<Found>, StoreError> {
        let denied = || format!("cannot read {}", key::in_words(keys.iter()));
        match self.read_all(keys, Wants::Values).await {
            Err(StoreError::Refused(_)) if keys.len() > 1 => {}
            found => return name_keys(found, denied),
        }
        let (mut found, mut refusals) = (Vec::new(), Vec::new());
        for key in keys {
            match self
                .read_all(std::slice::from_ref(key), Wants::Values)
                .await
            {
                Ok(some) => found.extend(some),
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

    /// A lease as Redis has it, if it exists.
    pub async fn lookup(&mut self, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        let input = Input::new().lease(lease).arg(lease);
        let answer = self.call(&Request::Script(&LOOKUP, input)).await;
        let answer = name_keys(answer, || format!("cannot look at lease {lease}"))?;
        if matches!(answer, Value::Nil) {
            return Ok(None);
        }
        let (granted, left, keys) = life(answer).ok_or_else(|| self.odd("a look at a lease"))?;
        let keys: Vec<Key> = keys.into_iter().map(Key::from).collect();
        let found = self.read_all(&keys, Wants::Names).await;
        let found = name_keys(found, || format!("cannot list the keys on lease {lease}"))?;
        let on_it = found
            .into_iter()
            .filter(|found| found.on == On::Lease(lease));
        Ok(Some(Lease {
            keys: on_it.map(|found| found.key).collect(),
            granted: u32::try_from(granted).unwrap_or(u32::MAX),
            remaining: u32::try_from(left.max(0) / 1000).unwrap_or(u32::MAX),
            // Deadlines are times of the day, which a new primary leaves as they are.
            term: 0,
        }))
    }

    /// The keys in these directories that are on a lease, with their leases.
    pub async fn leased_in(
        &mut self,
        directories: &[Arc<str>],
    ) -> Result<Vec<(Key, LeaseId)>, StoreError> {
        // A directory may be inside another.
        let mut keys = BTreeSet::new();
        for some in directories.chunks(DIRECTORIES_AT_ONCE) {
            let mut ranges: Vec<(Vec<u8>, Vec<u8>)> = some
                .iter()
                .map(|directory| bounds(directory))
                .map(|(low, high)| (low.into_bytes(), high))
                .collect();
            while !ranges.is_empty() {
                ranges = self.read_index(ranges, &mut keys).await?;
            }
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let found = self.read_all(&keys, Wants::Names).await;
        let found = name_keys(found, || {
            let directories = directories.first().map(|first| quote(first));
            format!("cannot read keys below {}", directories.unwrap_or_default())
        })?;
        let leased = |found: Found| Some((found.key, found.on.lease()?));
        Ok(found.into_iter().filter_map(leased).collect())
    }

    /// All keys that begin with `prefix`. Those that change meanwhile may be in it as before or as after.
    pub async fn list(&mut self, prefix: &str) -> Result<Listing, StoreError> {
        let failed = || format!("cannot read the keys that begin with {}", quote(prefix));
        let mut get = cmd("GET");
        get.arg(REVISION);
        // Before the keys, so that a change that is in none of them has a later one.
        let revision = name_keys(self.call_any(&Request::Command(get)).await, failed)?;
        let names = name_keys(self.names(prefix).await, failed)?;
        let mut keys = name_keys(self.read_all(&names, Wants::Values).await, failed)?;
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Listing {
            keys,
            revision: number(revision).unwrap_or(0),
        })
    }

    /// The strings whose keys begin with `prefix`, sorted.
    async fn names(&mut self, prefix: &str) -> Result<Vec<Key>, StoreError> {
        let (mut cursor, mut names) = ("0".to_owned(), BTreeSet::new());
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor)
                .arg("MATCH")
                .arg(format!("{}*", escaped(prefix)));
            scan.arg("COUNT").arg(SCAN_COUNT).arg("TYPE").arg("string");
            let answer = self.call(&Request::Command(scan)).await?;
            let (next, keys) = page(answer).ok_or_else(|| self.odd("a scan"))?;
            let others = keys.into_iter().filter(|key| !key.starts_with(NAMESPACE));
            names.extend(others.map(Key::from));
            if next == "0" {
                return Ok(names.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// Adds the keys in these ranges, a page of each. Returns the ranges that are left.
    async fn read_index(
        &mut self,
        ranges: Vec<(Vec<u8>, Vec<u8>)>,
        keys: &mut BTreeSet<Key>,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut commands = pipe();
        for (low, high) in &ranges {
            let command = commands.cmd("ZRANGEBYLEX").arg(INDEX);
            command.arg(low).arg(high).arg("LIMIT").arg(0).arg(PAGE);
        }
        let pages = self.call(&Request::Commands(commands)).await;
        let pages = name_keys(pages, || "cannot read the index of keys".to_owned())?;
        let pages = list(pages).ok_or_else(|| self.odd("a question about directories"))?;
        let mut rest = Vec::new();
        for ((_, high), page) in ranges.into_iter().zip(pages) {
            let page = texts(page).ok_or_else(|| self.odd("a question about a directory"))?;
            if let Some(last) = page.last().filter(|_| page.len() >= PAGE) {
                rest.push((format!("({last}").into_bytes(), high));
            }
            keys.extend(page.into_iter().map(Key::from));
        }
        Ok(rest)
    }

    async fn read_all(&mut self, keys: &[Key], wants: Wants) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(READS_AT_ONCE) {
            let mut input = Input::new();
            let first = some.iter().map(|key| input.add_key(key)).min().unwrap_or(1);
            input.add(first);
            input.add(if wants == Wants::Names {
                "names"
            } else {
                "values"
            });
            let answer = self.call(&Request::Script(&READ, input)).await?;
            let some = found_in(answer, some).ok_or_else(|| self.odd("a read"))?;
            found.extend(some);
        }
        Ok(found)
    }

    /// The error for an answer that cannot be understood.
    pub(super) fn odd(&self, what: &str) -> StoreError {
        StoreError::Failed(anyhow!(
            "Redis at {} did not answer {what} as expected",
            quote(&self.shown())
        ))
    }
}

/// The answer of `scripts/lookup.lua`: the TTL in seconds, the ms that are left, and the keys.
fn life(answer: Value) -> Option<(i64, i64, Vec<String>)> {
    let [granted, left, keys] = <[Value; 3]>::try_from(list(answer)?).ok()?;
    Some((number(granted)?, number(left)?, texts(keys)?))
}

/// A step of a scan: the place of the next one, and keys.
fn page(answer: Value) -> Option<(String, Vec<String>)> {
    let [next, keys] = <[Value; 2]>::try_from(list(answer)?).ok()?;
    Some((exact_text(next)?, texts(keys)?))
}

/// The answer of `scripts/read.lua` to a read of these keys.
fn found_in(answer: Value, keys: &[Key]) -> Option<Vec<Found>> {
    let parts = list(answer)?;
    let mut found = Vec::with_capacity(parts.len() / 4);
    let mut parts = parts.into_iter();
    while let Some(place) = parts.next() {
        let key = keys.get(usize::try_from(number(place)?).ok()?)?;
        let (value, lease, revisions) = (parts.next()?, parts.next()?, text(parts.next()?)?);
        let is_text = matches!(&value, Value::BulkString(value) if str::from_utf8(value).is_ok());
        let (created, revision) = revisions.split_once(' ').unwrap_or_default();
        found.push(Found {
            key: Arc::clone(key),
            value: text(value)?.into(),
            on: on(&text(lease)?, is_text),
            // A key that was put by hand has none.
            created: created.parse().unwrap_or(0),
            revision: revision.parse().unwrap_or(0),
        });
    }
    Some(found)
}

/// What a key is on, from `state` in `scripts/common.lua`.
fn on(lease: &str, is_text: bool) -> On {
    match lease {
        "" if is_text => On::Nothing,
        // No guard could name its value.
        "" => On::Stranger("on no lease, with a value that is not UTF-8".into()),
        "?string" => On::Stranger("a key with another TTL".into()),
        lease => match (lease.strip_prefix('?'), i64::from_str_radix(lease, 16)) {
            (Some(kind), _) => On::Stranger(format!("a key of the type {}", quote(kind)).into()),
            (None, Ok(lease)) => On::Lease(LeaseId(lease)),
            (None, Err(_)) => On::Stranger("on a lease of a name that no registrar gives".into()),
        },
    }
}

/// A prefix as the beginning of a pattern (`stringmatchlen` in Redis's `util.c`).
pub fn escaped(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len());
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_itself_alone() {
        assert_eq!(escaped("/b/[a-z]*?\\"), "/b/\\[a-z\\]\\*\\?\\\\");
    }

    #[test]
    fn a_key_is_on_a_lease_or_on_none_or_a_strangers() {
        assert_eq!(
            on("1571ff812862003c", true),
            On::Lease(LeaseId(0x1571_ff81_2862_003c))
        );
        assert_eq!(on("", true), On::Nothing);
        for (lease, is_text, words) in [
            ("", false, "not UTF-8"),
            ("?string", true, "another TTL"),
            ("?list", true, "the type `list`"),
            ("x", true, "no registrar"),
        ] {
            let on = on(lease, is_text).to_string();
            assert!(on.contains(words), "{on}");
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        let keys: Vec<Key> = vec!["/a".into()];
        let bulk = |text: &str| Value::BulkString(text.into());
        let parts = vec![Value::Int(0), bulk("v"), bulk("1f"), bulk("2 3")];
        let found = found_in(Value::Array(parts.clone()), &keys).expect("a key");
        assert_eq!((found[0].created, found[0].revision), (2, 3));
        assert_eq!(found[0].on, On::Lease(LeaseId(0x1f)));
        assert!(found_in(Value::Array(parts[..3].to_vec()), &keys).is_none());
        assert!(found_in(Value::Array(parts), &[]).is_none());
        assert!(found_in(Value::Nil, &keys).is_none());
    }
}
