//! Sets the program's version, with the commit that it is built from: `0.1.0 (64a3f76)`.
//!
//! A packager who builds without git sets `DOCKER_REGISTER_COMMIT`. A debug build has no commit: most contain
//! uncommitted changes, and everything would be compiled anew after each commit.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The variable that overrides the commit.
const COMMIT: &str = "DOCKER_REGISTER_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match env::var(COMMIT) {
        Ok(commit) if !commit.is_empty() => Some(commit),
        _ if release => commit_here(),
        _ => Some("debug build".to_owned()),
    };
    let commit = commit.map_or(String::new(), |commit| format!(" ({commit})"));
    println!("cargo::rustc-env=VERSION_AND_COMMIT={version}{commit}");
}

/// The commit that is checked out in the current directory, which is the package's under cargo.
fn commit_here() -> Option<String> {
    // Without this, sources unpacked inside another repository would get that one's commit.
    fs::metadata(".git").ok()?;
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    for name in ["HEAD", "refs/heads", "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        // Cargo treats a missing file as changed at every build.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    Some(commit)
}

/// git's output; none if git is missing or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
