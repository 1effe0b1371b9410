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
    Servers(Arc<Servers>),
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
            Piece::Servers(servers) => Some(&**servers),
        })
    }

    /// The servers that differ from those of an earlier file; none if anything else differs. What both share costs
    /// nothing.
    pub fn changed_servers(&self, before: &Self) -> Option<Vec<&Servers>> {
        if self.name != before.name || self.pieces.len() != before.pieces.len() {
            return None;
        }
        let mut changed = Vec::new();
        for pair in self.pieces.iter().zip(&before.pieces) {
            match pair {
                (Piece::Text(text), Piece::Text(before)) => {
                    if !Arc::ptr_eq(text, before) && text != before {
                        return None;
                    }
                }
                (Piece::Servers(servers), Piece::Servers(before)) => {
                    if Arc::ptr_eq(servers, before) {
                        continue;
                    }
                    let name =
                        |servers: &Servers| (servers.backend.clone(), servers.frontend.clone());
                    if name(servers) != name(before) {
                        return None;
                    }
                    if servers != before {
                        changed.push(&**servers);
                    }
                }
                _ => return None,
            }
        }
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_differ_are_changed() {
        let servers = |backend: &str, lines: &[&str]| {
            Piece::Servers(Arc::new(Servers {
                backend: backend.into(),
                frontend: None,
                servers: Vec::new(),
                lines: lines.iter().map(|line| (*line).into()).collect(),
            }))
        };
        let file = |pieces: &[Piece]| File {
            name: "f".into(),
            pieces: pieces.to_vec(),
        };
        let text = |text: &str| Piece::Text(text.into());
        let before = file(&[text("a"), servers("web", &["1"]), servers("db", &["1"])]);
        let changed = |pieces: &[Piece]| {
            let now = file(pieces);
            let changed = now.changed_servers(&before)?;
            Some(
                changed
                    .iter()
                    .map(|it| it.backend.to_string())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(changed(&before.pieces), Some(vec![]));
        let same = [text("a"), servers("web", &["1"]), servers("db", &["1"])];
        assert_eq!(changed(&same), Some(vec![]));
        let other = [text("a"), servers("web", &["1"]), servers("db", &["2"])];
        assert_eq!(changed(&other), Some(vec!["db".to_owned()]));
        for pieces in [
            &[text("b"), servers("web", &["1"]), servers("db", &["1"])][..],
            &[text("a"), servers("db", &["1"]), servers("web", &["1"])],
            &[text("a"), servers("web", &["1"]), text("db")],
            &same[..2],
        ] {
            assert_eq!(changed(pieces), None, "{pieces:?}");
        }
    }
}
