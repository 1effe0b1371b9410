//! Which entries are let through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{check, claim};
use crate::checks::gate::Gate;
use crate::checks::{Judged, Order, TargetId};
use crate::container::{Container, Saved, read_saved};
use crate::wanted::{Check, Claim, Entry, Wanted};

/// A gate with the checks that it has begun and not ended, by container.
#[derive(Default)]
struct Host {
    gate: Gate,
    now: Timestamp,
    targets: BTreeMap<TargetId, (String, Arc<Check>)>,
    waits: Vec<Duration>,
}

impl Host {
    fn want(&mut self, claims: &[Arc<Claim>]) {
        self.want_with(Wanted {
            claims: claims.iter().cloned().collect(),
            ..Wanted::default()
        });
    }

    fn want_with(&mut self, wanted: Wanted) {
        for order in self.gate.want(&Arc::new(wanted), self.now) {
            match order {
                Order::Begin { id, target, .. } => {
                    self.waits.push(target.not_before);
                    let name = target.who.name.to_string();
                    let before = self.targets.insert(id, (name, target.check));
                    assert!(before.is_none());
                }
                Order::End(id) => assert!(self.targets.remove(&id).is_some()),
            }
        }
    }

    /// The containers of the checks that are made.
    fn checked(&self) -> Vec<&str> {
        self.targets.values().map(|(name, _)| &**name).collect()
    }

    fn judge(&mut self, check: &Arc<Check>, passes: bool) {
        let its = self.targets.iter().filter(|(_, (_, its))| its == check);
        let ids: Vec<TargetId> = its.map(|(id, _)| *id).collect();
        assert!(!ids.is_empty());
        for id in ids {
            self.gate.judge(Judged { id, passes });
        }
    }

    /// The numbers of the entries that are let through, and after a `?` those without a verdict.
    fn left(&self) -> Vec<String> {
        let numbers = |entries: &[Entry]| -> String {
            let last = |entry: &Entry| entry.key.rsplit('/').next().map(str::to_owned);
            entries.iter().filter_map(last).collect()
        };
        let left = self.gate.left();
        let shown = |claim: &Arc<Claim>| {
            let unproven = numbers(&claim.unproven);
            let mark = if unproven.is_empty() { "" } else { "?" };
            format!(
                "{}:{}{mark}{unproven}",
                claim.who.name,
                numbers(&claim.entries)
            )
        };
        left.claims.iter().map(shown).collect()
    }
}

#[test]
fn entries_without_a_check_are_let_through_as_they_are() {
    let mut host = Host::default();
    let plain = claim("web", &[None, None]);
    host.want(&[Arc::clone(&plain)]);
    assert_eq!(host.left(), ["web:01"]);
    assert!(host.targets.is_empty());
    let left = host.gate.left();
    assert!(left.claims.iter().all(|claim| Arc::ptr_eq(claim, &plain)));
}

#[test]
fn an_entry_is_let_through_while_its_check_passes() {
    let mut host = Host::default();
    let (a, b) = (Arc::new(check("a:1")), Arc::new(check("b:1")));
    // Two entries with equal checks have one probe.
    let equal = Arc::new(check("a:1"));
    let web = claim("web", &[Some(&a), None, Some(&b), Some(&equal)]);
    host.want(&[Arc::clone(&web)]);
    assert_eq!(host.checked(), ["web", "web"]);
    assert_eq!(host.left(), ["web:1?023"]);
    host.judge(&a, true);
    assert_eq!(host.left(), ["web:013?2"]);
    host.judge(&b, false);
    assert_eq!(host.left(), ["web:013"]);
    host.judge(&b, true);
    // The same claim, so that the plan sees nothing new in it.
    let left = host.gate.left();
    assert!(left.claims.iter().all(|claim| Arc::ptr_eq(claim, &web)));
    host.judge(&a, false);
    assert_eq!(host.left(), ["web:12"]);
    host.want(&[]);
    assert!(host.targets.is_empty());
    assert!(host.left().is_empty());
}

#[test]
fn a_changed_check_has_no_verdict_and_an_unchanged_one_keeps_its_own() {
    let mut host = Host::default();
    let (a, b, c) = (
        Arc::new(check("a:1")),
        Arc::new(check("b:1")),
        Arc::new(check("c:1")),
    );
    host.want(&[claim("web", &[Some(&a), Some(&b)])]);
    host.judge(&a, true);
    host.judge(&b, true);
    host.want(&[claim("web", &[Some(&a), Some(&c)])]);
    assert_eq!(host.left(), ["web:0?1"]);
    assert_eq!(host.targets.len(), 2);
    host.judge(&c, true);
    assert_eq!(host.left(), ["web:01"]);
    // The check is dropped.
    host.want(&[claim("web", &[None, None])]);
    assert!(host.targets.is_empty());
    assert_eq!(host.left(), ["web:01"]);
}

#[test]
fn each_container_has_its_own_verdict() {
    let mut host = Host::default();
    let a = Arc::new(check("a:1"));
    host.want(&[claim("old", &[Some(&a)])]);
    host.judge(&a, true);
    // A container at the address of another one has proved nothing.
    host.want(&[claim("new", &[Some(&a)]), claim("old", &[Some(&a)])]);
    assert_eq!(host.left(), ["new:?0", "old:0"]);
    assert_eq!(host.checked(), ["old", "new"]);
}

#[test]
fn a_late_verdict_on_an_ended_check_changes_nothing() {
    let mut host = Host::default();
    let a = Arc::new(check("a:1"));
    host.want(&[claim("web", &[Some(&a)])]);
    let id = *host.targets.keys().next().expect("a target");
    host.want(&[]);
    assert!(!host.gate.judge(Judged { id, passes: true }));
    assert!(host.left().is_empty());
}

/// A container that was started at this time.
fn running(name: &str, started: &str) -> Arc<Container> {
    let saved = json!([{
        "Id": format!("{name:0<64}"), "Name": format!("/{name}"), "Created": "2026-01-01T00:00:00Z",
        "State": { "Status": "running", "Running": true }, "Config": { "Image": "web" },
        "HostConfig": { "NetworkMode": "default" }, "NetworkSettings": {},
    }]);
    let read = read_saved(&saved.to_string()).and_then(Saved::whole);
    let read = read.expect("containers").remove(0);
    Arc::new(Container {
        id: name.into(),
        age: "1".into(),
        started: started.to_owned(),
        ..Container::clone(&read)
    })
}

#[test]
fn a_container_that_is_started_again_has_to_prove_itself() {
    let mut host = Host::default();
    let a = Arc::new(check("a:1"));
    let web = claim("web", &[Some(&a)]);
    let wanted = |started: &str| Wanted {
        claims: [Arc::clone(&web)].into_iter().collect(),
        running: [running("web", started)].into_iter().collect(),
        ..Wanted::default()
    };
    host.want_with(wanted("2026-01-01T00:00:00Z"));
    host.judge(&a, true);
    host.want_with(wanted("2026-01-01T00:00:00Z"));
    assert_eq!(host.left(), ["web:0"]);
    host.want_with(wanted("2026-01-01T00:00:07Z"));
    assert_eq!(host.left(), ["web:?0"]);
    assert_eq!(host.targets.len(), 1);
}

#[test]
fn a_container_must_have_run_for_its_uptime() {
    let uptime = Arc::new(Check {
        probe: None,
        uptime: Duration::from_secs(5),
        ..check("")
    });
    for (started, waits) in [
        ("2026-01-01T00:00:00Z", 5),
        ("2025-12-31T23:59:58Z", 3),
        ("2025-12-31T23:00:00Z", 0),
        // Docker's clock is ahead, or it does not tell.
        ("2026-01-01T01:00:00Z", 5),
        ("yesterday", 5),
    ] {
        let mut host = Host {
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            ..Host::default()
        };
        host.want_with(Wanted {
            claims: [claim("web", &[Some(&uptime)])].into_iter().collect(),
            running: [running("web", started)].into_iter().collect(),
            ..Wanted::default()
        });
        assert_eq!(host.waits, [Duration::from_secs(waits)], "{started}");
        // Until then its keys are not left to an earlier process's decision.
        let before = if waits == 0 { "web:?0" } else { "web:" };
        assert_eq!(host.left(), [before], "{started}");
        host.judge(&uptime, true);
        assert_eq!(host.left(), ["web:0"], "{started}");
    }
}
