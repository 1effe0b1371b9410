//! The log as an operator reads it: a registrar's settings at the start, and the failures that need attention.

use crate::common;

use common::{
    FEW, FakeDocker, HOST_IP, Proxy, Registrar, Reply, SOON, TestBed, count, docker, eventually,
    in_step, let_time_pass, web_keys,
};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The level and the message of each line, in either format.
fn levels_and_messages(registrar: &Registrar) -> Vec<(String, String)> {
    let of_line = |line: &str| {
        if let Ok(object) = serde_json::from_str::<Value>(line) {
            let text = |field: &str| object[field].as_str().expect("a text").to_owned();
            return (text("level"), text("message"));
        }
        let (_, rest) = line.split_once(' ').expect("a time");
        let (level, message) = rest.trim_start().split_once(' ').expect("a level");
        (level.to_owned(), message.to_owned())
    };
    let log = registrar.log();
    // The last line may be incomplete.
    let (lines, _) = log.rsplit_once('\n').unwrap_or_default();
    lines.lines().map(of_line).collect()
}

/// The messages of this level about a retry.
fn retried(registrar: &Registrar, level: &str) -> Vec<String> {
    let says = |message: &str| {
        ["; retrying", "; flapping"]
            .iter()
            .any(|how| message.contains(how))
    };
    let lines = levels_and_messages(registrar).into_iter();
    let of_level = lines.filter(|(of, message)| of == level && says(message));
    of_level.map(|(_, message)| message).collect()
}

#[test]
fn an_etcd_that_is_away_for_half_a_ttl_is_an_error_once() {
    const TTL: u32 = 6;
    let half = Duration::from_secs(u64::from(TTL) / 2);
    let bed = TestBed::new();
    let web = bed.container_on("text").env("SERVICE_NAME", "web").start();
    let registrars = ["text", "json"].map(|format| {
        let registrar = bed
            .registrar_on(format, HOST_IP)
            .flag("--log-format", format);
        in_step(&registrar.flag("--ttl", TTL.to_string()))
    });
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);

    bed.etcd.stop();
    for registrar in &registrars {
        eventually(SOON, "the begin of the trouble", || {
            retried(registrar, "WARN").len() == 1
        });
    }
    let begun = Instant::now();
    let_time_pass(half / 2);
    for registrar in &registrars {
        let errors = retried(registrar, "ERROR");
        assert!(errors.is_empty() || begun.elapsed() > half, "{errors:?}");
        eventually(2 * half, "the error", || {
            !retried(registrar, "ERROR").is_empty()
        });
    }
    let_time_pass(2 * Duration::from_secs(TTL.into()));
    for registrar in &registrars {
        let errors = retried(registrar, "ERROR");
        let [error] = &*errors else {
            panic!("one error: {errors:?}");
        };
        let endpoint = bed.etcd.endpoint();
        assert!(error.contains(&format!("etcd at `{endpoint}`")), "{error}");
        let consequence = " s, keys in etcd stay until their TTL ends";
        let (_, seconds) = error.rsplit_once("; retrying for ").expect("how long");
        let seconds = seconds.strip_suffix(consequence).expect("what follows");
        assert!(["3", "4", "5"].contains(&seconds), "{error}");
    }
    bed.etcd.start_again();
    bed.wait_for_keys(&web_keys("web", &web, HOST_IP), SOON);
    for registrar in &registrars {
        registrar.wait_for_log("etcd is back after ", SOON);
    }
}

/// A Docker that answers everything, but whose event stream ends at once.
#[test]
fn a_docker_that_flaps_is_one_outage() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let ends = Arc::new(AtomicBool::new(true));
    let does_end = Arc::clone(&ends);
    let fake = FakeDocker::start(move |_, path| {
        // A stream whose sender is dropped.
        let ended = || Reply::Stream(mpsc::channel().1);
        (path == "/events" && does_end.load(Ordering::SeqCst)).then(ended)
    });
    let registrar = bed.registrar_of(&fake).flag("--ttl", TTL.to_string());
    let registrar = registrar.start();
    let backs = || count(&registrar.log(), "Docker is back after ");
    let tries = || count(&fake.requests().join("\n"), "GET /events");

    eventually(SOON, "the error", || {
        !retried(&registrar, "ERROR").is_empty()
    });
    let (before, begun) = (tries(), Instant::now());
    let_time_pass(Duration::from_secs(5));
    let most = usize::try_from(begun.elapsed().as_secs()).expect("a small number") + 2;
    let number = tries() - before;
    assert!(number > 0 && number <= most, "{number} tries in 5 s");
    // By chance a list may be answered before the stream ends. Then Docker was back, which is logged a few times.
    assert!(
        retried(&registrar, "WARN").len() <= FEW,
        "{}",
        registrar.log()
    );
    assert!(backs() < FEW, "{}", registrar.log());

    let before = backs();
    ends.store(false, Ordering::SeqCst);
    eventually(SOON, "the end of the trouble", || backs() > before);
    assert_eq!(backs(), before + 1);
    assert_eq!(retried(&registrar, "ERROR").len(), 1);
}

#[test]
fn a_line_at_the_start_has_the_settings() {
    let bed = TestBed::new();
    let proxy = Proxy::the_docker();
    let docker_id = docker(&["info", "--format", "{{.ID}}"]);
    let version = Registrar::command().run("--version").stdout;
    let version = version
        .trim()
        .strip_prefix("docker-register ")
        .expect("a version");
    let line = |docker_id: &str, instance: &str| {
        format!(
            "docker-register version=\"{version}\" docker={} {docker_id}etcd={} host_ip={HOST_IP} prefix={} ttl=30 \
             instance={instance}",
            proxy.address(),
            bed.etcd.endpoint(),
            bed.prefix
        )
    };
    let registrar = bed.registrar().flag("--ttl", "30");
    let registrar = registrar.env("DOCKER_HOST", proxy.address());
    for format in ["text", "json"] {
        let registrar = in_step(&registrar.clone().flag("--log-format", format));
        let lines = levels_and_messages(&registrar);
        let place = |message: &str| lines.iter().position(|(_, text)| text.starts_with(message));
        let wanted = line(&format!("docker_id={} ", docker_id.trim()), &bed.name);
        let at = place("docker-register ").expect("the line");
        assert_eq!(lines[at], ("INFO".to_owned(), wanted));
        assert!(place("in step") > Some(at), "{lines:?}");
        assert_eq!(count(&registrar.log(), "docker-register "), 1);
    }

    let dry = registrar.arg("--dry-run").flag("--instance", "two words");
    let dry = dry.start();
    let wanted = line("", "\"two words\"");
    eventually(SOON, "the line of a dry run", || {
        let lines = levels_and_messages(&dry);
        lines.contains(&("INFO".to_owned(), wanted.clone()))
    });
}
