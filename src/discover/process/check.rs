//! The check of a configuration before it is in force.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::anyhow;
use tokio::process::Command;
use tracing::debug;

use crate::base::deadline::within;
use crate::base::text::quote;
use crate::discover::haproxy::Refused;

/// The time limit of a check.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs `haproxy -c -f FILE`. A taken port, or one address twice, is not found by it.
pub async fn check(program: &OsStr, file: &Path) -> Result<(), Refused> {
    let named = quote(&program.display().to_string());
    let run = Command::new(program)
        .args(["-c", "-f"])
        .arg(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Some(output) = within(LIMIT, run).await else {
        let seconds = LIMIT.as_secs();
        return Err(anyhow!("{named} has not checked the configuration within {seconds} s").into());
    };
    let output = output.map_err(|error| {
        anyhow!("{named} cannot be started to check the configuration: {error}; install it, or name another program")
    })?;
    let text = [output.stderr, output.stdout].concat();
    let text = String::from_utf8_lossy(&text);
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty());
    if output.status.success() {
        lines.for_each(|line| debug!("{line}"));
        return Ok(());
    }
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    if lines.is_empty() {
        lines.push(format!(
            "{named} -c said nothing and ended with {}",
            output.status
        ));
    }
    Err(Refused::Bad(lines))
}
