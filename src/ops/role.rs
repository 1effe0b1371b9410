//! The roles of a process, and what it has once for all of them: the second thread, the end, systemd, HTTP. Each command
//! that runs for ever composes its roles here.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{BoxFuture, LocalBoxFuture, join_all};
use tracing::error;

use super::log::Recent;
use super::readiness::{Readiness, Roles};
use super::side_thread::{LastWords, SideThread};
use super::signals::{Ends, Signals};
use super::{listen, systemd};

/// Makes a text for an operator.
pub type Text = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<String>> + Send + Sync>;

/// A role that is about to run.
pub struct Role {
    pub view: View,
    /// Ends at a signal, or with the role's failure.
    pub work: LocalBoxFuture<'static, anyhow::Result<()>>,
}

/// An operator's view of a role.
#[derive(Clone)]
pub struct View {
    /// The role's name, where the process has several.
    pub name: &'static str,
    pub readiness: Readiness,
    /// HTML for people.
    pub page: Text,
    /// Prometheus's text format.
    pub metrics: Text,
}

/// The parts of a process that all of its roles share.
pub struct Process {
    pub side: SideThread,
    /// The last warnings and errors, for the pages.
    pub recent: Recent,
    ends: Ends,
}

impl Process {
    /// Listens for signals from now on, for one role.
    pub fn signals(&self) -> anyhow::Result<Signals> {
        Signals::listen(&self.ends)
    }
}

/// Runs the roles that `make` makes, all in this thread, until a signal ends them. If one of them fails, the others end in
/// order, and the failure is the result. `listen` is the address for HTTP.
pub async fn run(
    recent: Recent,
    listen: Option<SocketAddr>,
    last_words: LastWords,
    make: impl FnOnce(&Rc<Process>) -> anyhow::Result<Vec<Role>>,
) -> anyhow::Result<()> {
    let process = Rc::new(Process {
        side: SideThread::start(last_words)?,
        recent,
        ends: Ends::default(),
    });
    let (views, works): (Vec<View>, Vec<_>) = make(&process)?
        .into_iter()
        .map(|role| (role.view, role.work))
        .unzip();
    let readiness = views.iter().map(|view| (view.name, view.readiness.clone()));
    let roles = Roles::new(readiness.collect());
    process.side.spawn(systemd::follow(roles.clone()));
    if let Some(address) = listen {
        let recent = process.recent.clone();
        process
            .side
            .enter(|| listen::start(address, roles, views, recent))?;
    }
    let ends = &process.ends;
    let works = works.into_iter().map(|work| async move {
        let result = work.await;
        ends.end_roles();
        result
    });
    let mut failures = join_all(works).await.into_iter().filter_map(Result::err);
    let first = failures.next();
    failures.for_each(|further| error!("{further:#}"));
    first.map_or(Ok(()), Err)
}
