//! The installed versions of HAProxy and etcd, and the processes of a HAProxy.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The programs that `tests/setup.sh` lists in `HAPROXIES`, else the one in `PATH`.
///
/// # Panics
///
/// If one of them cannot be run.
pub fn haproxies() -> Vec<PathBuf> {
    programs("HAPROXIES", "haproxy", "-v")
}

/// The programs that `tests/setup.sh` lists in `ETCDS`, else the one in `PATH`.
///
/// # Panics
///
/// If one of them cannot be run.
pub fn etcds() -> Vec<PathBuf> {
    programs("ETCDS", "etcd", "--version")
}

/// The programs that `tests/setup.sh` lists in `VALKEYS`. There are none where Valkey cannot be had.
pub fn valkeys() -> Vec<PathBuf> {
    let list = std::env::var_os("VALKEYS").unwrap_or_default();
    let programs: Vec<PathBuf> = std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if programs.is_empty() {
        println!("passed over: valkey-server is missing");
    }
    programs
}

/// The processes of the HAProxy in this directory, the master first.
pub fn processes(directory: &Path) -> Vec<String> {
    let pattern = format!("haproxy.*{}", directory.display());
    let output = Command::new("pgrep").args(["-f", &pattern]).output();
    let output = output.expect("pgrep can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// A directory for `discover`. The HAProxy in it ends when it goes out of scope, whoever started it.
pub struct ProxyDirectory(TempDir);

impl ProxyDirectory {
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for ProxyDirectory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProxyDirectory {
    fn drop(&mut self) {
        kill_processes(&processes(self.path()));
    }
}

/// Kills some of them, as a crash would.
pub fn kill_processes(processes: &[String]) {
    for process in processes {
        let _ = Command::new("kill").args(["-KILL", process]).status();
    }
}

fn programs(variable: &str, name: &str, flag: &str) -> Vec<PathBuf> {
    let list = std::env::var_os(variable).unwrap_or_default();
    let mut programs: Vec<PathBuf> = std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if programs.is_empty() {
        programs.push(name.into());
    }
    for program in &programs {
        let output = Command::new(program).arg(flag).output();
        let runs = output.is_ok_and(|output| output.status.success());
        assert!(
            runs,
            "`{}` cannot be run: `make test` installs it",
            program.display()
        );
    }
    println!("versions: {programs:?}");
    programs
}
