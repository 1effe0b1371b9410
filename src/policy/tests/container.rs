//! The table of a container.

use super::*;
use crate::container::Container;
use crate::container::fields::Record as _;

#[tokio::test]
async fn a_container_has_what_the_api_says() {
    // It has a network of its own, is no infra container, and has never started.
    let fields = format!("local fields, all = 0, {}\n", Container::FIELDS.len() - 3);
    let check = fields
        + "assert(container.id == 'a' .. ('0'):rep(63) and container.short_id == 'a00000000000')
        assert(container.name == 'a' and container.hostname == 'inside')
        assert(container.image.reference == 'team/web:1' and container.image.repository == 'team/web')
        assert(container.image.name == 'web' and container.image.tag == '1' and container.image.registry == nil)
        assert(container.labels.team == 'red' and container.labels.nothing == nil)
        assert(container.env.COLOR == 'blue')
        assert(container.status == 'running' and container.health == 'none' and container.stopping == false)
        local port = container.ports[1]
        assert(#container.ports == 1 and port.port == 80 and port.protocol == 'tcp' and port.index == 1)
        assert(port.host_ip == '0.0.0.0' and port.host_port == 32768 and port.bindings[1].port == 32768)
        assert(container.networks.bridge.ip == '172.17.0.2' and container.networks.bridge.ip6 == nil)
        assert(container.networks.bridge.aliases[1] == 'www')
        assert(container.created == '2026-01-01T00:00:00Z' and container.created_at == 1767225600)
        assert(container.started == '' and container.started_at == nil)
        assert(container.inspect.Config.Labels.team == 'red')
        for field, value in pairs(container) do assert(type(field) == 'string') fields = fields + 1 end
        assert(fields == all, fields)
        for name, value in pairs(container.labels) do assert(name == 'team' and value == 'red') end
        assert(next(container.env) == 'COLOR' and next({}) == nil)
        local options = require 'options'
        assert(options.color == 'green' and options.ttl == 60 and options.host_ip == '10.0.0.1')";
    holds(&check).await;
}

#[tokio::test]
async fn nothing_that_a_policy_is_given_can_be_changed() {
    for change in [
        "container.name = 'x'",
        "container.labels.team = 'x'",
        "container.ports[2] = {}",
        "container.ports[1].port = 1",
        "container.inspect.Config.Labels.team = 'x'",
        "container.networks.bridge.aliases[1] = 'x'",
        "rawset(container.labels, 'team', 'x')",
        "rawset(container, 'name', 'x')",
        "table.insert(container.ports, {})",
        "setmetatable(container, {})",
        "setmetatable(container.labels, nil)",
        "getmetatable(container.labels).__index = {}",
        "require('options').ttl = 1",
        "local _, inner = pairs(container.labels) inner.team = 'x'",
    ] {
        let check = format!(
            "local ok = pcall(function() {change} end)
            assert(not ok and container.labels.team == 'red' and container.name == 'a')"
        );
        holds(&check).await;
    }
}

#[tokio::test]
async fn a_misspelt_field_is_an_error_that_names_it() {
    assert_eq!(
        failure_of("if container.helth == 'healthy' then return {} end").await,
        "a container has no field `helth`\n  at site.lua:3 in register.entries"
    );
    assert_eq!(
        failure_of("return { container.ports[1].prot }").await,
        "a port has no field `prot`\n  at site.lua:3 in register.entries"
    );
}

#[test]
fn a_sample_has_the_fields_that_a_test_gives() {
    let body = "local container = test.container {
          id = ('ab'):rep(32), name = 'x', hostname = 'h', image = 'team/app:1', labels = { a = 'b' }, env = { C = 'd' },
          status = 'paused', health = 'healthy', stopping = true, ports = { { port = 53, protocol = 'udp', bindings = {} } },
          networks = { n = { ip = '1.1.1.1', aliases = {} } }, network_mode = 'n', created = '2020-01-01T00:00:00Z',
          started = '2021-01-01T00:00:00Z', inspect = { RestartCount = 3 }, network_owner = 'o', cut_off = true,
          infra = 'i',
        }
        test.equal({ container.network_owner, container.cut_off, container.infra }, { 'o', true, 'i' })
        test.equal(test.container { ports = { { port = 1, guests = 'g' } } }.ports[1].guests, 'g')
        test.equal({ container.short_id, container.name, container.hostname, container.image.tag, container.labels,
          container.env, container.status, container.health, container.stopping, container.network_mode,
          container.created, container.started, container.inspect.RestartCount, container.inspect.State.Running },
          { 'abababababab', 'x', 'h', '1', { a = 'b' }, { C = 'd' }, 'paused', 'healthy', true, 'n',
            '2020-01-01T00:00:00Z', '2021-01-01T00:00:00Z', 3, true })
        test.equal({ container.created_at, container.started_at }, { 1577836800, 1609459200 })
        test.equal(test.container { started = '0001-01-01T00:00:00Z' }.started_at, nil)
        test.equal(test.container { created = '2026-01-01T00:00:00.75+01:00' }.created_at, 1767222000)
        test.equal(container.ports, { { port = 53, protocol = 'udp', index = 1, bindings = {} } })
        test.equal(container.networks, { n = { ip = '1.1.1.1', aliases = {} } })
        test.equal(#test.container { ports = {} }.ports, 0)
        test.equal(test.container().ports[1].host_port, 32768)
        test.equal(test.container { name = 'x' }.id, test.container { name = 'x', image = 'y' }.id)";
    assert_eq!(failure_of_case(body), None);
}

#[test]
fn a_field_that_no_sample_can_have_is_refused_by_name() {
    let fields = Container::FIELDS.iter();
    let fields = fields.filter(|field| field.sampler.is_some());
    let fields: Vec<String> = fields.map(|field| format!("`{}`", field.name)).collect();
    let unknown = format!(
        "unknown field `nmae`, expected one of {}",
        fields.join(", ")
    );
    for (fields, message) in [
        ("{ nmae = 'x' }", unknown.as_str()),
        (
            "{ hostname = 1 }",
            "`hostname`: invalid type: integer `1`, expected a string",
        ),
        (
            "{ ports = { { prot = 80 } } }",
            "`ports`: unknown field `prot`, expected one of `port`, `protocol`, `host_ip`, `host_port`, `bindings`, `guests`",
        ),
        ("{ 'x' }", "it takes a table of named fields"),
    ] {
        let failure = failure_of_case(&format!("test.container {fields}"));
        let message = format!("test.container: {message}\n  at site_test.lua:3");
        assert_eq!(failure, Some(message), "{fields}");
    }
}
