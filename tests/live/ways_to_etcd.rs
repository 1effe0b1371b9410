//! The ways to etcd: several addresses behind one name, other endpoints for reads, and etcd's own gRPC proxy.

use crate::common;

use common::{
    GrpcProxy, Mode, Proxy, RegistrarBuilder, SOON, Script, TestBed, assert_told_of, docker_of,
    eventually, get, in_step, inspection, let_time_pass, warnings,
};
use std::fs;
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

const NAME: &str = "etcd.test";

/// Proxies to one etcd on three addresses and one port.
fn three(etcd: &str) -> ([Proxy; 3], String) {
    let first = Proxy::tcp(etcd);
    let address = first.address();
    let (_, port) = address.rsplit_once(':').expect("a port");
    let on = |ip| Proxy::tcp_on(&format!("{ip}:{port}"), etcd);
    let (second, third) = (on("127.0.0.2"), on("127.0.0.3"));
    ([first, second, third], format!("{NAME}:{port}"))
}

/// A file in which the name has these addresses.
fn hosts(addresses: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    write(&file, addresses);
    file
}

fn write(file: &NamedTempFile, addresses: &[&str]) {
    let lines: Vec<String> = addresses
        .iter()
        .map(|ip| format!("{ip} {NAME}\n"))
        .collect();
    std::fs::write(file.path(), lines.concat()).expect("a file can be written");
}

const THREE: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

#[test]
fn a_name_whose_addresses_hang_one_after_the_other_loses_no_key() {
    const TTL: u32 = 6;
    let bed = TestBed::new();
    let docker = docker_of(vec![inspection(1, "web", 20_000)]);
    let (proxies, endpoint) = three(&bed.etcd.endpoint());
    let hosts = hosts(&THREE);
    let registrar = bed
        .registrar_of(&docker)
        .hosts(hosts.path())
        .flag("--etcd", endpoint);
    let registrar = in_step(&registrar.flag("--ttl", TTL.to_string()));
    let (keys, revision) = (bed.keys(), bed.etcd.revision());
    assert_eq!(keys.len(), 4);
    // The one in use, then the one that takes over.
    let mut used = Vec::new();
    for times in 1..=2 {
        let before = proxies.each_ref().map(Proxy::accepted);
        let index = (0..3).find(|index| !used.contains(index) && before[*index] > 0);
        let index = index.expect("one is in use");
        used.push(index);
        proxies[index].set(Mode::Stall);
        assert_told_of(&registrar, "etcd", times);
        bed.etcd.let_pass(2 * TTL);
    }
    assert_eq!(
        (bed.keys(), bed.etcd.revision()),
        (keys, revision),
        "{}",
        registrar.log()
    );
    assert!(
        registrar
            .log()
            .contains(&format!(" ({})` did not answer", THREE[used[0]]))
    );
}

#[test]
fn a_name_that_does_not_resolve_yet_or_moves_is_looked_up_again() {
    let bed = TestBed::new();
    let docker = docker_of(vec![inspection(1, "web", 20_000)]);
    let (proxies, endpoint) = three(&bed.etcd.endpoint());
    let hosts = hosts(&[]);
    let registrar = bed
        .registrar_of(&docker)
        .hosts(hosts.path())
        .flag("--etcd", endpoint);
    let registrar = registrar.start();
    registrar.wait_for_log("failed to lookup address information", SOON);
    write(&hosts, &THREE[..1]);
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    assert_told_of(&registrar, "etcd", 1);
    write(&hosts, &THREE[2..]);
    proxies[0].set(Mode::Cut);
    eventually(SOON, "the new address in use", || proxies[2].accepted() > 0);
    assert!(registrar.exited().is_none());
}

/// An endpoint that hangs, and one that works.
fn first_hangs(bed: &TestBed) -> (Proxy, RegistrarBuilder) {
    let hangs = Proxy::tcp(&bed.etcd.endpoint());
    hangs.set(Mode::Stall);
    let both = format!("{},{}", hangs.address(), bed.etcd.endpoint());
    let registrar = bed.registrar().flag("--etcd", both).flag("--ttl", "6");
    (hangs, registrar)
}

#[test]
fn diff_and_a_policy_that_reads_etcd_fail_over() {
    let bed = TestBed::new();
    let web = bed
        .container()
        .env("SERVICE_NAME", "web")
        .publish_all()
        .start();
    let registrar = in_step(&bed.registrar().flag("--ttl", "6"));
    let (_hangs, with_both) = first_hangs(&bed);
    let output = with_both.run("diff");
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(0), ""),
        "{}",
        output.stderr
    );
    assert_eq!(registrar.terminate().code(), Some(0));

    let script = Script::new(
        "local register, docker, etcd = require 'register', require 'docker', require 'etcd'\n\
         function register.run()\n\
           local name = etcd.get('/name') .. etcd.list('/na')['/name']\n\
           function register.service() return name end\n\
           for containers in docker.watch() do etcd.sync(containers, register.entries) end\n\
         end\n\
         return register\n",
    );
    bed.etcd.put("/name", "x");
    let with_both = with_both.flag("--script", script.path());
    let output = with_both.run("keys");
    assert!(
        output.stdout.contains(&format!("/xx/1/{}", web.short_id())),
        "{output:?}"
    );
    let _registrar = with_both.start();
    eventually(SOON, "the new keys", || {
        bed.keys().keys().any(|key| key.starts_with("xx/2/"))
    });
}

#[test]
fn endpoints_may_be_written_in_several_ways_and_never_with_a_password() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let endpoint = bed.etcd.endpoint();
    for list in [format!("{endpoint},"), format!("HTTP://{endpoint}, ")] {
        let output = bed.registrar().flag("--etcd", &list).run("diff");
        assert_eq!(output.status.code(), Some(1), "{list}: {}", output.stderr);
        assert!(output.stdout.starts_with("missing"), "{list}");
    }
    let unset = bed
        .registrar()
        .without("--etcd")
        .env("ETCD_HOST", "")
        .run("keys");
    assert_eq!(unset.status.code(), Some(0), "{}", unset.stderr);
    let user = bed.registrar().without("--etcd");
    let user = user
        .env("ETCD_HOST", format!("http://root:secret@{endpoint}"))
        .run("diff");
    assert_eq!(user.status.code(), Some(2));
    assert!(user.stderr.contains("--etcd-user NAME"), "{}", user.stderr);
    assert!(!user.stderr.contains("secret"), "{}", user.stderr);
    let unix = bed
        .registrar()
        .flag("--etcd", "unix:///run/etcd.sock")
        .run("diff");
    assert_eq!(unix.status.code(), Some(2));
    assert!(
        unix.stderr.contains("a Unix socket of etcd is not used"),
        "{}",
        unix.stderr
    );
}

#[test]
fn registrars_that_share_keys_behind_a_grpc_proxy_see_no_outage() {
    const TTL: u32 = 6;
    const SERVICES: u16 = 20;
    let bed = TestBed::new();
    let proxy = GrpcProxy::start(&bed.etcd);
    // Each has a container of each service, so that they share all `port` keys.
    let dockers: Vec<_> = (0..4)
        .map(|host| {
            let container = |service: u16| {
                let number = 100 * host + service;
                inspection(number, &format!("s{service}"), 20_000 + 2 * number)
            };
            docker_of((0..SERVICES).map(container).collect())
        })
        .collect();
    let registrars: Vec<_> = dockers
        .iter()
        .enumerate()
        .map(|(host, docker)| {
            let registrar = bed.registrar_of(docker).flag("--etcd", proxy.endpoint());
            let registrar = registrar.flag("--instance", format!("{}-{host}", bed.name));
            in_step(
                &registrar
                    .flag("--ttl", TTL.to_string())
                    .flag("--listen", "127.0.0.1:0"),
            )
        })
        .collect();
    let keys = bed.keys();
    assert_eq!(keys.len(), usize::from(SERVICES) * 2 * 5);
    eventually(SOON, "all to be ready", || {
        registrars
            .iter()
            .all(|registrar| get(&registrar.address(), "/readyz").status == 200)
    });
    let begun = Instant::now();
    let time = 4 * Duration::from_secs(TTL.into());
    eventually(2 * time, "time to pass", || {
        for registrar in &registrars {
            let ready = get(&registrar.address(), "/readyz");
            assert_eq!(ready.status, 200, "{}\n{}", ready.body, registrar.log());
        }
        begun.elapsed() >= time
    });
    for registrar in &registrars {
        assert_eq!(warnings(registrar), 0, "{}", registrar.log());
    }
    assert_eq!(bed.keys(), keys);
}

/// The proxy never tells a watch of its progress.
#[test]
fn a_reader_behind_a_grpc_proxy_sees_no_outage_while_nothing_changes() {
    let bed = TestBed::new();
    let proxy = GrpcProxy::start(&bed.etcd);
    let directory = TempDir::new().expect("a temporary directory");
    bed.etcd.put(&bed.key("web/1/port"), "8005");
    bed.etcd.put(&bed.key("web/1/a"), "10.0.0.1:1");
    let reader = bed.discover(directory.path());
    let reader = reader.flag("--etcd", proxy.endpoint());
    let reader = reader.flag("--proxy", "none").arg("--set=target=file_sd");
    let reader = reader.start_command("discover");
    let lists = |address: &str| {
        let targets = fs::read_to_string(directory.path().join("targets.json"));
        targets.is_ok_and(|targets| targets.contains(address))
    };
    eventually(SOON, "the first targets", || lists("10.0.0.1:1"));
    // Longer than the time after which a silent watch counts as dead.
    let_time_pass(Duration::from_secs(13));
    assert_eq!(warnings(&reader), 0, "{}", reader.log());
    bed.etcd.put(&bed.key("web/1/b"), "10.0.0.2:2");
    eventually(SOON, "the change", || lists("10.0.0.2:2"));
    assert_eq!(warnings(&reader), 0, "{}", reader.log());
    bed.etcd.pause();
    reader.wait_for_log("did not answer", SOON);
    bed.etcd.resume();
    reader.wait_for_log("is back after", SOON);
}
