//! `test`: runs policy tests written in Lua.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::policy::{Options, test_file};

/// The host's address in tests that name none: one for documentation (RFC 5737), so that they are the same everywhere.
const HOST_IP: &str = "192.0.2.1";

/// Runs the files and prints what failed. Returns whether nothing did.
pub fn run(files: &[PathBuf], mut options: Options, out: &mut impl Write) -> anyhow::Result<bool> {
    if options.host_ip.is_empty() {
        HOST_IP.clone_into(&mut options.host_ip);
    }
    let (mut passed, mut failed) = (0, 0);
    let mut text = String::new();
    for file in files {
        let tests = test_file(file, options.clone());
        passed += tests.passed;
        failed += tests.failed.len();
        for (name, failure) in tests.failed {
            let failure = failure.to_string().replace('\n', "\n  ");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "failed: {name}\n  {failure}");
        }
    }
    let _ = writeln!(text, "{passed} passed, {failed} failed");
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the results")?;
    Ok(failed == 0)
}
