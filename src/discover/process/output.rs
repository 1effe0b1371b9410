//! The output of a proxy, as lines of our log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::base::text::printable;

/// The number of lines that are kept, for messages about a failure.
const KEPT: usize = 50;
/// `HAProxy` repeats each command of ours with this mark.
const OWN_COMMANDS: &str = " : CLI : ";

/// Dropping it ends the reading.
#[derive(Default)]
pub struct Output {
    last: Arc<Mutex<VecDeque<(Instant, String)>>>,
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
                last.push_back((Instant::now(), line));
            }
        });
    }

    /// Oldest first.
    pub fn lines_since(&self, begun: Instant) -> Vec<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.iter().filter(|(at, _)| *at >= begun);
        last.map(|(_, line)| line.clone()).collect()
    }
}

/// Logs a line at its own level. nginx and Envoy tell of each step of a reload, so these are of use to a search alone.
fn tell(line: &str) {
    match level(line) {
        _ if line.contains(OWN_COMMANDS) => debug!("{line}"),
        "ALERT" | "EMERG" | "emerg" | "alert" | "crit" | "critical" | "error" => error!("{line}"),
        "WARNING" | "warn" | "warning" => warn!("{line}"),
        "notice" | "info" | "debug" | "trace" => debug!("{line}"),
        _ => info!("{line}"),
    }
}

/// The word of letters in the first brackets: `[WARNING]  (12) : …` of `HAProxy`, `2026/11/27 14:28:45 [emerg] 12#12: …`
/// of nginx, `[2026-11-27 14:28:45.123][12][warning][config] …` of Envoy. Empty if there is none.
fn level(line: &str) -> &str {
    let brackets = line.split('[').skip(1);
    let mut words = brackets.filter_map(|text| text.split(']').next());
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_alphabetic());
    words.find(is_word).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_line_is_found_in_the_form_of_each_proxy() {
        for (line, expected) in [
            ("[ALERT]    (12) : [haproxy.main()] Some", "ALERT"),
            (
                "2026/11/27 14:28:45 [emerg] 12#12: bind() to [::1]:80",
                "emerg",
            ),
            ("nginx: [warn] the \"user\" directive", "warn"),
            (
                "[2026-11-27 14:28:45.123][12][critical][main] [source/server/server.cc:1] a",
                "critical",
            ),
            ("a line of another program", ""),
        ] {
            assert_eq!(level(line), expected);
        }
    }
}
