//! HAProxy: its file, its start, its reload and its sockets, all in one directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::{Services, replace, stage};

/// The same as the default policy's.
pub const CHECKS: &str = "check inter 10s fastinter 500ms downinter 1s rise 1 fall 2 observe layer4 error-limit 3 on-error fail-check";

/// The socket for run-time commands.
pub const ADMIN: &str = "admin.sock";

const MASTER: &str = "master.sock";
const FILE: &str = "haproxy.cfg";

const DEFAULTS: &str = "defaults\n mode tcp\n balance leastconn\n timeout connect 500ms\n retries 3\n \
    option redispatch 1\n timeout client 1h\n timeout server 1h";

/// Starts it, and waits until it answers.
pub async fn start(directory: &Path, services: &Services) -> anyhow::Result<()> {
    write(directory, services)?;
    Command::new("haproxy")
        .args(["-W", "-S"])
        .arg(directory.join(MASTER))
        .arg("-f")
        .arg(directory.join(FILE))
        .spawn()?;
    while ask(&directory.join(ADMIN), "show info").await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Replaces the configuration.
pub fn write(directory: &Path, services: &Services) -> anyhow::Result<()> {
    replace(directory, FILE, &text(directory, services))
}

/// Checks the configuration, replaces it, and loads it.
pub async fn reload(directory: &Path, services: &Services) -> anyhow::Result<()> {
    let staged = stage(directory, FILE, &text(directory, services))?;
    let check = Command::new("haproxy")
        .args(["-c", "-f"])
        .arg(&staged)
        .output()
        .await?;
    ensure!(check.status.success(), "a bad configuration");
    fs::rename(staged, directory.join(FILE))?;
    ask(&directory.join(MASTER), "reload").await?;
    Ok(())
}

/// HAProxy's answer to a line of commands.
pub async fn ask(socket: &Path, line: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn text(directory: &Path, services: &Services) -> String {
    let mut lines = vec![
        "global".to_owned(),
        format!(
            " stats socket {} mode 600 level admin expose-fd listeners",
            directory.join(ADMIN).display()
        ),
        DEFAULTS.to_owned(),
    ];
    for (section, service) in services {
        let Some(port) = &service.port else { continue };
        lines.push(format!("listen {section}\n bind 127.0.0.1:{port}"));
        let server = |(name, address)| format!(" server {name}_{address} {address} {CHECKS}");
        lines.extend(service.members.iter().map(server));
    }
    lines.join("\n") + "\n"
}
