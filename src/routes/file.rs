//! A file that a policy makes. Its servers are told apart from the rest of its text, because they can change without a
//! reload.

use std::sync::Arc;

use super::Server;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// A path below the directory of all files: no slash at its start, no `..`.
    pub name: Arc<str>,
    pub pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(Arc<str>),
    Servers(Servers),
}

/// The servers of one backend, as the policy has written them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    pub backend: Arc<str>,
    /// The frontend that refuses connections while there is no server; none if the proxy answers instead.
    pub frontend: Option<Arc<str>>,
    pub servers: Vec<Server>,
    /// The lines of the file, one for each server, each with its line end.
    pub lines: Vec<Arc<str>>,
}

impl File {
    pub fn text(&self) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Servers(servers) => text.extend(servers.lines.iter().map(|line| &**line)),
            }
        }
        text
    }

    /// The servers of all its backends.
    pub fn servers(&self) -> impl Iterator<Item = &Servers> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Servers(servers) => Some(servers),
        })
    }
}
