//! The addresses of this host.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use tokio::net::{UdpSocket, lookup_host};

/// The address from which this host reaches the first of the endpoints that is not on the host itself; none if all
/// of them are. The kernel is asked for the route, and nothing is sent.
pub async fn toward(endpoints: &[String]) -> anyhow::Result<Option<IpAddr>> {
    let mut failure = None;
    for endpoint in endpoints {
        match local(endpoint).await {
            Ok(Some(address)) => return Ok(Some(address)),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// The addresses of each network interface of this host, IPv4 before IPv6; none if the kernel does not say.
pub fn interfaces() -> BTreeMap<String, Vec<IpAddr>> {
    let mut interfaces: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let address = interface.ip();
        interfaces.entry(interface.name).or_default().push(address);
    }
    for addresses in interfaces.values_mut() {
        addresses.sort_unstable();
    }
    interfaces
}

async fn local(endpoint: &str) -> anyhow::Result<Option<IpAddr>> {
    let addresses = lookup_host(endpoint)
        .await
        .with_context(|| format!("cannot look up etcd's address `{endpoint}`"))?;
    for address in addresses {
        let local = local_address(address)
            .await
            .with_context(|| format!("cannot find a route to etcd at `{endpoint}`"))?;
        if !local.is_loopback() {
            return Ok(Some(local));
        }
    }
    Ok(None)
}

async fn local_address(to: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket.local_addr()?.ip())
}
