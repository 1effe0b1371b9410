//! The output of a proxy, as lines of our log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::base::text::printable;

/// The number of lines that are kept, for messages about a failure.
const KEPT: usize = 50;
/// `HAProxy` repeats each command of ours with this mark.
const OWN_COMMANDS: &str = " : CLI : ";

/// Dropping it ends the reading.
#[derive(Default)]
pub struct Output {
    last: Arc<Mutex<VecDeque<String>>>,
    readers: JoinSet<()>,
}

impl Output {
    /// Reads a stream until its end.
    pub fn follow(&mut self, stream: impl AsyncRead + Unpin + Send + 'static) {
        while self.readers.try_join_next().is_some() {}
        let last = Arc::clone(&self.last);
        self.readers.spawn(async move {
            let mut lines = BufReader::new(stream).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = String::from_utf8_lossy(&line);
                let line = printable(line.trim_end());
                if line.is_empty() {
                    continue;
                }
                tell(&line);
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.len() == KEPT {
                    last.pop_front();
                }
                last.push_back(line);
            }
        });
    }

    /// Oldest first.
    pub fn last_lines(&self) -> Vec<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect()
    }
}

fn tell(line: &str) {
    match line.split(']').next() {
        _ if line.contains(OWN_COMMANDS) => debug!("{line}"),
        Some("[ALERT" | "[EMERG") => error!("{line}"),
        Some("[WARNING") => warn!("{line}"),
        _ => info!("{line}"),
    }
}
