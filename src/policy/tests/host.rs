//! The entries of the host itself.

use super::*;

/// A policy whose host has a key with the names of its containers. `body` comes first in the function.
fn policy(body: &str) -> String {
    format!(
        "local register = require 'register'\n\
         function register.host_entries(containers) {body}\n\
         local names = {{}}\n\
         for i, container in ipairs(containers) do names[i] = container.name end\n\
         return {{ {{ key = '/hosts/alpha', value = table.concat(names, ',') }} }}, 'all else'\n\
         end\n\
         return register"
    )
}

fn host_keys(site: &Site) -> Vec<String> {
    let keys = site.keys().into_iter();
    keys.filter(|key| key.starts_with("/hosts/")).collect()
}

#[tokio::test]
async fn the_host_has_entries_of_its_own_made_of_all_containers() {
    let site = Site::new(&[web("a"), web("b")]);
    site.run(&policy("")).await.expect("a run");
    assert_eq!(host_keys(&site), ["/hosts/alpha a,b"]);
    assert_eq!(site.keys().len(), 5);
    let views = site.world.verdicts.borrow().views();
    let host = views.iter().find(|view| view.is_host).expect("the host");
    assert_eq!((host.name.as_str(), host.entries.len()), ("(host)", 1));
    assert_eq!(host.left_out, ["all else"]);
    // A script without such a function has no such keys.
    let script =
        "local register, docker, etcd = require 'register', require 'docker', require 'etcd'
        function register.run()
          for containers in docker.watch() do etcd.sync(containers, register.entries) end
        end
        return register";
    site.run(script).await.expect("a run");
    assert_eq!((host_keys(&site).len(), site.keys().len()), (0, 4));
}

#[tokio::test]
async fn a_layout_has_the_hosts_entries_too() {
    let site = Site::new(&[web("a")]);
    let script = policy("").replace("require 'register'", "require 'coredns'");
    site.run(&script).await.expect("a run");
    assert_eq!(host_keys(&site), ["/hosts/alpha a"]);
    assert_eq!(site.keys().len(), 2);
}

#[tokio::test]
async fn a_failure_for_the_host_keeps_its_keys_and_harms_no_container() {
    let mut site = Site::new(&[web("a")]);
    site.run(&policy("")).await.expect("a run");
    for (body, message) in [
        (
            "error('no')",
            "no\n  at site.lua:2 in register.host_entries",
        ),
        (
            "if true then return end",
            "it returned nil; return a list of entries, `{}` for none\n  at site.lua:2 in register.host_entries",
        ),
    ] {
        site.run(&policy(body)).await.expect("a run");
        let failure = site.world.verdicts.borrow().host.failure.clone();
        assert_eq!(site.shown(&failure.expect("a failure")), message);
        assert_eq!(host_keys(&site), ["/hosts/alpha a"]);
        assert_eq!(site.keys().len(), 3);
        let wanted = site.wanted.borrow().clone().expect("wanted");
        assert!(!wanted.host_is_unknown);
    }
    // After a start nobody knows which keys are the host's.
    site.world.verdicts = Rc::default();
    site.run(&policy("error('no')")).await.expect("a run");
    let wanted = site.wanted.borrow().clone().expect("wanted");
    assert!(wanted.host_is_unknown && host_keys(&site).is_empty() && site.keys().len() == 2);
    let site = Site::new(&[]);
    site.run(&policy("error('no')")).await.expect("a run");
    let failure = site.world.verdicts.borrow().failure_of_all();
    assert!(failure.is_some_and(|failure| failure.starts_with("no\n")));
}

#[test]
fn the_host_is_asked_when_the_containers_differ() {
    let body = "local register = require 'register'
        local calls = 0
        function register.host_entries(containers)
          calls = calls + 1
          return { { key = '/hosts/alpha', value = calls .. ' of ' .. #containers } }
        end
        local a, b = test.container { name = 'a', labels = { SERVICE_IGNORE = '1' } }, { name = 'b', id = 'b' }
        b.labels = a.labels
        local function host(value) return { { key = '/hosts/alpha', value = value, ttl = 60 } } end
        test.equal(test.run(register, { { a }, { a }, { a, b }, {} }),
          { host '1 of 1', host '1 of 1', host '2 of 2', host '3 of 0' })";
    assert_eq!(failure_of_case(body), None);
}

#[tokio::test]
async fn the_host_has_a_name_which_a_setting_replaces() {
    let mut site = Site::new(&[]);
    let script = "local register, options = require 'register', require 'options'
        function register.host_entries()
          return { { key = '/hosts/' .. options.hostname, value = '' } }
        end
        return register";
    site.run(script).await.expect("a run");
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    assert_eq!(site.keys(), [format!("/hosts/{name} ")]);
    let set = ("hostname".to_owned(), "alpha".to_owned());
    site.world.options.set.push(set);
    site.run(script).await.expect("a run");
    assert_eq!(site.keys(), ["/hosts/alpha "]);
}
