//! The pages of `--listen`: `/` for people (the registered containers, the others and why, since when, and the last
//! warnings and errors), and `/metrics` for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::metrics::Now;
use super::plan::KeyView;
use super::settings::HostSettings;
use super::status::Status;
use crate::ops::condition::State;
use crate::ops::listen::{Kind, Route};
use crate::ops::log::{Line, Recent};
use crate::policy::ContainerView;

/// The facts about a registrar that never change, by name.
type About = Arc<[(&'static str, String)]>;

struct Page<'a> {
    about: &'a [(&'static str, String)],
    script: &'a str,
    conditions: Vec<(&'static str, State)>,
    /// The time until the first lease ends, if there is one.
    lease_left: Option<Duration>,
    /// None if the script's thread has never answered.
    containers: Option<&'a [ContainerView]>,
    /// None if the keeper has never answered.
    keys: Option<&'a [KeyView]>,
    /// The last warnings and errors, the newest first.
    lines: &'a [Line],
}

pub fn routes(status: &Arc<Status>, recent: Recent, about: About) -> Vec<Route> {
    let (for_page, for_metrics) = (Arc::clone(status), Arc::clone(status));
    vec![
        Route {
            path: "/",
            kind: Kind::Page,
            text: Arc::new(move || {
                let page = page(Arc::clone(&for_page), recent.clone(), Arc::clone(&about));
                Box::pin(page)
            }),
        },
        Route {
            path: "/metrics",
            kind: Kind::Metrics,
            text: Arc::new(move || Box::pin(metrics(Arc::clone(&for_metrics)))),
        },
    ]
}

/// The facts about this registrar for the page.
pub fn about(host: &HostSettings) -> About {
    Arc::new([
        ("version", env!("VERSION_AND_COMMIT").to_owned()),
        ("started", format!("{:.0}", Timestamp::now())),
        ("etcd endpoints", host.etcd.endpoints.join(", ")),
        ("prefix", host.options.prefix.clone()),
    ])
}

async fn metrics(status: Arc<Status>) -> anyhow::Result<String> {
    let (containers, keys) = tokio::join!(status.containers.ask(), status.keys.ask());
    status.metrics.text(&Now {
        containers: containers.as_ref().map(|containers| containers.as_slice()),
        keys: keys.as_ref().map(|keys| keys.as_slice()),
        lease_left: status.lease_left(),
        ready: status.readiness().ask().await.is_empty(),
        counts: status.counts(),
    })
}

async fn page(status: Arc<Status>, recent: Recent, about: About) -> anyhow::Result<String> {
    let (containers, keys) = tokio::join!(status.containers.ask(), status.keys.ask());
    let conditions = status.readiness().conditions.into_iter();
    Ok(draw(&Page {
        about: &about,
        script: &status.script.borrow().clone(),
        conditions: conditions
            .map(|(name, condition)| (name, condition.state()))
            .collect(),
        lease_left: status.lease_left(),
        containers: containers.as_ref().map(|containers| containers.as_slice()),
        keys: keys.as_ref().map(|keys| keys.as_slice()),
        lines: &recent.lines(),
    }))
}

const STYLE: &str = "
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --dim: #6e7781 }
body { font: 16px/1.4 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 0 1rem 2rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dd { margin: 0; overflow-wrap: anywhere }
ul { list-style: none; padding: 0 } li { padding: .5rem 0; border-top: 1px solid #8884; overflow-wrap: anywhere }
code, pre { font: .9em ui-monospace, monospace; white-space: pre-wrap; margin: 0 }
.good { color: var(--good) } .bad { color: var(--bad) } .dim, small { color: var(--dim) }
";

fn draw(page: &Page) -> String {
    let all = page.containers.unwrap_or_default();
    let registered = all.iter().filter(|container| !container.entries.is_empty());
    let others = all.iter().filter(|container| {
        container.entries.is_empty()
            || !container.left_out.is_empty()
            || container.failure.is_some()
    });
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "docker-register" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "docker-register" }
                dl {
                    @for (name, state) in &page.conditions {
                        dt { (name) }
                        dd { (condition(state)) }
                    }
                    @if let Some(left) = page.lease_left {
                        dt { "leases" }
                        dd { "expire in " (left.as_secs()) " s unless they are renewed" }
                    }
                    dt { "policy in force" }
                    dd { (page.script) }
                    @for (name, value) in page.about {
                        dt { (name) }
                        dd { (value) }
                    }
                }
                h2 { "Registered" }
                @if page.containers.is_none() || page.keys.is_none() {
                    p.dim { "Not known yet." }
                } @else if all.iter().all(|container| container.entries.is_empty()) {
                    p.dim { "No container is registered." }
                }
                ul {
                    @for container in registered {
                        li { (keys_of(container, page.keys.unwrap_or_default())) }
                    }
                }
                h2 { "Not registered" }
                ul {
                    @for container in others { li { (left_out(container)) } }
                }
                h2 { "Last warnings and errors" }
                @if page.lines.is_empty() { p.dim { "None." } }
                ul {
                    @for line in page.lines {
                        li {
                            small { (time(line.at)) " " }
                            @if line.is_error { span.bad { "error" } } @else { "warning" }
                            pre { (line.text) }
                        }
                    }
                }
            }
        }
    }
    .into_string()
}

fn condition(state: &State) -> Markup {
    html! {
        @match state {
            State::Unknown => span.dim { "no answer yet" },
            State::Good { since } => { span.good { "good" } small { " since " (time(*since)) } }
            State::Bad { since, why } => { span.bad { (why) } small { " since " (time(*since)) } }
        }
    }
}

fn keys_of(container: &ContainerView, keys: &[KeyView]) -> Markup {
    html! {
        (head(container))
        @for entry in container.entries.iter() {
            @let found = keys.binary_search_by(|key| key.key.cmp(&entry.key)).ok().map(|place| &keys[place]);
            div {
                code { (entry.key) " " (entry.value) }
                @match found {
                    Some(key) if key.value != entry.value || key.shared != entry.shared =>
                        span.bad { " — " (key.container) " has this key" },
                    Some(key) if key.stands => {}
                    _ => span.bad { " — missing from etcd, or different there" },
                }
            }
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

fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}
