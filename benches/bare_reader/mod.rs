//! Shared by the bare readers: the keys in etcd, their services, and files that are replaced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchStream};

pub mod haproxy;

/// A key, and its value if it is there.
pub type Change = (String, Option<String>);

/// By `<service>.<n>`.
pub type Services = BTreeMap<String, Service>;

/// The keys of a store.
pub trait Keys: Sized {
    /// The keys that begin with a prefix, and a watch of all later changes.
    async fn open(at: &str, prefix: &str) -> anyhow::Result<(Vec<Change>, Self)>;

    async fn next(&mut self) -> anyhow::Result<Vec<Change>>;
}

pub struct Etcd {
    changes: WatchStream,
    /// It keeps the connection.
    _client: Client,
}

#[derive(Default)]
pub struct Service {
    pub port: Option<String>,
    /// Their addresses by their names.
    pub members: BTreeMap<String, String>,
}

impl Keys for Etcd {
    async fn open(at: &str, prefix: &str) -> anyhow::Result<(Vec<Change>, Self)> {
        let mut client = Client::connect([at], None).await?;
        let options = GetOptions::new().with_prefix();
        let listed = client.get(prefix, Some(options)).await?;
        let mut keys = Vec::new();
        for pair in listed.kvs() {
            keys.push((
                pair.key_str()?.to_owned(),
                Some(pair.value_str()?.to_owned()),
            ));
        }
        let next = listed.header().context("no header")?.revision() + 1;
        let options = WatchOptions::new().with_prefix().with_start_revision(next);
        let changes = client.watch(prefix, Some(options)).await?;
        Ok((
            keys,
            Self {
                changes,
                _client: client,
            },
        ))
    }

    async fn next(&mut self) -> anyhow::Result<Vec<Change>> {
        let answer = self.changes.message().await?;
        let answer = answer.context("etcd's changes ended")?;
        let mut changes = Vec::new();
        for event in answer.events() {
            let pair = event.kv().context("no key")?;
            let value = match event.event_type() {
                EventType::Put => Some(pair.value_str()?.to_owned()),
                EventType::Delete => None,
            };
            changes.push((pair.key_str()?.to_owned(), value));
        }
        Ok(changes)
    }
}

/// The section of a key's service, and the last part of the key.
pub fn parts<'a>(prefix: &str, key: &'a str) -> Option<(String, &'a str)> {
    let mut parts = key.strip_prefix(prefix)?.splitn(3, '/');
    let (service, index, part) = (parts.next()?, parts.next()?, parts.next()?);
    Some((format!("{service}.{index}"), part))
}

/// Writes the next version of a file beside it, and returns the path.
pub fn stage(directory: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let staged = directory.join(format!("{name}.new"));
    fs::write(&staged, text)?;
    File::open(&staged)?.sync_all()?;
    Ok(staged)
}

/// Replaces a file.
pub fn replace(directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let staged = stage(directory, name, text)?;
    Ok(fs::rename(staged, directory.join(name))?)
}
