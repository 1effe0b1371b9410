//! `test`: runs policy tests written in Lua.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use super::print;
use crate::policy::{Options, test_file};

/// The default host address in tests, so that they pass on every host. It is reserved for documentation (RFC 5737).
const HOST_IP: &str = "192.0.2.1";

pub struct Settings {
    pub files: Vec<PathBuf>,
    pub options: Options,
}

/// Runs the files and prints the failures. Returns whether there are none.
pub fn run(settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut options = settings.options;
    if options.host_ip.is_empty() {
        HOST_IP.clone_into(&mut options.host_ip);
    }
    let (mut passed, mut failed) = (0, 0);
    let mut text = String::new();
    for file in settings.files {
        let tests = test_file(&file, options.clone());
        passed += tests.passed;
        failed += tests.failed.len();
        for (name, failure) in tests.failed {
            let failure = failure.to_string().replace('\n', "\n  ");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "failed: {name}\n  {failure}");
        }
    }
    let _ = writeln!(text, "{passed} passed, {failed} failed");
    print(text.as_bytes(), "results", out)?;
    Ok(failed == 0)
}
