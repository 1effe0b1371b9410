//! The log: as JSON it is one object per line, with stable field names; and nothing waits for its reader.

use crate::common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{SOON, Script, TestBed, eventually, get};
use serde_json::Value;

/// The time limit of an exit that waits a second for the log's reader.
const SHORTLY: Duration = Duration::from_secs(4);

#[test]
fn each_line_is_an_object_with_fields_that_keep_their_names() {
    let bed = TestBed::new();
    let web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish("8005")
        .start();
    let registrar = bed.registrar().flag("--log-format", "json").start();
    eventually(SOON, "the keys", || bed.keys().len() == 2);
    web.stop();
    eventually(SOON, "the end of the keys", || bed.keys().is_empty());
    registrar.terminate();
    let log = registrar.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let key = format!("{}/web/1/{}", bed.prefix, web.short_id());
    let change = |message: &str| {
        let of_key = |line: &&Value| line["message"] == message && line["key"] == *key;
        lines
            .iter()
            .find(of_key)
            .unwrap_or_else(|| panic!("{message} of {key} in {log}"))
    };
    let put = change("put");
    assert_eq!(put["level"], "INFO");
    assert_eq!(put["container"], web.name());
    let address = put["value"].as_str().expect("a value");
    assert!(address.starts_with(common::HOST_IP), "{put}");
    let deleted = lines.iter().filter(|line| line["message"] == "delete");
    let deleted: Vec<&Value> = deleted.collect();
    // The `port` key is swept with the last key beside it, and names that key's container too.
    assert_eq!(deleted.len(), 2, "{log}");
    for line in deleted {
        assert_eq!(line["container"], web.name(), "{line}");
    }
}

/// A policy that logs 80 KiB at each call, in numbered lines.
const TALKATIVE: &str = r#"
    local log, register = require "log", require "register"
    local number = 0
    function register.service(container, port)
      for _ = 1, 10 do
        number = number + 1
        log.info(("line %d %s"):format(number, ("x"):rep(4000)))
      end
      return "web"
    end
    return register
    "#;

/// The numbers of its lines in a log.
fn numbers(log: &str) -> Vec<u64> {
    let numbers = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("INFO line ")?;
        rest.split_once(' ')?.0.parse().ok()
    });
    numbers.collect()
}

#[test]
fn a_reader_that_stalls_holds_up_nothing() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let web = bed.container().publish_all().start();
    let script = Script::new(TALKATIVE);
    let registrar = bed
        .registrar()
        .flag("--script", script.path())
        .flag("--ttl", TTL.to_string())
        .flag("--log-level", "debug")
        .flag("--listen", "127.0.0.1:0")
        .start();
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    let address = registrar.address();
    let dropped = || {
        let metrics = get(&address, "/metrics").body;
        let name = "docker_register_log_lines_dropped_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let number = line.expect("the metric").parse::<f64>();
        number.expect("a number")
    };
    assert!(dropped().abs() < 0.5);
    let history = bed.etcd.revision();

    registrar.stop_reading_log();
    let mut renames = 0;
    eventually(SOON, "lines that are dropped", || {
        renames += 1;
        web.rename(&format!("{}-{renames}", bed.name));
        dropped() > 50.0
    });
    bed.etcd.let_pass(2 * TTL + 1);
    assert_eq!(get(&address, "/healthz").status, 200);
    assert_eq!(bed.keys().len(), 4);
    assert_eq!(bed.etcd.revision(), history, "the keys never went");
    let other = bed.container().publish_all().start();
    eventually(SOON, "the keys of another container", || {
        bed.keys().len() == 6
    });

    registrar.read_log_again();
    registrar.wait_for_log("lines were dropped", SOON);
    other.stop();
    registrar.wait_for_log(" INFO delete ", SOON);
    let log = registrar.log();
    let (before, after) = log
        .split_once(" log lines were dropped, because nobody read stderr")
        .expect("it says so");
    assert!(!after.contains("lines were dropped"), "it says so twice");
    let number = before.rsplit(' ').next().expect("a number");
    assert!(before.ends_with(&format!(" WARN {number}")), "a warning");
    let number: f64 = number.parse().expect("a number");
    assert!((dropped() - number).abs() < 0.5, "{} {number}", dropped());
    let queued = numbers(before);
    assert!(queued.iter().copied().eq(1..=queued.len() as u64));
    assert!(queued.len() > 250, "a whole queue: {}", queued.len());

    let begun = Instant::now();
    assert!(registrar.terminate().success());
    assert!(begun.elapsed() < SHORTLY, "{:?}", begun.elapsed());
}

#[test]
fn a_reader_that_stalls_from_the_start_holds_up_neither_the_start_nor_the_end() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let registrar = bed.registrar().full_stderr().start();
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    let begun = Instant::now();
    assert!(registrar.terminate().success());
    assert!(begun.elapsed() < SHORTLY, "{:?}", begun.elapsed());
}

#[test]
fn what_cannot_be_written_holds_up_nothing() {
    let bed = TestBed::new();
    let web = bed.container().publish_all().start();
    let command = bed.registrar();
    for command in [
        command.clone().closed_stderr(),
        command.clone().without_stderr(),
        command.stderr_to(Path::new("/dev/full")),
    ] {
        let registrar = command.flag("--listen", "127.0.0.1:0").start();
        eventually(SOON, "the keys", || bed.keys().len() == 4);
        web.pause();
        eventually(SOON, "their end", || bed.keys().is_empty());
        web.unpause();
        assert!(registrar.terminate().success());
    }
}

#[test]
fn the_last_lines_are_written_to_a_reader_that_comes_back_in_time() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let script = Script::new(TALKATIVE);
    let registrar = bed.registrar().flag("--script", script.path());
    let registrar = registrar.full_stderr().start();
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    registrar.signal("TERM");
    registrar.read_log_again();
    let output = registrar.output(SOON);
    assert!(output.status.success());
    let log = &output.stderr;
    assert!(numbers(log).into_iter().eq(1..=20), "{:?}", numbers(log));
    assert!(log.ends_with(" INFO ending; the keys stay until their TTL ends\n"));
}

#[test]
fn the_error_that_ends_the_program_is_the_last_line_and_waits_for_no_reader() {
    let bed = TestBed::new();
    let script = Script::new(&format!(
        "{}\nerror('broken')",
        TALKATIVE.replace("return register", "for _ = 1, 10 do register.service() end")
    ));
    let registrar = bed.registrar().flag("--script", script.path());
    let output = registrar.run("run");
    assert_eq!(output.status.code(), Some(1));
    let log = &output.stderr;
    assert_eq!(numbers(log).len(), 100, "{log}");
    let (_, last) = log.rsplit_once("xxx\n").expect("lines");
    assert!(last.starts_with("error: broken\n  at "), "{last}");

    let begun = Instant::now();
    let registrar = registrar.full_stderr().start();
    assert_eq!(registrar.wait(SOON).code(), Some(1));
    assert!(begun.elapsed() < SHORTLY, "{:?}", begun.elapsed());
}
