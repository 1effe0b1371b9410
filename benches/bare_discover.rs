//! The floor that `docker-register discover` is measured against: the same calls (list, watch, HAProxy's commands, check,
//! rename, reload), and nothing else. No policy, no plan, no read-back; any failure ends it.
//!
//! `bare_discover STORE PREFIX DIRECTORY` routes to the services in the default layout. STORE is `etcd://HOST:PORT` or
//! `redis://HOST:PORT/0`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use etcd_client::{Client, EventType, GetOptions, WatchOptions, WatchStream};
use futures_util::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

/// The same as the default policy's.
const CHECKS: &str = "check inter 10s fastinter 500ms downinter 1s rise 1 fall 2 observe layer4 error-limit 3 on-error fail-check";

const DEFAULTS: &str = "defaults\n mode tcp\n balance leastconn\n timeout connect 500ms\n retries 3\n \
    option redispatch 1\n timeout client 1h\n timeout server 1h";

/// The beginning of the channel on which Redis tells of a key.
const CHANNEL: &str = "__keyspace@0__:";

/// A key, and its value if it is there.
type Change = (String, Option<String>);

/// The keys of a store.
trait Keys: Sized {
    /// The keys that begin with a prefix, and a watch of all later changes.
    async fn open(at: &str, prefix: &str) -> anyhow::Result<(Vec<Change>, Self)>;

    async fn next(&mut self) -> anyhow::Result<Vec<Change>>;
}

struct Etcd {
    changes: WatchStream,
    /// It keeps the connection.
    _client: Client,
}

struct Redis {
    connection: MultiplexedConnection,
    events: PubSub,
}

#[derive(Default)]
struct Service {
    port: Option<String>,
    /// Their addresses by their names.
    members: BTreeMap<String, String>,
}

struct Bare {
    prefix: String,
    directory: PathBuf,
    /// By `<service>.<n>`.
    services: BTreeMap<String, Service>,
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
        services: BTreeMap::new(),
    };
    match store.strip_prefix("etcd://") {
        Some(endpoint) => Box::pin(work::<Etcd>(endpoint, bare)).await,
        None => Box::pin(work::<Redis>(store, bare)).await,
    }
}

async fn work<K: Keys>(store: &str, mut bare: Bare) -> anyhow::Result<()> {
    let (listed, mut keys) = K::open(store, &bare.prefix).await?;
    bare.take(listed, &mut Vec::new());
    bare.write()?;
    let _haproxy = Command::new("haproxy")
        .args(["-W", "-S"])
        .arg(bare.path("master.sock"))
        .arg("-f")
        .arg(bare.path("haproxy.cfg"))
        .spawn()?;
    while ask(&bare.path("admin.sock"), "show info").await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    loop {
        let mut commands = Vec::new();
        if bare.take(keys.next().await?, &mut commands) {
            bare.reload().await?;
        } else if !commands.is_empty() {
            let answer = ask(&bare.path("admin.sock"), &commands.join(";")).await?;
            let is_good = |line: &str| line.is_empty() || line == "New server registered.";
            ensure!(answer.lines().all(is_good), "{answer}");
            bare.write()?;
        }
    }
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
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

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

    fn text(&self) -> String {
        let mut lines = vec![
            "global".to_owned(),
            format!(
                " stats socket {} mode 600 level admin expose-fd listeners",
                self.path("admin.sock").display()
            ),
            DEFAULTS.to_owned(),
        ];
        for (section, service) in &self.services {
            let Some(port) = &service.port else { continue };
            lines.push(format!("listen {section}\n bind 127.0.0.1:{port}"));
            let server = |(name, address)| format!(" server {name}_{address} {address} {CHECKS}");
            lines.extend(service.members.iter().map(server));
        }
        lines.join("\n") + "\n"
    }

    /// Replaces the configuration.
    fn write(&self) -> anyhow::Result<()> {
        let (staged, file) = (self.path("haproxy.cfg.new"), self.path("haproxy.cfg"));
        std::fs::write(&staged, self.text())?;
        std::fs::File::open(&staged)?.sync_all()?;
        Ok(std::fs::rename(staged, file)?)
    }

    /// Checks the configuration, replaces it, and loads it.
    async fn reload(&self) -> anyhow::Result<()> {
        let staged = self.path("haproxy.cfg.new");
        std::fs::write(&staged, self.text())?;
        std::fs::File::open(&staged)?.sync_all()?;
        let check = Command::new("haproxy")
            .args(["-c", "-f"])
            .arg(&staged)
            .output()
            .await?;
        ensure!(check.status.success(), "a bad configuration");
        std::fs::rename(staged, self.path("haproxy.cfg"))?;
        ask(&self.path("master.sock"), "reload").await?;
        Ok(())
    }
}

/// The section of a key's service, and the last part of the key.
fn parts<'a>(prefix: &str, key: &'a str) -> Option<(String, &'a str)> {
    let mut parts = key.strip_prefix(prefix)?.splitn(3, '/');
    let (service, index, part) = (parts.next()?, parts.next()?, parts.next()?);
    Some((format!("{service}.{index}"), part))
}

/// HAProxy's answer to a line of commands.
async fn ask(socket: &Path, line: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
