//! The calls to Docker, each with a timeout, and with errors in an operator's words. The only file that sends requests
//! to it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, ClientVersion};
use bytes::Bytes;
use form_urlencoded::Serializer;
use futures_util::future::try_join;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use hyper::HeaderMap;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::access::Endpoint;
use super::undecoded::Connection;
use crate::base::deadline;
use crate::base::text::{printable, quote};
use crate::container::{Container, Listed, Loose, decode};
use crate::ops::outage::Outage;

/// Docker's own container filters, as `docker ps --filter` has them.
pub type Filters = HashMap<String, Vec<String>>;

/// The timeout of each call.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The client library's own timeout, which also covers the start of a stream. It is longer, so that ours ends a call
/// first and the error can name the call.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
/// How old an answer with the daemon's time may be when events are subscribed to from that time on: all events of that
/// span come again.
const FRESH: Duration = Duration::from_secs(2);
/// The path of a ping. Its answer tells the daemon's version.
const PING: &str = "/_ping";
/// The header that is in Podman's answers alone (`pkg/api/handlers/compat/ping.go`).
const OF_PODMAN: &str = "libpod-api-version";
/// The actions that may change a container's keys. Docker takes `health_status` as a prefix, which
/// `health_status: healthy` needs. Podman sends `die` to a subscriber of `died`.
const EVENTS: [&str; 13] = [
    "start",
    "die",
    "died",
    "kill",
    "stop",
    "destroy",
    "pause",
    "unpause",
    "rename",
    "update",
    "health_status",
    "connect",
    "disconnect",
];

/// A daemon's identity and time. Docker takes longer for this than for any other answer but a list, so it is asked once.
#[derive(Debug)]
pub struct Daemon {
    /// The id of `docker info`, which is the same after a restart. Podman has none; for it, this is the host's name and
    /// the directory of the containers.
    pub id: String,
    /// Whether it runs without root, so that its host networking is not the host's network.
    pub is_rootless: bool,
    /// The time by its own clock when it was asked, or a little before, in the form that a subscription to events takes;
    /// and the same by ours.
    time: Option<(String, Instant)>,
    /// The list of the containers at a later time, which may take longer; none if it was not asked for.
    pub listed: Option<JoinHandle<anyhow::Result<List>>>,
}

/// A list of containers, by id.
#[derive(Debug)]
pub enum List {
    /// Those that pass the filters.
    Passing(BTreeMap<String, Listed>),
    /// All that run. The filters are by label alone, and are applied here.
    Running(BTreeMap<String, Listed>),
}

/// The part of `docker info` that is used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "ID")]
    id: Loose<String>,
    name: Loose<String>,
    docker_root_dir: Loose<String>,
    system_time: Loose<String>,
    security_options: Loose<Vec<String>>,
}

impl Daemon {
    /// Asks the daemon that the environment names.
    pub async fn ask() -> anyhow::Result<Self> {
        Self::ask_on(&connect().await?).await
    }

    /// Asks it until it answers, and begins to list the containers that pass the filters.
    pub async fn wait(filters: &Filters, mut outage: Outage) -> Self {
        loop {
            match Self::ask_and_list(filters).await {
                Ok(daemon) => {
                    outage.over();
                    return daemon;
                }
                Err(error) => sleep(outage.failed(format!("{error:#}"))).await,
            }
        }
    }

    async fn ask_and_list(filters: &Filters) -> anyhow::Result<Self> {
        let docker = connect().await?;
        let asked = Instant::now();
        let (same, filters) = (docker.clone(), filters.clone());
        let listed = tokio::spawn(async move { first_list(&same, &filters).await });
        Ok(Self {
            listed: Some(listed),
            ..Self::ask_at(asked, &docker).await?
        })
    }

    async fn ask_on(docker: &Connection) -> anyhow::Result<Self> {
        Self::ask_at(Instant::now(), docker).await
    }

    async fn ask_at(asked: Instant, docker: &Connection) -> anyhow::Result<Self> {
        let info = docker.whole("/info");
        let (info, pong) = within(TIMEOUT, try_join(info, docker.head(PING)))
            .await
            .context("cannot ask Docker for its id and time")?;
        let info: Info = decode(&info).context("cannot read Docker's info")?;
        // Podman makes up a new id for each answer.
        let id = if pong.contains_key(OF_PODMAN) {
            let host = info.name.0.zip(info.docker_root_dir.0);
            host.map(|(host, directory)| format!("{host}:{directory}"))
        } else {
            info.id.0.filter(|id| !id.is_empty())
        };
        let id = id.context("`docker info` has no id")?;
        // It may be that of the end.
        let duration = asked.elapsed();
        let time = info.system_time.0;
        let time = time.and_then(|time| time.parse::<Timestamp>().ok()?.checked_sub(duration).ok());
        let mut options = info.security_options.0.into_iter().flatten();
        let text =
            |time: Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
        Ok(Self {
            id,
            is_rootless: options.any(|option| option == "name=rootless"),
            time: time.map(|time| (text(time), asked)),
            listed: None,
        })
    }
}

/// The result of one inspection.
pub enum Inspection {
    Found {
        container: Box<Container>,
        /// Whether it runs and passes the filters.
        listed: bool,
    },
    /// There is no such container.
    Gone,
    /// Docker answered with an error, with something that is no container, or not at all. The daemon may be well and
    /// only this one container hang.
    Failed(anyhow::Error),
}

/// Docker's messages, as they were written.
pub type Events = BoxStream<'static, anyhow::Result<String>>;

/// Connects as Docker's own client does, by `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`, with the newest
/// version of the API that both sides know. That is in the answer to a ping, which costs Docker a tenth of what its
/// version does.
pub async fn connect() -> anyhow::Result<Connection> {
    let endpoint = Endpoint::from_env()?;
    let host = quote(&endpoint.url);
    let docker = endpoint
        .connection(CLIENT_TIMEOUT)
        .with_context(|| format!("cannot use Docker at {host}"))?;
    let pong = within(TIMEOUT, docker.head(PING))
        .await
        .map_err(|error| endpoint.explain(&error.to_string()))
        .with_context(|| format!("cannot reach Docker at {host}"))?;
    Ok(match version(&pong) {
        Some(version) if version < *API_DEFAULT_VERSION => docker.with_version(&version),
        Some(_) => docker.with_version(API_DEFAULT_VERSION),
        None => docker,
    })
}

/// The daemon's identity and time, as `daemon` has them if it was asked a moment ago.
pub async fn fresh(docker: &Connection, daemon: Option<Daemon>) -> anyhow::Result<Daemon> {
    let is_fresh =
        |daemon: &Daemon| matches!(&daemon.time, Some((_, asked)) if asked.elapsed() < FRESH);
    match daemon.filter(is_fresh) {
        Some(daemon) => Ok(daemon),
        None => Daemon::ask_on(docker).await,
    }
}

/// Subscribes to the events from the daemon's time on. The stream begins with the events of the time before it was open, so
/// no change is missed if a list is asked for after that time.
pub fn subscribe(docker: &Connection, daemon: Daemon) -> Events {
    let filters = json!({ "type": ["container", "network"], "event": EVENTS });
    let since = daemon.time.map(|(time, _)| ("since", time));
    let filters = ("filters", filters.to_string());
    let path = with_query("/events", since.into_iter().chain([filters]));
    docker.lines(&path).map_err(explain).boxed()
}

/// The first list of the containers that pass the filters. If those are all by label, it is that of all that run, which
/// also tells which are outside of them.
pub async fn first_list(docker: &Connection, filters: &Filters) -> anyhow::Result<List> {
    let is_of_all = !filters.is_empty() && labels(filters).is_some();
    if is_of_all {
        return Ok(List::Running(list(docker.clone(), Filters::new()).await?));
    }
    Ok(List::Passing(list(docker.clone(), filters.clone()).await?))
}

/// The containers that `docker ps` with these filters shows, by id.
pub async fn list(
    docker: Connection,
    filters: Filters,
) -> anyhow::Result<BTreeMap<String, Listed>> {
    let listed = within(TIMEOUT, listed(&docker, &filters));
    let listed = listed.await.and_then(|json| read_list(&json));
    listed.context("cannot list containers")
}

/// Fails if Docker does not answer in time.
pub async fn ping(docker: Connection, timeout: Duration) -> anyhow::Result<()> {
    within(timeout, docker.head(PING))
        .await
        .map(drop)
        .context("Docker does not answer a ping")
}

/// The version of the API in an answer of Docker.
fn version(answer: &HeaderMap) -> Option<ClientVersion> {
    let text = answer.get("api-version")?.to_str().ok()?;
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}

async fn listed(docker: &Connection, filters: &Filters) -> Result<Bytes, Error> {
    let filters = ("filters", json!(filters).to_string());
    docker
        .whole(&with_query("/containers/json", [filters]))
        .await
}

fn with_query(path: &str, pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut query = Serializer::new(String::new());
    format!("{path}?{}", query.extend_pairs(pairs).finish())
}

/// Reads a list. An entry that cannot be read costs no other one: with an id, its container is inspected, and without
/// one, it may be any.
fn read_list(json: &[u8]) -> anyhow::Result<BTreeMap<String, Listed>> {
    let entries: Vec<&RawValue> =
        serde_json::from_slice(json).context("Docker's list is no list of containers")?;
    let mut listed = BTreeMap::new();
    for entry in entries {
        let read: anyhow::Result<Listed> = decode(entry.get().as_bytes());
        match read.map(|mut read| (read.id.0.take(), read)) {
            Ok((Some(id), entry)) => drop(listed.insert(id, entry)),
            Ok((None, _)) => debug!("Docker lists a container without an id"),
            Err(error) => debug!("Docker lists something that is no container: {error:#}"),
        }
    }
    Ok(listed)
}

/// Inspects the container with that id or name, and finds out whether a list with these filters shows it.
pub async fn inspect(docker: Connection, filters: Filters, id: String) -> (String, Inspection) {
    let inspection = match deadline::within(TIMEOUT, look(&docker, filters, &id)).await {
        Some(inspection) => inspection,
        None => Inspection::Failed(anyhow!("no answer within {} s", TIMEOUT.as_secs())),
    };
    (id, inspection)
}

async fn look(docker: &Connection, mut filters: Filters, id: &str) -> Inspection {
    let path = format!(
        "/containers/{}/json",
        utf8_percent_encode(id, NON_ALPHANUMERIC)
    );
    let inspected = docker.whole(&path);
    let container = match inspected.await {
        Ok(inspect) => Container::read(&inspect),
        // Not every 404 is about the container: a proxy sends one too. Podman sends this text with 500 while it removes
        // a container.
        Err(Error::DockerResponseServerError { message, .. })
            if message.to_ascii_lowercase().contains("no such container") =>
        {
            return Inspection::Gone;
        }
        Err(error) => return Inspection::Failed(explain(error)),
    };
    let container = match container {
        Ok(container) => Box::new(container),
        Err(error) => return Inspection::Failed(error),
    };
    if let Some(wanted) = labels(&filters) {
        let label = |name: &str| container.labels.get(name).map(|value| &**value);
        return Inspection::Found {
            listed: container.running && passes(&wanted, label),
            container,
        };
    }
    // Docker lists the containers that have any of several ids, so an id among the user's filters must stay the only
    // one. It makes lists from a copy that is older than its events, but not older than its answer to an inspection; so
    // the list comes second.
    filters
        .entry("id".to_owned())
        .or_insert_with(|| vec![container.id.to_string()]);
    let listed = listed(docker, &filters).await.map_err(explain);
    match listed.and_then(|json| read_list(&json)) {
        Ok(listed) => Inspection::Found {
            listed: listed.contains_key(&*container.id),
            container,
        },
        Err(error) => Inspection::Failed(error),
    }
}

/// The filters, if they are all by label, which saves a list: what they match can be told here. None if only Docker can
/// tell.
pub fn labels(filters: &Filters) -> Option<Vec<&String>> {
    if filters.keys().any(|name| name != "label") {
        return None;
    }
    let wanted: Vec<&String> = filters.values().flatten().collect();
    // Podman has wildcards, and an empty value matches any there.
    let is_simple = |label: &&String| !label.contains('*') && !label.ends_with('=');
    wanted.iter().all(is_simple).then_some(wanted)
}

/// The containers of a list that pass the filters, as far as that can be told here.
pub fn passing(filters: &Filters, listed: BTreeMap<String, Listed>) -> BTreeMap<String, Listed> {
    let wanted = labels(filters).unwrap_or_default();
    let mut listed = listed;
    listed.retain(|_, entry| passes(&wanted, |name| entry.label(name)));
    listed
}

/// Whether a container with these labels passes the filters. A label without a value matches any value (`MatchKVList` in
/// Docker's `filters/parse.go`).
fn passes<'a>(wanted: &[&String], label: impl Fn(&str) -> Option<&'a str>) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((name, value)) => label(name) == Some(value),
        None => label(wanted).is_some(),
    })
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> anyhow::Result<T> {
    match deadline::within(limit, call).await {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(explain(error)),
        None => bail!("no answer within {:.1} s", limit.as_secs_f64()),
    }
}

/// Keeps only the innermost cause, because an operator can act on that one.
pub fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => {
            let message = printable(message.trim());
            anyhow!("Docker answered with {status_code}: {message}")
        }
        error => {
            let cause = anyhow::Error::new(error).root_cause().to_string();
            anyhow!(printable(&cause))
        }
    }
}
