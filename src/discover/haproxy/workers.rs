//! The processes of one `HAProxy`, from its master's `show proc`.

use std::path::Path;

use super::{LIMIT, dialogue, failure};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// The master's process id.
    pub master: i32,
    /// The process id of the worker that accepts connections.
    pub current: Option<i32>,
    /// The process ids of the workers that live on for old connections. During a reload, one of them may still be the one
    /// that accepts.
    pub old: Vec<i32>,
    /// The reloads since the master's start, refused ones too.
    pub reloads: u64,
    /// The refused reloads since the last good one. 3.2 counts none.
    pub(super) failed: u64,
}

struct Row {
    pid: i32,
    reloads: u64,
    failed: u64,
}

pub async fn of_master(socket: &Path) -> anyhow::Result<Workers> {
    let answer = dialogue::with_master(socket, "show proc", LIMIT).await?;
    Workers::read(&answer).ok_or_else(|| failure::strange(socket, &answer))
}

impl Workers {
    fn read(answer: &str) -> Option<Self> {
        let rows = |kind: &str| rows(answer, kind);
        let [master] = rows("master")?.try_into().ok()?;
        let mut workers = rows("worker")?;
        // After a refused reload, 3.2 calls the current one old.
        workers.sort_by_key(|worker| worker.reloads);
        let Row {
            pid,
            reloads,
            failed,
        } = master;
        Some(Self {
            master: pid,
            current: workers.first().map(|worker| worker.pid),
            old: workers.iter().skip(1).map(|worker| worker.pid).collect(),
            reloads,
            failed,
        })
    }
}

/// The processes of a kind. A row is a process id, the kind, the reloads that it has lived through, a master's
/// `[failed: N]`, and more.
fn rows(answer: &str, kind: &str) -> Option<Vec<Row>> {
    let rows = answer.lines().filter(|line| !line.starts_with('#'));
    let rows = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.get(1) == Some(&kind));
    let read = |row: Vec<&str>| {
        Some(Row {
            pid: row.first()?.parse().ok()?,
            reloads: row.get(2)?.parse().ok()?,
            failed: match row[3..] {
                ["[failed:", count, ..] => count.strip_suffix(']')?.parse().ok()?,
                _ => 0,
            },
        })
    };
    rows.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_as_each_version_shows_them() {
        let head = "#<PID> <type> <reloads> <uptime> <version>\n";
        let read = |rows: &str| Workers::read(&format!("{head}{rows}\n"));
        let workers = |current, old: &[i32], reloads, failed| Workers {
            master: 12,
            current,
            old: old.to_vec(),
            reloads,
            failed,
        };
        for (rows, found) in [
            (
                "12 master 2 [failed: 1] 0d00h00m04s 2.6.12\n# workers\n675 worker 1 0d0 2.6.12\n# programs",
                Some(workers(Some(675), &[], 2, 1)),
            ),
            (
                "12 master 3 [failed: 0] 0d0 3.0.11\n# workers\n700 worker 0 0d0 3.0.11\n# old workers\n\
                 675 worker 2 0d0 3.0.11\n690 worker 1 0d0 3.0.11",
                Some(workers(Some(700), &[690, 675], 3, 0)),
            ),
            (
                "12 master 2 [failed: 0] 0d0 3.2.26\n# workers\n# old workers\n675 worker 1 0d0 3.2.26",
                Some(workers(Some(675), &[], 2, 0)),
            ),
            (
                "12 master 0 0d0 2.4.0\n# workers",
                Some(workers(None, &[], 0, 0)),
            ),
            ("Unknown command", None),
            ("twelve master 0 0d0", None),
            ("12 master", None),
        ] {
            assert_eq!(read(rows), found, "{rows}");
        }
    }
}
