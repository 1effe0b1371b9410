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
             at site.lua:2 in register.entries",
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
             at site.lua:2 in register.entries",
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
            "return { { key = require('etcd').segment('the team', 'a/b', 'label team'), value = '' } }",
            "the team `a/b` (label team) has a slash\n  at site.lua:3 in register.entries",
        ),
        (
            "return { { key = require('etcd').segment('the team', nil), value = '' } }",
            "the team is a nil; it is a string or a whole number\n  at site.lua:3 in register.entries",
        ),
    ] {
        assert_eq!(failure_of(body).await, message, "{body}");
    }
}
