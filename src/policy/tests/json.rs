//! The module `json`.

use super::*;

#[tokio::test]
async fn json_is_the_same_text_every_time() {
    holds(
        "local json = require 'json'
        assert(json.encode({ b = 1, a = { 1, 'x', true }, c = json.null }) == '{\"a\":[1,\"x\",true],\"b\":1,\"c\":null}')
        assert(json.encode({}) == '{}' and json.encode(1.5) == '1.5')
        assert(json.encode(container.labels) == '{\"team\":\"red\"}')
        assert(json.encode(container):find('\"name\":\"a\"', 1, true))
        assert(json.decode('{\"a\":[1,null]}').a[2] == json.null)
        local loop = {} loop[1] = loop
        assert(not pcall(json.encode, loop) and not pcall(json.encode, 0/0) and not pcall(json.encode, print))
        assert(not pcall(json.decode, '{'))",
    )
    .await;
}

#[tokio::test]
async fn an_empty_list_stays_a_list() {
    holds(
        "local json = require 'json'
        assert(json.encode({ tags = json.array {}, more = {} }) == '{\"more\":{},\"tags\":[]}')
        assert(json.encode(json.array()) == '[]' and json.encode(json.array { 1, 'x' }) == '[1,\"x\"]')
        assert(json.encode(json.decode('{\"a\":[],\"b\":{},\"c\":[[]]}')) == '{\"a\":[],\"b\":{},\"c\":[[]]}')
        local list = json.decode '[1]'
        table.remove(list)
        assert(json.encode(list) == '[]' and #list == 0 and next(list) == nil)
        assert(json.encode(container.ports[1].bindings[1].ip) == '\"0.0.0.0\"')
        assert(json.encode(json.array(container.networks.bridge.aliases)) == '[\"www\"]')
        for _, wrong in ipairs { 1, 'x', true, container.labels } do assert(not pcall(json.array, wrong)) end
        local mixed = json.array {}
        mixed.name = 'x'
        assert(not pcall(json.encode, mixed))",
    )
    .await;
}

#[tokio::test]
async fn an_error_of_a_module_is_a_text_with_a_position() {
    for (call, message) in [
        (
            "pcall(json.decode, '{')",
            "3: json.decode: EOF while parsing an object at line 1 column 1",
        ),
        (
            "pcall(etcd.key, 'a', '')",
            "3: segment 2 of the key is empty",
        ),
        (
            "pcall(etcd.segment, 'the team', 'a/b')",
            "3: the team `a/b` has a slash",
        ),
        (
            "pcall(require, 'nothing')",
            "3: `require \"nothing\"`: modules are required while the script loads",
        ),
        (
            "pcall(function() return etcd.key('..') end)",
            "3: segment 1 of the key is `..`",
        ),
        (
            "xpcall(json.decode, function(why) return 'x ' .. why end, '[')",
            "",
        ),
        (
            "coroutine.resume(coroutine.create(function() json.decode '!' end))",
            "3: json.decode: expected value at line 1 column 1",
        ),
        (
            "pcall(coroutine.wrap(function() etcd.key('') end))",
            "3: segment 1 of the key is empty",
        ),
        // Lua's own stay as they are.
        ("pcall(error, 'plain', 0)", "plain"),
    ] {
        let body = format!(
            "local json, etcd = require 'json', require 'etcd' local went_well, why = {call}
            assert(not went_well and type(why) == 'string', why)
            error('bad: ' .. why, 0)"
        );
        let failure = failure_of(&body).await;
        let (told, _) = failure.rsplit_once("\n  at ").expect("a place");
        let told = told.strip_prefix("bad: ").expect("the beginning");
        let told = told.trim_start_matches("site.lua:");
        if message.is_empty() {
            assert!(told.starts_with("x "), "{call}: {told}");
        } else {
            assert_eq!(told, message, "{call}");
        }
    }
}
