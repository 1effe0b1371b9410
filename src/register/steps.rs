//! The steps from what Docker says to what etcd is told, for `benches/micro.rs` to measure one without the others.
//!
//! Each of those that follow a change has two states of one host, which differ in its youngest container, and goes from
//! one to the other and back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::base::by_age::ByAge;
use crate::container::{self, Container};
use crate::docker::Snapshot;
use crate::ops::condition::Condition;
use crate::ops::counter::Counter;
use crate::policy::{Options, Report, Script, Source, Verdicts, World};
use crate::register::plan::Plan;
use crate::register::run as daemon;
use crate::store::etcd::Access;
use crate::store::{Identity, Outcome};
use crate::wanted::Wanted;

/// The most operations of a transaction, as etcd has it.
const MAX_OPERATIONS: usize = 128;

/// Container → Lua → entries, with the bundled policy.
pub struct Deciding {
    states: [Arc<Snapshot>; 2],
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    script: LocalSet,
    runtime: Runtime,
}

impl Deciding {
    /// On a host with so many containers, all of which are like the one that was inspected.
    pub fn new(inspected: &Value, containers: usize) -> anyhow::Result<Self> {
        let states =
            host(inspected, containers)?.map(|containers| Arc::new(Snapshot::of(containers)));
        let (snapshots, source) = watch::channel(None);
        let (sender, wanted) = watch::channel(None);
        let options = Options {
            prefix: "/backends".to_owned(),
            ttl: 60,
            host_ip: "192.0.2.1".to_owned(),
            instance: String::new(),
            set: Vec::new(),
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let script = LocalSet::new();
        // The bundled policy reads nothing of etcd.
        let nowhere = Access {
            endpoints: Vec::new(),
            tls: None,
            user: None,
        };
        let world = World {
            path: None,
            source: Source::Live(source),
            reader: daemon::reader(nowhere, options.ttl),
            options,
            wanted: sender,
            report: Report::Nothing,
            verdicts: Rc::new(RefCell::new(Verdicts::default())),
            condition: Condition::default(),
            errors: Counter::default(),
        };
        let loaded = Script::load(world).map_err(|failure| anyhow!("{failure}"))?;
        script.spawn_local(async move { loaded.run().await });
        let mut deciding = Self {
            states,
            snapshots,
            wanted,
            script,
            runtime,
        };
        deciding.once()?;
        Ok(deciding)
    }

    /// Has the policy follow one change.
    pub fn once(&mut self) -> anyhow::Result<()> {
        self.states.swap(0, 1);
        self.snapshots
            .send_replace(Some(Arc::clone(&self.states[0])));
        let decided = self.script.run_until(self.wanted.changed());
        self.runtime.block_on(decided).context("the policy ended")
    }
}

/// Wanted state → transactions.
pub struct Planning {
    states: [Arc<Wanted>; 2],
    plan: Plan,
}

impl Planning {
    /// On a host with so many containers, all of which are like the one that was inspected.
    pub fn new(inspected: &Value, containers: usize) -> anyhow::Result<Self> {
        let mut deciding = Deciding::new(inspected, containers)?;
        let mut state = || -> anyhow::Result<Arc<Wanted>> {
            deciding.once()?;
            let wanted = deciding.wanted.borrow().clone();
            wanted.context("the policy asked for nothing")
        };
        let mut planning = Self {
            states: [state()?, state()?],
            plan: Plan::new(Identity::new("", "")),
        };
        planning.once();
        Ok(planning)
    }

    /// Plans for one change, and takes over that it was carried out. Returns how many transactions it takes.
    pub fn once(&mut self) -> usize {
        self.states.swap(0, 1);
        self.plan.want(&self.states[0]);
        let batches = self.plan.batches(MAX_OPERATIONS, false);
        for batch in &batches {
            self.plan.done(batch, &Outcome::Done { swept: Vec::new() });
        }
        batches.len()
    }
}

/// The two states of a host, of which the second comes of the first.
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
    let read = |objects: Vec<Value>| container::read_saved(&Value::from(objects).to_string());
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
    fn each_step_can_be_taken_again_and_again() {
        let saved = include_str!("../../examples/fleet.json");
        let saved: Vec<Value> = serde_json::from_str(saved).expect("saved containers");
        let container = saved.iter().find(|saved| saved["Name"] == "/api-1");
        let container = container.expect("one with two ports");
        let mut deciding = Deciding::new(container, 3).expect("a policy");
        let mut planning = Planning::new(container, 3).expect("a policy");
        for _ in 0..3 {
            deciding.once().expect("a policy that goes on");
            assert_eq!(planning.once(), 1);
        }
    }
}
