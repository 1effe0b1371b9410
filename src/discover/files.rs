//! The directory of the files that a policy makes: a file is replaced as a whole, and only after it has been checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::base::file;
use crate::routes::File;

/// The directory of files that are checked.
const STAGING: &str = ".staged";
/// The end of the name of the last configuration that the proxy has loaded.
const LAST_GOOD: &str = "last-good";

#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Makes the directory if it is missing.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        fs::create_dir_all(directory).with_context(|| {
            format!("cannot make the directory `{shown}`: pass --directory DIR with one that can be written to")
        })?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The text of a file; none if there is none.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        match file::read_text(&self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a text beside a file, and returns where. It is not in force there.
    pub fn stage(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        self.write(&format!("{name}.new"), text)?;
        Ok(self.path(&format!("{name}.new")))
    }

    /// Replaces a file if its text is another. Returns whether it was.
    pub fn put(&self, name: &str, text: &str) -> anyhow::Result<bool> {
        if self.read(name).ok().flatten().as_deref() == Some(text) {
            return Ok(false);
        }
        self.replace(name, text)?;
        Ok(true)
    }

    /// Writes a file anew, also if its text is the same.
    pub fn replace(&self, name: &str, text: &str) -> anyhow::Result<()> {
        if let Some(parent) = self.path(name).parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        self.write(name, text)
    }

    /// Whether all these files lie there with their texts.
    pub fn hold(&self, files: &[&File]) -> io::Result<bool> {
        for file in files {
            if self.read(&file.name)?.as_deref() != Some(&*file.text()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// An empty directory for files that are not in force, below this one.
    pub fn staging(&self) -> anyhow::Result<Self> {
        let staging = self.path(STAGING);
        // An earlier process may have left it. If it cannot be removed, nothing can be written there either.
        let _ = fs::remove_dir_all(&staging);
        Self::open(&staging)
    }

    /// Removes the directory with all its files.
    pub fn discard(self) {
        // The next staging removes what is left.
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Keeps a copy of a configuration that the proxy has loaded, for an operator.
    pub fn keep_good(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.put(&format!("{name}.{LAST_GOOD}"), text).map(drop)
    }

    pub fn remove(&self, name: &str) {
        // A file that is not there is as good as one that has been removed.
        let _ = fs::remove_file(self.path(name));
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        file::replace(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// The file with the servers, which the proxy loads; none if no file has any, or a policy makes no file.
pub fn main_file(files: &[File]) -> Option<&File> {
    let with_servers = files.iter().find(|file| file.servers().next().is_some());
    with_servers.or(files.first())
}
