//! The way from a changed container to its entries, as one step that `benches/micro.rs` can repeat.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::{Options, Report, Role as _, World};
use crate::base::by_age::ByAge;
use crate::container::{self, Container};
use crate::docker::Snapshot;
use crate::wanted::Wanted;

/// Container → Lua → entries, with the bundled policy. It has two snapshots of one host, which differ in the youngest
/// container, and goes from one to the other and back.
pub struct Deciding {
    snapshots: [Arc<Snapshot>; 2],
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    script: LocalSet,
    runtime: Runtime,
}

impl Deciding {
    /// A host with `containers` containers, each like the inspected one.
    pub fn new(inspected: &Value, containers: usize) -> anyhow::Result<Self> {
        let snapshots =
            host(inspected, containers)?.map(|containers| Arc::new(Snapshot::of(containers)));
        let options = Options {
            prefix: "/backends".to_owned(),
            ttl: 60,
            host_ip: "192.0.2.1".to_owned(),
            instance: String::new(),
            set: Vec::new(),
        };
        let sender = watch::Sender::new(None);
        let world = World::live(options, sender.subscribe()).reporting(Report::Nothing);
        let wanted = world.wanted();
        let loaded = world.load().map_err(|failure| anyhow!("{failure}"))?;
        let script = LocalSet::new();
        script.spawn_local(async move { loaded.run().await });
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut deciding = Self {
            snapshots,
            sender,
            wanted,
            script,
            runtime,
        };
        deciding.once()?;
        Ok(deciding)
    }

    /// Runs the policy for one change.
    pub fn once(&mut self) -> anyhow::Result<()> {
        self.snapshots.swap(0, 1);
        self.sender
            .send_replace(Some(Arc::clone(&self.snapshots[0])));
        let decided = self.script.run_until(self.wanted.changed());
        self.runtime.block_on(decided).context("the policy ended")
    }

    pub(crate) fn wanted(&self) -> Option<Arc<Wanted>> {
        self.wanted.borrow().clone()
    }
}

/// The containers of a host before and after a change of the youngest.
fn host(inspected: &Value, size: usize) -> anyhow::Result<[ByAge<Container>; 2]> {
    let object = |number: usize, port: usize| {
        let mut object = inspected.clone();
        object["Id"] = format!("{number:0>12}{:0>52}", 0).into();
        object["Name"] = format!("/c{number}").into();
        object["Created"] = format!("2024-01-01T00:00:00.{number:0>9}Z").into();
        let bindings = json!([{ "HostIp": "0.0.0.0", "HostPort": port.to_string() }]);
        for published in object["NetworkSettings"]["Ports"]
            .as_object_mut()
            .into_iter()
            .flatten()
        {
            *published.1 = bindings.clone();
        }
        object
    };
    let read =
        |objects: Vec<Value>| container::read_saved(&Value::from(objects).to_string())?.whole();
    let all = (0..size).map(|number| object(number, 10_000 + number));
    let before: ByAge<Container> = read(all.collect())?.into_iter().collect();
    let mut after = before.clone();
    for changed in read(vec![object(size - 1, 9_999)])? {
        after.insert(changed);
    }
    Ok([before, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_can_be_repeated() {
        let saved = include_str!("../../examples/fleet.json");
        let saved: Vec<Value> = serde_json::from_str(saved).expect("saved containers");
        let container = saved.iter().find(|saved| saved["Name"] == "/api-1");
        let container = container.expect("one with two ports");
        let mut deciding = Deciding::new(container, 3).expect("a policy");
        for _ in 0..3 {
            deciding.once().expect("a policy that goes on");
        }
    }
}
