//! Compares the wanted configuration with what the proxy is known to have and with what runs, and finds the least means:
//! nothing, run-time changes, or a reload. It is pure.
//!
//! | what differs | means |
//! | --- | --- |
//! | nothing | nothing |
//! | a wanted server does not run | add it, if the version can |
//! | a wanted server is in maintenance, with the same options | make it ready |
//! | a wanted server has other options or another address | reload |
//! | a server that runs is not wanted | maintenance: no new connection, open ones go on |
//! | a service has lost its last server, or got its first | close its frontend, or open it |
//! | anything else in the text, or a backend does not run | reload |

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::applied::Applied;
use super::haproxy::{Change, Running, RunningServer};
use crate::routes::{File, Server, Servers};

/// How the proxy gets from its state to the wanted one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// They go at once, also before a reload.
    pub changes: Vec<Change>,
    /// The reason for a reload, for the log.
    pub reload: Option<String>,
}

/// The run-time commands that the proxy's version has.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    pub can_add_servers: bool,
}

/// `applied` is none while it is not known what the proxy has loaded.
pub fn plan(
    wanted: &File,
    applied: Option<&Applied>,
    running: &Running,
    abilities: Abilities,
) -> Plan {
    let mut plan = Plan::default();
    match applied {
        None => plan.reload_for(|| "it is not known what it has loaded".to_owned()),
        Some(applied) if !applied.has_skeleton(wanted) => {
            plan.reload_for(|| "more than servers has changed".to_owned());
        }
        Some(_) => {}
    }
    for servers in wanted.servers() {
        plan.add_backend(servers, applied, running, abilities);
    }
    let names: BTreeSet<&Arc<str>> = wanted.servers().map(|servers| &servers.backend).collect();
    let gone = applied.into_iter().flat_map(Applied::backends);
    for backend in gone.filter(|backend| !names.contains(backend)) {
        plan.close(backend, running);
    }
    plan
}

/// The plan for a proxy that is in step but for these servers.
pub fn plan_servers(
    changed: &[&Servers],
    applied: Option<&Applied>,
    running: &Running,
    abilities: Abilities,
) -> Plan {
    let mut plan = Plan::default();
    for servers in changed {
        plan.add_backend(servers, applied, running, abilities);
    }
    plan
}

impl Plan {
    /// The first reason counts.
    fn reload_for(&mut self, why: impl FnOnce() -> String) {
        self.reload.get_or_insert_with(why);
    }

    fn add_backend(
        &mut self,
        wanted: &Servers,
        applied: Option<&Applied>,
        running: &Running,
        abilities: Abilities,
    ) {
        let backend = &wanted.backend;
        let Some(servers) = running.backends.get(backend) else {
            self.reload_for(|| format!("it does not run the backend `{backend}`"));
            return;
        };
        for (server, line) in wanted.servers.iter().zip(&wanted.lines) {
            let known = applied.and_then(|applied| applied.line(backend, &server.name));
            match servers.get(&server.name) {
                None if abilities.can_add_servers => self.changes.push(Change::Add {
                    backend: Arc::clone(backend),
                    server: server.clone(),
                }),
                None => self.reload_for(|| "its version cannot add servers".to_owned()),
                Some(found) => self.compare(
                    backend,
                    found,
                    server,
                    known.is_some_and(|known| known == line),
                ),
            }
        }
        let names: BTreeSet<&Arc<str>> = wanted.servers.iter().map(|server| &server.name).collect();
        for server in servers
            .values()
            .filter(|server| !server.is_maint && !names.contains(&server.name))
        {
            self.changes.push(maint(backend, server));
        }
        if let Some(frontend) = &wanted.frontend {
            self.switch(frontend, !wanted.servers.is_empty(), running);
        }
    }

    fn compare(
        &mut self,
        backend: &Arc<str>,
        found: &RunningServer,
        wanted: &Server,
        has_options: bool,
    ) {
        if found.address != Some(wanted.address) {
            self.reload_for(|| {
                format!("the server `{backend}/{}` has another address", wanted.name)
            });
        } else if !has_options {
            self.reload_for(|| {
                format!(
                    "the server `{backend}/{}` may have other options",
                    wanted.name
                )
            });
        } else if found.is_maint {
            self.changes.push(Change::Ready {
                backend: Arc::clone(backend),
                name: Arc::clone(&wanted.name),
            });
        }
    }

    /// Opens a frontend, or closes it.
    fn switch(&mut self, frontend: &Arc<str>, is_open: bool, running: &Running) {
        let frontend = Arc::clone(frontend);
        match running.frontends.get(&frontend) {
            Some(is) if *is == is_open => {}
            None => self.reload_for(|| format!("it does not run the frontend `{frontend}`")),
            Some(_) if is_open => self.changes.push(Change::Enable { frontend }),
            Some(_) => self.changes.push(Change::Disable { frontend }),
        }
    }

    /// Closes a backend that the wanted file does not have. The reload that removes it may have to wait.
    fn close(&mut self, backend: &Arc<str>, running: &Running) {
        for server in running
            .backends
            .get(backend)
            .into_iter()
            .flat_map(|servers| servers.values())
        {
            if !server.is_maint {
                self.changes.push(maint(backend, server));
            }
        }
        if running.frontends.get(backend) == Some(&true) {
            let frontend = Arc::clone(backend);
            self.changes.push(Change::Disable { frontend });
        }
    }
}

fn maint(backend: &Arc<str>, server: &RunningServer) -> Change {
    Change::Maint {
        backend: Arc::clone(backend),
        name: Arc::clone(&server.name),
    }
}
