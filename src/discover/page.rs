//! The pages of `--listen`: `/` for people (the services with their servers as the proxy sees them, and everything that
//! is left out and why), and `/metrics` for Prometheus.

use std::sync::Arc;

use jiff::Timestamp;
use maud::{Markup, html};

use super::haproxy::Running;
use super::metrics::Now;
use super::settings::Settings;
use super::status::{Shown, Status};
use crate::ops::log::Recent;
use crate::ops::page::Page;
use crate::ops::role::View;
use crate::routes;

/// The facts about a process that never change, by name.
type About = Arc<[(&'static str, String)]>;

/// An operator's view of the role.
pub fn view(status: &Arc<Status>, recent: Recent, about: About) -> View {
    let (for_page, for_metrics) = (Arc::clone(status), Arc::clone(status));
    View {
        name: "discover",
        readiness: status.readiness(),
        page: Arc::new(move || {
            let page = draw(&for_page, &recent, &about);
            Box::pin(async { Ok(page) })
        }),
        metrics: Arc::new(move || Box::pin(metrics(Arc::clone(&for_metrics)))),
    }
}

/// The facts about this process for the page.
pub fn about(settings: &Settings) -> About {
    let routing = &settings.routing;
    Arc::new([
        ("version", env!("VERSION_AND_COMMIT").to_owned()),
        ("started", format!("{:.0}", Timestamp::now())),
        (
            routing.store.title(),
            routing.store.shown().replace(',', ", "),
        ),
        ("prefix", routing.options.prefix.clone()),
        ("files", routing.directory.display().to_string()),
    ])
}

async fn metrics(status: Arc<Status>) -> anyhow::Result<String> {
    let readiness = status.readiness();
    let ready = readiness.ask().await.is_empty();
    status.metrics.of_role.set(&readiness, &status.loads);
    status.metrics.text(&Now {
        shown: status.shown.borrow().clone(),
        age: status.age(),
        ready,
        policy_errors: status.policy_errors.get(),
    })
}

fn draw(status: &Status, recent: &Recent, about: &[(&'static str, String)]) -> String {
    let shown = status.shown.borrow().clone();
    let mut facts = Vec::new();
    if let Some(age) = status.age() {
        facts.push(("services", format!("as of {} s ago", age.as_secs())));
    }
    if let Some(old_workers) = shown.old_workers {
        facts.push(("old workers", old_workers.to_string()));
    }
    facts.push(("policy in force", status.loads.in_force()));
    facts.extend(about.iter().cloned());
    let conditions = status.readiness().conditions.into_iter();
    let page = Page {
        title: "docker-register discover",
        conditions: conditions
            .map(|(name, condition)| (name, condition.state()))
            .chain(status.loads.trouble().map(|state| ("reload", state)))
            .collect(),
        facts: &facts,
        sections: sections(&shown),
        lines: &recent.lines(),
    };
    page.draw()
}

fn sections(shown: &Shown) -> Markup {
    let running = shown.running.as_deref();
    html! {
        h2 { "Services" }
        @match &shown.routes {
            None => p.dim { "Not known yet." },
            Some(routes) => {
                @if routes.services.is_empty() { p.dim { "No service is registered." } }
                ul { @for route in &routes.services { li { (service(route, running)) } } }
                h2 { "Left out" }
                @let left_out = || routes.left_out.iter().chain(&shown.refused);
                @if left_out().next().is_none() { p.dim { "Nothing." } }
                ul { @for left_out in left_out() { li { (left_out) } } }
            }
        }
    }
}

fn service(route: &routes::Route, running: Option<&Running>) -> Markup {
    let id = &route.service.id;
    let listener = &route.listener;
    html! {
        strong { (id.name) "/" (id.index) }
        @for address in listener.listen.iter().chain(&listener.shared) { " " code { (address) } }
        @if let Some(failure) = &route.failure { pre.bad { (failure) } }
        @if listener.servers.is_empty() { div.bad { "it has no server" } }
        @for server in &listener.servers {
            @let found = running.map(|running| {
                let mut backends = running.backends.values();
                backends.find_map(|servers| servers.get(&server.name))
            });
            div {
                code { (server.name) } " "
                @match found {
                    // The proxy tells nothing of its servers.
                    None => span.dim { "-" },
                    Some(None) => span.dim { "not running" },
                    Some(Some(found)) => span.(if found.health.is_up() { "good" } else { "bad" }) { (found.health.name()) },
                }
            }
        }
    }
}
