//! Gives the program its version with the commit it is built from: `0.1.0 (64a3f76)`.
//!
//! A packager who builds without git says the commit in `DOCKER_REGISTER_COMMIT`. A debug build has none: most are of no
//! commit, and those that work on the program would compile everything anew after each commit.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The variable that says the commit.
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

/// The commit that is checked out in this directory, which cargo has made the current one.
fn commit_here() -> Option<String> {
    // The sources may lie, unpacked, inside of somebody else's repository, whose commit is not theirs.
    fs::metadata(".git").ok()?;
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    for name in ["HEAD", "refs/heads", "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        // Cargo takes a file that does not exist for one that changes at every build.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    Some(commit)
}

/// What git answers, if there is a git and it has an answer.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
