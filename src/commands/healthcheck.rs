//! `healthcheck`: asks the registrar beside it whether it is ready, for images without a program that can.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Prints what the registrar that listens on `address` says of itself. Returns whether it is ready.
pub async fn run(address: SocketAddr, out: &mut impl Write) -> anyhow::Result<bool> {
    let address = reachable(address);
    let reply = tokio::time::timeout(TIMEOUT, ask(address))
        .await
        .map_err(|_| anyhow!("no answer within {} s", TIMEOUT.as_secs()))
        .and_then(|reply| reply.map_err(anyhow::Error::from))
        .with_context(|| format!("no registrar that was told to --listen answers on {address}"))?;
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .with_context(|| format!("what listens on {address} is no registrar"))?;
    write!(out, "{body}").context("cannot print the answer")?;
    Ok(head.split(' ').nth(1) == Some("200"))
}

/// Where one's own "every address" is reached.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // An answer to this version ends with the connection, so that there is nothing to parse.
    stream
        .write_all(b"GET /readyz HTTP/1.0\r\nHost: registrar\r\n\r\n")
        .await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
