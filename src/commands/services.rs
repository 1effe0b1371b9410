//! `services`: prints the registered services of all hosts.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::json;
use tokio::sync::watch;

use super::{columns, print};
use crate::base::text::printable;
use crate::discover::{self, RoutingSettings};
use crate::policy::{KeySource, Report, Role as _, RoutingWorld};
use crate::routes::{Registered, Service};

pub struct Settings {
    pub format: Format,
    pub watch: bool,
    pub routing: RoutingSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    Text,
    /// A list of all facts; with `--watch`, one list in each line.
    Json,
}

/// Prints the services. Returns whether every key could be read.
pub async fn run(settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    let source = if settings.watch {
        KeySource::Live(discover::watch_keys(&settings.routing))
    } else {
        KeySource::Once(Arc::new(super::files::list(&settings.routing).await?))
    };
    let RoutingSettings {
        options, script, ..
    } = settings.routing;
    let world = RoutingWorld::new(options, source, discover::owners_of_a_dry_run())
        .script(script)
        .reporting(Report::Nothing);
    let mut registered = world.registered();
    let script = world.load().map_err(|failure| anyhow!("{failure}"))?;
    if !settings.watch {
        let result = script.run().await;
        let Some(registered) = registered.borrow().clone() else {
            result.map_err(|failure| anyhow!("{failure}"))?;
            return Err(anyhow!(
                "the policy's `run` returned without calling etcd.services"
            ));
        };
        show(settings.format, &registered, false, out)?;
        return Ok(registered.left_out.is_empty());
    }
    tokio::select! {
        result = script.run() => result.map_err(|failure| anyhow!("{failure}"))?,
        result = follow(settings.format, &mut registered, out) => result?,
    }
    Ok(true)
}

/// Prints the services whenever they change.
async fn follow(
    format: Format,
    registered: &mut watch::Receiver<Option<Arc<Registered>>>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut said = None;
    while registered.changed().await.is_ok() {
        let newest = registered.borrow_and_update().clone();
        if let Some(newest) = newest.filter(|newest| said.as_ref() != Some(newest)) {
            show(format, &newest, true, out)?;
            said = Some(newest);
        }
    }
    Ok(())
}

fn show(
    format: Format,
    registered: &Registered,
    again: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut stderr = io::stderr().lock();
    for left_out in &registered.left_out {
        // A closed stderr is no failure.
        let _ = writeln!(stderr, "{left_out}");
    }
    let text = match format {
        Format::Text => table(&registered.services, again),
        Format::Json => json(&registered.services, again),
    };
    print(text.as_bytes(), "services", out)
}

fn table(services: &[Arc<Service>], again: bool) -> String {
    let head = ["SERVICE", "PORT", "MEMBERS"].map(str::to_owned);
    let rows = services.iter().map(|service| {
        let members = service
            .members
            .iter()
            .map(|member| format!("{} {}", member.name, member.address));
        let members: Vec<String> = members.collect();
        let attributes = service
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let attributes: Vec<String> = attributes.collect();
        let port = format!("{}/{}", service.port, service.protocol.name());
        let id = format!(
            "{}/{} {}",
            service.id.name,
            service.id.index,
            attributes.join(" ")
        );
        let members = if members.is_empty() {
            "none".to_owned()
        } else {
            members.join(", ")
        };
        [id.trim_end().to_owned(), port, members].map(|cell| printable(&cell))
    });
    let rows: Vec<[String; 3]> = [head].into_iter().chain(rows).collect();
    let mut text = columns(&rows);
    if again {
        text.push('\n');
    }
    text
}

fn json(services: &[Arc<Service>], again: bool) -> String {
    let list = services.iter().map(|service| {
        let members = service.members.iter().map(|member| {
            json!({
                "name": &*member.name,
                "host": &*member.host,
                "port": member.port,
                "created": member.created,
            })
        });
        let attributes = service.attributes.iter();
        let attributes = attributes.map(|(name, value)| (name.to_string(), json!(&**value)));
        json!({
            "name": &*service.id.name,
            "index": service.id.index,
            "port": service.port,
            "protocol": service.protocol.name(),
            "members": members.collect::<Vec<_>>(),
            "attributes": attributes.collect::<serde_json::Map<_, _>>(),
            "created": service.created,
            "revision": service.revision,
        })
    });
    let list = list.collect::<serde_json::Value>();
    if again {
        format!("{list}\n")
    } else {
        format!("{list:#}\n")
    }
}
