//! The log: how its lines look, and the last of them that need somebody.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{IsTerminal as _, stderr};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::cli::{LogArgs, LogFormat, LogLevel};

/// How many warnings and errors are remembered.
const REMEMBERED: usize = 20;

/// The last warnings and errors.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Line>>>);

/// One of them.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was logged.
    pub at: Timestamp,
    /// Whether it is an error, and not a warning.
    pub is_error: bool,
    /// What it says.
    pub text: String,
}

/// Starts the log, on stderr. Returns where its warnings and errors are remembered.
pub fn start(args: &LogArgs) -> Recent {
    let level = match args.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // The libraries' own lines tell of frames and sockets, which help no operator.
    let ours = |level| Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false);
    let recent = Recent::default();
    let log =
        tracing_subscriber::registry().with(recent.clone().with_filter(ours(LevelFilter::WARN)));
    // It is set once, so it cannot fail.
    let _ = match args.log_format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(log.with(lines.with_filter(ours(level))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            tracing::subscriber::set_global_default(log.with(lines.with_filter(ours(level))))
        }
    };
    recent
}

impl Recent {
    /// The last ones, the newest first.
    pub fn lines(&self) -> Vec<Line> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().rev().cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let line = Line {
            at: Timestamp::now(),
            is_error: *event.metadata().level() == Level::ERROR,
            text: text.0,
        };
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == REMEMBERED {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// The text of a line.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}
