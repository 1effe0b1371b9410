//! The differences between the proxies that read files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;

use rustix::process::Pid;

use super::command;
use super::envoy::{self, Envoy};
use super::nginx::{self, Nginx};
use crate::discover::addresses::listened_by;
use crate::discover::files::Files;
use crate::discover::process::nginx::workers;
use crate::discover::process::{self, Kind};
use crate::discover::refused::Refused;
use crate::discover::settings::Proxy;
use crate::routes::{Bound, File};

pub enum Driver {
    Nginx(Nginx),
    Envoy(Envoy),
    /// Any other reader: nothing is known of it.
    None,
}

/// The addresses that a proxy listens on, empty if it does not run; none if that is not known.
pub async fn listened(proxy: &Proxy) -> Option<BTreeSet<Bound>> {
    match Driver::new(proxy).find(None).await {
        Ok(Some(process)) => addresses(process, matches!(proxy, Proxy::Nginx { .. })),
        Ok(None) => (!matches!(proxy, Proxy::None)).then(BTreeSet::new),
        Err(_) => None,
    }
}

fn addresses(process: Pid, has_workers: bool) -> Option<BTreeSet<Bound>> {
    let number = process.as_raw_nonzero().get();
    let mut processes = vec![number];
    if has_workers {
        let workers = workers(process);
        processes.extend(workers.current.into_iter().chain(workers.old));
    }
    // Another user's sockets are seen by root alone.
    fs::read_dir(format!("/proc/{number}/fd")).ok()?;
    listened_by(&processes)
}

impl Driver {
    /// `HAProxy` has a keeper of its own.
    pub fn new(proxy: &Proxy) -> Self {
        match proxy {
            Proxy::Nginx { pid_file } => Self::Nginx(Nginx::new(pid_file)),
            Proxy::Envoy { admin } => Self::Envoy(Envoy::new(admin)),
            Proxy::Haproxy(_) | Proxy::None => Self::None,
        }
    }

    /// Whether the proxy itself reads this file.
    pub fn reads(&self, name: &str) -> bool {
        match self {
            Self::Nginx(_) => name == nginx::FILE,
            Self::Envoy(_) => name.starts_with("envoy/"),
            Self::None => false,
        }
    }

    /// The file that it starts with.
    pub fn first_file(&self) -> &'static str {
        match self {
            Self::Envoy(_) => envoy::BOOTSTRAP,
            Self::Nginx(_) | Self::None => nginx::FILE,
        }
    }

    /// Our own process. An empty command is the proxy's program with the right flags.
    pub fn settings(
        proxy: &Proxy,
        files: &Files,
        command: &[OsString],
    ) -> Option<process::Settings> {
        let settings = match proxy {
            Proxy::Nginx { pid_file } => {
                let file = files.path(nginx::FILE);
                process::Settings::nginx(OsStr::new(nginx::PROGRAM), &file, pid_file)
            }
            Proxy::Envoy { admin } => {
                let bootstrap = files.path(envoy::BOOTSTRAP);
                process::Settings::envoy(OsStr::new(envoy::PROGRAM), &bootstrap, admin)
            }
            Proxy::Haproxy(_) | Proxy::None => return None,
        };
        if command.is_empty() {
            return Some(settings);
        }
        let command = command.to_vec();
        let kind = match settings.kind {
            Kind::Nginx { pid_file, .. } => Kind::Nginx {
                pid_file,
                file: None,
            },
            other => other,
        };
        Some(process::Settings { command, kind })
    }

    /// The process that loads the files; none if it does not run, or has not begun its work yet: a signal would end it.
    pub async fn find(&self, child: Option<Pid>) -> anyhow::Result<Option<Pid>> {
        match self {
            Self::Nginx(nginx) => {
                let master = nginx.master(child)?;
                Ok(master.filter(|master| !workers(*master).current.is_empty()))
            }
            Self::Envoy(envoy) => envoy.admin.process().await,
            Self::None => Ok(None),
        }
    }

    /// The error while somebody else's proxy does not run.
    pub fn missing(&self) -> Option<anyhow::Error> {
        match self {
            Self::Nginx(nginx) => Some(nginx.missing()),
            Self::Envoy(envoy) => Some(envoy.admin.missing()),
            Self::None => None,
        }
    }

    /// Checks the files before they are in force, by the operator's command if there is one. Envoy checks them itself.
    pub async fn check(
        &self,
        files: &Files,
        main: &[&File],
        all: &[File],
        command: Option<&str>,
    ) -> Result<(), Refused> {
        let Self::Nginx(nginx) = self else {
            return Ok(());
        };
        if let Some(command) = command {
            return command::check(command, files, all).await;
        }
        for file in main {
            let staged = files.stage(&file.name, &file.text())?;
            let checked = nginx.check(&staged).await;
            files.remove(&format!("{}.new", file.name));
            checked?;
        }
        Ok(())
    }

    /// The processes that only finish their connections; none where that is not known.
    pub fn old_workers(&self, process: Pid) -> Option<usize> {
        matches!(self, Self::Nginx(_)).then(|| workers(process).old.len())
    }

    pub fn addresses(&self, process: Pid) -> Option<BTreeSet<Bound>> {
        addresses(process, matches!(self, Self::Nginx(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_that_does_not_run_listens_nowhere_and_an_unknown_one_may_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("nginx.pid");
        let admin = directory.path().join("admin.sock");
        let nginx = Proxy::Nginx { pid_file };
        assert_eq!(listened(&nginx).await, Some(BTreeSet::new()));
        assert_eq!(
            listened(&Proxy::Envoy { admin }).await,
            Some(BTreeSet::new())
        );
        assert_eq!(listened(&Proxy::None).await, None);
    }
}
