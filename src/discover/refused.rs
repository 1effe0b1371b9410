//! Content that a proxy or a command refuses, and when it is tried again.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::status::Status;
use crate::base::text::printable;

/// The first and the longest pause before refused content is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Why a configuration is not in force.
#[derive(Debug)]
pub enum Refused {
    /// It has been read, and refused. The reader's own lines; empty if it told them its own log alone, as `HAProxy` 2.6
    /// does at a reload.
    Bad(Vec<String>),
    /// It is not known whether it would be taken.
    Unknown(anyhow::Error),
}

/// The content that was refused last. The same content is tried again ever later, other content at once.
#[derive(Debug, Default)]
pub struct Refusals {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    text: String,
    pause: Duration,
    until: Instant,
}

impl Refused {
    /// The reason.
    pub fn lines(self) -> Vec<String> {
        match self {
            Self::Bad(lines) => lines,
            Self::Unknown(error) => vec![format!("{error:#}")],
        }
    }
}

impl Refusals {
    /// Whether this content is not to be tried yet.
    pub fn put_off(&self, text: &str) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| last.text == text && Instant::now() < last.until)
    }

    /// The time of the next try; none if nothing is refused.
    pub fn until(&self) -> Option<Instant> {
        self.last.as_ref().map(|last| last.until)
    }

    /// Counts a refusal, and shows it. The log has it once for the same content, under the headline.
    pub fn add(&mut self, status: &Status, headline: &str, text: &str, lines: &[String]) {
        status.metrics.count_reload(false);
        let again = self.last.as_ref().filter(|last| last.text == text);
        let pause = again.map_or(PAUSES[0], |last| (last.pause * 2).min(PAUSES[1]));
        if again.is_none() {
            error!("{headline}:\n{}", lines.join("\n"));
        }
        let why = lines.first().map_or("it is refused", String::as_str);
        status.configuration.bad(why);
        self.last = Some(Last {
            text: text.to_owned(),
            pause,
            until: Instant::now() + pause,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    pub fn clear(&mut self) {
        self.last = None;
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(lines) if lines.is_empty() => {
                write!(f, "the configuration is refused; the proxy's log says why")
            }
            Self::Bad(lines) => {
                write!(f, "the configuration is refused: ")?;
                for (i, line) in lines.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}{}", printable(line))?;
                }
                Ok(())
            }
            Self::Unknown(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Unknown(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_content_is_tried_ever_later_and_other_content_at_once() {
        let (mut refusals, status) = (Refusals::default(), Status::default());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            refusals.add(&status, "refused", "a", &[]);
            let pause = refusals.until().map(|until| until - Instant::now());
            assert_eq!(pause, Some(Duration::from_secs(seconds)));
            assert!(refusals.put_off("a"));
            assert!(!refusals.put_off("b"));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(!refusals.put_off("a"));
        }
        refusals.clear();
        assert_eq!(refusals.until(), None);
    }
}
