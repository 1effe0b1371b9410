//! `--listen`: the HTTP answers of a running registrar.

use crate::common;

use std::process::Command;

use common::{
    Mode, Page, Proxy, Registrar, SOON, Script, TestBed, docker_of, eventually, get, in_step,
    inspection,
};

/// Port 0 is a free one.
const ANY: &str = "127.0.0.1:0";

/// The value of a metric.
fn metric(address: &str, name: &str) -> Option<f64> {
    let text = get(address, "/metrics").body;
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.map(|line| line[name.len()..].trim().parse().expect("a number"))
}

#[track_caller]
fn wait_for_metric(address: &str, name: &str, wanted: impl Fn(f64) -> bool) {
    eventually(SOON, name, || metric(address, name).is_some_and(&wanted));
}

#[track_caller]
fn wait_until_ready(address: &str) {
    eventually(SOON, "readiness", || get(address, "/readyz").status == 200);
}

#[test]
fn readiness_tells_what_is_wrong() {
    let bed = TestBed::new();
    let (docker, etcd) = (Proxy::the_docker(), Proxy::tcp(&bed.etcd.endpoint()));
    etcd.set(Mode::Cut);
    let _web = bed.container().publish_all().start();
    let registrar = bed
        .registrar()
        .flag("--etcd", etcd.address())
        .flag("--listen", ANY)
        .env("DOCKER_HOST", docker.address())
        .flag("--ttl", "3")
        .start();
    let address = registrar.address();
    let healthcheck = || {
        Registrar::command()
            .flag("--listen", &address)
            .run("healthcheck")
    };
    let wait_for = |trouble: &str| {
        eventually(SOON, trouble, || {
            let Page { status, body, .. } = get(&address, "/readyz");
            status == 503 && body.contains(trouble)
        });
    };
    wait_for("etcd: cannot reach etcd at");
    assert_eq!(get(&address, "/healthz").body, "alive\n");
    let unready = healthcheck();
    assert_eq!(unready.status.code(), Some(1));
    assert!(unready.stdout.contains("etcd: cannot reach"), "{unready:?}");

    etcd.set(Mode::Pass);
    wait_until_ready(&address);
    let ready = healthcheck();
    assert_eq!((ready.status.code(), &*ready.stdout), (Some(0), "ready\n"));

    docker.set(Mode::Cut);
    wait_for("docker: ");
    docker.set(Mode::Pass);
    wait_until_ready(&address);
    wait_for_metric(
        &address,
        "docker_register_reconnections_total{partner=\"docker\"}",
        |n| n >= 1.0,
    );

    // Nothing comes of it for so long that the keys are gone.
    etcd.set(Mode::Stall);
    wait_for("etcd: ");
    wait_for("lease: it has expired");
    etcd.set(Mode::Pass);
    wait_until_ready(&address);

    // A second one of the same identity runs. The first had lost its seat too, so either may have it now.
    let second = bed
        .registrar()
        .flag("--listen", ANY)
        .flag("--ttl", "3")
        .start();
    let addresses = [address.clone(), second.address()];
    eventually(SOON, "one of the two to give way", || {
        let gives_way = |address: &String| {
            let page = get(address, "/readyz").body;
            page.contains("seat: another registrar")
        };
        addresses.iter().any(gives_way)
    });

    drop(registrar);
    let nobody = Registrar::command()
        .flag("--listen", &address)
        .run("healthcheck");
    assert_eq!(nobody.status.code(), Some(1));
    let message = format!("no registrar with --listen answers on {address}");
    assert!(nobody.stderr.contains(&message), "{nobody:?}");
}

#[test]
fn a_script_that_hangs_is_not_alive() {
    let bed = TestBed::new();
    let script = Script::new(
        r#"
        local register = require "register"
        function register.service(container)
          if container.env.HANG then ("a"):rep(40):match(("a*"):rep(40) .. "b") end
          return "web"
        end
        return register
        "#,
    );
    let registrar = in_step(
        &bed.registrar()
            .flag("--script", script.path())
            .flag("--listen", ANY),
    );
    let address = registrar.address();
    let alive = || get(&address, "/healthz");
    assert_eq!(alive().status, 200);
    let _hangs = bed.container().env("HANG", "1").publish_all().start();
    eventually(SOON, "no sign of life", || alive().status == 503);
    assert_eq!(alive().body, "the script hangs\n");
    let ready = get(&address, "/readyz");
    assert_eq!(
        (ready.status, &*ready.body),
        (503, "policy: the script hangs\n")
    );
    registrar.kill9();
}

#[test]
fn metrics_show_the_state_and_the_events() {
    let bed = TestBed::new();
    let script = Script::new(
        r#"
        local register = require "register"
        local member = register.member
        function register.member(container)
          if container.env.FAIL then error "no" end
          return member(container)
        end
        return register
        "#,
    );
    let registrar = bed
        .registrar()
        .flag("--script", script.path())
        .flag("--listen", ANY)
        .start();
    let address = registrar.address();
    wait_until_ready(&address);
    let web = bed.container().publish_all().start();
    let _fails = bed.container().env("FAIL", "1").publish_all().start();
    let _ignored = bed
        .container()
        .env("SERVICE_IGNORE", "1")
        .publish_all()
        .start();
    let is =
        |name: &str, wanted: f64| wait_for_metric(&address, name, |n| (n - wanted).abs() < 0.01);
    is("docker_register_containers{state=\"registered\"}", 1.0);
    is("docker_register_containers{state=\"failed\"}", 1.0);
    is("docker_register_containers{state=\"left_out\"}", 1.0);
    is(
        "docker_register_left_out{reason=\"SERVICE_IGNORE is set\"}",
        1.0,
    );
    is("docker_register_keys{kind=\"owned\",state=\"there\"}", 2.0);
    is("docker_register_keys{kind=\"shared\",state=\"there\"}", 2.0);
    is(
        "docker_register_keys{kind=\"owned\",state=\"missing\"}",
        0.0,
    );
    is("docker_register_key_changes_total{change=\"put\"}", 4.0);
    is("docker_register_ready", 1.0);
    let at_least = |name: &str, least: f64| wait_for_metric(&address, name, |n| n >= least);
    at_least("docker_register_docker_events_total", 3.0);
    at_least("docker_register_policy_errors_total", 1.0);
    at_least("docker_register_sync_duration_seconds_count", 2.0);
    at_least("docker_register_lease_left_seconds", 30.0);
    web.stop();
    is("docker_register_key_changes_total{change=\"delete\"}", 4.0);
    is("docker_register_containers{state=\"registered\"}", 0.0);

    // Checked by Prometheus's own tool.
    let page = get(&address, "/metrics");
    assert!(
        page.head.contains("text/plain; version=0.0.4"),
        "{}",
        page.head
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("metrics");
    std::fs::write(&file, page.body).expect("a file");
    if is_missing("promtool") {
        return;
    }
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).expect("the file"))
        .output()
        .expect("promtool runs");
    assert!(checked.status.success(), "{checked:?}");
    assert!(checked.stderr.is_empty(), "{checked:?}");
}

#[test]
fn the_page_shows_what_is_registered_and_what_is_not_in_a_browser() {
    let bed = TestBed::new();
    let web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish("8005")
        .start();
    let long = "x".repeat(200);
    let _long = bed
        .container()
        .env("SERVICE_NAME", &long)
        .publish_all()
        .start();
    let _stranger = bed
        .container()
        .env(
            "SERVICE_NAME",
            "<script>document.title='broken into'<,script>",
        )
        .publish_all()
        .start();
    let _refused = bed
        .container()
        .env("SERVICE_NAME", "<b>/..")
        .publish_all()
        .start();
    let registrar = bed.registrar().flag("--listen", ANY).start();
    let address = registrar.address();
    wait_until_ready(&address);
    let page = get(&address, "/");
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );

    let has_chrome = Command::new("google-chrome")
        .arg("--version")
        .output()
        .is_ok();
    let browser = if has_chrome {
        "google-chrome"
    } else {
        "chromium"
    };
    if is_missing(browser) {
        return;
    }
    let (shown, console) = browse(browser, &format!("http://{address}/"));
    for part in [
        "<h2>Registered</h2>",
        &format!("{}/web/1/{} ", bed.prefix, web.short_id()),
        "port 8006/tcp: it is not published",
        "&lt;script&gt;document.title='broken into'",
        "&lt;b&gt;/..",
        "<title>docker-register</title>",
        "Last warnings and errors",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(!shown.contains("missing from etcd"), "{shown}");
    assert!(
        !console.contains("Refused to"),
        "its own policy lets the style in: {console}"
    );

    // On a phone nothing is wider than the screen. The page itself runs no script, so this one is put into a copy.
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("copy.html");
    let measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>";
    std::fs::write(&copy, page.body.replace("</body>", measure)).expect("a file");
    let (shown, _) = browse(browser, &format!("file://{}", copy.display()));
    let (_, title) = shown.split_once("<title>").expect("a title");
    let (title, _) = title.split_once("</title>").expect("its end");
    let (width, screen) = title.split_once(" of ").expect("two numbers");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    assert!(
        number(width) <= number(screen) && number(screen) < 600,
        "{title}"
    );
}

/// Whether a program is missing. Under CI that is a failure; elsewhere the test is skipped.
pub fn is_missing(program: &str) -> bool {
    let is_missing = Command::new(program).arg("--version").output().is_err();
    if is_missing {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        eprintln!("not tested, because {program} is missing");
    }
    is_missing
}

/// Chromium's DOM of a page on a small screen, and its console output.
fn browse(browser: &str, url: &str) -> (String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let profile = format!("--user-data-dir={}", directory.path().display());
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--window-size=360,740",
            "--enable-logging=stderr",
            "--dump-dom",
            &profile,
            url,
        ])
        .output()
        .expect("a browser that runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_at_the_start() {
    let taken = std::net::TcpListener::bind(ANY).expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = Registrar::command()
        .flag("--listen", &address)
        .start()
        .output(SOON);
    assert_eq!(output.status.code(), Some(1));
    let message = format!("error: cannot listen on {address}; pass --listen with an address");
    assert!(output.stderr.contains(&message), "{}", output.stderr);

    let wrong = Registrar::command()
        .flag("--listen", "9477")
        .start()
        .output(SOON);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn constant_requests_cost_neither_memory_nor_descriptors() {
    let bed = TestBed::new();
    let docker = docker_of(
        (0..50)
            .map(|n| inspection(n, "web", 20_000 + 2 * n))
            .collect(),
    );
    let registrar = in_step(&bed.registrar_of(&docker).flag("--listen", ANY));
    let address = registrar.address();
    let ask = |times: usize| {
        for _ in 0..times {
            for path in ["/", "/metrics", "/readyz", "/healthz", "/nowhere"] {
                get(&address, path);
            }
        }
    };
    let proc = format!("/proc/{}", registrar.pid());
    let descriptors = || {
        std::fs::read_dir(format!("{proc}/fd"))
            .expect("it runs")
            .count()
    };
    let resident = || {
        let status = std::fs::read_to_string(format!("{proc}/statm")).expect("it runs");
        let pages = status.split(' ').nth(1).expect("a number of pages");
        pages.parse::<usize>().expect("a number") * 4096
    };
    ask(100);
    let before = resident();
    let open = descriptors();
    ask(400);
    eventually(SOON, "its connections to be closed", || {
        descriptors() <= open
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < 2 * 1024 * 1024, "it has grown by {grown} bytes");
    // Silent clients block others only for a short time, and use few descriptors.
    let _silent: Vec<_> = (0..100)
        .map(|_| std::net::TcpStream::connect(&address).expect("it listens"))
        .collect();
    assert_eq!(get(&address, "/healthz").status, 200);
    assert!(descriptors() <= open + 70, "{} of {open}", descriptors());
    assert!(registrar.terminate().success());
}
