//! The checks of entries, as a policy returns them.

use super::*;
use crate::wanted::Check;

/// The check of an entry whose value is an address, or why it is refused.
async fn read(check: &str) -> Result<Arc<Check>, String> {
    read_beside("10.0.0.1:80", check).await
}

/// The check of an entry with this value, or why it is refused.
async fn read_beside(value: &str, check: &str) -> Result<Arc<Check>, String> {
    let site = Site::new(&[web("a")]);
    let script = format!(
        "local register = require 'register'
        function register.entries(container)
          return {{ {{ key = '/a', value = '{value}', check = {check} }} }}
        end
        return register"
    );
    site.run(&script).await.expect("a run");
    let verdicts = site.world.verdicts.borrow();
    if let Some(failure) = &verdicts.all()[0].failure {
        return Err(failure.message.clone());
    }
    let wanted = site.wanted.borrow().clone().expect("a call of etcd.sync");
    let mut entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
    let entry = entries.next().expect("an entry");
    Ok(entry.check.clone().expect("a check"))
}

#[tokio::test]
async fn a_check_of_a_wrong_shape_is_refused_by_field() {
    let long = format!("{{ tcp = true, expect = ('x'):rep({}) }}", 1 << 20);
    for (check, why) in [
        (
            "'/health'",
            "`check` is a string; it is a table, such as `{ http = \"/health\" }`",
        ),
        (
            "{}",
            "`check` asks nothing: it has one of `http`, `https` and `tcp`, or `uptime`",
        ),
        ("{ 'http' }", "`check` has the unknown field 1"),
        (
            "{ htpp = '/' }",
            "`check` has the unknown field `htpp`; did you mean `http`?",
        ),
        (
            "{ tcp = true, colour = 'red' }",
            "`check` has the unknown field `colour`; `docker-register types` has all fields, in `Check`",
        ),
        (
            "{ http = '/', tcp = true }",
            "`check` has both `http` and `tcp`; it asks one of them",
        ),
        (
            "{ tcp = false }",
            "`check.tcp` is false; it is true, or left out",
        ),
        (
            "{ http = 'health' }",
            "`check.http` is `health`; it is a path that begins with a slash, such as /health",
        ),
        (
            "{ https = '/a b' }",
            "`check.https` is `/a b`; a path cannot have ' ': encode it, as %20 for a space",
        ),
        ("{ http = {} }", "`check.http` is a table; it is a string"),
        (
            "{ tcp = true, method = 'GET' }",
            "`check.method` is for `http` and `https`, and means nothing with `tcp`",
        ),
        (
            "{ http = '/', insecure = true }",
            "`check.insecure` is for `https`, and means nothing with `http`",
        ),
        (
            "{ http = '/', expect = 'x' }",
            "`check.expect` is for `tcp`, and means nothing with `http`",
        ),
        (
            "{ uptime = 5, interval = 1 }",
            "`check.interval` is for `http`, `https` and `tcp`, and means nothing with `uptime` alone",
        ),
        (
            "{ http = '/', method = 'get' }",
            "`check.method` is `get`; a method has capital letters alone, such as GET",
        ),
        (
            "{ http = '/', host = 'a b' }",
            "`check.host` is `a b`; it is a host name, with or without a port",
        ),
        (
            "{ https = '/', insecure = 1 }",
            "`check.insecure` is a number; it is true or false",
        ),
        (
            "{ tcp = true, send = 'PING' }",
            "`check.send` needs `check.expect`, because the answer is not read without it",
        ),
        (
            "{ tcp = true, expect = '' }",
            "`check.expect` is empty; leave it out",
        ),
        (
            long.as_str(),
            "`check.expect` has 1048576 bytes, more than 4096",
        ),
        (
            "{ tcp = true, address = '10.0.0.1' }",
            "`check.address`: `10.0.0.1` has no port: write `host:port`",
        ),
        (
            "{ tcp = true, address = '10.0.0.1:70000' }",
            "`check.address`: `70000` is no port: ports are from 1 to 65535",
        ),
    ] {
        assert_eq!(read(check).await.err(), Some(format!("entry 1: {why}")));
    }
}

#[tokio::test]
async fn a_header_that_no_request_may_have_is_refused() {
    for (check, why) in [
        (
            "{ http = '/', headers = { Host = 'a' } }",
            "`Host` in `check.headers` has a field of its own: set `check.host`",
        ),
        (
            "{ http = '/', headers = { ['Content-Length'] = 5 } }",
            "`Content-Length` in `check.headers` cannot be set: the request has its own",
        ),
        (
            "{ http = '/', headers = { ['a b'] = 'c' } }",
            "`a b` in `check.headers` is no name of a header",
        ),
        (
            "{ http = '/', headers = { a = 'b\\r\\nc: d' } }",
            "`a` in `check.headers` has a character that no header may have: `b\\r\\nc: d`",
        ),
        (
            "{ http = '/', headers = { 'a' } }",
            "a name in `check.headers` is a number; it is a string",
        ),
    ] {
        assert_eq!(read(check).await.err(), Some(format!("entry 1: {why}")));
    }
}

#[tokio::test]
async fn a_list_of_statuses_that_has_none_is_refused() {
    for status in [
        "''",
        "'2xx'",
        "'99'",
        "600",
        "'299-200'",
        "'+200'",
        "'200,'",
        "200.5",
    ] {
        let why = read(&format!("{{ http = '/', status = {status} }}")).await;
        let why = why.expect_err(status);
        assert!(why.starts_with("entry 1: `check.status` is "), "{why}");
    }
}

#[tokio::test]
async fn a_number_that_is_no_time_or_no_count_is_refused_with_its_range() {
    let huge = 1e308_f64.to_string();
    for (field, range) in [
        ("uptime", "a number of seconds from 0.001 to 86400"),
        ("interval", "a number of seconds from 0.1 to 3600"),
        (
            "timeout",
            "a number of seconds from 0.01 to 2, the interval",
        ),
        ("rise", "a whole number from 1 to 100"),
        ("fall", "a whole number from 1 to 100"),
    ] {
        for (value, shown) in [
            ("0", "0"),
            ("-1", "-1"),
            ("-0.5", "-0.5"),
            ("1e308", huge.as_str()),
            ("math.mininteger", "-9223372036854775808"),
            ("math.maxinteger", "9223372036854775807"),
            ("1 / 0", "inf"),
            ("-1 / 0", "-inf"),
            ("0 / 0", "NaN"),
            ("'5'", "a string"),
            ("{}", "a table"),
        ] {
            let why = read(&format!("{{ tcp = true, {field} = {value} }}")).await;
            let why = why.expect_err(value);
            let wanted = format!("entry 1: `check.{field}` is {shown}; it is {range}");
            assert_eq!(why, wanted);
        }
    }
    let why = read("{ tcp = true, interval = 0.5, timeout = 1 }").await;
    let wanted =
        "entry 1: `check.timeout` is 1; it is a number of seconds from 0.01 to 0.5, the interval";
    assert_eq!(why.err().as_deref(), Some(wanted));
}

#[tokio::test]
async fn a_value_that_is_no_address_needs_one_in_the_check() {
    let why = read_beside("web-1", "{ tcp = true }").await;
    let wanted = "entry 1: `check` has no address to ask, because the entry's value, `web-1`, is not `host:port`: \
                  set `check.address`";
    assert_eq!(why.err().as_deref(), Some(wanted));
    let check = read_beside("web-1", "{ tcp = true, address = '[::1]:80' }").await;
    assert_eq!(check.expect("a check").to_string(), "tcp [::1]:80");
    let check = read_beside("web-1", "{ uptime = 0.5 }").await;
    assert_eq!(check.expect("a check").to_string(), "uptime 0.5 s");
}

#[test]
fn a_run_shows_a_check_with_its_address_and_without_its_defaults() {
    for (given, shown) in [
        ("{ tcp = true }", "{ tcp = true, address = '10.0.0.1:80' }"),
        (
            "{ http = '/', method = 'GET', status = '200-399', interval = 2, timeout = 1, rise = 1, fall = 3 }",
            "{ http = '/', address = '10.0.0.1:80' }",
        ),
        (
            "{ https = '/a?b', insecure = true, method = 'HEAD', host = 'a.b', headers = { c = 'd' }, status = '200, 204-299',
               address = 'x:1', interval = 0.5, timeout = 0.25, rise = 2, fall = 1, uptime = 5 }",
            "{ https = '/a?b', insecure = true, method = 'HEAD', host = 'a.b', headers = { c = 'd' }, status = '200,204-299',
               address = 'x:1', interval = 0.5, timeout = 0.25, rise = 2, fall = 1, uptime = 5 }",
        ),
        (
            "{ tcp = true, send = 'PING\\r\\n', expect = '+PONG', interval = 0.5 }",
            "{ tcp = true, send = 'PING\\r\\n', expect = '+PONG', interval = 0.5, address = '10.0.0.1:80' }",
        ),
        ("{ uptime = 1.5 }", "{ uptime = 1.5 }"),
    ] {
        let body = format!(
            "local register = require 'register'
            function register.entries()
              return {{ {{ key = '/a', value = '10.0.0.1:80', check = {given} }} }}
            end
            test.equal(test.run(register, {{ {{ {{}} }} }}),
              {{ {{ {{ key = '/a', value = '10.0.0.1:80', ttl = 60, check = {shown} }} }} }})
            test.entries(register, {{}}, {{ {{ key = '/a', value = '10.0.0.1:80', check = {given} }} }})"
        );
        assert_eq!(failure_of_case(&body), None, "{given}");
    }
}
