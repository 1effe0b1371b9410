//! The checks that the bundled policy makes of a container's labels and variables.

use super::decisions::run_bundled;
use super::*;

/// Compares the check that these variables of a container ask for, for its first port, with a Lua table, or with the
/// error that they are.
fn assert_asked(container: &str, want: Result<&str, &str>) {
    let wanted = want.unwrap_or("nil");
    let body = format!(
        "local register = require 'register'
        local container = test.container {container}
        test.equal(register.check(container, container.ports[1]), {wanted})"
    );
    let failure = failure_of_case(&body);
    let message = failure.as_ref().and_then(|it| it.split("\n  at ").next());
    assert_eq!(message, want.err(), "{container}");
}

/// The same, for labels alone.
fn assert_labels(labels: &str, want: Result<&str, &str>) {
    assert_asked(&format!("{{ labels = {{ {labels} }} }}"), want);
}

#[tokio::test]
async fn entries_of_a_port_share_their_check() {
    let mut container = web("a");
    container["Config"]["Labels"] = json!({ "SERVICE_CHECK_HTTP": "/health" });
    let (lines, site) = run_bundled(&[container]).await;
    assert_eq!(lines, [""; 0]);
    let wanted = site.wanted.borrow().clone().expect("a call of etcd.sync");
    let mut entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
    let mut check = || {
        entries
            .next()
            .and_then(|entry| entry.check.clone())
            .expect("a check")
    };
    let (first, second) = (check(), check());
    assert_eq!(first.to_string(), "http://10.0.0.1:32768/health");
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn labels_ask_for_a_check() {
    for (labels, check) in [
        ("", "nil"),
        ("SERVICE_CHECK_HTTP = ''", "nil"),
        ("SERVICE_CHECK_TCP = 'false'", "nil"),
        ("SERVICE_CHECK_HTTP = '/health'", "{ http = '/health' }"),
        ("SERVICE_80_CHECK_TCP = 'true'", "{ tcp = true }"),
        ("SERVICE_81_CHECK_TCP = 'true'", "nil"),
        ("SERVICE_CHECK_UPTIME = '5'", "{ uptime = 5 }"),
        (
            "SERVICE_CHECK_UPTIME = '500ms', SERVICE_CHECK_TCP = '1'",
            "{ uptime = 0.5, tcp = true }",
        ),
        // A port's own settings come before those of all ports.
        (
            "SERVICE_CHECK_HTTP = '/', SERVICE_80_CHECK_TCP = '1', SERVICE_CHECK_RISE = '2', SERVICE_80_CHECK_RISE = '3'",
            "{ tcp = true, rise = 3 }",
        ),
        ("SERVICE_CHECK_HTTP = '/', SERVICE_80_CHECK_HTTP = ''", "nil"),
        (
            "SERVICE_CHECK_HTTPS = '/', SERVICE_CHECK_INTERVAL = '1m30s', SERVICE_CHECK_TIMEOUT = '1500ms',
             SERVICE_CHECK_RISE = '2', SERVICE_CHECK_FALL = '5', SERVICE_CHECK_TLS_SKIP_VERIFY = 'true',
             SERVICE_CHECK_HTTPS_METHOD = 'head'",
            "{ https = '/', interval = 90, timeout = 1.5, rise = 2, fall = 5, insecure = true, method = 'HEAD' }",
        ),
        (
            "SERVICE_CHECK_HTTP = '/', SERVICE_CHECK_HTTP_METHOD = 'HEAD', SERVICE_CHECK_TLS_SKIP_VERIFY = 'true'",
            "{ http = '/', method = 'HEAD' }",
        ),
        (
            "SERVICE_CHECK_TCP = '1', SERVICE_CHECK_TIMEOUT = '5s'",
            "{ tcp = true, interval = 5, timeout = 5 }",
        ),
    ] {
        assert_labels(labels, Ok(check));
    }
    assert_asked(
        "{ env = { SERVICE_CHECK_HTTP = '/env' }, labels = { SERVICE_CHECK_HTTP = '/label' } }",
        Ok("{ http = '/label' }"),
    );
    assert_asked(
        "{ env = { SERVICE_CHECK_HTTP = '/env' } }",
        Ok("{ http = '/env' }"),
    );
}

#[test]
fn a_label_that_makes_no_sense_is_an_error_that_names_it() {
    let interval = |value: &str| {
        format!(
            "its SERVICE_CHECK_INTERVAL, `{value}`, is no interval: write a time from 100ms to 1h, such as 500ms, 5s or 1m30s"
        )
    };
    for value in [
        "0",
        "-1s",
        "10 parsecs",
        "2h",
        "5d",
        "1s2",
        "x",
        " 5s",
        "1e3",
    ] {
        let labels = format!("SERVICE_CHECK_TCP = '1', SERVICE_CHECK_INTERVAL = '{value}'");
        assert_labels(&labels, Err(&interval(value)));
    }
    for (labels, why) in [
        (
            "SERVICE_CHECK_HTTP = 'health'",
            "its SERVICE_CHECK_HTTP, `health`, is no path: write SERVICE_CHECK_HTTP=/health or the like, with a slash in front",
        ),
        (
            "SERVICE_80_CHECK_HTTPS = '/a b'",
            "its SERVICE_80_CHECK_HTTPS, `/a b`, has a character that no path has: encode it, as %20 for a space",
        ),
        (
            "SERVICE_CHECK_TCP = '1', SERVICE_CHECK_INTERVAL = '2s', SERVICE_CHECK_TIMEOUT = '5s'",
            "its SERVICE_CHECK_TIMEOUT, `5s`, is no timeout: write a time from 10ms to 2s, which is the interval, \
             or a longer interval",
        ),
        (
            "SERVICE_CHECK_TCP = '1', SERVICE_CHECK_RISE = '0'",
            "its SERVICE_CHECK_RISE, `0`, is no number of probes: write one from 1 to 100",
        ),
        (
            "SERVICE_CHECK_TCP = '1', SERVICE_CHECK_FALL = '1.5'",
            "its SERVICE_CHECK_FALL, `1.5`, is no number of probes: write one from 1 to 100",
        ),
        (
            "SERVICE_CHECK_HTTP = '/', SERVICE_CHECK_HTTP_METHOD = 'GET /'",
            "its SERVICE_CHECK_HTTP_METHOD, `GET /`, is no method: write SERVICE_CHECK_HTTP_METHOD=HEAD or the like",
        ),
        (
            "SERVICE_CHECK_UPTIME = '0'",
            "its SERVICE_CHECK_UPTIME, `0`, is no time to have run: write one from 1ms to 24h, such as 5s or 1m30s",
        ),
        (
            "SERVICE_CHECK_HTTP = '/', SERVICE_CHECK_TCP = '1'",
            "its SERVICE_CHECK_HTTP and SERVICE_CHECK_TCP are both set, and a port has one check: remove one",
        ),
        (
            "SERVICE_CHECK_INTERVAL = '5s'",
            "its SERVICE_CHECK_INTERVAL, `5s`, checks nothing alone: set SERVICE_CHECK_HTTP, SERVICE_CHECK_HTTPS or \
             SERVICE_CHECK_TCP too",
        ),
        (
            "SERVICE_80_CHECK_FALL = '5'",
            "its SERVICE_80_CHECK_FALL, `5`, checks nothing alone: set SERVICE_80_CHECK_HTTP, SERVICE_80_CHECK_HTTPS or \
             SERVICE_80_CHECK_TCP too",
        ),
    ] {
        assert_labels(labels, Err(why));
    }
    // It may be for another port, or for a check that is not made.
    assert_labels(
        "SERVICE_CHECK_INTERVAL = '5s', SERVICE_CHECK_SCRIPT = 'curl'",
        Ok("nil"),
    );
    assert_labels(
        "SERVICE_CHECK_INTERVAL = '5s', SERVICE_81_CHECK_TCP = '1'",
        Ok("nil"),
    );
    assert_labels(
        "SERVICE_CHECK_INTERVAL = '5s', SERVICE_CHECK_TCP = '0'",
        Ok("nil"),
    );
}

#[test]
fn a_port_of_udp_has_no_probe() {
    let container =
        |ports: &str, labels: &str| format!("{{ ports = {{ {ports} }}, labels = {{ {labels} }} }}");
    let udp = "{ port = 53, protocol = 'udp', host_port = 5300 }";
    let both = &format!("{udp}, {{ port = 53, host_port = 5300 }}");
    let general = "SERVICE_CHECK_TCP = '1'";
    let of_port = "SERVICE_53_CHECK_TCP = '1'";
    let with_uptime = &format!("{general}, SERVICE_CHECK_UPTIME = '5s'");
    assert_asked(&container(udp, general), Ok("nil"));
    assert_asked(&container(udp, with_uptime), Ok("{ uptime = 5 }"));
    let why = "its SERVICE_53_CHECK_TCP, `1`, is for port 53/udp, and only TCP ports can be asked: remove it";
    assert_asked(&container(udp, of_port), Err(why));
    // TCP comes first in the order of ports.
    assert_asked(&container(both, of_port), Ok("{ tcp = true }"));
    let body = format!(
        "local register = require 'register'
        local container = test.container {}
        test.equal(register.check(container, container.ports[2]), nil)",
        container(both, of_port)
    );
    assert_eq!(failure_of_case(&body), None);
}

#[tokio::test]
async fn a_check_that_is_not_made_is_warned_of_once() {
    let mut container = web("a");
    container["Config"]["Env"] = json!(["SERVICE_CHECK_TTL=30s", "SERVICE_80_CHECK_SCRIPT=curl"]);
    container["Config"]["ExposedPorts"] = json!({ "80/tcp": {}, "443/tcp": {} });
    let published = json!([{ "HostIp": "0.0.0.0", "HostPort": "32768" }]);
    container["NetworkSettings"]["Ports"] = json!({ "80/tcp": published, "443/tcp": published });
    let (lines, site) = run_bundled(&[container]).await;
    let why = "has no effect, because this kind of check is not made: use SERVICE_CHECK_HTTP, SERVICE_CHECK_TCP or \
               Docker's HEALTHCHECK";
    // The newest comes first.
    let wanted = ["SERVICE_CHECK_TTL", "SERVICE_80_CHECK_SCRIPT"];
    assert_eq!(lines, wanted.map(|name| format!("`a`: {name} {why}")));
    assert_eq!(site.keys().len(), 4);
}

#[test]
fn through_loopback_a_connection_alone_asks_the_container() {
    for (fields, check, address) in [
        ("", "{ tcp = true }", "172.17.0.2:80"),
        ("", "{ tcp = true, expect = '220 ' }", "127.0.0.1:32768"),
        ("", "{ http = '/' }", "127.0.0.1:32768"),
        ("", "{ tcp = true, address = 'x:1' }", "x:1"),
        ("network_mode = 'host',", "{ tcp = true }", "127.0.0.1:80"),
    ] {
        let body = format!(
            "local register = require 'register'
            register.host_ip = '127.0.0.1'
            local own = {check}
            function register.check() return own end
            local networks = {{ b = {{ ip = '172.17.0.2', gateway = '172.17.0.1' }}, a = {{ ip = '10.1.0.2' }} }}
            local container = test.container {{ {fields} networks = networks }}
            local checked = register.checked(container, container.ports[1])
            test.equal(checked.address, '{address}')
            test.equal(checked == own, false)
            test.equal(own, {check})"
        );
        assert_eq!(failure_of_case(&body), None, "{check}");
    }
    let body = "local register = require 'register'
        function register.check() return { uptime = 5 } end
        local container = test.container()
        test.equal(register.checked(container, container.ports[1]), { uptime = 5 })";
    assert_eq!(failure_of_case(body), None);
}

#[test]
fn each_layout_puts_the_check_on_each_entry() {
    for layout in [
        "register",
        "coredns",
        "docker_discover",
        "go_zero",
        "grpc",
        "registrator",
        "traefik",
    ] {
        let body = format!(
            "local policy = require '{layout}'
            local entries = policy.entries(test.container {{ labels = {{ SERVICE_CHECK_HTTP = '/' }} }})
            assert(#entries > 0)
            for _, entry in ipairs(entries) do
              test.equal(entry.check, {{ http = '/', address = '10.0.0.1:32768' }})
            end"
        );
        assert_eq!(failure_of_case(&body), None, "{layout}");
    }
}
