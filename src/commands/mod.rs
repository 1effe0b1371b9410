//! The commands, one file each: each takes its settings and returns whether it succeeded, for the exit status.

mod completions;
pub mod diff;
mod discover;
pub mod files;
pub mod forget;
mod healthcheck;
pub mod keys;
pub mod leases;
mod man;
mod run;
pub mod services;
pub mod test;
mod types;
pub mod up;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tracing::warn;

use crate::base::text::quote;
use crate::checks;
use crate::discover as routing;
use crate::docker::Snapshot;
use crate::ops::log::Recent;
use crate::policy::{Role as _, Verdicts, World};
use crate::register::collisions::Collisions;
use crate::register::{self, HostSettings};
use crate::wanted::{Check, Claim, Wanted};

/// A command with its settings.
pub enum Command {
    Run(register::Settings),
    Discover(routing::Settings),
    Up(Box<up::Settings>),
    Files(files::Settings),
    Services(services::Settings),
    Keys(keys::Settings),
    Diff(diff::Settings),
    Leases(leases::Settings),
    Forget(forget::Settings),
    Test(test::Settings),
    /// The address that `run` listens on.
    Healthcheck(SocketAddr),
    Types,
    /// The text of the completions.
    Completions(Vec<u8>),
    /// Makes the text of the manual page.
    Man(fn() -> io::Result<Vec<u8>>),
}

impl Command {
    /// Runs the command. Returns false if it has found, and reported, a failure or a difference.
    pub async fn run(self, recent: Recent, out: &mut impl Write) -> anyhow::Result<bool> {
        match self {
            Self::Run(settings) => run::run(settings, recent).await,
            Self::Discover(settings) => discover::run(settings, recent).await,
            Self::Up(settings) => up::run(*settings, recent).await,
            Self::Files(settings) => files::run(settings, out).await,
            Self::Services(settings) => services::run(settings, out).await,
            Self::Keys(settings) => keys::run(settings, out).await,
            Self::Diff(settings) => diff::run(settings, out).await,
            Self::Leases(settings) => leases::run(settings, out).await,
            Self::Forget(settings) => forget::run(settings, out).await,
            Self::Test(settings) => test::run(settings, out),
            Self::Healthcheck(address) => healthcheck::run(address, out).await,
            Self::Types => types::run(out),
            Self::Completions(text) => completions::run(&text, out),
            Self::Man(text) => man::run(text, out),
        }
    }
}

/// The policy's decisions at one moment.
struct Decided {
    wanted: Arc<Wanted>,
    verdicts: Rc<RefCell<Verdicts>>,
    /// Whether all containers could be read. The log names each that could not.
    whole: bool,
}

/// Runs the policy once, for these containers.
async fn decide(host: &HostSettings, snapshot: Snapshot) -> anyhow::Result<Decided> {
    let whole = snapshot.unreadable.is_empty();
    let world = World::once(host.options.clone(), snapshot)
        .script(host.script.clone())
        .reading(host.reader());
    let (wanted, verdicts) = (world.wanted(), Rc::clone(world.verdicts()));
    let script = world.load().map_err(|failure| anyhow!("{failure}"))?;
    script.run().await.map_err(|failure| anyhow!("{failure}"))?;
    let wanted = wanted
        .borrow()
        .clone()
        .context("the policy's `run` returned without calling etcd.sync")?;
    Ok(Decided {
        wanted,
        verdicts,
        whole,
    })
}

impl Decided {
    /// Prints the policy's failures on stderr and, with `explain`, the reasons why containers are left out, and their
    /// checks. Returns whether all containers could be read and the policy failed for none.
    fn say(&self, explain: bool) -> bool {
        // A closed stderr is no failure.
        let mut stderr = io::stderr().lock();
        let verdicts = self.verdicts.borrow();
        let all = verdicts.all().into_iter();
        let all = all.map(|it| (quote(&it.name), &it.failure, &it.left_out));
        let host = &verdicts.host;
        let host = ("the host".to_owned(), &host.failure, &host.left_out);
        let mut is_whole = self.whole;
        for (name, failure, left_out) in all.chain([host]) {
            is_whole &= failure.is_none();
            if let Some(failure) = failure {
                let _ = writeln!(stderr, "error: {name}: {failure}");
            } else if explain {
                for why in left_out {
                    let _ = writeln!(stderr, "{name}: left out: {why}");
                }
            }
        }
        if explain {
            for claim in self.wanted.claims.iter() {
                let _ = write!(stderr, "{}", checked(claim));
            }
        }
        is_whole
    }
}

/// Makes each check once, and prints on stderr those that do not pass. Returns the wanted state without the keys whose
/// check fails.
async fn check(wanted: &Arc<Wanted>) -> Arc<Wanted> {
    let (left, not_passed) = checks::ask_once(wanted).await;
    let mut stderr = io::stderr().lock();
    for it in not_passed {
        // A closed stderr is no failure.
        let _ = writeln!(stderr, "{it}");
    }
    left
}

/// A line for each check of a container, with the number of its keys.
fn checked(claim: &Claim) -> String {
    let mut counts: Vec<(&Check, usize)> = Vec::new();
    for check in claim.entries.iter().filter_map(|it| it.check.as_deref()) {
        match counts.iter_mut().find(|(known, _)| *known == check) {
            Some((_, count)) => *count += 1,
            None => counts.push((check, 1)),
        }
    }
    let who = if claim.who.is_host() {
        "the host".to_owned()
    } else {
        claim.who.to_string()
    };
    let lines = counts.into_iter().map(|(check, count)| {
        let keys = if count == 1 {
            "1 key exists".to_owned()
        } else {
            format!("{count} keys exist")
        };
        format!("{who}: {keys} only while its check passes: {check}\n")
    });
    lines.collect()
}

/// Logs each address of this host that several containers claim.
fn warn_of_collisions(wanted: &Arc<Wanted>) {
    for collision in Collisions::default().want(wanted) {
        warn!("{collision}");
    }
}

/// A table for people: all columns except the last are as wide as their widest cell.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N - 1)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        for (cell, &width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        text.push_str(&row[N - 1]);
        text.push('\n');
    }
    text
}

/// Prints a text. `what` names it in an error.
fn print(text: &[u8], what: &str, out: &mut impl Write) -> anyhow::Result<()> {
    out.write_all(text)
        .and_then(|()| out.flush())
        .with_context(|| format!("cannot print the {what}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wanted::{ContainerName, Entry};

    #[test]
    fn each_check_of_a_container_has_a_line() {
        let check = |seconds| Check {
            probe: None,
            uptime: Duration::from_secs(seconds),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 3,
        };
        let entry = |check: Option<Check>| Entry {
            key: "/a".into(),
            value: "b".into(),
            ttl: 60,
            shared: false,
            check: check.map(Arc::new),
        };
        let entries = [Some(check(5)), None, Some(check(5)), Some(check(9))];
        let claim = Claim {
            who: ContainerName {
                id: "1".into(),
                name: "web".into(),
            },
            age: "1".into(),
            entries: entries.map(entry).into(),
            unproven: [].into(),
        };
        assert_eq!(
            checked(&claim),
            "`web`: 2 keys exist only while its check passes: uptime 5 s\n\
             `web`: 1 key exists only while its check passes: uptime 9 s\n"
        );
    }
}
