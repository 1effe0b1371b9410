//! SIGHUP reloads the policy: only the keys that differ change, and a broken script changes nothing.

use crate::common;

use std::fs;
use std::thread;

use common::{SOON, TestBed, eventually, get, make_fifo, map};

const POLICY: &str = "local register = require 'register'
function register.service(container, port) return NAME end
return register
";

#[test]
fn a_reload_changes_what_differs_and_nothing_else() {
    let bed = TestBed::new();
    let web = bed.container().publish_all().start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("site.lua");
    let write = |text: &str| fs::write(&script, text).expect("the script");
    let keys = |first: &str, second: &str| {
        let id = web.short_id();
        map([
            (
                format!("{first}/1/{id}"),
                format!("192.0.2.1:{}", web.host_port("8005/tcp")),
            ),
            (format!("{first}/1/port"), "8005".to_owned()),
            (
                format!("{second}/2/{id}"),
                format!("192.0.2.1:{}", web.host_port("8006/tcp")),
            ),
            (format!("{second}/2/port"), "8006".to_owned()),
        ])
    };
    write(&POLICY.replace("NAME", "'one'"));
    let registrar = bed.registrar().flag("--script", &script).start();
    eventually(SOON, "the keys", || bed.keys() == keys("one", "one"));
    let before = bed.etcd.kv(&bed.key(&format!("one/1/{}", web.short_id())));
    let version = |after: &str| {
        let log = registrar.log();
        let line = log.lines().find_map(|line| line.split_once(after));
        line.map(|(_, version)| version.to_owned())
    };
    let first = version("INFO policy: ").expect("the log tells which policy is in force");
    assert!(
        first.starts_with(&format!("`{}`, sha256 ", script.display())),
        "{first}"
    );

    write(&POLICY.replace("NAME", "port.index == 1 and 'one' or 'two'"));
    registrar.signal("HUP");
    eventually(SOON, "the new keys", || bed.keys() == keys("one", "two"));
    assert_eq!(
        bed.etcd.kv(&bed.key(&format!("one/1/{}", web.short_id()))),
        before
    );

    let second = version("INFO policy, loaded again: ").expect("and which is after a reload");
    assert_ne!(first, second);

    let revision = bed.etcd.revision();
    write("return nonsense(");
    registrar.signal("HUP");
    registrar.wait_for_log("the old one stays in force", SOON);
    registrar.wait_for_log("site.lua:1", SOON);
    // The old script stays in force: a container that starts now is registered by it.
    let other = bed.container().publish_all().start();
    eventually(SOON, "the other's keys", || {
        bed.keys()
            .contains_key(&format!("two/2/{}", other.short_id()))
    });
    assert_eq!(
        bed.etcd.kv(&bed.key(&format!("one/1/{}", web.short_id()))),
        before
    );
    assert!(bed.etcd.revision() > revision);
}

#[test]
fn a_script_that_is_no_regular_file_is_refused_and_keeps_nothing_waiting() {
    const TTL: u32 = 3;
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("site.lua");
    let message = format!(
        "cannot read `{}`: it is a named pipe, and only a regular file is read while the program runs; put a regular \
         file there\n",
        script.display()
    );
    let registrar = bed.registrar().flag("--ttl", TTL.to_string());
    let registrar = registrar.flag("--script", &script);
    make_fifo(&script);
    let output = registrar.run("run");
    assert_eq!(output.status.code(), Some(1));
    let error = format!("error: {message}");
    assert!(output.stderr.contains(&error), "{}", output.stderr);

    // A module is read with it, so the script changes and the module does not.
    fs::remove_file(&script).expect("the pipe goes");
    fs::write(&script, "return require 'module'").expect("the script");
    let module = directory.path().join("module.lua");
    fs::write(&module, "return require 'register'").expect("the module");
    let registrar = registrar.start();
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    let revision = bed.etcd.revision();
    for (path, message) in [
        (&module, "there is no module `module`: "),
        (&script, &message),
    ] {
        fs::remove_file(path).expect("the file goes");
        make_fifo(path);
        registrar.signal("HUP");
        let message = format!("ERROR the policy cannot be loaded again: {message}");
        registrar.wait_for_log(&message, SOON);
    }
    bed.etcd.let_pass(2 * TTL);
    assert_eq!(bed.keys().len(), 4);
    assert_eq!(bed.etcd.revision(), revision, "the keys never went");
    assert!(registrar.terminate().success());
}

#[test]
fn a_command_that_does_one_thing_reads_a_script_from_a_pipe() {
    let bed = TestBed::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("site.lua");
    make_fifo(&script);
    let pipe = script.clone();
    let writer = thread::spawn(move || fs::write(pipe, "return require 'register'"));
    let output = bed.registrar().flag("--script", &script).run("keys");
    assert!(output.status.success(), "{}", output.stderr);
    writer.join().expect("a thread").expect("it is read");
}

#[test]
fn a_failed_reload_is_shown_until_a_good_one() {
    let bed = TestBed::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("site.lua");
    let write = |text: &str| fs::write(&script, text).expect("the script");
    write("return require 'register'");
    let registrar = bed
        .registrar()
        .flag("--script", &script)
        .flag("--listen", "127.0.0.1:0")
        .start();
    let address = registrar.address();
    let metric = |name: &str| {
        let text = get(&address, "/metrics").body;
        let mut lines = text.lines();
        let line =
            lines.find_map(|line| line.strip_prefix(&format!("docker_register_policy_{name}")));
        line.map_or_else(|| panic!("no {name}: {text}"), str::to_owned)
    };
    let row = || get(&address, "/").body.contains("<dt>reload</dt>");
    eventually(SOON, "an answer", || {
        get(&address, "/metrics").status == 200
    });
    let (info, at) = (metric("info"), metric("reload_timestamp_seconds"));
    assert_eq!(metric("reload_success"), " 1");
    assert!(
        info.starts_with(&format!("{{policy=\"{}\",sha256=\"", script.display())),
        "{info}"
    );
    assert!(!row());

    write("return nonsense(");
    registrar.signal("HUP");
    eventually(SOON, "the failure", || metric("reload_success") == " 0");
    assert!(row());
    let page = get(&address, "/").body;
    assert!(
        page.contains("the policy cannot be loaded again, and the old one stays in force: "),
        "{page}"
    );
    assert_eq!(metric("info"), info, "the old one is in force");
    assert_ne!(metric("reload_timestamp_seconds"), at);

    write("-- another\nreturn require 'register'");
    registrar.signal("HUP");
    eventually(SOON, "the good load", || metric("reload_success") == " 1");
    assert!(!row());
    assert_ne!(metric("info"), info);
}
