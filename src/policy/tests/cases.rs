//! The module `test`: `test.entries`.

use super::*;

/// Why a case of this body fails, beside a policy.
fn failure_of_case(body: &str) -> Option<String> {
    let site = Site::new(&[]);
    let policy = "local register = require 'register'
        function register.entries(container)
          local team = container.labels.team or error('label it')
          return { { key = '/' .. team, value = container.name } }, 'all else'
        end
        return register";
    site.write("site.lua", policy);
    let script = format!(
        "local register, test = require 'site', require 'test'\ntest.case('a case', function()\n{body}\nend)"
    );
    site.write("site_test.lua", &script);
    let file = site.directory.path().join("site_test.lua");
    let tests = test_file(&file, site.world.options.clone());
    let failure = tests.failed.first();
    assert_eq!(tests.passed + tests.failed.len(), 1, "{body}");
    failure.map(|(_, failure)| site.shown(failure))
}

#[test]
fn the_entries_of_a_container_or_of_its_fields_are_compared_exactly() {
    let container = "{ name = 'a', labels = { team = 'red' } }";
    let made = format!("test.container {container}");
    for container in [container, &made] {
        for (wanted, failure) in [
            ("{ { key = '/red', value = 'a' } }", None),
            (
                "{ { key = '/red', value = 'b' } }",
                Some("[1].value: got \"a\", want \"b\""),
            ),
            (
                "{ { key = '/red', value = 'a', shared = false } }",
                Some("[1].shared: got nil, want false"),
            ),
            (
                "{ { key = '/red' }, { key = '/x' } }",
                Some(
                    "they differ:\n  [1].value: got \"a\", want nil\n  [2]: got nil, want { key = \"/x\" }",
                ),
            ),
            (
                "nil",
                Some("got { { key = \"/red\", value = \"a\" } }, want nil"),
            ),
        ] {
            let body = format!("test.entries(register, {container}, {wanted})");
            let failure = failure.map(|message| format!("{message}\n  at site_test.lua:3"));
            assert_eq!(failure_of_case(&body), failure, "{body}");
        }
    }
}

#[test]
fn a_policy_that_fails_in_a_test_of_entries_is_told_with_its_own_line() {
    for (body, message) in [
        (
            "test.entries(register, {}, {})",
            "label it\n  at site.lua:3 in register.entries",
        ),
        (
            "test.entries(require 'docker_discover', { labels = { SERVICE_NAME = '..' } }, {})",
            "the service name (label SERVICE_NAME) is `..`\n  at scripts/layouts/docker_discover.lua:18 in register.entries",
        ),
        (
            "test.entries(register, { nmae = 'x' }, {})",
            "test.entries: unknown field `nmae`, expected one of `id`, `name`, `hostname`, `image`, `labels`, `env`, \
             `status`, `health`, `stopping`, `ports`, `networks`, `network_mode`, `network_owner`, `cut_off`, `infra`, \
             `created`, `started`, `inspect`\n  at site_test.lua:3",
        ),
    ] {
        assert_eq!(failure_of_case(body).as_deref(), Some(message), "{body}");
    }
    for arguments in [
        "register.entries, {}, {}",
        "{}, {}, {}",
        "register, nil, {}",
        "register",
    ] {
        let message = "test.entries takes a policy, a container or the fields for one, and the wanted entries";
        assert_eq!(
            failure_of_case(&format!("test.entries({arguments})")),
            Some(format!("{message}\n  at site_test.lua:3")),
            "{arguments}"
        );
    }
}

#[test]
fn a_run_over_snapshots_has_the_entries_of_each() {
    for (body, failure) in [
        (
            "test.equal(test.run(register, { {}, { { name = 'a', labels = { team = 'red' } } }, {} }),
              { {}, { { key = '/red', value = 'a', ttl = 60 } }, {} })",
            None,
        ),
        (
            "test.run(register, { { {} } })",
            Some("label it\n  at site.lua:3 in register.entries"),
        ),
        (
            "test.run(register, { { {}, {} } })",
            Some("test.run: two containers of a snapshot have one id; give each a name or an id of its own\n  at site_test.lua:3"),
        ),
        (
            "test.run(register, { 1 })",
            Some(
                "test.run takes a policy, and a list of snapshots, each a list of containers or of the fields for one\n  \
                 at site_test.lua:3",
            ),
        ),
        (
            "function register.run() while true do coroutine.yield() end end test.run(register, {})",
            Some("its `run` waits and never goes on\n  at site_test.lua:3"),
        ),
        (
            // Its own run, which leaves out the second snapshot.
            "local docker, etcd = require 'docker', require 'etcd'
            function register.run()
              for containers in docker.watch() do
                if #containers ~= 2 then etcd.sync(containers, register.entries) end
              end
            end
            local a = test.container { name = 'a', labels = { team = 'red' } }
            local b = test.container { name = 'b', id = 'b', labels = { team = 'blue' } }
            local red = { { key = '/red', value = 'a', ttl = 60 } }
            test.equal(test.run(register, { { a }, { a, b }, { a } }), { red, red, red })
            test.equal(test.run(register, { { a, b } }), { {} })",
            None,
        ),
    ] {
        assert_eq!(failure_of_case(body).as_deref(), failure, "{body}");
    }
}
