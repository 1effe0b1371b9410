//! The peers of `docker-register discover`: readers that render all files at each change, and load them. No run-time
//! commands, no policy, no read-back; any failure ends it.
//!
//! `bare_render PROXY STORE PREFIX DIRECTORY` routes to the services in the default layout. STORE is
//! `etcd://HOST:PORT`, and PROXY is one of these:
//!
//! - `haproxy`, as confd does it: check, rename, reload.
//! - `nginx`: rename, and a HUP. nginx keeps its last configuration if it refuses this one.
//! - `envoy`: rename of the files whose text has changed, which Envoy watches. Each service has a file of its servers.
//!
//! What a proxy does with a server that fails is the same as in docker-register's files.

mod bare_reader;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use bare_reader::{Change, Etcd, Keys as _, Services, haproxy, parts, replace};

/// nginx's configuration up to its services.
const NGINX: &str = "worker_processes auto;\nworker_rlimit_nofile 65536;\nworker_shutdown_timeout 1h;\n\
    error_log stderr;\ninclude /etc/nginx/modules-enabled/*.conf;\nevents {\n worker_connections 16384;\n}\n\
    stream {\n proxy_connect_timeout 500ms;\n proxy_timeout 1h;\n proxy_next_upstream_tries 4;\n";

const NGINX_FILE: &str = "nginx.conf";

/// A proxy that runs.
enum Proxy {
    Haproxy,
    /// Its master.
    Nginx(Pid),
    /// The texts of its files by their names.
    Envoy(BTreeMap<String, String>),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, store, prefix, directory] = &words[..] else {
        bail!("bare_render PROXY STORE PREFIX DIRECTORY");
    };
    let endpoint = store.strip_prefix("etcd://").context("not etcd")?;
    let (prefix, directory) = (format!("{prefix}/"), Path::new(directory));
    let (listed, mut keys) = Box::pin(Etcd::open(endpoint, &prefix)).await?;
    let mut services = Services::new();
    take(&prefix, listed, &mut services);
    let mut proxy = Proxy::start(name, directory, &services).await?;
    loop {
        let changes = keys.next().await?;
        // The first answer only says that the watch has begun.
        if !changes.is_empty() {
            take(&prefix, changes, &mut services);
            proxy.load(directory, &services).await?;
        }
    }
}

/// Takes changes over.
fn take(prefix: &str, changes: Vec<Change>, services: &mut Services) {
    for (key, value) in changes {
        let Some((section, part)) = parts(prefix, &key) else {
            continue;
        };
        let service = services.entry(section).or_default();
        match value {
            Some(value) if part == "port" => service.port = Some(value),
            Some(value) => {
                service.members.insert(part.to_owned(), value);
            }
            // Without a member, its port does not matter.
            None => {
                service.members.remove(part);
            }
        }
    }
}

impl Proxy {
    async fn start(name: &str, directory: &Path, services: &Services) -> anyhow::Result<Self> {
        Ok(match name {
            "haproxy" => {
                haproxy::start(directory, services).await?;
                Self::Haproxy
            }
            "nginx" => {
                replace(directory, NGINX_FILE, &nginx(directory, services))?;
                let child = run(name, &directory.join(NGINX_FILE), &["-g", "daemon off;"])?;
                let pid = child.id().context("nginx has ended")?;
                Self::Nginx(Pid::from_raw(i32::try_from(pid)?).context("no process")?)
            }
            "envoy" => {
                let bootstrap = json!({
                    "node": { "id": "bare", "cluster": "bare" },
                    "dynamic_resources": {
                        "cds_config": source(directory, "cds.json"),
                        "lds_config": source(directory, "lds.json"),
                    },
                });
                replace(directory, "bootstrap.json", &bootstrap.to_string())?;
                let mut files = BTreeMap::new();
                install(directory, services, &mut files)?;
                let file = directory.join("bootstrap.json");
                run(name, &file, &["--disable-hot-restart"])?;
                Self::Envoy(files)
            }
            _ => bail!("{name} is neither haproxy, nginx nor envoy"),
        })
    }

    async fn load(&mut self, directory: &Path, services: &Services) -> anyhow::Result<()> {
        match self {
            Self::Haproxy => haproxy::reload(directory, services).await,
            Self::Nginx(master) => {
                replace(directory, NGINX_FILE, &nginx(directory, services))?;
                Ok(kill_process(*master, Signal::HUP)?)
            }
            Self::Envoy(files) => install(directory, services, files),
        }
    }
}

/// Starts a proxy, which goes on when the child is dropped.
fn run(program: &str, file: &Path, more: &[&str]) -> std::io::Result<Child> {
    Command::new(program).arg("-c").arg(file).args(more).spawn()
}

fn nginx(directory: &Path, services: &Services) -> String {
    let pid_file = directory.join("nginx.pid");
    let mut lines = vec![format!("pid {};\n{NGINX}", pid_file.display())];
    for (section, service) in services {
        let Some(port) = &service.port else { continue };
        lines.push(format!(" upstream {section} {{\n  least_conn;\n"));
        let server = |address| format!("  server {address} max_fails=1 fail_timeout=5s;\n");
        lines.extend(service.members.values().map(server));
        lines.push(format!(
            " }}\n server {{\n  listen 127.0.0.1:{port} so_keepalive=on;\n  proxy_pass {section};\n }}\n"
        ));
    }
    lines.push("}\n".to_owned());
    lines.concat()
}

/// Replaces Envoy's files whose text has changed.
fn install(
    directory: &Path,
    services: &Services,
    files: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    for (name, content) in envoy(directory, services)? {
        let text = content.to_string();
        if files.get(&name) != Some(&text) {
            replace(directory, &name, &text)?;
            files.insert(name, text);
        }
    }
    Ok(())
}

/// Envoy's files, each after those that it refers to.
fn envoy(directory: &Path, services: &Services) -> anyhow::Result<Vec<(String, Value)>> {
    let (mut files, mut clusters, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    for (section, service) in services {
        let Some(port) = &service.port else { continue };
        let mut endpoints = Vec::new();
        for address in service.members.values() {
            endpoints.push(json!({ "endpoint": { "address": socket_address(address)? } }));
        }
        let file = format!("{section}.json");
        clusters.push(cluster(section, &source(directory, &file)));
        listeners.push(listener(
            section,
            &socket_address(&format!("127.0.0.1:{port}"))?,
        ));
        files.push((
            file,
            resources(&[json!({
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": section,
                "endpoints": [{ "lb_endpoints": endpoints }],
            })]),
        ));
    }
    files.push(("cds.json".to_owned(), resources(&clusters)));
    files.push(("lds.json".to_owned(), resources(&listeners)));
    Ok(files)
}

fn resources(list: &[Value]) -> Value {
    json!({ "resources": list })
}

/// A file that Envoy reads when it is moved in.
fn source(directory: &Path, file: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": { "path": directory.join(file) },
    })
}

fn cluster(name: &str, endpoints: &Value) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": "0.5s",
        "eds_cluster_config": { "eds_config": endpoints },
        "outlier_detection": {
            "split_external_local_origin_errors": true,
            "consecutive_local_origin_failure": 1,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_time": "5s",
            "max_ejection_percent": 100,
        },
        "common_lb_config": { "healthy_panic_threshold": { "value": 1 } },
    })
}

fn listener(cluster: &str, address: &Value) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": cluster,
        "address": address,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": cluster,
                "cluster": cluster,
                "idle_timeout": "3600s",
                "max_connect_attempts": 4,
            },
        }] }],
    })
}

fn socket_address(address: &str) -> anyhow::Result<Value> {
    let address: SocketAddr = address.parse()?;
    Ok(json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } }))
}
