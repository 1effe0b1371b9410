//! The log: the form of its lines, their way to stderr, and the last warnings and errors, for the page.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write, stderr};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;

pub use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use queue::Queue;

/// The number of warnings and errors that are kept.
const REMEMBERED: usize = 20;
/// The longest time that the exit waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The lines of a daemon, which must not wait for the reader of stderr. Other commands write to stderr directly: they
/// lose no line, and may wait.
static QUEUE: OnceLock<Queue> = OnceLock::new();

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub format: Format,
    /// The lowest level that is logged.
    pub level: LevelFilter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The last warnings and errors.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Line>>>);

#[derive(Debug, Clone)]
pub struct Line {
    pub at: Timestamp,
    /// An error, or else a warning.
    pub is_error: bool,
    pub text: String,
}

/// Starts the log, on stderr. Returns the list of its last warnings and errors. A daemon never waits for the reader of
/// stderr.
pub fn start(settings: Settings, is_daemon: bool) -> Recent {
    // The libraries log frames and sockets, which are of no use to an operator.
    let ours = |level| Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let writer = if is_daemon && start_queue().is_ok() {
        BoxMakeWriter::new(|| Queued)
    } else {
        BoxMakeWriter::new(stderr)
    };
    let lines = layer()
        .with_writer(writer)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false);
    let recent = Recent::default();
    let log =
        tracing_subscriber::registry().with(recent.clone().with_filter(ours(LevelFilter::WARN)));
    // This fails only at a second call.
    let _ = match settings.format {
        Format::Text => tracing::subscriber::set_global_default(
            log.with(lines.with_filter(ours(settings.level))),
        ),
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            tracing::subscriber::set_global_default(
                log.with(lines.with_filter(ours(settings.level))),
            )
        }
    };
    recent
}

/// Writes text to stderr as it is, in order with the lines of the log.
pub fn print(text: &str) {
    match QUEUE.get() {
        Some(queue) => queue.push(text.as_bytes()),
        // `eprint!` would panic if stderr is closed.
        None => drop(stderr().write_all(text.as_bytes())),
    }
}

/// Writes the last lines before the program ends. Gives up after [`LAST_LINES`] if nobody reads stderr.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_LINES);
    }
}

/// The number of lines that were dropped because nobody read stderr.
pub fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, Queue::dropped)
}

fn start_queue() -> io::Result<()> {
    let work = || {
        QUEUE
            .get_or_init(Queue::default)
            .write_to(stderr(), |dropped| {
                warn!("{dropped} log lines were dropped, because nobody read stderr");
            })
    };
    thread::Builder::new().name("log".to_owned()).spawn(work)?;
    QUEUE.get_or_init(Queue::default);
    // The default hook writes to stderr directly, and may wait for ever.
    panic::set_hook(Box::new(|panic| print(&describe(panic))));
    Ok(())
}

/// The text that the default hook prints for a panic.
fn describe(panic: &PanicHookInfo) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            format!("thread '{name}' {panic}\nstack backtrace:\n{backtrace}")
        }
        _ => format!(
            "thread '{name}' {panic}\nnote: set RUST_BACKTRACE=1 to see where it came from\n"
        ),
    }
}

/// A writer that puts each line into the queue.
struct Queued;

impl Write for Queued {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get() {
            queue.push(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recent {
    /// Newest first.
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

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}
