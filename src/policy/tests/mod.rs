//! A policy and its modules, as their author meets them.

mod addresses;
mod cases;
mod check_labels;
mod checks;
mod container;
mod decisions;
mod entries;
mod failures;
mod fuzz;
mod host;
mod json;
mod layouts;
mod loading;
mod routing;
mod sync;
mod types;

use std::fs;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::world::Source;
use super::*;
use crate::container::{Saved, read_saved};
use crate::docker::Snapshot;
use crate::wanted::Wanted;

/// A container that runs and publishes one port.
fn web(name: &str) -> Json {
    json!({
        "Id": format!("{name:0<64}"),
        "Name": format!("/{name}"),
        "Created": "2026-01-01T00:00:00Z",
        "Image": "sha256:00",
        "Config": { "Image": "team/web:1", "ExposedPorts": { "80/tcp": {} }, "Env": ["COLOR=blue"],
                    "Labels": { "team": "red" }, "Hostname": "inside" },
        "State": { "Status": "running", "Running": true },
        "NetworkSettings": {
            "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }] },
            "Networks": { "bridge": { "IPAddress": "172.17.0.2", "Aliases": ["www"] } } },
    })
}

fn snapshot(containers: &[Json]) -> Arc<Snapshot> {
    let containers = read_saved(&json!(containers).to_string()).and_then(Saved::whole);
    let containers = containers.expect("containers");
    Arc::new(Snapshot::of(containers.into_iter().collect()))
}

/// A site's directory with a script, and what its state works with.
struct Site {
    directory: tempfile::TempDir,
    world: World,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
}

impl Site {
    fn new(containers: &[Json]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = Options {
            prefix: "/backends".to_owned(),
            ttl: 60,
            host_ip: "10.0.0.1".to_owned(),
            instance: String::new(),
            set: vec![("color".to_owned(), "green".to_owned())],
        };
        let world = World::once(options, Snapshot::clone(&snapshot(containers)))
            .script(Some(directory.path().join("site.lua")));
        Self {
            directory,
            wanted: world.wanted(),
            world,
            snapshots: watch::Sender::new(None),
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.directory.path().join(file), text).expect("the site's directory");
    }

    fn load(&self, script: &str) -> Result<Script, Failure> {
        self.write("site.lua", script);
        self.world.load()
    }

    async fn run(&self, script: &str) -> Result<(), Failure> {
        self.load(script)?.run().await
    }

    /// A failure as it is shown, without the directory.
    fn shown(&self, failure: &Failure) -> String {
        let directory = format!("{}/", self.directory.path().display());
        failure.to_string().replace(&directory, "")
    }

    fn why_not_loaded(&self, script: &str) -> String {
        match self.load(script) {
            Ok(_) => panic!("it loads: {script}"),
            Err(failure) => self.shown(&failure),
        }
    }

    /// The keys and values that are wanted, sorted.
    fn keys(&self) -> Vec<String> {
        let wanted = self.wanted.borrow().clone().expect("a call of etcd.sync");
        let entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
        let mut keys: Vec<String> = entries
            .map(|entry| format!("{} {}", entry.key, entry.value))
            .collect();
        keys.sort();
        keys
    }

    /// Why the policy failed for the first container that it failed for.
    fn failure(&self) -> String {
        let verdicts = self.world.verdicts.borrow();
        let failure = verdicts
            .all()
            .into_iter()
            .find_map(|verdict| verdict.failure.clone());
        self.shown(&failure.expect("a failure"))
    }
}

/// Maps one container with a script's `entries` of this body, and returns why that fails.
async fn failure_of(body: &str) -> String {
    let site = Site::new(&[web("a")]);
    let script = format!(
        "local register = require 'register'\nfunction register.entries(container)\n{body}\nend\nreturn register"
    );
    site.run(&script).await.expect("the run");
    site.failure()
}

/// Runs a check that is written in Lua in a policy function.
async fn holds(check: &str) {
    let site = Site::new(&[web("a")]);
    let script = format!(
        "local register = require 'register'\nfunction register.entries(container)\n{check}\nreturn {{}}\nend\n\
         return register"
    );
    site.run(&script).await.expect("the run");
    let verdicts = site.world.verdicts.borrow();
    let failure = verdicts.all()[0]
        .failure
        .as_ref()
        .map(|failure| site.shown(failure));
    assert_eq!(failure, None, "{check}");
}

/// Why a test file's only case, which has this body, fails.
fn failure_of_case(body: &str) -> Option<String> {
    let site = Site::new(&[]);
    let script =
        format!("local test = require 'test'\ntest.case('a case', function()\n{body}\nend)");
    site.write("site_test.lua", &script);
    let file = site.directory.path().join("site_test.lua");
    let tests = test_file(&file, site.world.options.clone());
    assert_eq!(tests.passed + tests.failed.len(), 1, "{body}");
    let failure = tests.failed.first();
    failure.map(|(_, failure)| site.shown(failure))
}
