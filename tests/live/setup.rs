//! `tests/setup.sh` requires for each purpose the programs that it needs, and no others. It runs here with a PATH in
//! which nearly all of them are missing.

use std::os::unix::fs::symlink;
use std::process::Command;

/// The packages that the script reports as missing, if only these programs are installed and there is no apt-get.
fn missing(purpose: &[&str], programs: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let link = |program: &str, name: &str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .expect("`sh` can be run");
        let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        symlink(found, directory.path().join(name)).expect("a link can be made");
    };
    for name in ["bash", "sort"] {
        link(name, name);
    }
    // They only have to exist.
    for name in programs {
        link("env", name);
    }

    let output = Command::new("bash")
        .arg("tests/setup.sh")
        .args(purpose)
        .env("PATH", directory.path())
        .env("HOME", directory.path())
        .output()
        .expect("`bash` can be run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("missing here: the equivalent of "));
    assert_eq!(output.status.success(), missing.is_none(), "{said}");
    missing
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Whether the script finds all programs of this machine in the one place that it adds to the path.
fn sbin_has_all() -> bool {
    std::fs::canonicalize("/usr/sbin").ok() == std::fs::canonicalize("/usr/bin").ok()
}

#[test]
fn the_build_needs_protoc_and_a_c_compiler_alone() {
    let build = ["--for", "build"];
    assert_eq!(missing(&build, &["protoc", "cc"]), [""; 0]);
    if !sbin_has_all() {
        assert_eq!(missing(&build, &[]), ["gcc", "protobuf-compiler"]);
    }
}

#[test]
fn the_demo_needs_docker_etcd_haproxy_and_busybox_besides() {
    let demo = ["--for", "demo"];
    let all = [
        "protoc", "cc", "docker", "dockerd", "etcd", "etcdctl", "busybox", "haproxy", "ip",
        "iptables",
    ];
    assert_eq!(missing(&demo, &all), [""; 0]);
    if !sbin_has_all() {
        assert_eq!(
            missing(&demo, &all[..2]),
            ["busybox-static", "docker.io", "etcd-client", "etcd-server"]
        );
    }
}

#[test]
fn the_tests_need_more_and_are_the_default() {
    if sbin_has_all() {
        return;
    }
    let all = missing(&[], &[]);
    for package in ["gcc", "etcd-server", "podman", "zsh", "fish"] {
        assert!(all.iter().any(|one| one == package), "{package}: {all:?}");
    }
    assert_eq!(missing(&["--for", "tests"], &[]), all);
}
