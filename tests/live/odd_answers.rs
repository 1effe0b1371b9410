//! Answers of Docker that no version of it should give, and that Podman and others do. A fake Docker gives them, because
//! a real one cannot be made to.

use crate::common;

use crate::faults_docker::simulated_keys;
use common::{FakeDocker, RegistrarBuilder, Reply, SOON, TestBed, in_step, inspection, summary};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, mpsc};

/// A Docker with these containers and list entries. It sends the events of `sender`.
fn docker(containers: &[Value], listed: Vec<Value>) -> (FakeDocker, mpsc::Sender<Value>) {
    let containers = containers.to_vec();
    let (sender, events) = mpsc::channel();
    let events = Mutex::new(Some(events));
    let fake = FakeDocker::start(move |_, path| {
        let of =
            |it: &&Value| path == format!("/containers/{}/json", it["Id"].as_str().unwrap_or("-"));
        match path {
            "/containers/json" => Some(Reply::Json(200, listed.clone().into())),
            "/events" => events.lock().ok()?.take().map(Reply::Stream),
            _ => containers
                .iter()
                .find(of)
                .map(|it| Reply::Json(200, it.clone())),
        }
    });
    (fake, sender)
}

fn running(bed: &TestBed, fake: &FakeDocker) -> RegistrarBuilder {
    bed.registrar_of(fake).flag("--resync", "3600")
}

#[test]
fn an_odd_entry_of_a_list_costs_no_other_container() {
    let bed = TestBed::new();
    let [good, odd] =
        [(1, "good"), (2, "odd")].map(|(number, name)| inspection(number, name, 8000));
    let entry = json!({
        "Id": odd["Id"], "Names": "odd", "State": 7, "Status": null, "Ports": [{ "PrivatePort": -1 }], "HostConfig": [],
    });
    let listed = vec![
        json!({ "Id": 5 }),
        json!(null),
        json!("text"),
        entry,
        summary(&good),
    ];
    let (fake, _events) = docker(&[good, odd], listed);
    let _registrar = in_step(&running(&bed, &fake));
    let wanted = common::joined([
        &simulated_keys("good", 1, 8000),
        &simulated_keys("odd", 2, 8000),
    ]);
    bed.wait_for_keys(&wanted, SOON);
}

#[test]
fn unused_fields_may_be_of_any_type_and_unknown_words_mean_neither_running_nor_healthy() {
    let bed = TestBed::new();
    let mut all: Vec<Value> = (1..=4)
        .map(|number| inspection(number, &format!("c{number}"), 8000))
        .collect();
    let listed = all.iter().map(summary).collect();
    all[0]["Config"]["Entrypoint"] = json!("");
    all[0]["Config"]["StopSignal"] = json!(15);
    all[0]["HostConfig"]["RestartPolicy"] = json!(["always"]);
    all[0]["State"]["Pid"] = json!("many");
    all[1]["State"]["Status"] = json!("stopped");
    all[2]["State"]["Health"] = json!({ "Status": "odd", "Log": "none" });
    all[3]["NetworkSettings"]["Ports"] = json!("80/tcp");
    let (fake, _events) = docker(&all, listed);
    let registrar = running(&bed, &fake).start();
    bed.wait_for_keys(&simulated_keys("c1", 1, 8000), SOON);
    let unreadable = "cannot inspect container `c4`, so its keys stay as they are: \
        `NetworkSettings.Ports`: invalid type: string \"80/tcp\", expected an object";
    registrar.wait_for_log(unreadable, SOON);

    let output = bed.registrar_of(&fake).arg("--explain").run("keys");
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    for line in [
        "`c2`: left out: it is stopped",
        "`c3`: left out: its health is odd",
        "cannot inspect container `c4`: `NetworkSettings.Ports`: invalid type",
    ] {
        assert!(output.stderr.contains(line), "{line}: {}", output.stderr);
    }
}

/// An event that cannot be read may be about any container, so all are listed again.
#[test]
fn an_odd_event_leads_to_a_list() {
    let bed = TestBed::new();
    let web = inspection(1, "web", 8000);
    let listed = Arc::new(Mutex::new(Vec::<Value>::new()));
    let (sender, events) = mpsc::channel();
    let (shown, events) = (Arc::clone(&listed), Mutex::new(Some(events)));
    let path_of_web = format!("/containers/{}/json", web["Id"].as_str().expect("an id"));
    let inspected = web.clone();
    let fake = FakeDocker::start(move |_, path| match path {
        "/containers/json" => Some(Reply::Json(200, shown.lock().ok()?.clone().into())),
        "/events" => events.lock().ok()?.take().map(Reply::Stream),
        path if path == path_of_web => Some(Reply::Json(200, inspected.clone())),
        _ => None,
    });
    let _registrar = in_step(&running(&bed, &fake));
    listed.lock().expect("a list").push(summary(&web));
    sender.send(json!("what is this")).expect("a stream");
    bed.wait_for_keys(&simulated_keys("web", 1, 8000), SOON);
}
