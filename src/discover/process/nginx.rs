//! The processes of one nginx, by its pid file and the titles that it gives them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::process::Pid;

use super::table;

const MASTER: &str = "nginx: master process";
const WORKER: &str = "nginx: worker process";
const LEAVES: &str = " is shutting down";

/// The workers of a master.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Processes that accept connections.
    pub current: BTreeSet<i32>,
    /// Processes that only finish their connections.
    pub old: BTreeSet<i32>,
}

/// The master that a pid file names; none if it does not run. `nginx -t` makes an empty file.
pub fn master(pid_file: &Path) -> io::Result<Option<Pid>> {
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = text.trim().parse().ok().filter(|number: &i32| *number > 0);
    Ok(number.and_then(Pid::from_raw).filter(|pid| is_nginx(*pid)))
}

/// Whether a process is an nginx. A pid file may outlive its process, and another one may have got the number.
pub fn is_nginx(process: Pid) -> bool {
    let process = process.as_raw_nonzero().get();
    let title = table::title(process);
    title.starts_with(MASTER) || (!title.is_empty() && table::name(process) == "nginx")
}

pub fn workers(master: Pid) -> Workers {
    let mut workers = Workers::default();
    for process in table::children(master.as_raw_nonzero().get()) {
        match table::title(process).strip_prefix(WORKER) {
            Some(LEAVES) => workers.old.insert(process),
            Some(_) => workers.current.insert(process),
            None => false,
        };
    }
    workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_of_another_program_names_no_nginx() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.pid");
        assert_eq!(master(&file).unwrap(), None);
        let own = std::process::id().to_string();
        for text in ["", "0\n", "-1\n", "nginx\n", "4194304999\n", &own] {
            fs::write(&file, text).unwrap();
            assert_eq!(master(&file).unwrap(), None, "{text}");
        }
    }
}
