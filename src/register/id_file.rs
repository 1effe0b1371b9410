//! The Docker daemon's id, remembered in a file. The identity in etcd is derived from it, so a registrar that starts while
//! Docker is away can renew the keys that an earlier process held.
//!
//! Nothing depends on the file: without it, or if it is wrong, the keys are renewed once Docker answers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::base::file;

/// The longest id that is believed, in bytes. Docker's has 36; Podman's has a path in it.
const LONGEST_ID: usize = 4096;

/// A file for one Docker daemon's address and one `--instance`, in a directory that others may share.
#[derive(Debug)]
pub struct IdFile {
    path: PathBuf,
    /// The address, as `DOCKER_HOST` has it.
    docker: String,
    instance: String,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    docker: String,
    instance: String,
    id: String,
}

impl IdFile {
    pub fn new(directory: &Path, docker: &str, instance: &str) -> Self {
        let digest = Sha256::digest(format!("{docker}\0{instance}"));
        let mut name = String::from("docker-id-");
        for byte in &digest[..8] {
            // A string takes everything.
            let _ = write!(name, "{byte:02x}");
        }
        Self {
            path: directory.join(name + ".json"),
            docker: docker.to_owned(),
            instance: instance.to_owned(),
        }
    }

    /// The id that was remembered last. Logs a warning if the file is there and of no use.
    pub fn recall(&self) -> Option<String> {
        let why = match file::read_text(&self.path) {
            Ok(text) => match self.parse(&text) {
                Some(id) => return Some(id),
                None => "it has no id of this Docker daemon and --instance".to_owned(),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => error.to_string(),
        };
        let path = self.path.display();
        warn!(
            "cannot read the Docker daemon's id from `{path}`: {why}; it is written again once Docker answers"
        );
        None
    }

    /// Remembers an id. Logs a warning if that fails.
    pub fn keep(&self, id: &str) {
        let remembered = Remembered {
            docker: self.docker.clone(),
            instance: self.instance.clone(),
            id: id.to_owned(),
        };
        let written = serde_json::to_string(&remembered)
            .map_err(Into::into)
            .and_then(|text| file::replace(&self.path, &format!("{text}\n")));
        if let Err(error) = written {
            let path = self.path.display();
            warn!(
                "cannot write the Docker daemon's id to `{path}`: {error}; if this registrar is started while Docker is \
                 away, it cannot renew its keys: let it write to $STATE_DIRECTORY"
            );
        }
    }

    fn parse(&self, text: &str) -> Option<String> {
        let remembered: Remembered = serde_json::from_str(text).ok()?;
        let is_ours = remembered.docker == self.docker && remembered.instance == self.instance;
        let is_id = (1..=LONGEST_ID).contains(&remembered.id.len());
        (is_ours && is_id).then_some(remembered.id)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DOCKER: &str = "unix:///var/run/docker.sock";

    #[test]
    fn an_id_is_remembered_for_one_address_and_one_instance() {
        let directory = tempfile::tempdir().unwrap();
        let id_file = |docker, instance| IdFile::new(directory.path(), docker, instance);
        assert_eq!(id_file(DOCKER, "").recall(), None);
        id_file(DOCKER, "").keep("one");
        id_file(DOCKER, "").keep("two");
        id_file(DOCKER, "b").keep("three");
        assert_eq!(id_file(DOCKER, "").recall().as_deref(), Some("two"));
        assert_eq!(id_file(DOCKER, "b").recall().as_deref(), Some("three"));
        assert_eq!(id_file("tcp://10.0.0.1:2375", "").recall(), None);
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 2, "nothing else is left behind");
    }

    #[test]
    fn a_file_that_is_of_no_use_is_no_id_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let id_file = IdFile::new(directory.path(), DOCKER, "");
        let foreign = r#"{"docker":"tcp://other","instance":"","id":"x"}"#;
        let empty = r#"{"docker":"unix:///var/run/docker.sock","instance":"","id":""}"#;
        for text in ["", "{", "one", foreign, empty] {
            fs::write(&id_file.path, text).unwrap();
            assert_eq!(id_file.recall(), None, "{text}");
            id_file.keep("one");
            assert_eq!(id_file.recall().as_deref(), Some("one"));
        }
        fs::write(&id_file.path, b"\xff").unwrap();
        assert_eq!(id_file.recall(), None);
        fs::remove_file(&id_file.path).unwrap();
        fs::create_dir(&id_file.path).unwrap();
        assert_eq!(id_file.recall(), None);
        // It cannot be replaced either, which is no failure.
        id_file.keep("one");
        assert_eq!(id_file.recall(), None);
    }
}
