//! Layouts: policies that share the decisions of the bundled one.

use super::*;

#[tokio::test]
async fn a_site_overrides_decisions_of_a_layout() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'docker_discover'
        register.prefix = '/x'
        function register.service(container, port) return container.labels.team end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(
        site.keys(),
        ["/x/red/a00000000000 10.0.0.1:32768", "/x/red/port 80"]
    );
}

#[tokio::test]
async fn a_site_says_how_layouts_name_the_service_of_one_port() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'registrator'
        function register.port_service(container, port, count)
          return register.service(container, port) .. '_' .. port.port .. '_of_' .. count
        end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(
        site.keys(),
        ["/backends/web_80_of_1/10.0.0.1:a:80 10.0.0.1:32768"]
    );
}

#[tokio::test]
async fn registrator_tells_hosts_apart_by_the_address_that_a_site_sets() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'registrator'
        register.host_ip = '10.9.9.9'
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(site.keys(), ["/backends/web/10.9.9.9:a:80 10.9.9.9:32768"]);
}

#[tokio::test]
async fn a_layout_replaces_no_other_entries_and_no_other_replace_its_own() {
    let default = [
        "/backends/web/1/a00000000000 10.0.0.1:32768",
        "/backends/web/1/port 80",
    ];
    let layout = [
        "/backends/web/a00000000000 10.0.0.1:32768",
        "/backends/web/port 80",
    ];
    let none: [&str; 0] = [];
    for (script, keys) in [
        (
            "assert(require('docker_discover').entries ~= require('go_zero').entries)
            return require 'register'",
            default.as_slice(),
        ),
        (
            "require('docker_discover').entries = function() return {} end
            return require 'register'",
            &default,
        ),
        (
            "require('register').entries = function() return {} end
            return require 'docker_discover'",
            &layout,
        ),
        (
            "local layout = require 'docker_discover'
            local policy = require('register').layout(layout.entries)
            function layout.entries() return {} end
            return policy",
            &layout,
        ),
        (
            "local layout = require 'docker_discover'
            function layout.entries() return {} end
            return layout",
            &none,
        ),
        // They are looked up when they are used.
        (
            "local layout = require 'docker_discover'
            local run, entries = layout.run, layout.entries
            function layout.run()
              layout.entries = require('register').entries
              run()
            end
            return layout",
            &default,
        ),
    ] {
        let site = Site::new(&[web("a")]);
        site.run(script).await.expect("it runs");
        assert_eq!(site.keys(), keys, "{script}");
    }
}

#[tokio::test]
async fn a_failure_in_a_layout_has_the_name_of_its_decision() {
    for (script, message) in [
        (
            "local register = require 'coredns'
            function register.service() error('label it') end
            return register",
            "label it\n  at site.lua:2 in register.service",
        ),
        (
            "local register = require 'coredns'
            function register.entries() error('label it') end
            return register",
            "label it\n  at site.lua:2 in register.entries",
        ),
        (
            "return require('register').layout(function()
              error('label it')
            end)",
            "label it\n  at site.lua:2 in register.entries",
        ),
        (
            "return require('register').layout(function() return 3 end)",
            "it returned a number; return a list of entries, `{}` for none\n  at site.lua:1 in register.entries",
        ),
    ] {
        let site = Site::new(&[web("a")]);
        site.run(script).await.expect("the run");
        assert_eq!(site.failure(), message, "{script}");
    }
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'coredns'
        function register.run() error('no') end
        return register";
    let failure = site.run(script).await.expect_err("it fails");
    assert_eq!(site.shown(&failure), "no\n  at site.lua:2 in register.run");
}

#[tokio::test]
async fn a_failure_in_a_bundled_layout_has_its_line() {
    let mut container = web("a");
    container["Config"]["Labels"]["SERVICE_NAME"] = json!("..");
    let mut site = Site::new(&[container]);
    site.world = site.world.script(Some("go_zero".into()));
    site.world
        .load()
        .expect("it loads")
        .run()
        .await
        .expect("the run");
    let failure = site.failure();
    let place = "the service name (label SERVICE_NAME) is `..`\n  at scripts/layouts/go_zero.lua:";
    assert!(
        failure.starts_with(place) && failure.ends_with(" in register.entries"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_layout_that_is_required_for_a_side_effect_fails_loudly() {
    let unused = "a layout was required, and its entries are not used: \
                  write `require(\"NAME\").entries`, or return the layout as the policy";
    let own_run = "register.run is overridden, and the policy is a layout, which has its own: override the layout's `run`";
    for (script, message) in [
        (
            "local register = require 'register'
            local default = register.entries
            require 'coredns'
            local dns = register.entries
            function register.entries(container)
              local entries, left_out = default(container)
              for _, entry in ipairs(dns(container)) do entries[#entries + 1] = entry end
              return entries, left_out
            end
            return register",
            unused,
        ),
        ("require 'traefik'\nreturn require 'register'", unused),
        ("require 'traefik'\nreturn require 'coredns'", unused),
        (
            "local register = require 'register'
            function register.run() end
            return require 'coredns'",
            own_run,
        ),
    ] {
        let site = Site::new(&[web("a")]);
        let failure = site.run(script).await.expect_err("it fails");
        assert_eq!(failure.message, message, "{script}");
    }
}
