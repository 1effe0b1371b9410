//! The tools of a policy's author: `keys` in several formats, tests written in Lua, and the editor types.

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{
    HOST_IP, Registrar, RegistrarBuilder, SOON, Script, TestBed, docker_of, eventually, in_step,
    inspection,
};
use serde_json::Value;

const FLEET: &str = "examples/fleet.json";

fn keys() -> RegistrarBuilder {
    Registrar::command()
        .flag("--host-ip", HOST_IP)
        .flag("--containers", FLEET)
}

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, impl Fn(&str) -> PathBuf + use<>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (file, text) in files {
        fs::write(directory.path().join(file), text).expect("a file");
    }
    let path = directory.path().to_owned();
    (directory, move |file| path.join(file))
}

#[test]
fn the_etcdctl_script_gives_the_same_store() {
    let bed = TestBed::new();
    // Values with characters that are special to a shell.
    let script = Script::new(
        "local register = require 'register'\n\
         local entries = register.entries\n\
         function register.entries(container)\n\
           local list, left_out = entries(container)\n\
           list[#list + 1] = { key = register.prefix .. '/odd/' .. container.short_id,\n\
                               value = \"-$(id) `id` 'one' \\\"two\\\" \\\\ ü\\nthree\", ttl = 30 }\n\
           return list, left_out\n\
         end\n\
         return register\n",
    );
    let command = keys()
        .flag("--script", script.path())
        .flag("--prefix", &bed.prefix);
    let listed = command.flag("--format", "json").run("keys");
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).expect("a list");
    let text = |item: &Value, field: &str| item[field].as_str().expect("a text").to_owned();
    let wanted: BTreeMap<String, String> = listed
        .iter()
        .map(|item| (text(item, "key"), text(item, "value")))
        .collect();
    assert!(wanted.len() > 10, "{wanted:#?}");

    let command = keys()
        .flag("--script", script.path())
        .flag("--prefix", &bed.prefix);
    let script = command.flag("--format", "etcdctl").run("keys");
    let output = Command::new("sh")
        .args(["-c", &script.stdout])
        .env("ETCDCTL_ENDPOINTS", bed.etcd.endpoint())
        .output()
        .expect("sh");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bed.etcd.get(&bed.prefix), wanted);
    for item in &listed {
        let lease = bed.etcd.kv(&text(item, "key")).expect("it is there").lease;
        let (granted, _) = bed.etcd.time_to_live(lease);
        assert_eq!(Some(granted), item["ttl"].as_i64(), "{item}");
        let alone = bed.etcd.keys_of_lease(lease).len() == 1;
        assert!(
            !item["shared"].as_bool().expect("a flag") || alone,
            "{item}"
        );
    }
}

#[test]
fn the_same_containers_give_the_same_bytes() {
    for format in ["text", "json", "etcdctl"] {
        let run = || keys().flag("--format", format).run("keys").stdout;
        let first = run();
        assert!(first.len() > 500);
        for _ in 0..5 {
            assert_eq!(run(), first);
        }
    }
}

#[test]
fn a_test_of_a_wrong_policy_reads_well() {
    let (_directory, path) = directory(&[
        (
            "site.lua",
            "local register = require 'register'\n\
             function register.service(container)\n\
               return container.labels.team or error('label it')\n\
             end\n\
             return register\n",
        ),
        (
            "site_test.lua",
            "local test, register = require 'test', require 'site'\n\
             \n\
             test.case('a team has its name', function()\n\
               local web = test.container { labels = { team = 'red' } }\n\
               test.equal(register.service(web), 'red')\n\
             end)\n\
             \n\
             test.case('keys are in the team\\'s directory', function()\n\
               local web = test.container { labels = { team = 'red' }, id = ('a'):rep(64) }\n\
               test.equal(register.entries(web), {\n\
                 { key = '/backends/red/1/aaaaaaaaaaaa', value = '192.0.2.1:80', ttl = 60 },\n\
               })\n\
             end)\n\
             \n\
             test.case('what has no team', function()\n\
               register.service(test.container { name = 'x' })\n\
             end)\n\
             \n\
             test.case('a field', function()\n\
               test.container { nmae = 'x' }\n\
             end)\n",
        ),
        ("empty.lua", "require 'test'\n"),
        ("broken.lua", "local test = = 1\n"),
    ]);
    let test = |files: &[&str]| {
        let command = files.iter().fold(Registrar::command(), |command, file| {
            command.arg(path(file))
        });
        command.run("test")
    };
    let at = |file: &str| path(file).display().to_string();
    let output = test(&["site_test.lua"]);
    assert_eq!(
        output.stdout,
        format!(
            "failed: keys are in the team's directory\n  \
               they differ:\n    \
                 [1].value: got \"192.0.2.1:32768\", want \"192.0.2.1:80\"\n    \
                 [2]: got {{ key = \"/backends/red/1/port\", shared = true, ttl = 60, value = \"80\" }}, want nil\n    \
                 at {test}:10\n\
             failed: what has no team\n  \
               label it\n    \
                 at {site}:3 in register.service\n\
             failed: a field\n  \
               test.container: unknown field `nmae`, expected one of {fields}\n    \
                 at {test}:20\n\
             1 passed, 3 failed\n",
            test = at("site_test.lua"),
            site = at("site.lua"),
            fields = sample_fields(),
        )
    );
    assert_eq!(
        (output.status.code(), output.stderr.as_str()),
        (Some(1), "")
    );

    let output = test(&["empty.lua", "broken.lua"]);
    assert_eq!(
        output.stdout,
        format!(
            "failed: {empty} as a whole\n  \
               it has no test; write `test.case(name, function() … end)`\n\
             failed: {broken} as a whole\n  \
               unexpected symbol near '='\n    \
                 at {broken}:1\n\
             0 passed, 2 failed\n",
            empty = at("empty.lua"),
            broken = at("broken.lua"),
        )
    );
    assert_eq!(output.status.code(), Some(1));
}

/// The fields that a test can set on a container: all in the types except those that follow from others.
fn sample_fields() -> String {
    let types = include_str!("../../scripts/types.lua");
    let class = types
        .lines()
        .skip_while(|line| *line != "---@class Container");
    let fields = class
        .skip(1)
        .map_while(|line| line.strip_prefix("---@field "));
    let names = fields.filter_map(|field| field.split(' ').next());
    let names = names.filter(|name| !["short_id", "created_at", "started_at"].contains(name));
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn a_policy_cannot_use_what_is_for_tests() {
    let script = Script::new("require 'test'\n");
    let output = keys().flag("--script", script.path()).run("keys");
    assert_eq!(
        output.stderr,
        format!(
            "error: the module `test` is available only in `docker-register test`\n  at {}:1\n",
            script.path().display()
        )
    );
}

#[test]
fn the_types_are_printed_with_the_version() {
    let output = Registrar::command().run("types");
    assert!(
        output.stdout.starts_with(&format!(
            "---@meta\n\n-- The Lua API of docker-register {}, for",
            env!("CARGO_PKG_VERSION")
        )),
        "{}",
        output.stdout
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_policy_that_fails_for_one_of_fifty_harms_no_other_through_a_reload_too() {
    const POLICY: &str = "local register = require 'register'\n\
                          function register.service(container)\n\
                            if FAILS and container.name == 'c7' then error('no name for it') end\n\
                            return NAME\n\
                          end\n\
                          return register\n";
    let bed = TestBed::new();
    let docker = docker_of(
        (0..50)
            .map(|n| inspection(n, "web", 20_000 + 2 * n))
            .collect(),
    );
    let (_directory, path) = directory(&[]);
    let write = |fails: &str, name: &str| {
        let text = POLICY.replace("FAILS", fails).replace("NAME", name);
        fs::write(path("site.lua"), text).expect("the policy");
    };
    write("false", "'one'");
    let registrar = bed.registrar_of(&docker).flag("--script", path("site.lua"));
    let registrar = in_step(&registrar);
    let members = |service: &str| {
        let keys = bed.keys().into_keys();
        keys.filter(|key| key.starts_with(service) && !key.ends_with("port"))
            .count()
    };
    assert_eq!(members("one/"), 100);
    let revision = bed.etcd.revision();

    // The policy fails for it and is unchanged otherwise, so nothing changes.
    write("true", "'one'");
    registrar.signal("HUP");
    registrar.wait_for_log("ERROR `c7`: no name for it", SOON);
    registrar.wait_for_log("its 4 keys stay as they were", SOON);
    // The policy still fails for it, and names all others anew.
    write("true", "'two'");
    registrar.signal("HUP");
    eventually(SOON, "the new names", || {
        members("two/") == 98 && members("one/") == 2
    });
    let of_c7 = bed.key(&format!("one/1/{:0>12}", 7));
    let kv = bed.etcd.kv(&of_c7).expect("it stays");
    assert!(kv.mod_revision <= revision, "it was left alone");
    bed.assert_each_member_always_had_its_port();
}

#[test]
fn a_set_that_no_script_reads_is_told_with_the_nearest_name() {
    let script = Script::new(
        "local options, register = require 'options', require 'register'\n\
         local env = options.env or 'prod'\n\
         function register.http() return options.lazily end\n\
         return register\n",
    );
    let run = |set: &str| {
        let command = keys().flag("--script", script.path());
        let output = command.flag("--set", set).run("keys");
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        output.stderr
    };
    for (set, told) in [
        (
            "evn=x",
            "WARN --set evn=… is never read; did you mean `env`?\n",
        ),
        ("domain=x", "WARN --set domain=… is never read\n"),
        ("env=x", ""),
        ("lazily=a.example.com", ""),
        // No port is asked whether it is of this kind, but a script would read it.
        ("protocols=sctp", ""),
    ] {
        let stderr = run(set);
        assert!(
            stderr.ends_with(told) && stderr.is_empty() == told.is_empty(),
            "{set}: {stderr}"
        );
    }
    // A layout reads it when it has a container.
    let command = Registrar::command().stdin("[]").flag("--containers", "-");
    let command = command
        .flag("--host-ip", HOST_IP)
        .flag("--script", "registrator");
    let output = command.flag("--set", "host=alpha").run("keys");
    assert_eq!(output.stderr, "");
}

/// A policy whose host has a key with the names of its containers; `host` is the beginning of the function.
fn host_policy(host: &str) -> String {
    format!(
        "local register = require 'register'\n\
         function register.host_entries(containers) {host}\n\
         local names = {{}}\n\
         for i, container in ipairs(containers) do names[i] = container.name end\n\
         return {{ {{ key = register.prefix .. '/hosts/alpha', value = table.concat(names, ' ') }} }}\n\
         end\n\
         return register\n"
    )
}

#[test]
fn the_hosts_keys_follow_its_containers_and_stay_if_the_policy_fails() {
    let bed = TestBed::new();
    let (_directory, path) = directory(&[("site.lua", &host_policy(""))]);
    let write = |text: &str| fs::write(path("site.lua"), text).expect("the policy");
    let web = bed.container().publish_all().start();
    // After a crash, a key without a claim is removed when the seat of the crashed process has expired.
    let command = || {
        let command = bed.registrar().flag("--script", path("site.lua"));
        command.flag("--ttl", "3")
    };
    let start = || command().start();
    let registrar = start();
    let value = || {
        bed.etcd
            .kv(&bed.key("hosts/alpha"))
            .map(|found| found.value)
    };
    let has = |count: usize| {
        eventually(SOON, "the host's key", || {
            value().is_some_and(|names| names.split(' ').count() == count)
                && bed.keys().len() == 4 * count + 1 - 2 * (count - 1)
        });
    };
    has(1);
    let _other = bed.container().publish_all().start();
    has(2);
    registrar.wait_for_log("container=\"(host)\"", SOON);

    // A dry run, `keys` and `diff` treat them like others.
    let listed = command().flag("--format", "json").run("keys").stdout;
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("a list");
    let of_host = listed
        .iter()
        .find(|item| item["key"] == bed.key("hosts/alpha"));
    assert!(
        of_host.is_some_and(|item| item["container"].is_null()),
        "{listed:#?}"
    );
    let output = command().run("diff");
    assert_eq!(
        (output.status.code(), output.stdout.as_str()),
        (Some(0), "")
    );

    write(&host_policy("error('no list')"));
    let names = value();
    registrar.signal("HUP");
    registrar.wait_for_log("ERROR the host: no list", SOON);
    registrar.wait_for_log("its key stays as it was", SOON);
    let output = command().run("keys");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("error: the host: no list\n"),
        "{}",
        output.stderr
    );
    // Nor does one that has just started remove the key, although nobody claims it.
    registrar.kill9();
    let registrar = start();
    registrar.wait_for_log("in step with Docker", SOON);
    registrar.wait_for_log("those that it may have in the store stay", SOON);
    bed.etcd.let_pass(6);
    web.stop();
    eventually(
        SOON,
        "the keys without those of the first container",
        || bed.keys().len() == 5,
    );
    assert_eq!(value(), names);

    write("return require 'register'");
    registrar.signal("HUP");
    eventually(SOON, "the end of the host's key", || value().is_none());
    assert_eq!(bed.keys().len(), 4);
}

#[test]
fn an_accept_that_decides_nothing_keeps_the_keys() {
    let bed = TestBed::new();
    let _web = bed.container().publish_all().start();
    let (_directory, path) = directory(&[("site.lua", "return require 'register'")]);
    let registrar = bed.registrar().flag("--script", path("site.lua")).start();
    eventually(SOON, "the keys", || bed.keys().len() == 4);
    let keys = bed.keys();
    let text = "local register = require 'register'\n\
                function register.accept(container)\n\
                  if container.status ~= 'running' then return false end\n\
                end\n\
                return register\n";
    fs::write(path("site.lua"), text).expect("the policy");
    registrar.signal("HUP");
    registrar.wait_for_log(
        "`register.accept` returned nothing and not true or false",
        SOON,
    );
    registrar.wait_for_log("site.lua:2 in register.accept", SOON);
    registrar.wait_for_log("its 4 keys stay as they were", SOON);
    assert_eq!(bed.keys(), keys);
}
