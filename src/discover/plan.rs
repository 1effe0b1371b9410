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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::discover::haproxy::Health;
    use crate::routes::Piece;

    const ALL: Abilities = Abilities {
        can_add_servers: true,
    };

    /// A file with a service `web` of these servers, by the last part of their addresses.
    fn file(head: &str, servers: &[u8], options: &str) -> File {
        let servers: Vec<Server> = servers
            .iter()
            .map(|number| server(*number, options))
            .collect();
        let line = |server: &Server| format!("{} {} {options}\n", server.name, server.address);
        let lines = servers.iter().map(|server| line(server).into()).collect();
        let pieces = vec![
            Piece::Text(head.into()),
            Piece::Servers(Servers {
                backend: "web".into(),
                frontend: Some("web".into()),
                servers,
                lines,
            }),
        ];
        let name = "haproxy.cfg".into();
        File { name, pieces }
    }

    fn server(number: u8, options: &str) -> Server {
        Server {
            name: format!("s{number}").into(),
            address: ([10, 0, 0, number], 80).into(),
            options: options.into(),
        }
    }

    /// A process with these servers of `web`, those in maintenance apart.
    fn running(ready: &[u8], maint: &[u8], is_open: bool) -> Running {
        let found = |number: &u8, is_maint| {
            let Server { name, address, .. } = server(*number, "");
            let found = RunningServer {
                name: Arc::clone(&name),
                address: Some(address),
                is_maint,
                health: Health::Up,
                sessions: 0,
            };
            (name, found)
        };
        let ready = ready.iter().map(|number| found(number, false));
        let servers: BTreeMap<_, _> = ready
            .chain(maint.iter().map(|number| found(number, true)))
            .collect();
        Running {
            backends: [("web".into(), servers)].into(),
            frontends: [("web".into(), is_open)].into(),
        }
    }

    fn applied(file: &File) -> Applied {
        Applied::loaded(file)
    }

    /// The changes as an operator reads them.
    fn changes(plan: &Plan) -> Vec<String> {
        plan.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_in_step_is_left_alone() {
        let wanted = file("a", &[1, 2], "check");
        let plan = plan(
            &wanted,
            Some(&applied(&wanted)),
            &running(&[1, 2], &[], true),
            ALL,
        );
        assert_eq!(plan, Plan::default());
    }

    #[test]
    fn servers_come_and_go_without_a_reload() {
        let before = applied(&file("a", &[1, 2], "check"));
        let wanted = file("a", &[2, 3], "check");
        let plan = plan(&wanted, Some(&before), &running(&[1, 2], &[], true), ALL);
        assert_eq!(plan.reload, None);
        assert_eq!(
            changes(&plan),
            [
                "add server `web/s3` at 10.0.0.3:80",
                "set server `web/s1` to maintenance"
            ]
        );
    }

    #[test]
    fn a_server_that_returns_is_made_ready_if_its_options_are_the_same() {
        let before = applied(&file("a", &[1], "check"));
        let plan_for = |options| {
            let wanted = file("a", &[1], options);
            plan(&wanted, Some(&before), &running(&[], &[1], true), ALL)
        };
        let same = plan_for("check");
        assert_eq!((changes(&same).len(), same.reload), (1, None));
        let other = plan_for("check inter 1s");
        assert_eq!(changes(&other), [""; 0]);
        assert!(other.reload.is_some());
    }

    #[test]
    fn a_service_without_servers_is_closed_and_opened_with_its_first() {
        let before = applied(&file("a", &[1], "check"));
        let closed = plan(
            &file("a", &[], "check"),
            Some(&before),
            &running(&[1], &[], true),
            ALL,
        );
        assert!(matches!(
            &closed.changes[..],
            [Change::Maint { .. }, Change::Disable { .. }]
        ));
        let opened = plan(
            &file("a", &[2], "check"),
            Some(&before),
            &running(&[], &[1], false),
            ALL,
        );
        // The server comes first, so that nobody is let in before it.
        assert!(matches!(
            &opened.changes[..],
            [Change::Add { .. }, Change::Enable { .. }]
        ));
        assert_eq!((closed.reload, opened.reload), (None, None));
    }

    #[test]
    fn other_text_needs_a_reload_and_servers_do_not_wait_for_it() {
        let before = applied(&file("a", &[1], "check"));
        let plan = plan(
            &file("b", &[2], "check"),
            Some(&before),
            &running(&[1], &[], true),
            ALL,
        );
        assert_eq!(plan.changes.len(), 2);
        assert!(
            plan.reload
                .is_some_and(|why| why.contains("more than servers"))
        );
    }

    #[test]
    fn a_service_that_goes_is_closed_before_the_reload() {
        let before = applied(&file("a", &[1], "check"));
        let name = "haproxy.cfg".into();
        let pieces = vec![Piece::Text("a".into())];
        let plan = plan(
            &File { name, pieces },
            Some(&before),
            &running(&[1], &[], true),
            ALL,
        );
        assert!(matches!(
            &plan.changes[..],
            [Change::Maint { .. }, Change::Disable { .. }]
        ));
        assert!(plan.reload.is_some());
    }

    #[test]
    fn an_unknown_state_an_old_version_and_a_missing_backend_need_a_reload() {
        let wanted = file("a", &[1], "check");
        let known = applied(&wanted);
        let old = Abilities {
            can_add_servers: false,
        };
        for plan in [
            plan(&wanted, None, &running(&[1], &[], true), ALL),
            plan(&wanted, Some(&known), &running(&[], &[], true), old),
            plan(&wanted, Some(&known), &Running::default(), ALL),
        ] {
            assert!(plan.reload.is_some(), "{plan:?}");
        }
    }
}
