//! The entries that a policy returns.

use super::*;

#[tokio::test]
async fn entries_of_a_wrong_shape_are_refused_by_name() {
    for (body, message) in [
        (
            "return nil",
            "it returned nil; return a list of entries, `{}` for none",
        ),
        (
            "return 3",
            "it returned a number; return a list of entries, `{}` for none",
        ),
        (
            "return { key = '/a', value = 'b' }",
            "it returned one entry and not a list; return a list of entries, `{}` for none: `{ entry }`",
        ),
        (
            "return { web = {} }",
            "it returned a table with the field `web`; return a list of entries, `{}` for none",
        ),
        (
            "return { [1] = { key = '/a', value = 'b' }, [7] = { key = '/c', value = 'd' } }",
            "its list of entries has holes; return a list of entries, `{}` for none",
        ),
        (
            "return { 'x' }",
            "entry 1 is a string; an entry is a table with `key` and `value`",
        ),
        ("return { { value = 'b' } }", "entry 1 has no `key`"),
        ("return { { key = '/a' } }", "entry 1 has no `value`"),
        (
            "return { { key = '/a', vlaue = 'b' } }",
            "entry 1 has the unknown field `vlaue`; an entry has `key`, `value`, `ttl`, `shared` and `check`",
        ),
        (
            "return { { key = '/a', value = {} } }",
            "entry 1: `value` is a table; it is a string",
        ),
        (
            "return { { key = '/a', value = '\\xff' } }",
            "entry 1: `value` is not UTF-8: `\u{fffd}`",
        ),
        (
            "return { { key = '/a', value = 'b', ttl = '60' } }",
            "entry 1: `ttl` is a string; it is a whole number of seconds from 1 to 86400",
        ),
        (
            "return { { key = '/a', value = 'b', ttl = 0.5 } }",
            "entry 1: `ttl` is 0.5; it is a whole number of seconds from 1 to 86400",
        ),
        (
            "return { { key = '/a', value = 'b', ttl = 0 } }",
            "entry 1: `ttl` is 0; it is a whole number of seconds from 1 to 86400",
        ),
        (
            "return { { key = '/a', value = 'b', shared = 1 } }",
            "entry 1: `shared` is a number; it is true or false",
        ),
        (
            "return { { key = '/a//b', value = 'c' } }",
            "entry 1: segment 2 of the key `/a//b` is empty",
        ),
        (
            "return { { key = '/a', value = 'b' }, { key = '/a', value = 'c' } }",
            "entries 1 and 2 have one key, `/a`, and differ",
        ),
    ] {
        let whole = format!("{message}\n  at site.lua:2 in register.entries");
        assert_eq!(failure_of(body).await, whole, "{body}");
    }
}

#[tokio::test]
async fn numbers_are_taken_as_their_decimal_digits() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        function register.entries(container)
          return { { key = '/a', value = 8005 }, { key = '/b', value = 16010 / 2, ttl = 60 / 2 },
                   { key = '/a', value = 8005 } }
        end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(site.keys(), ["/a 8005", "/b 8005"]);
}
