//! The flags that are a choice of words.

use clap::ValueEnum;

use crate::commands::keys::Format;
use crate::register::keeper::OnExit;

/// `--format` of `keys`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeysFormat {
    /// `KEY VALUE`, one a line
    Text,
    /// Everything there is to know of each key
    Json,
    /// A shell script of `etcdctl` calls that has the same effect
    Etcdctl,
}

/// `--format` of `diff`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DiffFormat {
    /// For people
    Text,
    /// One list
    Json,
}

/// `--on-exit`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnExitArg {
    /// They stay until their TTL, so that an upgrade is no outage
    Leave,
    /// They are removed before the process ends
    Remove,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogLevel {
    /// What needs somebody
    Error,
    /// What may need somebody
    Warn,
    /// What changes
    Info,
    /// What is seen and done
    Debug,
}

impl From<KeysFormat> for Format {
    fn from(format: KeysFormat) -> Self {
        match format {
            KeysFormat::Text => Self::Text,
            KeysFormat::Json => Self::Json,
            KeysFormat::Etcdctl => Self::Etcdctl,
        }
    }
}

impl From<OnExitArg> for OnExit {
    fn from(arg: OnExitArg) -> Self {
        match arg {
            OnExitArg::Leave => Self::Leave,
            OnExitArg::Remove => Self::Remove,
        }
    }
}
