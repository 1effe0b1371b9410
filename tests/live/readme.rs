//! Every command in the README does what the README says. `make test` is what runs this, and is not run once more.

use crate::common;

use std::process::Command;

use common::{SOON, TestBed, docker, eventually, require_docker};

const README: &str = include_str!("../../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_docker-register");

/// The command in the README that begins with these words, as a list of words.
fn command(beginning: &str) -> Vec<String> {
    let mut lines = README.lines().filter(|line| line.starts_with(beginning));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no `{beginning}` in the README"));
    assert_eq!(
        lines.next(),
        None,
        "`{beginning}` stands twice in the README"
    );
    line.split_whitespace().map(str::to_owned).collect()
}

/// Puts the test's own etcd in the place of the example's.
fn with_etcd(words: &[String], bed: &TestBed) -> Vec<String> {
    words
        .iter()
        .map(|word| word.replace("1.2.3.4:4001", &bed.etcd.endpoint()))
        .collect()
}

#[test]
fn the_console_blocks_print_what_they_show() {
    trycmd::TestCases::new().case("README.md").run();
}

#[test]
fn the_example_in_the_readme_is_the_file() {
    let file = include_str!("../../examples/site.lua");
    let code = file
        .split_once('\n')
        .expect("a comment on the first line")
        .1;
    assert!(README.contains(&format!("```lua\n{code}```\n")));
}

#[test]
fn it_runs_as_a_container() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let web = bed
        .container()
        .publish_all()
        .env("SERVICE_NAME", &bed.name)
        .start();
    let words = with_etcd(&command("docker run"), &bed);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (run, rest) = words[1..].split_at(2);
    let (name, flags) = rest.split_last().expect("the image's name");
    assert_eq!((run, *name), (["run", "-d"].as_slice(), "docker-register"));
    // The test's etcd listens on loopback, which a container sees in the host's network alone. Of all containers here
    // it registers the test's own.
    let label = format!("docker-register-test={}", bed.name);
    let filter = format!("DOCKER_REGISTER_FILTER={}", bed.filter());
    // And it shares the host's ports with other tests.
    let listen = "DOCKER_REGISTER_LISTEN=127.0.0.1:0";
    let own = [
        "--network",
        "host",
        "--label",
        &label,
        "-e",
        &filter,
        "-e",
        listen,
    ];
    docker(&[run, &own, flags, &[&image]].concat());
    let key = format!("/backends/{}/1/{}", bed.name, web.short_id());
    let value = format!("1.2.3.4:{}", web.host_port("8005/tcp"));
    eventually(SOON, "the container's key", || {
        bed.etcd.kv(&key).is_some_and(|found| found.value == value)
    });
}

#[test]
fn it_runs_as_a_program() {
    let bed = TestBed::new();
    let web = bed.container().publish_all().start();
    let words = with_etcd(&command("docker-register --host-ip"), &bed);
    let child = Command::new(PROGRAM)
        .args(&words[1..])
        .args(["--filter", &bed.filter()])
        .spawn();
    let mut child = child.expect("the program");
    let key = format!("/backends/web/1/{}", web.short_id());
    let there = std::panic::catch_unwind(|| {
        eventually(SOON, "the container's key", || bed.etcd.kv(&key).is_some());
    });
    child
        .kill()
        .and_then(|()| child.wait())
        .expect("the end of the program");
    there.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn the_demo_shows_keys_come_and_go() {
    require_docker();
    assert_eq!(command("make demo"), ["make", "demo"]);
    // What `make demo` runs when it has set the machine up, with the program that is built already.
    let demo = Command::new("bash")
        .arg("examples/demo.sh")
        .env("DOCKER_REGISTER", PROGRAM)
        .output();
    let demo = demo.expect("bash");
    let shown = String::from_utf8_lossy(&demo.stdout);
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "{shown}\n{said}");
    assert!(shown.contains("/backends/service_name/2/port"), "{shown}");
    assert!(shown.contains("0 keys"), "{shown}");
}
