//! The user as whom this program speaks to a store.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::base::file;
use crate::base::text::quote;

#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub password: Password,
}

#[derive(Clone)]
pub enum Password {
    /// In a file that is read at each connection, because it may change.
    File(PathBuf),
    Text(String),
}

impl fmt::Debug for Password {
    /// Shows the file, and never the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(_) => f.write_str("***"),
        }
    }
}

impl User {
    /// Reads the password. `store` is the store's name, for an error about the file.
    pub fn read_password(&self, store: &str) -> anyhow::Result<String> {
        match &self.password {
            Password::Text(text) => Ok(text.clone()),
            Password::File(path) => {
                let text = file::read_text(path).with_context(|| {
                    let (name, path) = (quote(&self.name), path.display());
                    format!("cannot read the password of {store}'s user {name} from `{path}`")
                })?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}
