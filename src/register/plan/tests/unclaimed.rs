//! Keys that no container of this process has claimed.

use super::*;
use crate::container::{Container, Sample};

/// A container as a snapshot has it.
fn running(id: &str, name: &str, host_port: u16) -> Arc<Container> {
    let sample = serde_json::json!({
        "id": format!("{id:0<64}"), "name": name, "ports": [{ "port": 80, "host_port": host_port }],
    });
    Arc::new(Sample::read(sample).unwrap().container().unwrap())
}

#[test]
fn a_key_that_may_belong_to_a_protected_container_is_not_deleted() {
    let mut plan = Plan::new(identity());
    let protected = vec!["failing".to_owned(), ":32768".to_owned()];
    let claims = vec![claim("a", &[owned("/x/failing-a", "1")])];
    plan.want(&wanted_beside(&claims, protected.clone()));
    let held = |key: &str, value: &str| found(key, value, Some(own()));
    plan.learn(vec![
        held("/x/failing-a", "1"),
        held("/x/failing", "1"),
        held("/x/other", "1.2.3.4:32768"),
        held("/x/gone", "1.2.3.4:1"),
        held("/x/longer", "1.2.3.4:327680"),
        held("/x/unfailing", "1"),
    ]);
    let gone = ["/x/gone", "/x/longer", "/x/unfailing"];
    assert_eq!(
        only(&mut plan).steps,
        gone.map(|key| Step::Delete(key.into()))
    );
    carry_out_all(&mut plan);
    // A key that a container has claimed since the start is not a protected one's, whatever marks it has.
    plan.want(&wanted_beside(&[], protected));
    assert_eq!(only(&mut plan).steps, [Step::Delete("/x/failing-a".into())]);
    carry_out_all(&mut plan);
    plan.want(&wanted(&[]));
    assert_eq!(
        only(&mut plan).steps,
        [
            Step::Delete("/x/failing".into()),
            Step::Delete("/x/other".into())
        ]
    );
}

#[test]
fn a_key_that_may_be_another_processs_stays_until_this_process_is_alone() {
    let mut plan = Plan::new(identity());
    let containers = [running("0123456789ab", "web-1", 32768)];
    plan.want(&Arc::new(Wanted {
        running: containers.into_iter().collect(),
        outside: Some(["fedcba987654".to_owned()].into()),
        ..Wanted::default()
    }));
    let held = |key: &str, value: &str| found(key, value, Some(own()));
    plan.learn(vec![
        held("/b/web/1/0123456789ab", "10.0.0.1:9"),
        held("/b/web/1/web-1", "10.0.0.1:9"),
        held("/b/web/1/other", "10.0.0.1:32768"),
        held("/b/web/1/cba987654321", "10.0.0.1:32768"),
        held("/b/web/1/fedcba987654", "10.0.0.1:9"),
        held("/b/web/1/unclear", "10.0.0.1:9"),
    ]);
    let batches = plan.batches(MAX_OPERATIONS, false);
    assert_eq!(
        steps(&batches),
        [
            vec![delete("/b/web/1/cba987654321")],
            vec![delete("/b/web/1/unclear")]
        ],
        "the id of a container that does not run decides, and a key without marks is a leftover"
    );
    carry_out_all(&mut plan);
    plan.set_alone(true);
    assert_eq!(only(&mut plan).steps.len(), 4);
    plan.set_alone(false);
    assert_is_settled(&mut plan);
}

#[test]
fn nothing_is_planned_before_the_first_wanted_state() {
    let mut plan = Plan::new(identity());
    plan.learn(vec![found("/x/a", "1", Some(own()))]);
    plan.set_alone(true);
    assert_is_settled(&mut plan);
    plan.want(&wanted(&[]));
    assert_eq!(only(&mut plan).steps, [delete("/x/a")]);
}

#[test]
fn differences_in_the_store_are_returned() {
    let mut plan = plan(&[web("a")], &[]);
    carry_out_all(&mut plan);
    let surprises = plan.learn(vec![found("/b/web/1/strange", "1", Some(own()))]);
    let keys = |keys: &[Key]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut missing = keys(&surprises.missing);
    missing.sort();
    assert_eq!(missing, ["/b/web/1/a", "/b/web/1/port"]);
    assert_eq!(keys(&surprises.strange), ["/b/web/1/strange"]);
    // A key whose put had no answer is not taken for another process's.
    let batch = plan.batches(MAX_OPERATIONS, false).remove(0);
    plan.doubt(&batch);
    plan.want(&wanted(&[]));
    carry_out_all(&mut plan);
    let surprises = plan.learn(vec![found("/b/web/1/a", "1", Some(own()))]);
    assert_eq!(keys(&surprises.strange), Vec::<String>::new());
}

#[test]
fn a_key_that_may_be_the_hosts_stays_while_the_hosts_entries_are_unknown() {
    let mut plan = Plan::new(identity());
    let containers = [running("0123456789ab", "web-1", 32768)];
    let wanted = |host_is_unknown| {
        Arc::new(Wanted {
            running: containers.iter().cloned().collect(),
            outside: Some(Arc::default()),
            host_is_unknown,
            ..Wanted::default()
        })
    };
    plan.want(&wanted(true));
    plan.set_alone(true);
    let held = |key: &str, value: &str| found(key, value, Some(own()));
    plan.learn(vec![
        held("/hosts/alpha", "web-1"),
        held("/hosts/beta", "x"),
        held("/b/web/1/cba987654321", "10.0.0.1:32768"),
    ]);
    assert_eq!(only(&mut plan).steps, [delete("/b/web/1/cba987654321")]);
    carry_out_all(&mut plan);
    assert_is_settled(&mut plan);
    plan.want(&wanted(false));
    assert_eq!(
        only(&mut plan).steps,
        [delete("/hosts/alpha"), delete("/hosts/beta")]
    );
}

#[test]
fn the_hosts_claim_is_no_containers() {
    let host = Claim {
        who: ContainerName::host(),
        ..claim("", &[owned("/hosts/alpha", "a"), owned("/x/a", "host")])
    };
    let mut plan = plan(&[host, claim("a", &[owned("/x/a", "1")])], &[]);
    carry_out_all(&mut plan);
    assert_eq!(plan.container_count(), 1);
    let views = plan.views();
    let shown = views.iter().map(|view| (&*view.container, &*view.value));
    // Before all containers, as the eldest.
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [("(host)", "a"), ("(host)", "host")]
    );
}
