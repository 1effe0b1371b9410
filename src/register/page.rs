//! The pages of `--listen`: `/` for people (the registered containers, the others and why, since when, and the last
//! warnings and errors), and `/metrics` for Prometheus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

use super::collisions::Collision;
use super::metrics::Now;
use super::plan::KeyView;
use super::settings::HostSettings;
use super::status::Status;
use crate::checks::{CheckView, Verdict};
use crate::ops;
use crate::ops::condition::State;
use crate::ops::log::{Line, Recent};
use crate::ops::page::time;
use crate::ops::role::View;
use crate::policy::ContainerView;
use crate::wanted::Entry;

/// The facts about a registrar that never change, by name.
type About = Arc<[(&'static str, String)]>;

struct Page<'a> {
    about: &'a [(&'static str, String)],
    /// The store's name.
    store: &'static str,
    script: String,
    conditions: Vec<(&'static str, State)>,
    /// The time until the first lease ends, if there is one.
    lease_left: Option<Duration>,
    /// None if the script's thread has never answered.
    containers: Option<&'a [ContainerView]>,
    /// None if the keeper has never answered.
    keys: Option<&'a [KeyView]>,
    checks: &'a [CheckView],
    collisions: Vec<Collision>,
    /// The names of the drained containers.
    drained: BTreeSet<Arc<str>>,
    /// The last warnings and errors, the newest first.
    lines: &'a [Line],
}

/// An operator's view of the registrar.
pub fn view(status: &Arc<Status>, recent: Recent, about: About) -> View {
    let (for_page, for_metrics) = (Arc::clone(status), Arc::clone(status));
    View {
        name: "register",
        readiness: status.readiness(),
        page: Arc::new(move || {
            let page = page(Arc::clone(&for_page), recent.clone(), Arc::clone(&about));
            Box::pin(page)
        }),
        metrics: Arc::new(move || Box::pin(metrics(Arc::clone(&for_metrics)))),
    }
}

/// The facts about this registrar for the page.
pub fn about(host: &HostSettings) -> About {
    Arc::new([
        ("version", env!("VERSION_AND_COMMIT").to_owned()),
        ("started", format!("{:.0}", Timestamp::now())),
        (host.store.title(), host.store.shown().replace(',', ", ")),
        ("prefix", host.options.prefix.clone()),
    ])
}

async fn metrics(status: Arc<Status>) -> anyhow::Result<String> {
    let (containers, keys, checks) = tokio::join!(
        status.containers.ask(),
        status.keys.ask(),
        status.checks.views.ask()
    );
    let collisions = status.collisions.borrow().len();
    let drained = status.drained.borrow().clone();
    let readiness = status.readiness();
    let ready = readiness.ask().await.is_empty();
    status.metrics.of_role.set(&readiness, &status.loads);
    status.metrics.text(&Now {
        containers: containers.as_ref().map(|containers| containers.as_slice()),
        keys: keys.as_ref().map(|keys| keys.as_slice()),
        checks: checks.as_ref().map(|checks| checks.as_slice()),
        lease_left: status.lease_left(),
        lease_ttl: status.leases.now().shortest_ttl(),
        collisions,
        drained: &drained,
        ready,
        counts: status.counts(),
    })
}

async fn page(status: Arc<Status>, recent: Recent, about: About) -> anyhow::Result<String> {
    let (containers, keys, checks) = tokio::join!(
        status.containers.ask(),
        status.keys.ask(),
        status.checks.views.ask()
    );
    let readiness = status.readiness();
    let conditions = readiness.conditions.into_iter();
    let notices = readiness.notices.into_iter();
    let notices = notices
        .map(|(name, condition)| (name, condition.state()))
        .filter(|(_, state)| matches!(state, State::Bad { .. }));
    Ok(draw(&Page {
        about: &about,
        store: status.store_name(),
        script: status.loads.in_force(),
        conditions: conditions
            .map(|(name, condition)| (name, condition.state()))
            .chain(status.loads.trouble().map(|state| ("reload", state)))
            .chain(notices)
            .collect(),
        lease_left: status.lease_left(),
        containers: containers.as_ref().map(|containers| containers.as_slice()),
        keys: keys.as_ref().map(|keys| keys.as_slice()),
        checks: checks.as_ref().map_or(&[], |checks| checks.as_slice()),
        collisions: status.collisions.borrow().clone(),
        drained: status.drained.borrow().clone(),
        lines: &recent.lines(),
    }))
}

fn draw(page: &Page) -> String {
    let all = page.containers.unwrap_or_default();
    let with_entries = all.iter().filter(|container| !container.entries.is_empty());
    let (drained, others): (Vec<_>, Vec<_>) =
        with_entries.partition(|container| page.drained.contains(&*container.name));
    let (failing, registered): (Vec<_>, Vec<_>) = others.into_iter().partition(|container| {
        let its = CheckView::of(page.checks, &container.name);
        CheckView::fail_all(its, &container.entries)
    });
    let others = all.iter().filter(|container| {
        container.entries.is_empty()
            || !container.left_out.is_empty()
            || container.failure.is_some()
    });
    let mut facts = Vec::new();
    if let Some(left) = page.lease_left {
        let seconds = left.as_secs();
        facts.push((
            "leases",
            format!("expire in {seconds} s unless they are renewed"),
        ));
    }
    facts.push(("policy in force", page.script.clone()));
    facts.extend(page.about.iter().cloned());
    let sections = html! {
        h2 { "Registered" }
        @if page.containers.is_none() || page.keys.is_none() {
            p.dim { "Not known yet." }
        } @else if registered.is_empty() {
            p.dim { "No container is registered." }
        }
        ul {
            @for container in registered {
                li {
                    (keys_of(page, container))
                }
            }
        }
        @if !drained.is_empty() {
            h2 { "Drained" }
            ul {
                @for container in drained { li { (head(container)) } }
            }
        }
        @if !failing.is_empty() {
            h2 { "Failing their checks" }
            ul {
                @for container in failing {
                    li {
                        (head(container))
                        @for check in CheckView::of(page.checks, &container.name) { (shown(check)) }
                    }
                }
            }
        }
        @if !page.collisions.is_empty() {
            h2 { "Claimed by several containers" }
            ul {
                @for collision in &page.collisions { li.bad { (collision) } }
            }
        }
        h2 { "Not registered" }
        ul {
            @for container in others { li { (left_out(container)) } }
        }
    };
    let frame = ops::page::Page {
        title: "docker-register",
        conditions: page.conditions.clone(),
        facts: &facts,
        sections,
        lines: page.lines,
    };
    frame.draw()
}

fn keys_of(page: &Page, container: &ContainerView) -> Markup {
    let (store, keys) = (page.store, page.keys.unwrap_or_default());
    let checks = CheckView::of(page.checks, &container.name);
    let is_held_back = |entry: &Entry| {
        let verdict = CheckView::verdict_on(checks, entry);
        verdict.is_some_and(|verdict| verdict != Verdict::Passes)
    };
    html! {
        (head(container))
        @for check in checks { (shown(check)) }
        @for entry in container.entries.iter() {
            @let found = keys.binary_search_by(|key| key.key.cmp(&entry.key)).ok().map(|place| &keys[place]);
            div {
                code { (entry.key) " " (entry.value) }
                @match found {
                    Some(key) if key.value != entry.value || key.shared != entry.shared =>
                        span.bad { " — " (key.container) " has this key" },
                    Some(key) if key.stands => {}
                    None if is_held_back(entry) => {}
                    Some(key) if key.held => span.bad { " — on the lease of somebody else in " (store) },
                    _ => span.bad { " — missing from " (store) ", or different there" },
                }
            }
        }
    }
}

/// A check with its verdict.
fn shown(check: &CheckView) -> Markup {
    let trouble = check.trouble.as_deref().unwrap_or_default();
    html! {
        div {
            "check " code { (check.check) } " — "
            @match check.verdict {
                Verdict::Passes => span { (check.verdict.name()) },
                Verdict::Unproven => span.dim { (check.verdict.name()) },
                Verdict::Fails => span.bad { (check.verdict.name()) },
            }
            small { " since " (time(check.since)) }
            @if !trouble.is_empty() { ": " (trouble) }
        }
    }
}

fn left_out(container: &ContainerView) -> Markup {
    html! {
        (head(container))
        @if let Some(failure) = &container.failure { pre.bad { (failure) } }
        @for why in &container.left_out { div { (why) } }
        @if container.failure.is_none() && container.left_out.is_empty() {
            div.dim { "the policy gives no reason" }
        }
    }
}

fn head(container: &ContainerView) -> Markup {
    html! {
        strong { (container.name) }
        @if let Some(since) = container.since { small { " since " (time(since)) } }
    }
}
