//! The reload by the master's socket. From 2.7, the master answers when the new worker runs. 2.6 answers nothing, and
//! refuses connections for some 10 ms: the end is seen in its list of processes.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::workers::{self, Workers};
use super::{dialogue, failure};
use crate::discover::refused::Refused;

/// The time limit of a reload. A port that another process holds takes `HAProxy` 2 s alone.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest silence of 2.6's master meanwhile.
const ABSENCE: Duration = Duration::from_secs(5);
/// The time between two looks at 2.6's list of processes.
const PAUSE: Duration = Duration::from_millis(5);

pub async fn by_master(socket: &Path) -> Result<(), Refused> {
    let before = workers::of_master(socket).await?;
    let answer = dialogue::with_master(socket, "reload", LIMIT).await?;
    let mut lines = answer.lines();
    match lines.next().map(str::trim) {
        Some("Success=1") => Ok(()),
        Some("Success=0") => {
            let log = lines.filter(|line| !line.is_empty() && *line != "--");
            Err(Refused::Bad(log.map(str::to_owned).collect()))
        }
        None => end(socket, &before).await,
        Some(_) => Err(failure::strange(socket, &answer).into()),
    }
}

/// Waits until a reload is over.
async fn end(socket: &Path, before: &Workers) -> Result<(), Refused> {
    let begun = Instant::now();
    let mut answered = begun;
    loop {
        let why = match workers::of_master(socket).await {
            Ok(after) if after.reloads > before.reloads && after.failed > before.failed => {
                return Err(Refused::Bad(Vec::new()));
            }
            Ok(after) if after.reloads > before.reloads && is_new(after.current, before) => {
                return Ok(());
            }
            Ok(_) => {
                answered = Instant::now();
                anyhow!("there is no new worker")
            }
            Err(error) => error,
        };
        if begun.elapsed() > LIMIT || answered.elapsed() > ABSENCE {
            return Err(why.context("HAProxy does not end its reload").into());
        }
        sleep(PAUSE).await;
    }
}

fn is_new(worker: Option<i32>, before: &Workers) -> bool {
    worker.is_some() && worker != before.current
}
