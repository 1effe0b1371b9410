//! Every command in the README works as described, and no link of the pages is broken. `make test` runs this, and so
//! is not run by it.

use crate::common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{
    Backend, ProxyDirectory, SOON, TestBed, ask, docker, eventually, free_port, require_docker,
};

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

/// The lines of the README's blocks of one language.
fn block_lines(language: &str) -> Vec<&'static str> {
    let mut here = None;
    let mut lines = Vec::new();
    for line in README.lines() {
        match (line.strip_prefix("```"), here) {
            (Some(opening), None) => here = Some(opening),
            (Some(_), Some(_)) => here = None,
            (None, Some(opening)) if opening == language => lines.push(line),
            (None, _) => {}
        }
    }
    lines
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    let outside = page.split("```").step_by(2);
    outside.collect()
}

/// The backquoted texts that begin with these words, without the words.
fn in_backquotes<'a>(prose: &'a str, beginning: &str) -> Vec<&'a str> {
    let code = prose.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.strip_prefix(beginning))
        .collect()
}

/// The targets of a text's links.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    let inline = prose.split("](").skip(1);
    inline.map(|rest| rest.split_once(')').expect("the end of a link").0)
}

/// The headings of a page, as links name them.
fn anchors(page: &str) -> Vec<String> {
    let prose = prose(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The README and the pages beside it.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir("docs").expect("the directory of the documents");
    let docs = docs.map(|file| file.expect("a document").path());
    let pages = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    let pages = pages.map(PathBuf::from);
    let pages = pages.into_iter().filter(|page| page.exists());
    pages
        .chain(docs.filter(|file| file.extension().is_some_and(|ending| ending == "md")))
        .collect()
}

/// Replaces the example's etcd by the test's.
fn with_etcd(words: &[String], bed: &TestBed) -> Vec<String> {
    words
        .iter()
        .map(|word| word.replace("10.0.0.1:2379", &bed.etcd.endpoint()))
        .collect()
}

#[test]
fn the_console_blocks_print_what_they_show() {
    trycmd::TestCases::new().case("README.md").run();
}

#[test]
fn the_examples_in_the_readme_are_those_in_the_files() {
    let policy = include_str!("../../examples/site.lua");
    let (_comment, policy) = policy.split_once('\n').expect("two lines");
    assert!(README.contains(&format!("```lua\n{policy}```\n")));
    let tests = include_str!("../../examples/tests/site.lua");
    let shown = block_lines("lua").join("\n");
    let (_policy, test) = shown
        .split_once("return register\n")
        .expect("a test after the policy");
    assert!(tests.contains(&format!("\n{test}\n")), "{test}");
}

#[test]
fn the_commands_for_moving_over_have_flags_that_exist() {
    let page = include_str!("../../docs/moving.md");
    let blocks = page.split("```").skip(1).step_by(2).flat_map(str::lines);
    let blocks = blocks.filter_map(|line| line.strip_prefix("docker-register "));
    let prose = prose(page);
    let inline = in_backquotes(&prose, "docker-register ");
    let commands: Vec<&str> = blocks.chain(inline).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let (words, _comment) = command.split_once(" #").unwrap_or((command, ""));
        // The flags before it are parsed, and nothing is run.
        let output = Command::new(PROGRAM)
            .args(words.split_whitespace())
            .arg("--help")
            .output()
            .expect("the program");
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

#[test]
fn it_can_be_read_in_one_sitting() {
    let lines = README.lines().count();
    assert!(lines < 250, "the README has {lines} lines");
}

#[test]
fn each_link_leads_to_a_file_and_each_anchor_to_a_heading() {
    let pages = pages();
    assert!(pages.len() > 1, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for link in links(&prose(&text)).filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap_or(Path::new("")).join(file),
            };
            assert!(file.exists(), "{}: no file for {link}", page.display());
            let found = anchor.is_empty()
                || anchors(&fs::read_to_string(&file).expect("a page"))
                    .iter()
                    .any(|one| one == anchor);
            assert!(found, "{}: no heading for {link}", page.display());
        }
    }
}

#[test]
fn each_shell_command_is_run_by_a_test_or_is_a_target() {
    let (targets, others): (Vec<&str>, Vec<&str>) = block_lines("sh")
        .into_iter()
        .partition(|line| line.starts_with("make "));
    // The ones that are run below.
    let run = [
        "docker-register up",
        "docker run",
        "docker-register --host-ip",
        "etcdctl role add",
        "etcdctl role grant-permission",
        "etcdctl user add",
        "etcdctl user grant-role",
        "docker-register discover",
    ];
    let run = run.map(|beginning| command(beginning).join(" "));
    assert_eq!(others, run);
    let targets = targets.iter().filter_map(|line| line.strip_prefix("make "));
    let prose = prose(README);
    for target in targets.chain(in_backquotes(&prose, "make ")) {
        let plan = Command::new("make")
            .args(["--dry-run", target])
            .env_remove("MAKEFLAGS")
            .output()
            .expect("`make` can be run");
        assert!(plan.status.success(), "make {target}");
        // Only the tests may install their extra programs.
        let plan = String::from_utf8_lossy(&plan.stdout);
        let purpose = match target {
            "build" | "image" => "tests/setup.sh --for build",
            "demo" => "tests/setup.sh --for demo",
            _ => "",
        };
        assert!(plan.contains(purpose), "{plan}");
    }
}

#[test]
fn each_subcommand_that_it_names_exists() {
    let pages: Vec<String> = pages()
        .iter()
        .map(|page| prose(&fs::read_to_string(page).expect("a page")))
        .collect();
    let named = pages
        .iter()
        .flat_map(|page| in_backquotes(page, "docker-register "));
    let named: Vec<&str> = named
        .filter_map(|words| words.split_whitespace().next())
        .collect();
    assert!(named.contains(&"healthcheck"), "{named:?}");
    for subcommand in named.into_iter().filter(|word| !word.starts_with('-')) {
        let help = Command::new(PROGRAM)
            .args([subcommand, "--help"])
            .output()
            .expect("the program can be run");
        assert!(help.status.success(), "docker-register {subcommand}");
    }
}

/// Runs the image as the README says, for a test's containers only, with these further flags.
fn run_image(bed: &TestBed, image: &str, more: &[&str]) {
    let words = with_etcd(&command("docker run"), bed);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (run, rest) = words[1..].split_at(2);
    let (name, flags) = rest.split_last().expect("the image's name");
    assert_eq!((run, *name), (["run", "-d"].as_slice(), "docker-register"));
    // The test's etcd listens on loopback, so the container needs the host's network. It registers only the test's
    // containers.
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
    docker(&[run, &own, flags, more, &[image]].concat());
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
    run_image(&bed, &image, &[]);
    let key = format!("/backends/{}/1/{}", bed.name, web.short_id());
    let value = format!("10.0.0.1:{}", web.host_port("8005/tcp"));
    eventually(SOON, "the container's key", || {
        bed.etcd.kv(&key).is_some_and(|found| found.value == value)
    });
}

#[test]
fn a_policy_gets_into_the_container() {
    let bed = TestBed::new();
    let image = bed.register_image();
    let web = bed
        .container()
        .publish_all()
        .label("com.acme.service", &bed.name)
        .start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::copy("examples/site.lua", directory.path().join("site.lua")).expect("the policy");
    let prose = prose(README);
    let flags = in_backquotes(&prose, "-v /etc/docker-register:");
    let [flags] = flags[..] else {
        panic!("{flags:?}");
    };
    let flags = format!("-v {}:{flags}", directory.path().display());
    run_image(&bed, &image, &flags.split(' ').collect::<Vec<&str>>());
    let key = format!("/backends/{}/1/{}", bed.name, web.short_id());
    eventually(SOON, "the container's key", || bed.etcd.kv(&key).is_some());
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

/// Runs etcdctl with these words at a test's etcd, and the password `secret` for whoever is made.
fn etcdctl(bed: &TestBed, words: &[String]) {
    let mut child = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &bed.etcd.endpoint()])
        .args(words)
        .args((words[..2] == ["user", "add"]).then_some("--interactive=false"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("`etcdctl` can be run: `make test` installs it");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(b"secret\n").expect("it reads");
    drop(stdin);
    let status = child.wait().expect("a child can be waited for");
    assert!(status.success(), "etcdctl {words:?}");
}

#[test]
fn its_least_role_is_enough_for_both_roles_and_allows_nothing_else() {
    let bed = TestBed::new();
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    for beginning in [
        "role add",
        "role grant-permission",
        "user add",
        "user grant-role",
    ] {
        let line = command(&format!("etcdctl {beginning}"));
        etcdctl(&bed, &line[1..]);
    }
    for line in ["user add root", "user grant-role root root"] {
        etcdctl(&bed, &words(line));
    }
    etcdctl(&bed, &words("auth enable"));
    let web = |name: &str| {
        // Other tests reach their services at the exposed port.
        let port = common::free_port().to_string();
        bed.container()
            .env("SERVICE_NAME", name)
            .env("SERVICE_8005_PORT", &port)
            .publish_all()
            .start()
    };
    let (stays, goes) = (web(&bed.name), web("goes"));
    let as_user = |builder: common::RegistrarBuilder| {
        builder
            .flag("--prefix", "/backends")
            .flag("--etcd-user", "docker-register")
            .env("DOCKER_REGISTER_ETCD_PASSWORD", "secret")
    };
    let run = as_user(bed.registrar()).flag("--ttl", "3");
    let registrar = common::in_step(&run);
    goes.stop();
    registrar.wait_for_log("/backends/goes/2/port", SOON);
    // By a restart, a crash, and for good: it finds its keys, and removes them.
    registrar.terminate();
    let registrar = common::in_step(&run);
    registrar.kill9();
    let registrar = common::in_step(&run);
    common::let_time_pass(std::time::Duration::from_secs(4));
    let diff = as_user(bed.registrar()).flag("--ttl", "3").run("diff");
    assert_eq!(
        (diff.status.code(), &*diff.stdout),
        (Some(0), ""),
        "{diff:?}"
    );
    let directory = ProxyDirectory::new();
    let discover = as_user(bed.discover(directory.path()));
    let discover = discover.start_command("discover");
    let file = directory.path().join("haproxy.cfg");
    eventually(SOON, "the route", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains(&bed.name))
    });
    discover.terminate();
    registrar.signal("USR1");
    assert!(registrar.wait(SOON).success());
    let log = registrar.log();
    assert!(log.ends_with("ending; the keys are removed\n"), "{log}");
    assert!(!log.contains("denied") && !log.contains("WARN"), "{log}");

    // Another prefix is denied.
    let other = as_user(bed.registrar()).flag("--prefix", "/other").start();
    other.wait_for_log(
        "permission denied: give user `docker-register` the role",
        SOON,
    );
    assert!(!other.log().contains("in step"), "{}", other.log());
    etcdctl(&bed, &words("--user root:secret auth disable"));
    drop(stays);
}

/// Runs a command that routes, with these further words, until a port answers this.
fn route(words: &[String], more: &[&str], port: u16, wanted: &str) {
    let directory = ProxyDirectory::new();
    let mut command = Command::new(PROGRAM);
    let command = command.args(&words[1..]).args(more);
    let child = command.arg("--directory").arg(directory.path()).spawn();
    let mut child = child.expect("the program");
    let there = std::panic::catch_unwind(|| {
        let address = format!("127.0.0.1:{port}");
        eventually(SOON, "an answer", || {
            ask(&address, "x").is_ok_and(|answer| answer.trim_end() == wanted)
        });
    });
    common::signal(child.id(), "TERM");
    child.wait().expect("the end of the program");
    there.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn it_routes_to_what_is_registered() {
    let bed = TestBed::new();
    let (server, port) = (Backend::start("a"), free_port());
    bed.etcd.put("/backends/web/1/port", &port.to_string());
    bed.etcd
        .put("/backends/web/1/a", &server.address.to_string());
    let words = with_etcd(&command("docker-register discover"), &bed);
    route(&words, &["--set", "bind=127.0.0.1"], port, "a");
}

#[test]
fn one_host_needs_no_store() {
    let bed = TestBed::new();
    let port = free_port();
    let web = bed.container().publish_all();
    let web = web.args(&["--hostname", "a"]);
    // Other tests use port 8006 too.
    let web = web.env("SERVICE_8006_IGNORE", "true");
    let _web = web.env("SERVICE_8005_PORT", &port.to_string()).start();
    let filter = bed.filter();
    let own = ["--filter", &filter, "--discover-set", "bind=127.0.0.1"];
    route(&command("docker-register up"), &own, port, "a 8005");
}

#[test]
fn the_demo_shows_two_hosts_whose_containers_are_reached() {
    require_docker();
    assert_eq!(command("make demo"), ["make", "demo"]);
    // The command of `make demo` after its setup, with the existing program.
    let demo = Command::new("bash")
        .arg("examples/demo.sh")
        .env("DOCKER_REGISTER", PROGRAM)
        .output();
    let demo = demo.expect("bash");
    let shown = String::from_utf8_lossy(&demo.stdout);
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "{shown}\n{said}");
    assert!(shown.contains("/backends/web/2/port"), "{shown}");
    let failed = shown
        .lines()
        .filter_map(|line| line.split_once(" answers, "));
    let failed: Vec<&str> = failed.map(|(_, failed)| failed).collect();
    assert_eq!(failed, ["0 requests failed"; 4], "{shown}\n{said}");
    assert!(shown.contains("goes on with what it has: b"), "{shown}");
    assert!(shown.contains("    0 keys"), "{shown}");
}
