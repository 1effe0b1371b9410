//! `etcd.sync`: which containers a policy function is called for, and what stays when it fails.

use super::*;

#[tokio::test]
async fn a_container_that_has_not_changed_is_not_mapped_again() {
    let mut site = Site::new(&[]);
    site.world.source = Source::Live(site.snapshots.subscribe());
    let script = "local register, log = require 'register', require 'log'
        local docker, etcd = require 'docker', require 'etcd'
        local calls, last = 0, nil
        function register.entries(container)
          calls = calls + 1
          return { { key = '/' .. container.name, value = calls } }
        end
        function register.run()
          for containers in docker.watch() do
            assert(last == nil or rawequal(last, containers[1]))
            last = containers[1]
            etcd.sync(containers, register.entries)
            if #containers == 2 then return end
          end
        end
        return register";
    let script = site
        .load(script)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let first = snapshot(&[web("a")]);
    let second = snapshot(&[web("b")]);
    let both = Snapshot {
        containers: first
            .containers
            .iter()
            .chain(second.containers.iter())
            .cloned()
            .collect(),
        unreadable: Vec::new(),
        outside: Some(Arc::default()),
    };
    site.snapshots.send_replace(Some(first));
    let (ran, ()) = tokio::join!(script.run(), async {
        while site.wanted.borrow().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(site.keys(), ["/a 1"]);
        site.snapshots.send_replace(Some(Arc::new(both)));
    });
    ran.expect("it runs");
    assert_eq!(site.keys(), ["/a 1", "/b 2"]);
}

#[tokio::test]
async fn a_container_whose_call_fails_keeps_its_last_keys_through_a_reload_too() {
    let mut site = Site::new(&[web("a"), web("b")]);
    let good = "local register = require 'register'
        function register.entries(c) return { { key = '/' .. c.name, value = 1 } } end
        return register";
    site.run(good).await.expect("it runs");
    let failing = "local register = require 'register'
        function register.entries(c)
          if c.name == 'b' then error('no') end
          return { { key = '/' .. c.name, value = 2 } }
        end
        return register";
    site.run(failing).await.expect("it runs");
    assert_eq!(site.keys(), ["/a 2", "/b 1"]);
    assert!(
        site.wanted
            .borrow()
            .as_ref()
            .is_some_and(|wanted| wanted.protected.is_empty())
    );
    // Of one that has never had any it is said what tells its keys, so that none is deleted on its account.
    site.world.verdicts = Rc::default();
    site.run(failing).await.expect("it runs");
    assert_eq!(site.keys(), ["/a 2"]);
    assert!(
        site.wanted
            .borrow()
            .as_ref()
            .is_some_and(|wanted| wanted.protected.contains(&"b".to_owned()))
    );
}

#[tokio::test]
async fn one_snapshot_is_synced_once_with_its_own_containers() {
    let site = Site::new(&[web("a")]);
    for (body, message) in [
        (
            "etcd.sync(containers, register.entries) etcd.sync(containers, register.entries)",
            "etcd.sync was called twice for one snapshot, and the second would undo the first; \
             join the two lists of entries in one function",
        ),
        (
            "containers[1] = nil containers[2] = 1 etcd.sync(containers, register.entries)",
            "etcd.sync: the list of containers has holes, and the containers after a hole would be lost; \
             build a new list instead",
        ),
        (
            "while true do end",
            "it took longer than a second, and was stopped",
        ),
        (
            "setmetatable({}, { __gc = function() while true do end end })",
            "a metatable cannot have `__gc` here",
        ),
        // The script's own `__eq` is not called, because it might loop or lie.
        (
            "local equal = { __eq = function() return true end }
             containers[1] = setmetatable({}, equal) etcd.sync(containers, register.entries)",
            "etcd.sync: item 1 of the list is not a container of the newest snapshot",
        ),
        (
            "etcd.sync({ {} }, register.entries)",
            "etcd.sync: item 1 of the list is not a container of the newest snapshot",
        ),
        (
            "etcd.sync(register.entries)",
            "etcd.sync takes the list of containers and the function that makes the entries of one",
        ),
    ] {
        let script = format!(
            "local register, docker, etcd = require 'register', require 'docker', require 'etcd'
            function register.run()
              for containers in docker.watch() do
                {body}
              end
            end
            return register"
        );
        let failure = site.run(&script).await.expect_err("it fails");
        assert_eq!(
            site.shown(&failure),
            format!(
                "{message}\n  at site.lua:{} in register.run",
                4 + body.matches('\n').count()
            )
        );
    }
}

#[test]
fn another_function_asks_about_all_containers_again() {
    let body = "local register, docker, etcd = require 'register', require 'docker', require 'etcd'
        local calls = 0
        local function entries(container)
          calls = calls + 1
          return { { key = '/' .. container.name, value = calls } }
        end
        local a = test.container { name = 'a' }
        local function key(value) return { { key = '/a', value = value, ttl = 60 } } end
        function register.run()
          for containers in docker.watch() do etcd.sync(containers, entries) end
        end
        test.equal(test.run(register, { { a }, { a } }), { key '1', key '1' })
        function register.run()
          for containers in docker.watch() do etcd.sync(containers, function(it) return entries(it) end) end
        end
        test.equal(test.run(register, { { a }, { a } }), { key '2', key '3' })
        function register.run()
          for containers in docker.watch() do etcd.sync(containers, entries, 'x') end
        end
        local went_well, why = pcall(test.run, register, { { a } })
        test.equal(why:match('etcd.sync: .*'),
          \"etcd.sync: the third argument is the function that makes the host's entries, not a string\")";
    assert_eq!(failure_of_case(body), None);
}

#[test]
fn a_list_is_whole_however_a_script_first_looks_at_it() {
    let body =
        "local register, docker, etcd = require 'register', require 'docker', require 'etcd'
        local a, b = test.container { name = 'a' }, test.container { name = 'b' }
        local function count(pairs, list)
          local count = 0
          for _, container in pairs(list) do count = count + #container.name end
          return count
        end
        local looks = {
          function(list) return #list end,
          function(list) return count(ipairs, list) end,
          function(list) return count(pairs, list) end,
          function(list) return count(function(list) return next, list end, list) end,
          function(list) return rawlen(list) end,
          function(list) return rawget(list, 2) and #list end,
          function(list) list[3] = list[1]; list[3] = nil; return #list end,
          function(list) rawset(list, 'x', 1); list.x = nil; return #list end,
          function(list) list.x = 1; list.x = nil; return #list end,
          function(list) return getmetatable(list) == nil and rawlen(list) end,
          function(list) return rawlen(setmetatable(list, nil)) end,
          function(list) return #{ table.unpack(list) } end,
          function(list) return #table.move(list, 1, 2, 1, {}) end,
          function(list) table.sort(list, function(x, y) return x.name < y.name end); return #list end,
          function(list) table.insert(list, table.remove(list)); return #list end,
          function(list) return select('#', table.unpack(require('json').array(list))) end,
        }
        for place, look in ipairs(looks) do
          local seen
          function register.run()
            for containers in docker.watch() do
              seen = look(containers)
              etcd.sync(setmetatable(containers, nil), register.entries)
            end
          end
          test.equal({ place, #test.run(register, { { a, b } })[1], seen }, { place, 3, 2 })
        end";
    assert_eq!(failure_of_case(body), None);
}

#[test]
fn a_list_that_a_script_looks_at_late_has_the_containers_of_its_own_snapshot() {
    let body =
        "local register, docker, etcd = require 'register', require 'docker', require 'etcd'
        local a, b, c = test.container { name = 'a' }, test.container { name = 'b' }, test.container { name = 'c' }
        local function run(late)
          function register.run()
            local first
            for containers in docker.watch() do
              if first then late(first, containers) else first = containers; etcd.sync(first, register.entries) end
            end
          end
          return test.run(register, { { a, b }, { b, c } })
        end
        local function by_name(list)
          local tables = {}
          for _, container in ipairs(list) do tables[container.name] = container end
          return tables
        end
        run(function(first, newest)
          first = by_name(first)
          test.equal({ first.a.name, first.b.name, first.c }, { 'a', 'b' })
          assert(rawequal(first.b, by_name(newest).b))
          etcd.sync(newest, register.entries)
        end)
        local went_well, why = pcall(run, function(first) etcd.sync(first, register.entries) end)
        test.equal({ went_well, why:match('is not .*') },
          { false, 'is not a container of the newest snapshot' })";
    assert_eq!(failure_of_case(body), None);
}
