//! Finds the address at which other hosts reach this one, unless the user has set it: the address from which this host
//! reaches the store.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail};
use tokio::net::{UdpSocket, lookup_host};
use tracing::{info, warn};

use super::settings::{HostSettings, Mode, Settings};
use crate::ops::condition::Condition;
use crate::ops::outage::Outage;
use crate::store;

/// Sets the host's address in `settings`. Waits for a route to the store; only a store on this host itself is an error.
pub async fn find(settings: &mut Settings, condition: &Condition) -> anyhow::Result<()> {
    if !settings.host.options.host_ip.is_empty() {
        return Ok(());
    }
    if settings.mode == Mode::DryRun {
        or_loopback(&mut settings.host).await;
        return Ok(());
    }
    let mut outage = Outage::new(
        format!("this host's route to {}", settings.host.store.name()),
        "nothing is registered yet",
        settings.lifetime(),
    );
    let HostSettings { store, options, .. } = &mut settings.host;
    let name = store.name();
    loop {
        match toward(store).await {
            Ok(Some(address)) => {
                outage.over();
                condition.forget();
                info!("this host's address is {address}, from which it reaches {name}");
                options.host_ip = address.to_string();
                return Ok(());
            }
            Ok(None) => bail!(
                "cannot find the address at which other hosts reach this one, because {name} at {} is on this host; \
                 pass --host-ip ADDRESS, or set HOST_IP",
                store.endpoints().join(",")
            ),
            Err(error) => {
                let why = format!("{error:#}");
                condition.bad(&why);
                tokio::time::sleep(outage.failed(why)).await;
            }
        }
    }
}

/// Sets the host's address for a command that writes nothing, so a wrong guess does no harm.
pub async fn or_loopback(host: &mut HostSettings) {
    let HostSettings { store, options, .. } = host;
    let host_ip = &mut options.host_ip;
    if !host_ip.is_empty() {
        return;
    }
    if let Ok(Some(address)) = toward(store).await {
        *host_ip = address.to_string();
        return;
    }
    "127.0.0.1".clone_into(host_ip);
    warn!(
        "this host's address is not known, because {} is on it or cannot be found: the keys have 127.0.0.1 instead; \
         pass --host-ip ADDRESS",
        store.name()
    );
}

/// The address from which this host reaches the first of the store's endpoints that is not on the host itself; none if all
/// of them are. It asks the kernel for the route and sends nothing.
async fn toward(store: &store::Settings) -> anyhow::Result<Option<IpAddr>> {
    let mut failure = None;
    for endpoint in store.endpoints() {
        match local(endpoint, store.name()).await {
            Ok(Some(address)) => return Ok(Some(address)),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), Err)
}

async fn local(endpoint: &str, store: &str) -> anyhow::Result<Option<IpAddr>> {
    let addresses = lookup_host(endpoint)
        .await
        .with_context(|| format!("cannot look up {store}'s address `{endpoint}`"))?;
    for address in addresses {
        let local = local_address(address)
            .await
            .with_context(|| format!("cannot find a route to {store} at `{endpoint}`"))?;
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
