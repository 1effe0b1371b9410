//! `types`: the Lua API for editors.

use std::io::Write;

use super::print;

/// The file for lua-language-server; `$VERSION` is replaced.
const TYPES: &str = include_str!("../../scripts/types.lua");

pub fn run(out: &mut impl Write) -> anyhow::Result<bool> {
    let types = TYPES.replace("$VERSION", env!("CARGO_PKG_VERSION"));
    print(types.as_bytes(), "types", out).map(|()| true)
}
