//! Commands that run to their end: the check of a configuration before it is in force, and an operator's own.

use std::ffi::OsStr;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::anyhow;
use rustix::process::{Pid, Signal, kill_process_group};
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
    let child = command
        // A terminal's Ctrl-C is for us alone.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| {
        anyhow!("{named} cannot be started to {task}: {error}; install it, or name another program")
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut run = pin!(child.wait_with_output());
    let Some(output) = within(limit, run.as_mut()).await else {
        // A shell may have started others. It fails if all have just ended.
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let seconds = limit.as_secs();
        return Err(anyhow!("{named} takes longer than {seconds} s to {task}").into());
    };
    let output = output.map_err(|error| anyhow!("{named} cannot be waited for: {error}"))?;
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

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::discover::process::is_running;

    #[tokio::test]
    async fn what_a_command_has_started_ends_at_its_limit_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let mut command = Command::new("sh");
        let text = r#"sleep 1000 & echo $! > "$FILE"; wait"#;
        command.args(["-c", text]).env("FILE", &file);
        let result = run(command, "`it`", "end", Duration::from_secs(1)).await;
        assert!(matches!(result, Err(Refused::Unknown(_))));
        let pid = std::fs::read_to_string(&file).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let ended = async {
            while is_running(pid) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), ended).await.unwrap();
    }
}
