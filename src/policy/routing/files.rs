//! Reads the files that a policy returns. A text is a list of pieces, and most of them are those of the last text.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mlua::{Lua, MultiValue, Table, Value};

use super::reading::{Fields, a, read_text};
use crate::base::text::quote;
use crate::policy::sandbox::Context;
use crate::policy::sandbox::frozen::Frozen;
use crate::policy::sandbox::unlimited::Unlimited;
use crate::routes::{File, Piece, Servers};

/// The longest name of a file, in bytes.
const MAX_NAME: usize = 255;

/// Reads files, and keeps the pieces of their last texts: a piece that is as it was is the same allocation as before,
/// and is not read again. A file that is not returned, or not as it should be, is forgotten.
pub struct Reader {
    frozen: Frozen,
    /// Compares a list with copies of what it was: a script may change its tables between two calls.
    differences: Unlimited,
    texts: RefCell<HashMap<Arc<str>, Text>>,
}

/// The pieces of a file's last text, and copies of the Lua values that they were read from.
struct Text {
    copies: Table,
    pieces: Vec<Piece>,
}

impl Reader {
    pub fn new(lua: &Lua, context: &Context) -> mlua::Result<Self> {
        Ok(Self {
            frozen: context.frozen().clone(),
            differences: Unlimited::new(lua, context.tool("differences")?)?,
            texts: RefCell::default(),
        })
    }

    /// Reads a file, or a list of files.
    pub fn read(&self, lua: &Lua, values: &MultiValue) -> Result<Vec<File>, String> {
        let Some(Value::Table(table)) = values.front() else {
            let got = values.front().map_or("nothing".to_owned(), a);
            return Err(format!("returned {got}; return a list of files"));
        };
        let contents = self.frozen.contents(table);
        let contents = contents.map_err(|error| error.to_string())?;
        let mut before = self.texts.take();
        let name = contents.raw_get::<Value>("name");
        let files = if name.is_ok_and(|name| name.is_nil()) {
            let files = contents.sequence_values::<Value>().map(|file| match file {
                Ok(Value::Table(file)) => self.read_file(lua, &file, &mut before),
                Ok(other) => Err(format!("returned {} in its list of files", a(&other))),
                Err(error) => Err(error.to_string()),
            });
            files.collect::<Result<Vec<File>, String>>()?
        } else {
            vec![self.read_file(lua, &contents, &mut before)?]
        };
        let mut names = HashSet::new();
        match files.iter().find(|file| !names.insert(&file.name)) {
            Some(twice) => Err(format!("returned two files named {}", quote(&twice.name))),
            None => Ok(files),
        }
    }

    /// Reads a file. `before` has the last texts of all.
    fn read_file(
        &self,
        lua: &Lua,
        table: &Table,
        before: &mut HashMap<Arc<str>, Text>,
    ) -> Result<File, String> {
        let fields = Fields::of(&self.frozen, table)?;
        fields.only(&["name", "text"])?;
        let name = fields
            .text("name")?
            .ok_or("returned a file without `name`")?;
        check_name(&name)?;
        let pieces = match fields.get("text") {
            Value::Table(list) => {
                let before = before.remove(&*name);
                let text = self.read_list(lua, &list, before);
                text.map(|text| {
                    let pieces = text.pieces.clone();
                    self.texts.borrow_mut().insert(name.as_str().into(), text);
                    pieces
                })
            }
            value => self.read_piece(&value).map(|piece| vec![piece]),
        };
        let pieces =
            pieces.map_err(|why| format!("returned a `text` of {} that {why}", quote(&name)))?;
        let name = name.into();
        Ok(File { name, pieces })
    }

    /// Reads the pieces that are not as `before`.
    fn read_list(&self, lua: &Lua, list: &Table, before: Option<Text>) -> Result<Text, String> {
        let failed = |error: mlua::Error| error.to_string();
        let list = self.frozen.contents(list).map_err(failed)?;
        let mut text = match before {
            Some(text) => text,
            None => Text {
                copies: lua.create_table().map_err(failed)?,
                pieces: Vec::new(),
            },
        };
        let differences = self.differences.call::<Table>((&list, &text.copies));
        let differences = differences.map_err(failed)?;
        let length: usize = differences.raw_get("length").map_err(failed)?;
        text.pieces.truncate(length);
        for place in differences.sequence_values::<usize>() {
            let place = place.map_err(failed)?;
            let piece = self.read_piece(&list.raw_get::<Value>(place).map_err(failed)?)?;
            match text.pieces.get_mut(place - 1) {
                Some(old) => *old = piece,
                None => text.pieces.push(piece),
            }
        }
        Ok(text)
    }

    fn read_piece(&self, value: &Value) -> Result<Piece, String> {
        match value {
            Value::Table(servers) => {
                let servers = read_servers(&self.frozen, servers)?;
                Ok(Piece::Servers(Arc::new(servers)))
            }
            value => Ok(Piece::Text(read_text(value)?.into())),
        }
    }
}

/// A name that stays below the directory of all files.
fn check_name(name: &str) -> Result<(), String> {
    let is_bad = |part: &str| part.is_empty() || part.starts_with('.');
    if name.len() > MAX_NAME || name.chars().any(char::is_control) || name.split('/').any(is_bad) {
        return Err(format!(
            "returned the file name {}: a name has up to {MAX_NAME} bytes, single slashes between its parts, and no part \
             that begins with a dot",
            quote(name)
        ));
    }
    Ok(())
}

fn read_servers(frozen: &Frozen, table: &Table) -> Result<Servers, String> {
    let fields = Fields::of(frozen, table)?;
    fields.only(&["backend", "frontend", "servers", "lines"])?;
    let servers = fields.servers(frozen)?;
    let mut lines: Vec<Arc<str>> = Vec::with_capacity(servers.len());
    for line in fields.list(frozen, "lines")? {
        let line = read_text(&line)?;
        if line.is_empty() || line.trim_end_matches('\n').contains('\n') {
            return Err(format!(
                "has a server's line that is not one line: {}",
                quote(&line)
            ));
        }
        lines.push(format!("{}\n", line.trim_end_matches('\n')).into());
    }
    if lines.len() != servers.len() {
        return Err(format!(
            "has {} servers and {} lines for them",
            servers.len(),
            lines.len()
        ));
    }
    let backend = fields
        .text("backend")?
        .ok_or("has servers without `backend`")?;
    Ok(Servers {
        backend: backend.into(),
        frontend: fields.text("frontend")?.map(Into::into),
        servers,
        lines,
    })
}
