//! Saved containers: the output of `docker inspect` and `podman inspect`, as files have it.

use std::sync::Arc;

use anyhow::{Error, anyhow};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::loose::Loose;
use super::{Container, SharedNetwork, decode};
use crate::base::text::quote;

const WHAT: &str = "save the output of `docker inspect $(docker ps -q)`";

/// The containers of a file.
#[derive(Debug)]
pub struct Saved {
    /// In the file's order. Containers that share a network have the ports that belong to them.
    pub containers: Vec<Arc<Container>>,
    /// Why others cannot be read. Each error names its container.
    pub unreadable: Vec<Error>,
}

impl Saved {
    /// The containers, if all of them can be read.
    pub fn whole(self) -> anyhow::Result<Vec<Arc<Container>>> {
        self.unreadable
            .into_iter()
            .next()
            .map_or(Ok(self.containers), Err)
    }
}

/// Reads saved containers: lists of them, or objects one after another, such as one a line.
///
/// Fails if the text is no JSON, or no list and no object.
pub fn read_saved(json: &str) -> anyhow::Result<Saved> {
    let json = json.trim_start_matches('\u{feff}');
    let mut objects: Vec<&RawValue> = Vec::new();
    for value in serde_json::Deserializer::from_str(json).into_iter::<&RawValue>() {
        let value = value.map_err(explain)?;
        if value.get().starts_with('[') {
            objects.extend(serde_json::from_str::<Vec<&RawValue>>(value.get()).map_err(explain)?);
        } else if value.get().starts_with('{') {
            objects.push(value);
        } else {
            return Err(anyhow!("neither a list nor an object; {WHAT}"));
        }
    }
    if objects.is_empty() && json.trim().is_empty() {
        return Err(anyhow!("it is empty; {WHAT}"));
    }
    let (mut containers, mut unreadable) = (Vec::new(), Vec::new());
    for (index, object) in objects.into_iter().enumerate() {
        let clues: Clues = decode(object.get().as_bytes()).unwrap_or_default();
        match Container::read(object.get().as_bytes()) {
            // Other objects have an id too.
            Ok(container) if clues.what().is_none() => containers.push(Arc::new(container)),
            Ok(_) => unreadable.push(clues.refuse(index + 1, None)),
            Err(error) => unreadable.push(clues.refuse(index + 1, Some(error))),
        }
    }
    for network in SharedNetwork::all(&containers) {
        for shown in network.shown() {
            for container in &mut containers {
                if container.id == shown.id {
                    *container = Arc::clone(shown);
                }
            }
        }
    }
    Ok(Saved {
        containers,
        unreadable,
    })
}

fn explain(error: serde_json::Error) -> Error {
    match error.classify() {
        Category::Data => anyhow!("neither a list nor an object; {WHAT}"),
        _ => Error::new(error).context(format!("not JSON; {WHAT}")),
    }
}

/// The members by which an object that is no container is recognised.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Clues {
    #[serde(rename = "Name")]
    name: Loose<String>,
    #[serde(rename = "Id")]
    id: Loose<String>,
    #[serde(rename = "Names")]
    names: Option<Present>,
    #[serde(rename = "IPAM")]
    ipam: Option<Present>,
    #[serde(rename = "subnets")]
    subnets: Option<Present>,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Present>,
    #[serde(rename = "InfraContainerID")]
    pod: Option<Present>,
    #[serde(rename = "Spec")]
    spec: Option<Present>,
}

/// A member that is there, whatever its value is.
type Present = Loose<serde::de::IgnoredAny>;

impl Clues {
    /// The error for an object at a place in the file: what it is, if it is no container; else `error`, with the
    /// container's name.
    fn refuse(&self, place: usize, error: Option<Error>) -> Error {
        match (self.what(), error) {
            (None, Some(error)) => error.context(self.name(place)),
            (what, _) => {
                let what = what.unwrap_or("something else");
                anyhow!("object {place}, which is {what} and not a container; {WHAT}")
            }
        }
    }

    fn what(&self) -> Option<&'static str> {
        if self.names.is_some() {
            Some("what `docker ps` prints")
        } else if self.ipam.is_some() || self.subnets.is_some() {
            Some("a network")
        } else if self.repo_tags.is_some() {
            Some("an image")
        } else if self.pod.is_some() {
            Some("a pod")
        } else if self.spec.is_some() {
            Some("an object of Swarm")
        } else {
            None
        }
    }

    fn name(&self, place: usize) -> String {
        let name = self.name.0.as_deref().unwrap_or_default();
        let name = Some(name.trim_start_matches('/')).filter(|name| !name.is_empty());
        match name.or(self.id.0.as_deref()) {
            Some(name) => format!("container {}", quote(name)),
            None => format!("container {place}"),
        }
    }
}
