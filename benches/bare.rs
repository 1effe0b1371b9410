//! The floor that `docker-register` is measured against: the same crates and the same calls (subscribe, list, inspect,
//! put on one lease, delete), and nothing else. No policy, no plan, no repair: it ignores a failure to register a
//! container that has started, and any other failure ends it.
//!
//! `bare ENDPOINT PREFIX HOST_IP LABEL` registers the containers that have the label, in the default layout.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

/// The same as docker-register's default, in seconds.
const TTL: u16 = 60;
/// The same as docker-register's limit.
const INSPECTS_AT_ONCE: usize = 16;

/// The connections, and the parts of its keys.
#[derive(Clone)]
struct Bare {
    docker: Docker,
    etcd: Client,
    lease: i64,
    prefix: String,
    host_ip: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, prefix, host_ip, label] = &words[..] else {
        bail!("bare ENDPOINT PREFIX HOST_IP LABEL");
    };
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    let mut etcd = Client::connect([endpoint], None).await?;
    let lease = etcd.lease_grant(TTL.into(), None).await?.id();
    let (mut keeper, mut renewals) = etcd.lease_keep_alive(lease).await?;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(u64::from(TTL) / 3)).await;
            if keeper.keep_alive().await.is_err() || renewals.message().await.is_err() {
                return;
            }
        }
    });
    let bare = Bare {
        docker,
        etcd,
        lease,
        prefix: prefix.clone(),
        host_ip: host_ip.clone(),
    };
    Box::pin(bare.work(label)).await
}

impl Bare {
    async fn work(self, label: &str) -> anyhow::Result<()> {
        let text = str::to_owned;
        let filter = HashMap::from([(text("label"), vec![text(label)])]);
        let mut of_events = filter.clone();
        of_events.insert(text("type"), vec![text("container")]);
        of_events.insert(
            text("event"),
            vec![text("start"), text("kill"), text("die")],
        );
        let mut events = self.docker.events(Some(EventsOptions {
            filters: Some(of_events),
            ..Default::default()
        }));
        let options = ListContainersOptions {
            filters: Some(filter),
            ..Default::default()
        };
        let listed = self.docker.list_containers(Some(options)).await?;
        let ids = listed.into_iter().filter_map(|summary| summary.id);
        let mut keys: HashMap<String, Vec<String>> = stream::iter(ids)
            .map(|id| self.clone().register(id))
            .buffer_unordered(INSPECTS_AT_ONCE)
            .try_collect()
            .await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let id = event.actor.and_then(|actor| actor.id).context("no id")?;
            if event.action.as_deref() == Some("start") {
                if let Ok((id, its_keys)) = self.clone().register(id).await {
                    keys.insert(id, its_keys);
                }
            } else if let Some(its_keys) = keys.remove(&id) {
                let deletes = its_keys.into_iter().map(|key| TxnOp::delete(key, None));
                let txn = Txn::new().and_then(deletes.collect::<Vec<_>>());
                self.etcd.kv_client().txn(txn).await?;
            }
        }
        bail!("Docker's events ended")
    }

    /// Puts the keys of one container in one transaction. Returns them, with its id.
    async fn register(self, id: String) -> anyhow::Result<(String, Vec<String>)> {
        let options = None::<InspectContainerOptions>;
        let container = self.docker.inspect_container(&id, options).await?;
        let pairs = self
            .pairs(&id, &container)
            .context("not what was expected")?;
        let on_lease = || Some(PutOptions::new().with_lease(self.lease));
        let puts = pairs
            .iter()
            .map(|(key, value)| TxnOp::put(key.as_str(), value.as_str(), on_lease()));
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        self.etcd.kv_client().txn(txn).await?;
        Ok((id, pairs.into_iter().map(|(key, _)| key).collect()))
    }

    fn pairs(
        &self,
        id: &str,
        container: &ContainerInspectResponse,
    ) -> Option<Vec<(String, String)>> {
        let image = container.config.as_ref()?.image.as_deref()?;
        let name = image.rsplit('/').next()?.split(':').next()?;
        let ports = container.network_settings.as_ref()?.ports.as_ref()?;
        let mut ports: Vec<_> = ports.iter().collect();
        ports.sort_by_key(|(port, _)| *port);
        let mut pairs = Vec::new();
        for (index, (port, bindings)) in ports.into_iter().enumerate() {
            let Some(host_port) = bindings.as_ref()?.first()?.host_port.as_ref() else {
                continue;
            };
            let directory = format!("{}/{name}/{}", self.prefix, index + 1);
            let member = format!("{directory}/{}", id.get(..12)?);
            pairs.push((member, format!("{}:{host_port}", self.host_ip)));
            pairs.push((
                format!("{directory}/port"),
                port.split('/').next()?.to_owned(),
            ));
        }
        Some(pairs)
    }
}
