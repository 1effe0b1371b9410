//! `types`: the Lua API for editors.

use std::io::Write;

use anyhow::Context as _;

/// What lua-language-server reads; the version is put in its place.
const TYPES: &str = include_str!("../../scripts/types.lua");

/// Prints the types.
pub fn run(out: &mut impl Write) -> anyhow::Result<()> {
    let types = TYPES.replace("$VERSION", env!("CARGO_PKG_VERSION"));
    out.write_all(types.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the types")
}
