//! A script's error as its author reads it: the message and the line to blame, without frames of Rust or of our own
//! Lua.

use std::fmt;

use mlua::debug::Debug;
use mlua::{Error, Function, Lua, Value};

use super::names::Names;
use super::time_limit::TOO_LONG;

/// How many frames of the stack are searched for the line to blame.
const MAX_FRAMES: usize = 30;

/// The error at the memory limit. Lua does not say where it was reached.
const OUT_OF_MEMORY: &str =
    "it needs more than the 64 MiB of memory that a script may have, or calls itself without end";

/// An error of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    /// The line to blame, if one is.
    pub place: Option<Place>,
}

/// A line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The script's name or path.
    pub script: String,
    /// From 1, if it is known.
    pub line: Option<usize>,
    /// The function that the line is in, if it has a name.
    pub function: Option<String>,
}

impl Failure {
    /// A failure without a place. The handler that catches it adds one.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
        }
    }

    /// A failure of a whole function, such as a wrong result.
    pub fn of(function: &Function, name: Option<String>, message: impl Into<String>) -> Self {
        let info = function.info();
        let place = match (info.source, info.line_defined) {
            (Some(source), Some(line)) if source.starts_with('@') => Some(Place {
                script: source[1..].to_owned(),
                line: Some(line),
                function: name,
            }),
            _ => None,
        };
        Self {
            message: message.into(),
            place,
        }
    }

    /// This failure, with another place if it has none, as errors of memory do.
    pub fn or_at(self, other: impl FnOnce() -> Option<Place>) -> Self {
        Self {
            place: self.place.or_else(other),
            ..self
        }
    }

    /// This failure as a script sees it that catches it: text with a position, as of Lua's own errors.
    pub fn told(&self) -> String {
        match &self.place {
            Some(Place {
                script,
                line: Some(line),
                ..
            }) => format!("{script}:{line}: {}", self.message),
            _ => self.message.clone(),
        }
    }

    /// Whether it is the memory limit, and Lua did not say where it was reached.
    pub fn lacks_line_of_memory(&self) -> bool {
        self.place.is_none() && self.message == OUT_OF_MEMORY
    }

    /// Whether a call exceeded its time.
    pub fn is_timeout(&self) -> bool {
        self.message == TOO_LONG
    }

    /// Whether the call took so long that it would hold up others if it were soon made again.
    pub fn takes_long(&self) -> bool {
        self.is_timeout() || self.message == OUT_OF_MEMORY
    }

    /// The error that a binding raises.
    pub fn raise(message: impl Into<String>) -> Error {
        Error::external(Self::new(message))
    }

    /// An error that no handler of ours has seen, such as one of syntax.
    pub fn from_error(error: &Error) -> Self {
        match error {
            Error::CallbackError { cause, .. }
            | Error::WithContext { cause, .. }
            | Error::BadArgument { cause, .. } => Self::from_error(cause),
            Error::ExternalError(cause) => match cause.downcast_ref::<Self>() {
                Some(failure) => failure.clone(),
                None => Self::new(cause.to_string()),
            },
            Error::SyntaxError { message, .. } => Self::from_text(message),
            Error::RuntimeError(message) => Self::from_text(
                message
                    .split("\nstack traceback:")
                    .next()
                    .unwrap_or(message),
            ),
            Error::MemoryError(_) => Self::new(OUT_OF_MEMORY),
            other => Self::new(other.to_string()),
        }
    }

    /// An error value that a protected call has caught.
    pub fn from_value(value: &Value) -> Self {
        match value {
            Value::Error(error) => Self::from_error(error),
            Value::String(text) if text.as_bytes() == b"not enough memory" => {
                Self::from_error(&Error::MemoryError(String::new()))
            }
            Value::String(text) => Self::from_text(&text.to_string_lossy()),
            Value::Nil => Self::new("`error` was called without a message"),
            other => Self::new(format!(
                "`error` was called with a {} instead of a message",
                other.type_name()
            )),
        }
    }

    /// Takes `script.lua:3: message` apart.
    fn from_text(text: &str) -> Self {
        let parts = text.find(": ").and_then(|end| {
            let (script, line) = text[..end].rsplit_once(':')?;
            Some((script, line.parse().ok()?, &text[end + 2..]))
        });
        let (message, place) = match parts {
            Some((script, line, message)) => (
                message,
                Some(Place {
                    script: script.to_owned(),
                    line: Some(line),
                    function: None,
                }),
            ),
            None => (text, None),
        };
        let message = if message.contains("stack overflow") {
            "it calls itself without end (stack overflow)".to_owned()
        } else {
            message.to_owned()
        };
        Self { message, place }
    }
}

/// The message handler of protected calls. It sees the stack as it was at the error.
pub fn blame(lua: &Lua, error: &Value, names: &Names) -> Failure {
    let mut failure = Failure::from_value(error);
    for level in 1..MAX_FRAMES {
        let frame = lua.inspect_stack(level, |frame| place(frame, names));
        match (frame, &mut failure.place) {
            (None, _) => break,
            (Some(None), _) => {}
            (Some(Some(frame)), none @ None) => {
                *none = Some(frame);
                break;
            }
            // The message names a line, and this may be its frame.
            (Some(Some(frame)), Some(place)) => {
                if frame.script == place.script && frame.line == place.line {
                    place.function = frame.function;
                    break;
                }
            }
        }
    }
    failure
}

/// The place of a frame; none if it is of our own Lua, or of Rust.
pub fn place(frame: &Debug, names: &Names) -> Option<Place> {
    let source = frame.source();
    // The name of our own Lua begins with `=`. Its lines mean nothing to an author.
    let script = source.source.as_deref()?.strip_prefix('@')?.to_owned();
    let line = frame.current_line()?;
    let local_name = || {
        let names = frame.names();
        names
            .name
            .filter(|name| name != "?")
            .map(std::borrow::Cow::into_owned)
    };
    let function = if source.what == "main" {
        None
    } else {
        names.of(&frame.function()).or_else(local_name)
    };
    Some(Place {
        script,
        line: Some(line),
        function,
    })
}

impl fmt::Display for Failure {
    /// The message and, on a line of its own, the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(Place {
            script,
            line,
            function,
        }) = &self.place
        {
            write!(f, "\n  at {script}")?;
            if let Some(line) = line {
                write!(f, ":{line}")?;
            }
            if let Some(function) = function {
                write!(f, " in {function}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
