//! `healthcheck`: asks the registrar on this host whether it is ready, for images that have no HTTP client.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The timeout of the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the `/readyz` answer of the registrar that listens on `address`. Returns whether it is ready.
pub async fn run(address: SocketAddr, out: &mut impl Write) -> anyhow::Result<bool> {
    let address = reachable(address);
    let reply = tokio::time::timeout(TIMEOUT, ask(address))
        .await
        .map_err(|_| anyhow!("no answer within {} s", TIMEOUT.as_secs()))
        .and_then(|reply| reply.map_err(anyhow::Error::from))
        .with_context(|| format!("no registrar with --listen answers on {address}"))?;
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .with_context(|| format!("the program that listens on {address} is not a registrar"))?;
    write!(out, "{body}").context("cannot print the answer")?;
    Ok(head.split(' ').nth(1) == Some("200"))
}

/// The address to connect to: loopback if `run` listens on every address.
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
    // With HTTP/1.0 the answer ends with the connection, so there is no length to parse.
    stream
        .write_all(b"GET /readyz HTTP/1.0\r\nHost: registrar\r\n\r\n")
        .await?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
