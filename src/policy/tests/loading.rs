//! Loading a script: what is refused, its modules, and the globals that it has.

use super::*;

#[test]
fn a_script_that_cannot_be_a_policy_is_refused_when_it_loads() {
    let site = Site::new(&[]);
    site.write("circle.lua", "return require 'site'");
    site.write("two.lua", "require 'three'");
    site.write("three.lua", "require 'two'");
    for (script, message) in [
        (
            "local x = = 1",
            "unexpected symbol near '='\n  at site.lua:1",
        ),
        (
            "",
            "`site.lua` returned nothing and not a policy; end it with `return register`",
        ),
        (
            "return 3",
            "`site.lua` returned integer and not a policy; end it with `return register`",
        ),
        (
            "return {}",
            "`site.lua` returned a table whose `run` is nil and not a function; \
             begin with `local register = require \"register\"`",
        ),
        ("\nerror('no')", "no\n  at site.lua:2"),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
            "it needs more than the 64 MiB of memory that a script may have, or calls itself without end\n  at site.lua:1",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped\n  at site.lua:1",
        ),
        (
            "local r = require 'register'\nr.nmae = function() end",
            "register has no decision `nmae`\n  at site.lua:2",
        ),
        (
            "local r = require 'register'\nr.service = 'web'",
            "register.service is a function, not a string\n  at site.lua:2",
        ),
        (
            "require('docker').watch()",
            "`docker.watch` waits, so it cannot be called while the script loads; call it in `run`\n  at site.lua:1",
        ),
        (
            "require 'two'",
            "`two` requires `three` requires `two`: they go in a circle\n  at three.lua:1",
        ),
        (
            "require '../secret'",
            "`require \"../secret\"`: a module's name has letters, digits, `_` and `-`, and dots for directories\n  \
             at site.lua:1",
        ),
        (
            "local r = require 'coredns'\nr.nmae = function() end",
            "register has no decision `nmae`\n  at site.lua:2",
        ),
        (
            "local r = require 'coredns'\nr.service = 'web'",
            "register.service is a function, not a string\n  at site.lua:2",
        ),
        (
            "local r = require 'coredns'\nr.entries = 'web'",
            "register.entries is a function, not a string\n  at site.lua:2",
        ),
        (
            "local r = require 'register'\nlocal policy = r.layout {}",
            "register.layout takes a function, not a table\n  at site.lua:2",
        ),
    ] {
        assert_eq!(site.why_not_loaded(script), message, "{script}");
    }
    assert_eq!(
        site.why_not_loaded("require 'nothing'"),
        "there is no module `nothing`: cannot read `nothing.lua`: No such file or directory (os error 2); \
         there are decisions, docker, store, etcd, json, log, options and the bundled policies register, coredns, docker_discover, \
         go_zero, grpc, registrator, traefik\n  at site.lua:1"
    );
}

#[test]
fn a_site_has_modules_of_its_own() {
    let site = Site::new(&[]);
    site.write("names.lua", "return { of = function() return 'x' end }");
    fs::create_dir(site.directory.path().join("lib")).expect("a directory");
    site.write("lib/deep.lua", "return 7");
    let script = "assert(require('names').of() == 'x' and require 'lib.deep' == 7)
        assert(require 'store' == require 'etcd')
        assert(require 'names' == require 'names')
        return require 'register'";
    assert!(site.load(script).is_ok());
}

#[test]
fn the_sandbox_has_no_way_out() {
    let site = Site::new(&[]);
    let script = "for _, name in ipairs { 'io', 'debug', 'package', 'dofile', 'loadfile', 'collectgarbage' } do
          assert(_G[name] == nil, name)
        end
        for _, name in ipairs { 'execute', 'exit', 'remove', 'rename', 'tmpname', 'setlocale' } do
          assert(os[name] == nil, name)
        end
        assert(string.dump == nil)
        assert(load('return 1')() == 1 and load('return x', 'n', 't', { x = 2 })() == 2)
        assert(load('\\27Lua', 'n', 'b') == nil and load('\\27Lua', 'n') == nil)
        assert(type(os.time()) == 'number' and type(os.date()) == 'string' and os.getenv('PATH'))
        return require 'register'";
    if let Err(failure) = site.load(script) {
        panic!("{failure}");
    }
}
