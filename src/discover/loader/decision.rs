//! Compares the wanted files with those on disk and with what the process has loaded. It is pure.
//!
//! | process | files on disk | step |
//! | --- | --- | --- |
//! | runs | as wanted, and it has loaded them | nothing |
//! | runs | as wanted | load |
//! | runs | others | install, load |
//! | has died, and is about to be started again | as wanted | nothing |
//! | has died, and is about to be started again | others | install |
//! | is absent | any | install, start |

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::file;
use crate::discover::applied::digest;
use crate::routes::File;

/// The files that a process has loaded. They are kept on disk, so that the next `discover` does not load them again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    files: String,
    by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence<'a> {
    /// With the name that no other process has.
    Runs(&'a str),
    Dead,
    Absent,
}

/// The facts of one round.
#[derive(Debug)]
pub struct State<'a> {
    /// The digest of the wanted files.
    pub wanted: &'a str,
    pub is_on_disk: bool,
    /// None while it is not known.
    pub loaded: Option<&'a Loaded>,
    pub process: Presence<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// The files are in place.
    Load,
    /// Check the files, and put them in place. Then load them.
    Install,
}

pub fn decide(state: &State) -> Step {
    match state.process {
        Presence::Absent => Step::Install,
        _ if !state.is_on_disk => Step::Install,
        Presence::Dead => Step::Nothing,
        Presence::Runs(process) => {
            let is_loaded = |loaded: &Loaded| loaded.files == state.wanted && loaded.by == process;
            if state.loaded.is_some_and(is_loaded) {
                Step::Nothing
            } else {
                Step::Load
            }
        }
    }
}

impl Loaded {
    pub fn new(files: &str, by: &str) -> Self {
        Self {
            files: files.to_owned(),
            by: by.to_owned(),
        }
    }

    /// The record of an earlier process. Without it, the files are loaded once more.
    pub fn recall(path: &Path) -> Option<Self> {
        serde_json::from_str(&file::read_text(path).ok()?).ok()
    }

    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        file::replace(path, &serde_json::to_string(self)?)
    }
}

/// The digest of names and texts.
pub fn digest_of(files: &[&File]) -> String {
    let texts = files.iter().map(|file| {
        // The lengths tell where each ends.
        let (name, text) = (&file.name, file.text());
        format!("{} {}\n{name}{text}", name.len(), text.len())
    });
    digest(&texts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(is_on_disk: bool, loaded: Option<(&str, &str)>, process: Presence) -> Step {
        let loaded = loaded.map(|(files, by)| Loaded::new(files, by));
        decide(&State {
            wanted: "a",
            is_on_disk,
            loaded: loaded.as_ref(),
            process,
        })
    }

    #[test]
    fn each_state_has_its_step() {
        let runs = Presence::Runs("1@5");
        for (is_on_disk, loaded, process, expected) in [
            (true, Some(("a", "1@5")), runs, Step::Nothing),
            // Another process, other files, nothing known.
            (true, Some(("a", "1@4")), runs, Step::Load),
            (true, Some(("b", "1@5")), runs, Step::Load),
            (true, None, runs, Step::Load),
            (false, Some(("a", "1@5")), runs, Step::Install),
            (false, None, runs, Step::Install),
            (true, Some(("a", "1@5")), Presence::Dead, Step::Nothing),
            (false, Some(("a", "1@5")), Presence::Dead, Step::Install),
            (true, None, Presence::Absent, Step::Install),
            (false, None, Presence::Absent, Step::Install),
        ] {
            let found = step(is_on_disk, loaded, process);
            assert_eq!(found, expected, "{is_on_disk} {loaded:?} {process:?}");
        }
    }

    #[test]
    fn names_and_texts_are_not_mixed_up() {
        let file = |name: &str, text: &str| File {
            name: name.into(),
            pieces: vec![crate::routes::Piece::Text(text.into())],
        };
        let (ab, a, b) = (file("ab", "c"), file("a", "bc"), file("b", ""));
        assert_ne!(digest_of(&[&ab]), digest_of(&[&a]));
        assert_ne!(digest_of(&[&a, &b]), digest_of(&[&a]));
    }
}
