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
