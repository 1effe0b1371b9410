//! Errors of a policy function.

use super::*;

#[tokio::test]
async fn errors_of_a_policy_say_what_and_where() {
    for (body, message) in [
        (
            "error('label it')",
            "label it\n  at site.lua:3 in register.entries",
        ),
        (
            "local x = nil + 1",
            "attempt to perform arithmetic on a nil value\n  at site.lua:3 in register.entries",
        ),
        (
            "error({ code = 1 })",
            "`error` was called with a table instead of a message\n  at site.lua:3 in register.entries",
        ),
        (
            "error()",
            "`error` was called without a message\n  at site.lua:3 in register.entries",
        ),
        (
            "local function f() return f() + 1 end f()",
            "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  \
             at site.lua:3 in f",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped\n  at site.lua:3 in register.entries",
        ),
        (
            "while true do pcall(function() while true do end end) end",
            "it took longer than a second, and was stopped\n  at site.lua:3 in register.entries",
        ),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
            "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  \
             at site.lua:3 in register.entries",
        ),
        (
            "require('docker').watch()",
            "`docker.watch` waits, so it cannot be called in a policy function, which only says what should be; \
             call it in `run`\n  at site.lua:3 in register.entries",
        ),
        (
            "require('etcd').get('/x')",
            "`etcd.get` waits, so it cannot be called in a policy function, which only says what should be; \
             call it in `run`\n  at site.lua:3 in register.entries",
        ),
        (
            "return { { key = require('etcd').key('..'), value = '' } }",
            "segment 1 of the key is `..`\n  at site.lua:3 in register.entries",
        ),
        (
            "return { { key = require('etcd').segment('the team', nil), value = '' } }",
            "the team is a nil; it is a string or a whole number\n  at site.lua:3 in register.entries",
        ),
    ] {
        assert_eq!(failure_of(body).await, message, "{body}");
    }
}

#[tokio::test]
async fn an_illegal_segment_is_told_with_the_label_that_it_comes_from() {
    for (variables, text, message) in [
        ("", "a/b", "the team `a/b` has a slash"),
        (
            "labels = { team = 'a/b' }",
            "a/b",
            "the team `a/b` (label team) has a slash",
        ),
        (
            "labels = { team = '..' }",
            "..",
            "the team (label team) is `..`",
        ),
        (
            "env = { TEAM = 'a/b' }",
            "a/b",
            "the team `a/b` (environment variable TEAM) has a slash",
        ),
        // A label beats the environment, and of several the first is named.
        (
            "labels = { team = 'a/b', squad = 'a/b' }, env = { TEAM = 'a/b' }",
            "a/b",
            "the team `a/b` (label squad) has a slash",
        ),
        // Something may have been added to the value, but not to one that is legal.
        (
            "labels = { team = 'a/b', path = '/', x = 'a' }",
            "a/b-80",
            "the team `a/b-80` (label team) has a slash",
        ),
        // An empty value says nothing.
        ("labels = { team = '' }", "", "the team is empty"),
    ] {
        let body = format!(
            "local etcd, test = require 'etcd', require 'test'
            etcd.segment('the team', '{text}', test.container {{ {variables} }})"
        );
        let message = format!("{message}\n  at site_test.lua:4");
        assert_eq!(failure_of_case(&body), Some(message), "{variables}");
    }
    holds(
        "local etcd = require 'etcd'
        assert(etcd.segment('the team', container.labels.team, container) == 'red' and etcd.segment('x', 7) == '7')",
    )
    .await;
}

#[tokio::test]
async fn the_memory_limit_names_the_line_of_the_decision_that_reaches_it() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        local function fill(list)
          while true do
            list[#list + 1] = ('x'):rep(1000000) .. #list
          end
        end
        function register.service(container, port)
          local list = {}
          fill(list)
        end
        return register";
    site.run(script).await.expect("a run");
    let failure = site.failure();
    assert!(
        failure.starts_with("it needs more than the 64 MiB"),
        "{failure}"
    );
    assert!(failure.contains("\n  at site.lua:4"), "{failure}");
}

#[tokio::test]
async fn the_memory_limit_in_run_names_run() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        function register.run()
          local list = {}
          while true do list[#list + 1] = ('x'):rep(1000000) .. #list end
        end
        return register";
    let failure = site.run(script).await.expect_err("it fails");
    assert_eq!(
        site.shown(&failure),
        "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  \
         at site.lua:2 in register.run"
    );
}
