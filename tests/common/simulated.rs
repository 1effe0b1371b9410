//! A simulated Docker daemon whose containers a test starts and stops, for numbers and rates that a real one cannot
//! reach.

use super::fake_docker::{FakeDocker, Reply};
use super::{UNPOISONED, inspection, summary};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

/// The daemon. It answers only the registrar's requests: lists, inspections, and events.
pub struct Simulated {
    docker: FakeDocker,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The running containers, by id.
    running: BTreeMap<String, Value>,
    /// The subscribers of the events.
    followers: Vec<Sender<Value>>,
    /// The number of subscriptions since the start.
    subscriptions: usize,
}

impl Simulated {
    /// A daemon without containers.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        let docker = FakeDocker::start(move |_, path| {
            let mut state = seen.lock().expect(UNPOISONED);
            if path == "/events" {
                let (sender, events) = channel();
                state.followers.push(sender);
                state.subscriptions += 1;
                return Some(Reply::Stream(events));
            }
            if path == "/containers/json" {
                let listed = state.running.values().map(summary);
                return Some(Reply::Json(200, listed.collect()));
            }
            let id = path.strip_prefix("/containers/")?.strip_suffix("/json")?;
            Some(match state.running.get(id) {
                Some(container) => Reply::Json(200, container.clone()),
                None => Reply::error(404, "No such container"),
            })
        });
        Self { docker, state }
    }

    /// The address, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        self.docker.host()
    }

    /// The number of subscriptions to its events since the start.
    pub fn subscriptions(&self) -> usize {
        self.state().subscriptions
    }

    pub fn running(&self) -> usize {
        self.state().running.len()
    }

    /// Starts the container with this number, which has two published ports. Does nothing if it runs.
    pub fn run(&self, number: u16, service: &str) {
        self.run_as(&inspection(number, service, 10_000 + number % 25_000 * 2));
    }

    /// Starts the container of an [`inspection`]. Does nothing if it runs.
    pub fn run_as(&self, inspected: &Value) {
        let container = whole(inspected);
        let id = container["Id"].as_str().expect("an id").to_owned();
        let mut state = self.state();
        if state.running.insert(id.clone(), container).is_none() {
            state.tell("start", &id);
        }
    }

    /// Stops a container. Returns whether it was running.
    pub fn stop(&self, number: u16) -> bool {
        let id = format!("{number:0>12}{:0>52}", "");
        let mut state = self.state();
        let ran = state.running.contains_key(&id);
        if ran {
            state.tell("kill", &id);
            state.running.remove(&id);
            state.tell("die", &id);
        }
        ran
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

impl State {
    fn tell(&mut self, action: &str, id: &str) {
        let event = json!({
            "Type": "container", "Action": action,
            "Actor": { "ID": id, "Attributes": { "signal": "15" } },
        });
        self.followers
            .retain(|follower| follower.send(event.clone()).is_ok());
    }
}

/// An inspect object of realistic size: the given fields, and all others from a saved one.
fn whole(given: &Value) -> Value {
    static SAVED: LazyLock<Value> = LazyLock::new(|| {
        let saved = include_str!("../../examples/fleet.json");
        let mut saved: Vec<Value> = serde_json::from_str(saved).expect("saved containers");
        saved.swap_remove(0)
    });
    let mut whole = SAVED.clone();
    for (part, given) in given.as_object().expect("an object") {
        match (&mut whole[part], given) {
            (Value::Object(whole), Value::Object(given)) => whole.extend(given.clone()),
            (whole, given) => *whole = given.clone(),
        }
    }
    whole
}
