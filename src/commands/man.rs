//! `man`: the manual page.

use std::io::{self, Write};

use anyhow::Context as _;

use super::print;

/// `page` makes the text from the command line's definitions.
pub fn run(page: fn() -> io::Result<Vec<u8>>, out: &mut impl Write) -> anyhow::Result<bool> {
    let page = page().context("cannot make the manual page")?;
    print(&page, "manual page", out).map(|()| true)
}
