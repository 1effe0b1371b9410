//! The texts of scripts: the main script, the bundled ones, and the site's files beside the main script.

use std::path::{Path, PathBuf};

use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, Result};

use super::context::{Context, Phase};
use super::failure::Failure;
use crate::base::file;

/// A script that is compiled into the program.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// The name that `--script` and `require` know it by.
    pub name: &'static str,
    /// Its file in the source, which messages name.
    pub file: &'static str,
    pub text: &'static str,
}

/// The main script as a function: a bundled script by its name, or a file.
pub fn main(lua: &Lua, context: &Context) -> std::result::Result<Function, Failure> {
    let path = context.script();
    let chunk = if let Some(script) = bundled(context, &path.to_string_lossy()) {
        compile(lua, context, script.text.as_bytes(), script.file)
    } else {
        let text = read(context, path).map_err(|error| {
            let is_bare = path.components().count() == 1 && path.extension().is_none();
            let hint = if is_bare {
                format!("; bundled policies are {}", bundled_names(context))
            } else {
                String::new()
            };
            Failure::new(format!("cannot read `{}`: {error}{hint}", path.display()))
        })?;
        compile(lua, context, &text, &path.to_string_lossy())
    };
    chunk.map_err(|error| Failure::from_error(&error))
}

/// A module as a function: a bundled script, or a file of the site's.
pub fn find(lua: &Lua, context: &Context, name: &str) -> Result<Function> {
    if let Some(script) = bundled(context, name) {
        return compile(lua, context, script.text.as_bytes(), script.file);
    }
    let mut elsewhere = context.setup.elsewhere.iter();
    if let Some((_, why)) = elsewhere.find(|(module, _)| *module == name) {
        return Err(Failure::raise(*why));
    }
    if context.phase.get() != Phase::Loading {
        return Err(Failure::raise(format!(
            "`require \"{name}\"`: modules are required while the script loads"
        )));
    }
    let legal = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    if !name.split('.').all(legal) {
        return Err(Failure::raise(format!(
            "`require \"{name}\"`: a module's name has letters, digits, `_` and `-`, and dots for directories"
        )));
    }
    let there_are = || {
        format!(
            "there are {} and the bundled policies {}",
            context.modules.join(", "),
            bundled_names(context)
        )
    };
    let script = context.script();
    if context.setup.is_bundled() {
        return Err(Failure::raise(format!(
            "there is no module `{name}`; {}",
            there_are()
        )));
    }
    let path = beside(script, name, context.setup.looks_above);
    match read(context, &path) {
        Ok(text) => compile(lua, context, &text, &path.to_string_lossy()),
        Err(error) => Err(Failure::raise(format!(
            "there is no module `{name}`: cannot read `{}`: {error}; {}",
            path.display(),
            there_are()
        ))),
    }
}

/// The file of a site's module.
fn beside(script: &Path, name: &str, looks_above: bool) -> PathBuf {
    let directory = script.parent().unwrap_or(Path::new(""));
    let file = name.split('.').collect::<PathBuf>().with_extension("lua");
    let path = directory.join(&file);
    // A test may be in a directory below the script that it tests, and have the same file name.
    if looks_above && (!path.exists() || path == script) {
        return directory.join("..").join(&file);
    }
    path
}

fn bundled(context: &Context, name: &str) -> Option<&'static Bundled> {
    let mut scripts = context.setup.bundled.iter();
    scripts.find(|script| script.name == name)
}

fn bundled_names(context: &Context) -> String {
    let scripts = context.setup.bundled.iter();
    let names = scripts.map(|script| script.name);
    // A part of a policy is none.
    let names: Vec<&str> = names.filter(|name| !name.contains('.')).collect();
    names.join(", ")
}

/// Reads a script's text. Only a script that runs once may come from a pipe.
fn read(context: &Context, path: &Path) -> std::io::Result<Vec<u8>> {
    if context.setup.runs_once {
        std::fs::read(path)
    } else {
        file::read(path)
    }
}

/// A script's text as a function. Messages call its lines `name:LINE`.
fn compile(lua: &Lua, context: &Context, text: &[u8], name: &str) -> Result<Function> {
    context.add_text(text);
    lua.load(text)
        .set_name(format!("@{name}"))
        .set_mode(ChunkMode::Text)
        .into_function()
}
