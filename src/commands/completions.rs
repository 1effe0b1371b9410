//! `completions`: a shell's completions of the command line.

use std::io::Write;

use super::print;

/// `text` is made from the command line's definitions.
pub fn run(text: &[u8], out: &mut impl Write) -> anyhow::Result<bool> {
    print(text, "completions", out).map(|()| true)
}
