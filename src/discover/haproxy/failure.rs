//! Errors of the two sockets, each with a remedy.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;

use crate::base::text::quote;

/// No connection.
pub fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let socket = quoted(socket);
    match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "HAProxy's socket {socket} does not exist; start HAProxy, or correct `--socket` or `--master-socket`"
        ),
        ErrorKind::ConnectionRefused => {
            anyhow!("nobody listens on HAProxy's socket {socket} any more; start HAProxy again")
        }
        ErrorKind::PermissionDenied => anyhow!(
            "HAProxy's socket {socket} may not be opened: {error}; run as its owner or in its group"
        ),
        _ => anyhow!("HAProxy's socket {socket} cannot be used: {error}"),
    }
}

/// A connection, and no answer in time.
pub fn silent(socket: &Path, line: &str, limit: Duration) -> anyhow::Error {
    let seconds = limit.as_secs();
    anyhow!(
        "HAProxy has not answered {} on {} within {seconds} s; if this lasts, it hangs: restart it",
        quote(line),
        quoted(socket)
    )
}

/// A connection that ended too early.
pub fn lost(socket: &Path, line: &str) -> anyhow::Error {
    anyhow!(
        "HAProxy closed {} before it answered {}; it may be ending or reloading: try again",
        quoted(socket),
        quote(line)
    )
}

/// The master's socket in place of the worker's.
pub fn is_masters(socket: &Path) -> anyhow::Error {
    anyhow!(
        "{} is the socket of HAProxy's master; pass it to `--master-socket`, and to `--socket` the `stats socket` of its \
         configuration",
        quoted(socket)
    )
}

/// An answer that no known `HAProxy` gives.
pub fn strange(socket: &Path, answer: &str) -> anyhow::Error {
    let first = answer.lines().find(|line| !line.trim().is_empty());
    anyhow!(
        "the answer on {} is not HAProxy's: {}; correct `--socket` or `--master-socket`",
        quoted(socket),
        quote(first.unwrap_or_default())
    )
}

fn quoted(socket: &Path) -> String {
    quote(&socket.display().to_string())
}
