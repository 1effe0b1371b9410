//! The floor that `docker-register discover` is measured against: the same calls (list, watch, HAProxy's commands, check,
//! rename, reload), and nothing else. No policy, no plan, no read-back; any failure ends it.
//!
//! `bare_discover STORE PREFIX DIRECTORY` routes to the services in the default layout. STORE is `etcd://HOST:PORT` or
//! `redis://HOST:PORT/0`.

mod bare_reader;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSub};

use bare_reader::haproxy::{self, ADMIN, CHECKS, ask};
use bare_reader::{Change, Etcd, Keys, Services, parts};

/// The beginning of the channel on which Redis tells of a key.
const CHANNEL: &str = "__keyspace@0__:";

struct Redis {
    connection: MultiplexedConnection,
    events: PubSub,
}

struct Bare {
    prefix: String,
    directory: PathBuf,
    services: Services,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [store, prefix, directory] = &words[..] else {
        bail!("bare_discover STORE PREFIX DIRECTORY");
    };
    let bare = Bare {
        prefix: format!("{prefix}/"),
        directory: directory.into(),
        services: Services::new(),
    };
    match store.strip_prefix("etcd://") {
        Some(endpoint) => Box::pin(work::<Etcd>(endpoint, bare)).await,
        None => Box::pin(work::<Redis>(store, bare)).await,
    }
}

async fn work<K: Keys>(store: &str, mut bare: Bare) -> anyhow::Result<()> {
    let (listed, mut keys) = K::open(store, &bare.prefix).await?;
    bare.take(listed, &mut Vec::new());
    haproxy::start(&bare.directory, &bare.services).await?;
    let admin = bare.directory.join(ADMIN);
    loop {
        let mut commands = Vec::new();
        if bare.take(keys.next().await?, &mut commands) {
            haproxy::reload(&bare.directory, &bare.services).await?;
        } else if !commands.is_empty() {
            let answer = ask(&admin, &commands.join(";")).await?;
            let is_good = |line: &str| line.is_empty() || line == "New server registered.";
            ensure!(answer.lines().all(is_good), "{answer}");
            haproxy::write(&bare.directory, &bare.services)?;
        }
    }
}

impl Keys for Redis {
    async fn open(at: &str, prefix: &str) -> anyhow::Result<(Vec<Change>, Self)> {
        let client = redis::Client::open(at)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("notify-keyspace-events").arg("K$gxe");
        set.exec_async(&mut connection).await?;
        let mut events = client.get_async_pubsub().await?;
        events.psubscribe(format!("{CHANNEL}{prefix}*")).await?;
        let mut list = redis::cmd("KEYS");
        list.arg(format!("{prefix}*"));
        let keys: Vec<String> = list.query_async(&mut connection).await?;
        let mut get = redis::cmd("MGET");
        let values: Vec<Option<String>> = get.arg(&keys).query_async(&mut connection).await?;
        let listed = keys.into_iter().zip(values).collect();
        Ok((listed, Self { connection, events }))
    }

    async fn next(&mut self) -> anyhow::Result<Vec<Change>> {
        let event = self.events.on_message().next().await;
        let event = event.context("Redis's events ended")?;
        let key = event.get_channel_name().trim_start_matches(CHANNEL);
        let value = match event.get_payload_bytes() {
            b"set" => {
                let mut get = redis::cmd("GET");
                get.arg(key).query_async(&mut self.connection).await?
            }
            b"del" | b"expired" | b"evicted" => None,
            // The key and its value are the same.
            _ => return Ok(Vec::new()),
        };
        Ok(vec![(key.to_owned(), value)])
    }
}

impl Bare {
    /// Takes changes over. Returns whether they take a reload, else adds the commands that they take.
    fn take(&mut self, changes: Vec<Change>, commands: &mut Vec<String>) -> bool {
        let mut is_new = false;
        for (key, value) in changes {
            match value {
                Some(value) => is_new |= self.put(&key, &value, commands),
                None => self.delete(&key, commands),
            }
        }
        is_new
    }

    /// Takes a key over. Returns whether it takes a reload, else adds the commands that it takes.
    fn put(&mut self, key: &str, value: &str, commands: &mut Vec<String>) -> bool {
        let Some((section, part)) = parts(&self.prefix, key) else {
            return false;
        };
        let service = self.services.entry(section.clone()).or_default();
        if part == "port" {
            return service.port.replace(value.to_owned()).as_deref() != Some(value);
        }
        service.members.insert(part.to_owned(), value.to_owned());
        let server = format!("{section}/{part}_{value}");
        commands.extend([
            format!("add server {server} {value} {CHECKS}"),
            format!("enable health {server}"),
            format!("set server {server} state ready"),
        ]);
        if service.members.len() == 1 {
            commands.push(format!("enable frontend {section}"));
        }
        false
    }

    fn delete(&mut self, key: &str, commands: &mut Vec<String>) {
        let Some((section, part)) = parts(&self.prefix, key) else {
            return;
        };
        let Some(service) = self.services.get_mut(&section) else {
            return;
        };
        if let Some(address) = service.members.remove(part) {
            commands.push(format!("set server {section}/{part}_{address} state maint"));
        }
    }
}
