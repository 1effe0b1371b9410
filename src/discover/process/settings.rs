//! The command of a proxy, and the facts by which it is found again and ends.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::base::text::quote;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The program and its arguments. It must stay in the foreground.
    pub command: Vec<OsString>,
    pub kind: Kind,
}

/// A kind of proxy, with the place where a running one is found again.
#[derive(Debug, Clone)]
pub enum Kind {
    Haproxy {
        /// The socket of its master. Without it, a running one is never adopted.
        master: Option<PathBuf>,
    },
    Nginx {
        pid_file: PathBuf,
        /// Its configuration, if that is in its command.
        file: Option<PathBuf>,
    },
    Envoy {
        /// The socket of its admin interface.
        admin: PathBuf,
    },
}

impl Settings {
    /// `HAProxy` with the flags for reloads by the socket.
    pub fn haproxy(program: &OsStr, file: &Path, master: &Path) -> Self {
        let mut socket = master.as_os_str().to_owned();
        socket.push(",mode,600");
        let arguments = [
            "-W".as_ref(),
            "-S".as_ref(),
            &*socket,
            "-f".as_ref(),
            file.as_os_str(),
        ];
        let master = Some(master.to_owned());
        Self::new(program, &arguments, Kind::Haproxy { master })
    }

    /// nginx in the foreground.
    pub fn nginx(program: &OsStr, file: &Path, pid_file: &Path) -> Self {
        let arguments = [
            "-c".as_ref(),
            file.as_os_str(),
            "-g".as_ref(),
            "daemon off;".as_ref(),
        ];
        let kind = Kind::Nginx {
            pid_file: pid_file.to_owned(),
            file: Some(file.to_owned()),
        };
        Self::new(program, &arguments, kind)
    }

    /// Envoy as the only one of its host: its hot restart needs a number for each.
    pub fn envoy(program: &OsStr, bootstrap: &Path, admin: &Path) -> Self {
        let arguments = [
            "-c".as_ref(),
            bootstrap.as_os_str(),
            "--disable-hot-restart".as_ref(),
        ];
        let admin = admin.to_owned();
        Self::new(program, &arguments, Kind::Envoy { admin })
    }

    fn new(program: &OsStr, arguments: &[&OsStr], kind: Kind) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        Self {
            command: [program.to_owned()].into_iter().chain(arguments).collect(),
            kind,
        }
    }

    pub(super) fn program(&self) -> String {
        let program = self.command.first();
        quote(&program.map_or_else(String::new, |it| it.display().to_string()))
    }
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Haproxy { .. } => "HAProxy",
            Self::Nginx { .. } => "nginx",
            Self::Envoy { .. } => "Envoy",
        }
    }

    /// The signal that lets open connections end. Envoy has none.
    pub(super) fn graceful(&self) -> Signal {
        match self {
            Self::Haproxy { .. } => Signal::USR1,
            Self::Nginx { .. } => Signal::QUIT,
            Self::Envoy { .. } => Signal::TERM,
        }
    }
}
