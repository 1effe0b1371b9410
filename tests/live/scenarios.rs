//! The promises of `discover` that do not depend on the proxy. A test of each proxy runs each of them.

use crate::common;
use crate::discover::{Site, answers, reloads, wait_for_answers, wait_until_ready};

use common::{
    Backend, Load, ProxyKind, SOON, ask, eventually, free_port, get, kill_processes, let_time_pass,
};
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

/// Makes the tests that proxies share, of a function that runs a scenario with each version of one.
macro_rules! tests_of {
    ($each:ident) => {
        #[test]
        fn requests_follow_the_keys() {
            $each(crate::scenarios::changes);
        }

        #[test]
        fn a_port_that_another_program_holds_costs_its_service_alone() {
            $each(crate::scenarios::a_foreign_port);
        }

        #[test]
        fn of_two_services_on_one_port_the_older_has_it() {
            $each(crate::scenarios::two_services_on_one_port);
        }

        #[test]
        fn services_with_host_names_share_an_address() {
            $each(crate::scenarios::host_names);
        }

        #[test]
        fn a_new_process_uses_the_proxy_of_one_that_was_killed() {
            $each(crate::scenarios::adoption);
        }

        #[test]
        fn at_exit_it_goes_on_or_ends() {
            $each(crate::scenarios::exit);
        }

        #[test]
        fn a_proxy_that_dies_is_started_again_as_it_should_be() {
            $each(crate::scenarios::a_dead_proxy);
        }

        #[test]
        fn routes_stay_while_etcd_is_away_and_when_it_comes_back_empty() {
            $each(crate::scenarios::an_empty_store);
        }

        #[test]
        fn etcd_may_be_away_for_three_ttls() {
            $each(crate::scenarios::three_ttls);
        }

        #[test]
        fn a_configuration_that_is_refused_changes_nothing() {
            $each(crate::scenarios::a_refused_configuration);
        }

        #[test]
        fn replacements_lose_no_request() {
            $each(|site| crate::scenarios::replacements(site, 20));
        }

        #[test]
        fn killed_each_second_it_costs_no_request() {
            $each(|site| crate::scenarios::kills(site, 5));
        }
    };
}

pub(crate) use tests_of;

/// The members of `web` come and go. At first they are the first two of three, and at the end the first.
pub fn members_come_and_go(site: &Site, port: u16, [a, b, c]: &[Backend; 3]) {
    wait_for_answers(port, &["a", "b"]);
    site.add("web", c);
    wait_for_answers(port, &["a", "b", "c"]);
    site.remove("web", a);
    wait_for_answers(port, &["b", "c"]);
    site.remove("web", b);
    site.remove("web", c);
    site.wait_until_refused(port);
    site.add("web", a);
    wait_for_answers(port, &["a"]);
}

/// A service comes and goes beside `web`, which has one member.
pub fn a_service_comes_and_goes(site: &Site, web: u16, [a, _, c]: &[Backend; 3]) {
    let other = site.service("other");
    site.add("other", c);
    wait_for_answers(other, &[&c.name]);
    wait_for_answers(web, &[&a.name]);
    site.delete("other/1/port");
    site.remove("other", c);
    site.wait_until_refused(other);
    wait_for_answers(web, &[&a.name]);
}

pub fn changes(site: &Site) {
    let backends = ["a", "b", "c"].map(Backend::start);
    let port = site.service("web");
    site.add("web", &backends[0]);
    site.add("web", &backends[1]);
    let discover = site.start();
    members_come_and_go(site, port, &backends);
    a_service_comes_and_goes(site, port, &backends);
    discover.terminate();
    assert_eq!(site.processes(), [""; 0]);
}

/// A port that another program holds costs its service alone.
pub fn a_foreign_port(site: &Site) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let (web, taken) = (site.service("web"), site.service("taken"));
    let holder = TcpListener::bind(("127.0.0.1", taken)).expect("the port is free");
    site.add("web", &a);
    let discover = site.start();
    wait_for_answers(web, &["a"]);
    let load = Load::start(&format!("127.0.0.1:{web}"), "x", 100);
    site.add("taken", &b);
    let refused = format!("address 127.0.0.1:{taken} of service `taken/1` is left out");
    discover.wait_for_log(&refused, SOON);
    // A service after it is served.
    let later = site.service("later");
    site.add("later", &b);
    wait_for_answers(later, &["b"]);
    let (good, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    assert!(!good.is_empty());
    let log = discover.log();
    assert!(
        log.contains(&format!("{}", std::process::id())),
        "no holder: {log}"
    );
    let page = get(&discover.address(), "/").body;
    assert!(page.contains(&format!("127.0.0.1:{taken}")), "{page}");
    drop(holder);
}

/// Of two services on one port the older has it, and when it goes, the other.
pub fn two_services_on_one_port(site: &Site) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("old");
    site.add("old", &a);
    site.put("an-other/1/port", &port.to_string());
    site.add("an-other", &b);
    let discover = site.start();
    wait_for_answers(port, &["a"]);
    discover.wait_for_log("service `an-other/1` is left out", SOON);
    assert!(discover.log().contains("`old/1`"), "{}", discover.log());
    site.delete("old/1/port");
    site.remove("old", &a);
    wait_for_answers(port, &["b"]);
}

/// Services with host names share an address.
pub fn host_names(site: &Site) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let shared = format!("127.0.0.1:{}", free_port());
    for (service, backend) in [("one", &a), ("two", &b)] {
        site.service(service);
        site.add(service, backend);
        site.put(
            &format!("{service}/1/http"),
            &format!("{service}.example.com,WWW.{service}.example.com"),
        );
    }
    let discover = site
        .command()
        .arg("--set")
        .arg(format!("http_bind={shared}"));
    let discover = discover.start_command("discover");
    wait_until_ready(&discover);
    for (host, name) in [
        ("one.example.com", "a"),
        ("two.example.com:80", "b"),
        ("www.TWO.example.com", "b"),
    ] {
        eventually(SOON, &format!("{host} to answer"), || {
            ask(&shared, host) == Ok(name.to_owned())
        });
    }
    let unknown = ask(&shared, "three.example.com");
    let is_told = |error: &String| site.kind != ProxyKind::Haproxy || error.contains("503");
    assert!(unknown.as_ref().is_err_and(is_told), "{unknown:?}");
    // A younger service with one of these names is told, and gets nothing of it.
    site.service("three");
    site.add("three", &b);
    site.put("three/1/http", "one.example.com");
    discover.wait_for_log(
        "host name `one.example.com` of service `three/1` goes to `one/1`, which is older",
        SOON,
    );
    assert_eq!(ask(&shared, "one.example.com"), Ok("a".to_owned()));
}

/// A new process uses the proxy of one that was killed.
pub fn adoption(site: &Site) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let mut discover = site.start();
    wait_for_answers(port, &["a"]);
    let (before, master) = (site.processes(), site.master());
    assert!(master.is_some(), "{}", discover.log());
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    for round in 0..3 {
        discover.kill9();
        if round == 1 {
            site.add("web", &b);
        }
        discover = site.start();
        assert_eq!(site.master(), master, "{}", discover.log());
        // It has what it needs already.
        if site.kind == ProxyKind::Haproxy {
            assert_eq!(site.processes(), before, "{}", discover.log());
            assert_eq!(reloads(&discover), 0, "{}", discover.log());
        }
    }
    wait_for_answers(port, &["a", "b"]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    discover.terminate();
    assert_eq!(site.processes(), [""; 0]);
}

/// `--on-exit`: the proxy goes on, or ends.
pub fn exit(site: &Site) {
    let a = Backend::start("a");
    let port = site.service("web");
    site.add("web", &a);
    let leaving = site.command().flag("--on-exit", "leave");
    let discover = leaving.start_command("discover");
    wait_until_ready(&discover);
    wait_for_answers(port, &["a"]);
    let master = site.master();
    assert!(master.is_some(), "{}", discover.log());
    discover.terminate();
    assert_eq!(site.master(), master);
    wait_for_answers(port, &["a"]);
    let discover = site.start();
    assert_eq!(site.master(), master, "{}", discover.log());
    wait_for_answers(port, &["a"]);
    discover.terminate();
    assert_eq!(site.processes(), [""; 0]);
    assert!(answers(port).is_err_and(|error| error.contains("refused")));
}

/// A proxy that dies is started again as it should be.
pub fn a_dead_proxy(site: &Site) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let discover = site.start();
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
    site.remove("web", &a);
    wait_for_answers(port, &["b"]);
    let before = site.processes();
    kill_processes(&before);
    discover.wait_for_log("starting it again", SOON);
    wait_for_answers(port, &["b"]);
    wait_until_ready(&discover);
    assert_ne!(site.master(), before.first().cloned());
    if site.kind == ProxyKind::Haproxy {
        assert_eq!(site.processes().len(), 2, "a master and a worker");
    }
}

/// Routes stay while the store is away, and when it comes back empty until a second listing.
pub fn an_empty_store(site: &Site) {
    let a = Backend::start("a");
    let ports: Vec<u16> = (0..6)
        .map(|number| {
            let name = format!("s{number}");
            let port = site.service(&name);
            site.add(&name, &a);
            port
        })
        .collect();
    let discover = site.start();
    wait_for_answers(ports[0], &["a"]);
    let load = Load::start(&format!("127.0.0.1:{}", ports[0]), "x", 50);
    site.bed.etcd.kill9();
    discover.wait_for_log("all routes stay as they are", SOON);
    let address = discover.address();
    eventually(SOON, "it to be not ready", || {
        get(&address, "/readyz").status == 503
    });
    let ready = get(&address, "/readyz").body;
    assert!(ready.contains("seconds old"), "{ready}");
    for port in &ports {
        wait_for_answers(*port, &["a"]);
    }
    site.bed.etcd.lose_data();
    site.bed.etcd.start_again();
    // Six services with two keys each are gone at once, which is not believed at once.
    discover.wait_for_log("until a second listing", SOON);
    wait_for_answers(ports[0], &["a"]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    site.wait_until_refused(ports[0]);
}

/// The text of a directive that no proxy knows.
const UNKNOWN: &str = "no such keyword";

/// A policy that changes the text of the last file by an expression in Lua.
fn policy(change: &str) -> String {
    format!(
        "local discover = require \"discover\"\n\
         local files = discover.files\n\
         function discover.files(...)\n\
         \x20 local made = files(...)\n\
         \x20 local file = made[#made]\n\
         \x20 local text = type(file.text) == \"string\" and {{ file.text }} or file.text\n\
         \x20 {change}\n\
         \x20 file.text = text\n\
         \x20 return made\n\
         end\n\
         return discover\n"
    )
}

/// A configuration that is refused changes nothing.
pub fn a_refused_configuration(site: &Site) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let port = site.service("web");
    site.add("web", &a);
    let script = site.directory.path().join("policy.lua");
    let write = |text: &str| fs::write(&script, text).expect("the script is the test's own");
    let (good, bad) = (
        policy(""),
        match site.kind {
            ProxyKind::Haproxy | ProxyKind::Nginx => {
                policy(&format!("text[#text + 1] = \"{UNKNOWN}\\n\""))
            }
            // Envoy takes no listener without this field, and does not care for fields that it does not know.
            ProxyKind::Envoy => policy(&format!(
                "text = {{ (table.concat(text):gsub('\"stat_prefix\"', '\"{UNKNOWN}\"')) }}"
            )),
        },
    );
    write(&good);
    let command = site.command().flag("--script", &script);
    let discover = command.start_command("discover");
    wait_until_ready(&discover);
    wait_for_answers(port, &["a"]);
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 50);
    write(&bad);
    discover.signal("HUP");
    let address = discover.address();
    eventually(SOON, "it to be not ready", || {
        get(&address, "/readyz").status == 503
    });
    wait_for_answers(port, &["a"]);
    if site.kind == ProxyKind::Haproxy {
        discover.wait_for_log("HAProxy refuses the configuration", SOON);
        // Servers come and go all the same.
        site.add("web", &b);
        wait_for_answers(port, &["a", "b"]);
    }
    // Envoy has no check before it reads a file.
    if site.kind != ProxyKind::Envoy {
        assert!(!site.configuration().contains(UNKNOWN));
    }
    write(&good);
    discover.signal("HUP");
    wait_until_ready(&discover);
    site.add("web", &b);
    wait_for_answers(port, &["a", "b"]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
}

/// Waits until no request of some loads goes to a server any more.
fn wait_until_unasked(site: &Site, loads: &[Load; 2], server: &Backend) {
    eventually(SOON, "its configuration to go", || !site.has_server(server));
    // The requests that tell that the file is loaded: HAProxy has loaded it before it is written.
    let few = if site.kind == ProxyKind::Haproxy {
        5
    } else {
        20
    };
    let counts = || loads.each_ref().map(Load::count);
    let mut last = (server.answered(), counts());
    eventually(SOON, "its requests to end", || {
        let answered = server.answered();
        if answered != last.0 {
            last = (answered, counts());
        }
        let mut pairs = counts().into_iter().zip(last.1);
        pairs.all(|(now, before)| now > before + few)
    });
}

/// Rolling replacement under 300 requests a second costs none of them.
pub fn replacements(site: &Site, number: usize) {
    let (tcp, http) = (site.service("tcp"), site.service("http"));
    site.put("http/1/http", "http.example.com");
    let start =
        |number: usize| Backend::start_slow(&format!("b{number}"), Duration::from_millis(20));
    let mut backends: Vec<Backend> = (0..3).map(start).collect();
    let mut ended = Vec::new();
    for backend in &backends {
        site.add("tcp", backend);
        site.add("http", backend);
    }
    let discover = site
        .command()
        .arg("--set")
        .arg(format!("http_bind=127.0.0.1:{}", free_port()));
    let discover = discover.start_command("discover");
    wait_until_ready(&discover);
    for port in [tcp, http] {
        wait_for_answers(port, &["b0", "b1", "b2"]);
    }
    let loads = [tcp, http].map(|port| Load::start(&format!("127.0.0.1:{port}"), "x", 150));
    let before = reloads(&discover);
    for number in 0..number {
        let new = start(number + 3);
        site.add("tcp", &new);
        site.add("http", &new);
        eventually(SOON, "the new one to be asked", || new.answered() > 0);
        backends.push(new);
        let old = backends.remove(0);
        site.remove("tcp", &old);
        site.remove("http", &old);
        // It ends as a well-behaved container does: it answers what it has got, and then accepts no more.
        wait_until_unasked(site, &loads, &old);
        old.stop();
        // Its requests end by themselves.
        ended.push(old);
    }
    for load in loads {
        let (good, bad) = load.stop();
        println!("{} answers, {} failed", good.len(), bad.len());
        assert_eq!(bad.first(), None, "{} failed", bad.len());
    }
    println!("{} reloads", reloads(&discover) - before);
}

/// `discover` is killed each second, for so many seconds, while servers come and go. It costs no request.
pub fn kills(site: &Site, rounds: usize) {
    let backends = ["a", "b", "c"].map(Backend::start);
    let port = site.service("web");
    site.add("web", &backends[0]);
    let mut discover = site.start();
    wait_for_answers(port, &["a"]);
    let master = site.master();
    assert!(master.is_some(), "{}", discover.log());
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    for round in 0..rounds {
        let [old, new] = [round, round + 1].map(|number| &backends[number % 3]);
        // Before the death, after it, or while the next one starts.
        if round % 3 == 0 {
            site.add("web", new);
        }
        discover.kill9();
        if round % 3 == 1 {
            site.add("web", new);
        }
        discover = site.command().start_command("discover");
        if round % 3 == 2 {
            site.add("web", new);
        }
        eventually(SOON, "the new server to be asked", || {
            let names = answers(port);
            names.is_ok_and(|names| names.contains(&new.name))
        });
        site.remove("web", old);
        let_time_pass(Duration::from_millis(500));
    }
    let (good, bad) = load.stop();
    println!("{} answers, {} failed", good.len(), bad.len());
    assert_eq!(bad.first(), None, "{} failed", bad.len());
    wait_until_ready(&discover);
    wait_for_answers(port, &[&backends[rounds % 3].name]);
    // A death in the middle of a change may cost a reload, but never the master.
    assert_eq!(site.master(), master, "{}", discover.log());
}

/// The store may be away for three TTLs.
pub fn three_ttls(site: &Site) {
    const TTL: u32 = 3;
    let web = site.bed.container().env("SERVICE_NAME", "web");
    let port = free_port();
    let web = web
        .env("SERVICE_8005_PORT", &port.to_string())
        .env("SERVICE_8006_IGNORE", "1")
        .publish_all()
        .start();
    let registrar = site.bed.registrar().flag("--host-ip", "127.0.0.1");
    let registrar = registrar.flag("--ttl", TTL.to_string()).start();
    registrar.wait_for_log("in step", SOON);
    let discover = site.start();
    let name = format!("{} 8005\n", web.short_id());
    wait_for_answers(port, &[&name]);
    let load = Load::start(&format!("127.0.0.1:{port}"), "x", 100);
    site.bed.etcd.kill9();
    discover.wait_for_log("all routes stay as they are", SOON);
    let_time_pass(Duration::from_secs(u64::from(3 * TTL)));
    wait_for_answers(port, &[&name]);
    site.bed.etcd.start_again();
    wait_until_ready(&discover);
    registrar.wait_for_log("etcd is back after", SOON);
    // The keys that the registrar has put anew have reached the proxy.
    let marker = free_port().to_string();
    site.put("marker/1/port", &marker);
    eventually(SOON, "the marker", || {
        site.configuration().contains(&marker)
    });
    wait_for_answers(port, &[&name]);
    let (_, bad) = load.stop();
    assert_eq!(bad.first(), None, "{} failed", bad.len());
}
