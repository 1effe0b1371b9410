//! The configuration that the proxy is known to have: what it loaded, and the run-time changes since. It is kept in a
//! file beside the configuration, so that the next process does not reload a proxy that is in step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::base::file;
use crate::routes::{File, Piece};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The digest of the file's whole text.
    text: String,
    /// The digest of the file without its servers, which only a reload changes.
    skeleton: String,
    /// The line of each server that the process has, by backend and name: also of those that are in maintenance. A copy
    /// shares the backends that have not changed since.
    servers: BTreeMap<Arc<str>, Arc<Lines>>,
}

/// The lines of a backend's servers, by their names.
type Lines = BTreeMap<Arc<str>, Arc<str>>;

impl Applied {
    /// The state of a proxy that has just loaded this file.
    pub fn loaded(file: &File) -> Self {
        let mut applied = Self {
            text: digest(&file.text()),
            skeleton: skeleton(file),
            servers: BTreeMap::new(),
        };
        for servers in file.servers() {
            let backend = applied
                .servers
                .entry(Arc::clone(&servers.backend))
                .or_default();
            let backend = Arc::make_mut(backend);
            for (server, line) in servers.servers.iter().zip(&servers.lines) {
                backend.insert(Arc::clone(&server.name), Arc::clone(line));
            }
        }
        applied
    }

    /// What an earlier process left.
    pub fn recall(path: &Path) -> Option<Self> {
        let text = file::read_text(path).ok()?;
        match serde_json::from_str(&text) {
            Ok(applied) => Some(applied),
            Err(error) => {
                debug!("cannot use `{}`: {error}", path.display());
                None
            }
        }
    }

    /// Whether it is about a configuration with this text.
    pub fn is_about(&self, text: &str) -> bool {
        self.text == digest(text)
    }

    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        file::replace(path, &serde_json::to_string(self)?)
    }

    /// Whether the proxy has this file's text but for servers.
    pub fn has_skeleton(&self, file: &File) -> bool {
        self.skeleton == skeleton(file)
    }

    /// The line of a server that the process has.
    pub fn line(&self, backend: &str, name: &str) -> Option<&Arc<str>> {
        self.servers.get(backend)?.get(name)
    }

    pub fn backends(&self) -> impl Iterator<Item = &Arc<str>> {
        self.servers.keys()
    }

    pub fn add(&mut self, backend: &Arc<str>, name: &Arc<str>, line: &Arc<str>) {
        let servers = self.servers.entry(Arc::clone(backend)).or_default();
        Arc::make_mut(servers).insert(Arc::clone(name), Arc::clone(line));
    }

    pub fn remove(&mut self, backend: &str, name: &str) {
        if let Some(servers) = self.servers.get_mut(backend) {
            Arc::make_mut(servers).remove(name);
        }
    }

    /// The file on disk has this text now.
    pub fn set_text(&mut self, text: &str) {
        self.text = digest(text);
    }
}

fn skeleton(file: &File) -> String {
    let mut text = String::new();
    for piece in &file.pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Servers(servers) => {
                // No text has a zero byte.
                text.push('\0');
                text.push_str(&servers.backend);
                text.push('\0');
                text.push_str(servers.frontend.as_deref().unwrap_or_default());
                text.push('\0');
            }
        }
    }
    digest(&text)
}

pub fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<String>>().concat()
}
