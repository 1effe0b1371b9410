//! The calls to Docker, each bounded in time, with errors in an operator's words.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, EventMessage};
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use futures_util::future::try_join;
use futures_util::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::time::Instant;

use super::access::Access;
use crate::base::deadline;
use crate::base::text::{printable, quote};
use crate::container::Container;

/// Docker's own container filters, as `docker ps --filter` has them.
pub type Filters = HashMap<String, Vec<String>>;

/// How long Docker may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The client's own limit, which also counts for a stream to begin. It is well above ours: when ours ends a call, it is
/// known which one.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
/// For how long the daemon's time is made use of: so many events are repeated.
const FRESH: Duration = Duration::from_secs(2);
/// What may change a container's keys. Docker compares `health_status` as a beginning, for its events are
/// `health_status: healthy` and the like. Podman sends `die` to those who ask for `died`.
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

/// What a daemon says of itself. It takes Docker longer than any other answer, so it is asked for once.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// The id that it keeps through restarts, as `docker info` shows it. Podman has none: there it is the name of the host
    /// and the directory of the containers.
    pub id: String,
    /// Its own time, as the subscription to events takes it, and when it was asked for.
    time: Option<(String, Instant)>,
}

impl Daemon {
    /// Asks the daemon that the environment names.
    pub async fn ask() -> anyhow::Result<Self> {
        Self::ask_on(&connect().await?).await
    }

    async fn ask_on(docker: &Docker) -> anyhow::Result<Self> {
        let asked = Instant::now();
        let (info, version) = within(TIMEOUT, try_join(docker.info(), docker.version()))
            .await
            .context("cannot ask Docker for its id and time")?;
        let components = version.components.unwrap_or_default();
        // Podman makes up another id for each answer.
        let id = if components.iter().any(|part| part.name.contains("Podman")) {
            info.name
                .zip(info.docker_root_dir)
                .map(|(host, directory)| format!("{host}:{directory}"))
        } else {
            info.id.filter(|id| !id.is_empty())
        };
        let id = id.context("Docker does not say its id (`docker info`)")?;
        let time = info
            .system_time
            .and_then(|time| time.parse::<Timestamp>().ok());
        let text =
            |time: Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
        Ok(Self {
            id,
            time: time.map(|time| (text(time), asked)),
        })
    }
}

/// What an inspection came to.
pub enum Inspected {
    /// What there is.
    There {
        container: Box<Container>,
        listed: bool,
    },
    /// It does not run, does not exist, or does not pass the filters any more.
    Gone,
    /// Docker answered with an error, with something that is no container, or not at all. The daemon may be well, and this
    /// one container hang.
    Unreadable(anyhow::Error),
}

/// Docker's events.
pub type Events = BoxStream<'static, Result<EventMessage, Error>>;

/// Connects as Docker's own client would: by `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`, in the newest
/// version of the API that both sides know.
pub async fn connect() -> anyhow::Result<Docker> {
    let access = Access::from_env()?;
    let host = quote(&access.host);
    let docker = access
        .client(CLIENT_TIMEOUT)
        .with_context(|| format!("cannot use Docker at {host}"))?;
    within(TIMEOUT, docker.negotiate_version())
        .await
        .map_err(|error| access.explain(&error.to_string()))
        .with_context(|| format!("cannot reach Docker at {host}"))
}

/// Subscribes to the events from this moment on, by Docker's own clock: what happens before the stream is open is
/// repeated in it, so that a list which is asked for from now on misses nothing. What `daemon` said a moment ago will
/// do for its time.
pub async fn subscribe(docker: &Docker, daemon: Option<Daemon>) -> anyhow::Result<Events> {
    let is_fresh =
        |daemon: &Daemon| matches!(&daemon.time, Some((_, asked)) if asked.elapsed() < FRESH);
    let daemon = match daemon.filter(is_fresh) {
        Some(daemon) => daemon,
        None => Daemon::ask_on(docker).await?,
    };
    let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let options = EventsOptions {
        since: daemon.time.map(|(time, _)| time),
        until: None,
        filters: Some(HashMap::from([
            ("type".to_owned(), list(&["container", "network"])),
            ("event".to_owned(), list(&EVENTS)),
        ])),
    };
    Ok(docker.events(Some(options)).boxed())
}

/// The containers that `docker ps` with these filters would show, by id.
pub async fn list(
    docker: Docker,
    filters: Filters,
) -> anyhow::Result<BTreeMap<String, ContainerSummary>> {
    within(TIMEOUT, listed(&docker, &filters)).await
}

async fn listed(
    docker: &Docker,
    filters: &Filters,
) -> Result<BTreeMap<String, ContainerSummary>, Error> {
    let options = ListContainersOptions {
        filters: Some(filters.clone()),
        ..Default::default()
    };
    let summaries = docker.list_containers(Some(options)).await?;
    Ok(summaries
        .into_iter()
        .filter_map(|summary| Some((summary.id.clone()?, summary)))
        .collect())
}

/// Looks at one container, and whether it belongs to the list: Docker alone can tell that of its filters.
pub async fn inspect(docker: Docker, filters: Filters, id: String) -> (String, Inspected) {
    let inspected = match deadline::within(TIMEOUT, look(&docker, filters, &id)).await {
        Some(inspected) => inspected,
        None => Inspected::Unreadable(anyhow!("no answer within {} s", TIMEOUT.as_secs())),
    };
    (id, inspected)
}

async fn look(docker: &Docker, mut filters: Filters, id: &str) -> Inspected {
    let container = match docker
        .inspect_container(id, None::<InspectContainerOptions>)
        .await
    {
        Ok(inspect) => Container::new(inspect),
        // Whatever else says 404, such as a proxy, knows nothing of the container. Podman says this with 500 while it
        // removes one.
        Err(Error::DockerResponseServerError { message, .. })
            if message.to_ascii_lowercase().contains("no such container") =>
        {
            return Inspected::Gone;
        }
        Err(error) => return Inspected::Unreadable(explain(error)),
    };
    let container = match container {
        Ok(container) => Box::new(container),
        Err(error) => return Inspected::Unreadable(error),
    };
    if let Some(passes) = passes(&filters, &container) {
        return Inspected::There {
            listed: container.running && passes,
            container,
        };
    }
    // Docker shows what has any of several ids, so an id of the user's must stay the only one. It serves lists from a
    // copy that lags behind its events, but not behind an answer to an inspection; so the list comes second.
    filters
        .entry("id".to_owned())
        .or_insert_with(|| vec![container.id.to_string()]);
    match listed(docker, &filters).await {
        Ok(listed) => Inspected::There {
            listed: listed.contains_key(&*container.id),
            container,
        },
        Err(error) => Inspected::Unreadable(explain(error)),
    }
}

/// Whether a container passes filters, if they are all by label, which costs no second question. Docker takes a label
/// without a value for any value (`MatchKVList` in its `filters/parse.go`).
fn passes(filters: &Filters, container: &Container) -> Option<bool> {
    if filters.keys().any(|name| name != "label") {
        return None;
    }
    let mut wanted = filters.values().flatten();
    // Podman knows wildcards, and takes an empty value for any.
    if wanted
        .clone()
        .any(|label| label.contains('*') || label.ends_with('='))
    {
        return None;
    }
    let has = |label: &String| {
        let (name, value) = match label.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (label.as_str(), None),
        };
        let found = container.labels.get(name);
        found.is_some_and(|found| value.is_none_or(|value| **found == *value))
    };
    Some(wanted.all(has))
}

/// Bounds a call in time.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> anyhow::Result<T> {
    match deadline::within(limit, call).await {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(explain(error)),
        None => bail!("no answer within {:.1} s", limit.as_secs_f64()),
    }
}

/// The innermost cause, which is what an operator can do something about.
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
