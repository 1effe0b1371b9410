//! The floor that `docker-register` is measured against: the same crates and the same calls (subscribe, list, inspect,
//! put with one TTL, renew, delete), in as few round trips as a simple program can do, and nothing else. No policy, no
//! plan, no repair: it ignores a failure to register a container that has started, and any other failure ends it.
//!
//! `bare STORE PREFIX HOST_IP LABEL` registers the containers that have the label, in the default layout. STORE is
//! `etcd://HOST:PORT` or `redis://HOST:PORT/0`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use etcd_client::{
    Client, Compare, CompareOp, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, interval_at};

/// The same as docker-register's default.
const TTL: Duration = Duration::from_secs(60);
/// The same as docker-register's limit.
const INSPECTS_AT_ONCE: usize = 16;
/// The most operations in a transaction that etcd takes by default.
const OPERATIONS: usize = 128;
/// The containers whose keys are put together. With two ports each, they have as many keys as a transaction takes.
const CONTAINERS: usize = OPERATIONS / 4;

/// The calls of a store. All keys have one TTL.
trait Store {
    async fn put(&self, pairs: BTreeMap<&str, &str>) -> anyhow::Result<()>;
    /// Deletes the keys of a container: members, each with its port.
    async fn delete(&self, keys: &[String]) -> anyhow::Result<()>;
    /// Renews the TTL of these keys, which are all there are.
    async fn renew(&mut self, keys: &[&String]) -> anyhow::Result<()>;
}

/// All keys are on one lease.
struct Etcd {
    client: Client,
    lease: i64,
    keeper: LeaseKeeper,
    renewals: LeaseKeepAliveStream,
}

/// Each key has a TTL of its own.
struct Redis(MultiplexedConnection);

/// The connections, and the parts of its keys.
struct Bare<S> {
    docker: Docker,
    store: S,
    prefix: String,
    host_ip: String,
}

/// A container's id and keys with their values.
type Found = (String, Vec<(String, String)>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [store, rest @ ..] = &words[..] else {
        bail!("bare STORE PREFIX HOST_IP LABEL");
    };
    match store.strip_prefix("etcd://") {
        Some(endpoint) => work(Etcd::connect(endpoint).await?, rest).await,
        None => work(Redis::connect(store).await?, rest).await,
    }
}

async fn work(store: impl Store, words: &[String]) -> anyhow::Result<()> {
    let [prefix, host_ip, label] = words else {
        bail!("bare STORE PREFIX HOST_IP LABEL");
    };
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    let bare = Bare {
        docker,
        store,
        prefix: prefix.clone(),
        host_ip: host_ip.clone(),
    };
    Box::pin(bare.work(label)).await
}

impl Etcd {
    async fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let mut client = Client::connect([endpoint], None).await?;
        let ttl = i64::try_from(TTL.as_secs())?;
        let lease = client.lease_grant(ttl, None).await?.id();
        let (keeper, renewals) = client.lease_keep_alive(lease).await?;
        Ok(Self {
            client,
            lease,
            keeper,
            renewals,
        })
    }
}

impl Store for Etcd {
    async fn put(&self, pairs: BTreeMap<&str, &str>) -> anyhow::Result<()> {
        let on_lease = || Some(PutOptions::new().with_lease(self.lease));
        let puts = pairs
            .into_iter()
            .map(|(key, value)| TxnOp::put(key, value, on_lease()));
        let puts: Vec<TxnOp> = puts.collect();
        for puts in puts.chunks(OPERATIONS) {
            let txn = Txn::new().and_then(puts);
            self.client.kv_client().txn(txn).await?;
        }
        Ok(())
    }

    async fn delete(&self, keys: &[String]) -> anyhow::Result<()> {
        let mut deletes = Vec::new();
        for pair in keys.chunks(2) {
            let [member, port] = pair else { continue };
            let delete = |key: &str| TxnOp::delete(key, None);
            deletes.extend([delete(member), TxnOp::txn(delete_last(member, port))]);
        }
        let txn = Txn::new().and_then(deletes);
        self.client.kv_client().txn(txn).await?;
        Ok(())
    }

    async fn renew(&mut self, _: &[&String]) -> anyhow::Result<()> {
        self.keeper.keep_alive().await?;
        self.renewals.message().await?;
        Ok(())
    }
}

/// Deletes a service's port if the directory has no other member, which may be another host's.
fn delete_last(member: &str, port: &str) -> Txn {
    let directory = port.trim_end_matches("port");
    let end = format!("{}0", directory.trim_end_matches('/'));
    // The name of a member is in hex digits, and sorts before `port`.
    let others = [
        (directory.to_owned(), member.to_owned()),
        (format!("{member}\0"), port.to_owned()),
        (format!("{port}\0"), end),
    ];
    let is_empty =
        others.map(|(from, to)| Compare::create_revision(from, CompareOp::Equal, 0).with_range(to));
    let delete = TxnOp::delete(port, None);
    Txn::new().when(is_empty).and_then([delete])
}

impl Redis {
    async fn connect(uri: &str) -> anyhow::Result<Self> {
        let client = redis::Client::open(uri)?;
        Ok(Self(client.get_multiplexed_async_connection().await?))
    }

    async fn send(&self, commands: &redis::Pipeline) -> anyhow::Result<()> {
        // To send none is an error.
        if !commands.is_empty() {
            commands.exec_async(&mut self.0.clone()).await?;
        }
        Ok(())
    }
}

impl Store for Redis {
    async fn put(&self, pairs: BTreeMap<&str, &str>) -> anyhow::Result<()> {
        let mut sets = redis::pipe();
        for (key, value) in pairs {
            let set = sets.cmd("SET").arg(key).arg(value);
            set.arg("PX").arg(TTL.as_millis());
        }
        self.send(&sets).await
    }

    async fn delete(&self, keys: &[String]) -> anyhow::Result<()> {
        let mut delete = redis::cmd("DEL");
        Ok(delete.arg(keys).exec_async(&mut self.0.clone()).await?)
    }

    async fn renew(&mut self, keys: &[&String]) -> anyhow::Result<()> {
        let mut renewals = redis::pipe();
        for key in keys {
            renewals.cmd("PEXPIRE").arg(*key).arg(TTL.as_millis());
        }
        self.send(&renewals).await
    }
}

impl<S: Store> Bare<S> {
    async fn work(mut self, label: &str) -> anyhow::Result<()> {
        // The first renewal is due even if the first containers take long.
        let mut renewal = interval_at(Instant::now() + TTL / 3, TTL / 3);
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
        let put = stream::iter(ids)
            .map(|id| self.inspect(id))
            .buffer_unordered(INSPECTS_AT_ONCE)
            .try_chunks(CONTAINERS)
            .map_err(|error| error.1)
            .map_ok(|found| self.put(found))
            .try_buffer_unordered(INSPECTS_AT_ONCE)
            .try_concat()
            .await?;
        let mut keys: HashMap<String, Vec<String>> = put.into_iter().collect();
        loop {
            let event = tokio::select! {
                event = events.next() => event.context("Docker's events ended")??,
                _ = renewal.tick() => {
                    let keys: Vec<&String> = keys.values().flatten().collect();
                    self.store.renew(&keys).await?;
                    continue;
                }
            };
            let id = event.actor.and_then(|actor| actor.id).context("no id")?;
            if event.action.as_deref() == Some("start") {
                if let Ok(found) = self.inspect(id).await
                    && let Ok(put) = self.put(vec![found]).await
                {
                    keys.extend(put);
                }
            } else if let Some(its_keys) = keys.remove(&id) {
                self.store.delete(&its_keys).await?;
            }
        }
    }

    async fn inspect(&self, id: String) -> anyhow::Result<Found> {
        let options = None::<InspectContainerOptions>;
        let container = self.docker.inspect_container(&id, options).await?;
        let pairs = self.pairs(&id, &container);
        Ok((id, pairs.context("not what was expected")?))
    }

    /// Puts the keys of some containers. Returns them by the containers' ids.
    async fn put(&self, found: Vec<Found>) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        // Containers of one service share a key, and a transaction takes a key once.
        let pairs = found.iter().flat_map(|(_, pairs)| pairs);
        let pairs = pairs.map(|(key, value)| (key.as_str(), value.as_str()));
        self.store.put(pairs.collect()).await?;
        let keys_of = |(id, pairs): Found| {
            let keys: Vec<String> = pairs.into_iter().map(|(key, _)| key).collect();
            (id, keys)
        };
        Ok(found.into_iter().map(keys_of).collect())
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
