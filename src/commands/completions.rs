//! `completions`: a shell's completions of the command line.

use std::io::Write;

use super::print;

/// Prints the text, which the command line makes of its definitions.
pub fn run(text: &[u8], out: &mut impl Write) -> anyhow::Result<bool> {
    print(text, "completions", out).map(|()| true)
}
