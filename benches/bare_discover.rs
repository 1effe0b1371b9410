//! The floor that `docker-register discover` is measured against: the same calls (list, watch, HAProxy's commands, check,
//! rename, reload), and nothing else. No policy, no plan, no read-back; any failure ends it.
//!
//! `bare_discover ENDPOINT PREFIX DIRECTORY` routes to the services in the default layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The same as the default policy's.
const CHECKS: &str = "check inter 10s fastinter 500ms downinter 1s rise 1 fall 2 observe layer4 error-limit 3 on-error fail-check";

const DEFAULTS: &str = "defaults\n mode tcp\n balance leastconn\n timeout connect 500ms\n retries 3\n \
    option redispatch 1\n timeout client 1h\n timeout server 1h";

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
    let [endpoint, prefix, directory] = &words[..] else {
        bail!("bare_discover ENDPOINT PREFIX DIRECTORY");
    };
    let mut etcd = Client::connect([endpoint], None).await?;
    let mut bare = Bare {
        prefix: format!("{prefix}/"),
        directory: directory.into(),
        services: BTreeMap::new(),
    };
    let listed = etcd
        .get(bare.prefix.as_str(), Some(GetOptions::new().with_prefix()))
        .await?;
    let mut ignored = Vec::new();
    for pair in listed.kvs() {
        bare.put(pair.key_str()?, pair.value_str()?, &mut ignored);
    }
    let next = listed.header().context("no header")?.revision() + 1;
    bare.write()?;
    let mut haproxy = Command::new("haproxy")
        .args(["-W", "-S"])
        .arg(bare.path("master.sock"))
        .arg("-f")
        .arg(bare.path("haproxy.cfg"))
        .spawn()?;
    while ask(&bare.path("admin.sock"), "show info").await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(next);
    let mut changes = etcd.watch(bare.prefix.as_str(), Some(options)).await?;
    while let Some(answer) = changes.message().await? {
        let (mut commands, mut is_new) = (Vec::new(), false);
        for event in answer.events() {
            let pair = event.kv().context("no key")?;
            let (key, value) = (pair.key_str()?, pair.value_str()?);
            match event.event_type() {
                EventType::Put => is_new |= bare.put(key, value, &mut commands),
                EventType::Delete => bare.delete(key, &mut commands),
            }
        }
        if is_new {
            bare.reload().await?;
        } else if !commands.is_empty() {
            let answer = ask(&bare.path("admin.sock"), &commands.join(";")).await?;
            let is_good = |line: &str| line.is_empty() || line == "New server registered.";
            ensure!(answer.lines().all(is_good), "{answer}");
            bare.write()?;
        }
    }
    haproxy.kill()?;
    bail!("etcd's changes ended")
}

impl Bare {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
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
        let check = tokio::process::Command::new("haproxy")
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
