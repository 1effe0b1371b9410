//! Changes of a running `HAProxy`, as commands, and the answers that confirm them. An answer that is not known is a
//! refusal: those that nobody reads become drift.

use std::fmt;
use std::sync::Arc;

use crate::base::text::{printable, quote};
use crate::routes::Server;

/// The longest command, in bytes. Above `tune.bufsize`, 16 kB, `HAProxy` before 3.2 does something else without a word.
const LONGEST: usize = 8192;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a server that takes connections at once, before its first check.
    Add {
        backend: Arc<str>,
        server: Server,
    },
    Ready {
        backend: Arc<str>,
        name: Arc<str>,
    },
    /// No new connections; the open ones go on.
    Maint {
        backend: Arc<str>,
        name: Arc<str>,
    },
    /// Of a server in maintenance without connections. See [`super::Version::can_delete_servers`].
    Delete {
        backend: Arc<str>,
        name: Arc<str>,
    },
    Enable {
        frontend: Arc<str>,
    },
    /// Refuses new connections, until it is enabled or the configuration is loaded anew.
    Disable {
        frontend: Arc<str>,
    },
}

/// A change that `HAProxy` has not confirmed, or that was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub change: Change,
    /// What `HAProxy` answered, or the reason why it was not asked.
    pub answer: String,
}

/// A command, and the answers that confirm it.
pub(super) struct Step {
    pub line: String,
    confirmations: &'static [&'static str],
}

impl Refusal {
    pub(super) fn new(change: &Change, answer: String) -> Self {
        Self {
            change: change.clone(),
            answer,
        }
    }
}

impl Step {
    pub fn confirms(&self, answer: &str) -> bool {
        self.confirmations.contains(&answer.trim())
    }
}

impl Change {
    /// Its commands, or the reason why it must not be sent.
    pub(super) fn steps(&self) -> Result<Vec<Step>, String> {
        const SILENCE: &[&str] = &[""];
        let step = |line, confirmations| Step {
            line,
            confirmations,
        };
        let state = |backend: &str, name: &str, state: &str| {
            step(
                format!("set server {backend}/{name} state {state}"),
                SILENCE,
            )
        };
        let steps = match self {
            Self::Add { backend, server } => {
                let (name, address, options) =
                    (name(&server.name)?, server.address, &server.options);
                let backend = self::name(backend)?;
                check_options(options)?;
                let line = format!("add server {backend}/{name} {address} {options}");
                let mut steps = vec![step(line, &["New server registered."])];
                // Added with its checks off.
                for (option, what) in [("check", "health"), ("agent-check", "agent")] {
                    if options.split_whitespace().any(|it| it == option) {
                        steps.push(step(format!("enable {what} {backend}/{name}"), SILENCE));
                    }
                }
                // Added in maintenance.
                steps.push(state(backend, name, "ready"));
                steps
            }
            Self::Ready { backend, name } => {
                vec![state(self::name(backend)?, self::name(name)?, "ready")]
            }
            Self::Maint { backend, name } => {
                vec![state(self::name(backend)?, self::name(name)?, "maint")]
            }
            Self::Delete { backend, name } => {
                let line = format!("del server {}/{}", self::name(backend)?, self::name(name)?);
                vec![step(line, &["Server deleted.", "No such server."])]
            }
            Self::Enable { frontend } => {
                let line = format!("enable frontend {}", name(frontend)?);
                vec![step(line, &["", "All sockets are already enabled."])]
            }
            Self::Disable { frontend } => {
                let line = format!("disable frontend {}", name(frontend)?);
                vec![step(line, &["", "All sockets are already disabled."])]
            }
        };
        match steps.iter().find(|step| step.line.len() > LONGEST) {
            Some(step) => Err(format!(
                "its command has {} bytes, more than {LONGEST}; shorten the options",
                step.line.len()
            )),
            None => Ok(steps),
        }
    }
}

/// A name, if it can be nothing but a name on a command line.
pub(super) fn name(name: &str) -> Result<&str, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if !name.is_empty() && name.chars().all(is_allowed) {
        return Ok(name);
    }
    Err(format!(
        "{} is no name for HAProxy; use letters, digits, `_`, `.`, `:` and `-`",
        quote(name)
    ))
}

/// Options come from a policy, and must not become a second command, a comment or a payload.
fn check_options(options: &str) -> Result<(), String> {
    let is_special = |c: char| c.is_control() || ";\\\"'#<".contains(c);
    match options.chars().find(|c| is_special(*c)) {
        None => Ok(()),
        Some(c) => Err(format!(
            "{} is not allowed in a server's options; take it out of {}",
            quote(&c.to_string()),
            quote(options)
        )),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { backend, server } => {
                write!(
                    f,
                    "add server `{backend}/{}` at {}",
                    server.name, server.address
                )
            }
            Self::Ready { backend, name } => write!(f, "set server `{backend}/{name}` ready"),
            Self::Maint { backend, name } => {
                write!(f, "set server `{backend}/{name}` to maintenance")
            }
            Self::Delete { backend, name } => write!(f, "delete server `{backend}/{name}`"),
            Self::Enable { frontend } => write!(f, "enable frontend `{frontend}`"),
            Self::Disable { frontend } => write!(f, "disable frontend `{frontend}`"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = printable(self.answer.trim());
        write!(f, "HAProxy did not {}: {answer}", self.change)?;
        if answer.contains("Permission denied") {
            write!(f, " Give its `stats socket` the option `level admin`.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(name: &str, options: &str) -> Change {
        Change::Add {
            backend: "web".into(),
            server: Server {
                name: name.into(),
                address: "[::1]:80".parse().unwrap(),
                options: options.into(),
            },
        }
    }

    fn lines(change: &Change) -> Vec<String> {
        let steps = change.steps().unwrap();
        steps.into_iter().map(|step| step.line).collect()
    }

    #[test]
    fn an_added_server_is_checked_only_if_its_options_say_so() {
        assert_eq!(
            lines(&add("a_10.0.0.1:80", "check inter 1s")),
            [
                "add server web/a_10.0.0.1:80 [::1]:80 check inter 1s",
                "enable health web/a_10.0.0.1:80",
                "set server web/a_10.0.0.1:80 state ready",
            ]
        );
        assert_eq!(
            lines(&add("a", "weight 5 agent-check agent-port 9")),
            [
                "add server web/a [::1]:80 weight 5 agent-check agent-port 9",
                "enable agent web/a",
                "set server web/a state ready",
            ]
        );
        assert_eq!(lines(&add("a", "no-check")).len(), 2);
    }

    #[test]
    fn nothing_that_could_be_a_second_command_is_sent() {
        for options in [
            "check; shutdown frontend web",
            "check\nset server web/b state maint",
            "check \\",
            "check \"a",
            "check 'a",
            "check # a",
            "check <<",
            "check\0",
        ] {
            let why = add("a", options).steps().err().expect("it is refused");
            assert!(
                why.contains("is not allowed in a server's options"),
                "{why}"
            );
        }
        for name in ["", "a b", "a/b", "a;b", "a\nb", "ä", "@1", "a\\"] {
            let why = add(name, "").steps().err().expect("it is refused");
            assert!(why.contains("is no name for HAProxy"), "{why}");
            let frontend = Change::Disable {
                frontend: name.into(),
            };
            assert!(frontend.steps().is_err(), "{name}");
        }
    }

    #[test]
    fn a_command_above_half_a_buffer_is_not_sent() {
        let options = "check ".repeat(LONGEST / 6);
        let why = add("a", &options).steps().err().expect("it is refused");
        assert!(why.contains("more than 8192; shorten the options"), "{why}");
    }
}
