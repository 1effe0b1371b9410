//! Commands that run to their end: the check of a configuration before it is in force, and an operator's own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::anyhow;
use tokio::process::Command;
use tracing::debug;

use crate::base::deadline::within;
use crate::base::text::{printable, quote};
use crate::discover::refused::Refused;

/// The time limit of a check.
const LIMIT: Duration = Duration::from_secs(10);

/// Lets a proxy's program check a configuration, by `haproxy -c -f FILE` or `nginx -t -c FILE`. A taken port, or one
/// address twice, is not found by it.
pub async fn check(program: &OsStr, flags: &[&str], file: &Path) -> Result<(), Refused> {
    let mut command = Command::new(program);
    command.args(flags).arg(file);
    let named = quote(&program.display().to_string());
    run(command, &named, "check the configuration", LIMIT).await
}

/// Runs a command, which is `named` so and is there to do the `task`. Its output is the reason of a refusal.
pub async fn run(
    mut command: Command,
    named: &str,
    task: &str,
    limit: Duration,
) -> Result<(), Refused> {
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Some(output) = within(limit, run).await else {
        let seconds = limit.as_secs();
        return Err(anyhow!("{named} takes longer than {seconds} s to {task}").into());
    };
    let output = output.map_err(|error| {
        anyhow!("{named} cannot be started to {task}: {error}; install it, or name another program")
    })?;
    let text = [output.stderr, output.stdout].concat();
    let text = String::from_utf8_lossy(&text);
    let lines = text
        .lines()
        .map(|line| printable(line.trim_end()))
        .filter(|line| !line.is_empty());
    if output.status.success() {
        lines.for_each(|line| debug!("{line}"));
        return Ok(());
    }
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        lines.push(format!(
            "{named} said nothing and ended with {}",
            output.status
        ));
    }
    Err(Refused::Bad(lines))
}
