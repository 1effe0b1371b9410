//! The bundled policy, and a site that overrides a decision.

use tracing::subscriber::set_default;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry;

use super::*;
use crate::ops::log::{LevelFilter, Recent};

#[tokio::test]
async fn the_bundled_policy_makes_the_layout() {
    let mut site = Site::new(&[web("a"), web("b")]);
    site.world.script = None;
    site.world
        .load()
        .expect("it loads")
        .run()
        .await
        .expect("it runs");
    let keys = [
        "/backends/web/1/a00000000000 10.0.0.1:32768",
        "/backends/web/1/b00000000000 10.0.0.1:32768",
        "/backends/web/1/port 80",
        "/backends/web/1/port 80",
    ];
    assert_eq!(site.keys(), keys);
}

#[tokio::test]
async fn a_site_overrides_one_decision_and_the_others_see_it() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        register.ttl = 30
        register.prefix = '/x'
        function register.service(container, port) return container.labels.team end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(
        site.keys(),
        ["/x/red/1/a00000000000 10.0.0.1:32768", "/x/red/1/port 80"]
    );
    let wanted = site.wanted.borrow().clone().expect("wanted");
    let mut entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
    assert!(entries.all(|entry| entry.ttl == 30));
}

/// The lines that the bundled policy's run logs, and the keys for these containers.
pub async fn run_bundled(containers: &[Json]) -> (Vec<String>, Site) {
    let recent = Recent::default();
    let site = {
        let _guard = set_default(registry().with(recent.clone().with_filter(LevelFilter::WARN)));
        let mut site = Site::new(containers);
        site.world.script = None;
        site.world.options.set.clear();
        let script = site.world.load().expect("it loads");
        script.run().await.expect("it runs");
        site
    };
    let lines = recent.lines().into_iter().map(|line| line.text);
    (lines.collect(), site)
}

#[tokio::test]
async fn quotes_and_blanks_around_a_name_stay_and_are_warned_of_once() {
    let name_of_both = "SERVICE_NAME";
    for (variable, name, bare) in [
        (name_of_both, "\"pay\"", Some("pay")),
        (name_of_both, "'pay'", Some("pay")),
        (name_of_both, " pay ", Some("pay")),
        (name_of_both, "pay\t", Some("pay")),
        (name_of_both, " \"my pay\"", Some("my pay")),
        (name_of_both, " ", Some("NAME")),
        (name_of_both, "pay's", None),
        (name_of_both, "my pay", None),
        (name_of_both, "\"", None),
        ("SERVICE_80_NAME", "\"pay\"", Some("pay")),
    ] {
        let mut container = web("a");
        container["Config"]["Env"] = json!([format!("{variable}={name}")]);
        container["Config"]["ExposedPorts"] = json!({ "80/tcp": {}, "443/tcp": {} });
        let published = json!([{ "HostIp": "0.0.0.0", "HostPort": "32768" }]);
        container["NetworkSettings"]["Ports"] =
            json!({ "80/tcp": published, "443/tcp": published });
        let (lines, site) = run_bundled(&[container]).await;
        let wanted = bare.map(|bare| {
            format!(
                "`a`: the quotes or blanks around its {variable} are part of the name: write {variable}={bare} \
                 (an --env-file needs no quotes)"
            )
        });
        assert_eq!(lines, Vec::from_iter(wanted), "{name:?}");
        // A tab is a control character, which no key may have.
        if name != "pay\t" {
            let keys = site.keys();
            let directory = format!("/backends/{name}/");
            let named = keys.iter().filter(|key| key.starts_with(&directory));
            let wanted = if variable == name_of_both { 4 } else { 2 };
            assert_eq!(named.count(), wanted, "{keys:?}");
        }
    }
}

#[tokio::test]
async fn an_unpublished_port_of_a_swarm_task_is_said_to_be_its_services() {
    let mut container = web("a");
    container["NetworkSettings"]["Ports"] = json!({ "80/tcp": null });
    for (labels, why) in [
        (
            json!({ "com.docker.swarm.service.name": "shop_web" }),
            "port 80/tcp: it is not published: except in host mode, Swarm publishes ports for a service, not for its tasks",
        ),
        (json!({}), "port 80/tcp: it is not published"),
    ] {
        container["Config"]["Labels"] = labels;
        let (_, site) = run_bundled(&[container.clone()]).await;
        let verdicts = site.world.verdicts.borrow();
        assert_eq!(verdicts.all()[0].left_out, [why]);
    }
    // Published in host mode.
    container["NetworkSettings"]["Ports"] =
        json!({ "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }] });
    container["Config"]["Labels"] = json!({ "com.docker.swarm.service.name": "shop_web" });
    let (_, site) = run_bundled(&[container]).await;
    assert_eq!(
        site.keys(),
        [
            "/backends/web/1/a00000000000 10.0.0.1:8080",
            "/backends/web/1/port 80"
        ]
    );
}

#[tokio::test]
async fn a_result_of_a_wrong_type_names_the_decision_its_file_and_its_line() {
    for (decision, results, message) in [
        (
            "service",
            "",
            "returned nothing and not a string or a number",
        ),
        (
            "service",
            "nil",
            "returned nil and not a string or a number",
        ),
        (
            "service",
            "{}",
            "returned a table and not a string or a number",
        ),
        ("member", "nil", "returned nil and not a string or a number"),
        ("address", "nil", "returned nil and not a string"),
        ("address", "{}", "returned a table and not a string"),
        (
            "value",
            "{}",
            "returned a table and not a string or a number",
        ),
        ("endpoint", "nil", "returned nil and not a string"),
        ("directory", "nil", "returned nil and not a string"),
        (
            "port_value",
            "false",
            "returned false and not a string or a number",
        ),
        ("http", "{}", "returned a table and not a string or nil"),
        (
            "binding",
            "'10.0.0.1'",
            "returned a string and not a table or nil",
        ),
        ("ports", "nil", "returned nil and not a table"),
        ("accept", "", "returned nothing and not true or false"),
        ("accept", "nil", "returned nil and not true or false"),
        ("accept", "'no'", "returned a string and not true or false"),
        (
            "accept_port",
            "1",
            "returned a number and not true or false",
        ),
    ] {
        let site = Site::new(&[web("a")]);
        site.run("return require 'register'").await.expect("a run");
        let script = format!(
            "local register = require 'register'\n\nfunction register.{decision}(container, port)\n\
             return {results}\nend\nreturn register"
        );
        site.run(&script).await.expect("a run");
        let place = format!("\n  at site.lua:3 in register.{decision}");
        let message = format!("`register.{decision}` {message}{place}");
        assert_eq!(site.failure(), message, "{decision} {results}");
        assert_eq!(site.keys().len(), 2, "its keys stay");
    }
    let reason = "function register.accept() return false, {} end";
    let endpoint = "function register.endpoint() return 'a', '80' end";
    for (decision, second) in [
        (reason, "accept` is a table and not a string or nil"),
        (endpoint, "endpoint` is a string and not a whole number"),
    ] {
        let site = Site::new(&[web("a")]);
        let script = format!("local register = require 'register'\n{decision}\nreturn register");
        site.run(&script).await.expect("a run");
        let beginning = format!("the second result of `register.{second}\n  at site.lua:2 in ");
        assert!(site.failure().starts_with(&beginning), "{}", site.failure());
    }
}

#[tokio::test]
async fn a_reason_is_optional_and_number_and_name_are_texts() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        function register.accept() return true end
        function register.service() return 7 end
        function register.member() return 8 end
        function register.value(container, port) return port.host_port end
        return register";
    site.run(script).await.expect("a run");
    assert_eq!(
        site.keys(),
        ["/backends/7/1/8 32768", "/backends/7/1/port 80"]
    );
    let script = "local register = require 'register'
        function register.accept() return false end
        return register";
    site.run(script).await.expect("a run");
    assert!(site.keys().is_empty());
}

#[tokio::test]
async fn the_value_the_endpoint_and_the_directory_are_decisions() {
    let site = Site::new(&[web("a")]);
    let script = "local register, etcd, json = require 'register', require 'etcd', require 'json'
        function register.endpoint(container, port) return 'fd00::1', port.port end
        function register.directory(container, port)
          return register.prefix .. '/' .. etcd.key('prod', register.service(container, port), port.index)
        end
        function register.value(container, port)
          return json.encode { address = register.address(container, port), tags = json.array {} }
        end
        return register";
    site.run(script).await.expect("a run");
    assert_eq!(
        site.keys(),
        [
            "/backends/prod/web/1/a00000000000 {\"address\":\"[fd00::1]:80\",\"tags\":[]}",
            "/backends/prod/web/1/port 80"
        ]
    );
    let script = "local register = require 'coredns'
        function register.endpoint(container, port) return 'fd00::1', port.port end
        return register";
    site.run(script).await.expect("a run");
    assert_eq!(
        site.keys(),
        ["/skydns/local/skydns/web/a00000000000-80 {\"host\":\"fd00::1\",\"port\":80,\"ttl\":30}"]
    );
}
