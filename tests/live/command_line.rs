//! Everything that is generated from the command line's definitions: completions, the manual page, and the version.

use crate::common;

use common::Registrar;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program with this input, and returns its output: stdout, then stderr.
///
/// # Panics
///
/// With its output if it fails.
fn pipe(program: &str, args: &[&str], text: &str) -> (String, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("`{program}`: {why}; `make test` installs it"));
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("a child can be waited for");
    let _ = writer.join();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), said)
}

/// The output of a command, whose stderr is empty.
fn printed(command: &str, args: &[&str]) -> String {
    let builder = args
        .iter()
        .fold(Registrar::command(), |builder, arg| builder.arg(*arg));
    let output = builder.run(command);
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(output.stderr, "");
    output.stdout
}

#[test]
fn each_shell_takes_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        // Only whether it could be run: the shell reads it and does nothing.
        let (_, said) = pipe(shell, &["-n"], &printed("completions", &[shell]));
        assert_eq!(said, "", "{shell}");
    }
    for shell in ["elvish", "powershell"] {
        let completions = printed("completions", &[shell]);
        assert!(completions.contains("store-password-file"), "{completions}");
    }
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let completions = printed("completions", &["bash"]);
    let cases = [
        ("docker-register com", "completions"),
        ("docker-register --dry", "--dry-run"),
        ("docker-register keys --expl", "--explain"),
        ("docker-register run --on-exit rem", "remove"),
    ];
    for (line, wanted) in cases {
        // As bash calls it: with the command, the word and the one before it.
        let script = format!(
            "{completions}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             function=$(complete -p docker-register | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
             $function docker-register \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"\n\
             echo \"${{COMPREPLY[@]}}\""
        );
        let (completed, said) = pipe("bash", &[], &script);
        assert_eq!((completed.trim(), &*said), (wanted, ""), "{line}");
    }
}

#[test]
fn the_manual_page_is_sound_and_has_every_flag() {
    let page = printed("man", &[]);
    let (text, said) = pipe("groff", &["-man", "-ww", "-Tutf8", "-P-cbou"], &page);
    assert_eq!(said, "");
    for flag in [
        "--etcd",
        "--dry-run",
        "--containers",
        "--format",
        "--log-level",
    ] {
        assert!(text.contains(flag), "{flag} is not in the page:\n{text}");
    }
    assert!(text.contains("HOST_IP environment variable"), "{text}");
    let one = text.matches("--log-level <").count();
    assert_eq!(one, 1, "a flag of several commands stands there once");
}

#[test]
fn a_variable_that_is_not_read_causes_a_warning_on_stderr() {
    let keys = || {
        Registrar::command()
            .flag("--containers", "examples/fleet.json")
            .flag("--host-ip", "192.0.2.1")
    };
    let plain = keys().run("keys");
    let warned = keys().env("DOCKER_REGISTER_TLL", "30").run("keys");
    assert_eq!(plain.stderr, "");
    assert_eq!(warned.stdout, plain.stdout);
    let warning =
        "WARN `DOCKER_REGISTER_TLL` is set but not read: did you mean `DOCKER_REGISTER_TTL`?";
    assert!(
        warned.stderr.trim_end().ends_with(warning),
        "{}",
        warned.stderr
    );
}

#[test]
fn it_says_the_version_that_it_was_built_with() {
    let version = concat!("docker-register ", env!("VERSION_AND_COMMIT"), "\n");
    assert_eq!(printed("--version", &[]), version);
}

/// A directory in which `build.rs` runs as under cargo for a release.
struct Build {
    directory: tempfile::TempDir,
}

impl Build {
    /// Compiles `build.rs`.
    fn new() -> Self {
        let build = Build {
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
        };
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let compiled = Command::new(rustc)
            .args(["--edition", "2024", "build.rs", "-o"])
            .arg(build.path().join("build"))
            .status();
        assert!(compiled.expect("`rustc` can be run").success());
        build
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn git(&self, args: &[&str]) -> String {
        let path = self.path().to_str().expect("a path of letters");
        let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
        pipe("git", &[&["-C", path][..], &who, args].concat(), "").0
    }

    /// Its output for cargo, in `directory`.
    fn run(&self, directory: &Path, variables: &[(&str, &str)]) -> Vec<String> {
        let output = Command::new(self.path().join("build"))
            .current_dir(directory)
            .env_remove("DOCKER_REGISTER_COMMIT")
            .envs([("CARGO_PKG_VERSION", "1.2.3"), ("PROFILE", "release")])
            .envs(variables.iter().copied())
            .output()
            .expect("a build script can be run");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_release_says_the_commit_that_it_is_built_from() {
    const VERSION: &str = "cargo::rustc-env=VERSION_AND_COMMIT=1.2.3";
    let build = Build::new();
    let sources = build.path().join("sources");
    std::fs::create_dir(&sources).expect("a directory can be made");
    let version = |variables: &[(&str, &str)]| build.run(&sources, variables).pop();

    assert_eq!(version(&[]).as_deref(), Some(VERSION), "without git");
    let said = version(&[("DOCKER_REGISTER_COMMIT", "abc1234")]);
    assert_eq!(said, Some(format!("{VERSION} (abc1234)")));
    build.git(&["init", "--quiet"]);
    build.git(&[
        "commit",
        "--quiet",
        "--allow-empty",
        "--message",
        "Another's",
    ]);
    let said = version(&[]);
    assert_eq!(
        said.as_deref(),
        Some(VERSION),
        "inside of another's repository"
    );

    let commit = build.git(&["rev-parse", "--short", "HEAD"]);
    let said = build.run(build.path(), &[]);
    assert_eq!(said.last(), Some(&format!("{VERSION} ({})", commit.trim())));
    // Cargo runs it again after a commit, but not at each build.
    let watched = said
        .iter()
        .filter(|line| line.contains("rerun-if-changed=.git/"));
    let watched: Vec<_> = watched.map(|line| line.rsplit('=').next()).collect();
    assert_eq!(watched, [Some(".git/HEAD"), Some(".git/refs/heads")]);
    let debug = build.run(build.path(), &[("PROFILE", "debug")]).pop();
    assert_eq!(debug, Some(format!("{VERSION} (debug build)")));
}
