use super::flags::POLICY;
use super::*;
use crate::discover::{Proxy, Settings as DiscoverSettings};
use crate::store;

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_short_help_has_one_line_for_each_flag() {
    let mut definitions = definitions(true);
    for command in definitions.get_subcommands_mut() {
        let help = command.render_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            // clap wraps help that does not fit beside its flag to a deeply indented line.
            assert!(!line.starts_with("         "), "{line}");
        }
    }
}

#[test]
fn each_flag_is_below_its_heading() {
    let definitions = definitions(false);
    let mut flags = definitions
        .get_subcommands()
        .flat_map(clap::Command::get_opts);
    let heading_of = |long: &str| {
        let flag = flags.find(|flag| flag.get_long() == Some(long));
        flag.and_then(Arg::get_help_heading).map(str::to_owned)
    };
    // In the order in which they are defined.
    let headings = ["resync", "store-user", "script", "ttl", "log-level"].map(heading_of);
    let wanted = [None, Some("Store"), Some(POLICY), Some(POLICY), Some("Log")];
    assert_eq!(headings.each_ref().map(Option::as_deref), wanted);
}

#[test]
fn the_environment_names_every_flag_alike_except_some() {
    let definitions = definitions(false);
    let commands = definitions.get_subcommands();
    let flags = commands.flat_map(|command| command.get_opts().map(move |flag| (command, flag)));
    for (command, flag) in flags {
        let (Some(long), Some(name)) = (flag.get_long(), flag.get_env()) else {
            continue;
        };
        let reads = ["discover", "services"].contains(&command.get_name());
        let wanted = match long {
            "host-ip" => "HOST_IP".to_owned(),
            "etcd" => "ETCD_HOST".to_owned(),
            // Both roles of a host may have one environment, and each has a policy of its own.
            "script" if reads => "DOCKER_REGISTER_DISCOVER_SCRIPT".to_owned(),
            "set" if reads => "DOCKER_REGISTER_DISCOVER_SET".to_owned(),
            long => format!("DOCKER_REGISTER_{}", long.replace('-', "_").to_uppercase()),
        };
        assert_eq!(name.to_str(), Some(&*wanted));
    }
}

#[test]
fn without_a_command_flags_are_those_of_run() {
    let read = |words: &[&str]| Cli::parse_or_exit(words.iter().map(OsString::from)).command;
    assert!(matches!(read(&["docker-register"]), Command::Run(_)));
    let flags = read(&["docker-register", "--dry-run", "--set", "a=b,c"]);
    let Command::Run(run) = flags else {
        panic!("{flags:?}");
    };
    assert!(run.dry_run);
    assert_eq!(run.host.options.set, [("a".to_owned(), "b,c".to_owned())]);
    assert!(matches!(
        read(&["docker-register", "keys"]),
        Command::Keys(_)
    ));
}

/// The settings that the flags of a command make, or the error.
fn settings_of(command: &[&str], flags: &[&str]) -> Result<commands::Command, String> {
    let words = ["docker-register"].iter().chain(command).chain(flags);
    let matches = definitions(false).try_get_matches_from(words);
    let matches = matches.map_err(|error| error.to_string())?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    cli.command.check().map_err(|(_, why)| why)
}

/// The store that the flags of `leases` name, or the error.
fn store_of(flags: &[&str]) -> Result<store::Settings, String> {
    let commands::Command::Leases(settings) = settings_of(&["leases"], flags)? else {
        panic!("another command");
    };
    Ok(settings.store)
}

#[test]
fn a_store_is_named_by_a_uri_or_by_endpoints_of_etcd() {
    for (flags, name, shown) in [
        (&[][..], "etcd", "127.0.0.1:2379"),
        (&["--etcd", "a,https://b:1"], "etcd", "a:2379,b:1"),
        (&["--store", "etcd://a,b:1"], "etcd", "a:2379,b:1"),
        (&["--store", "valkey://a/2"], "Redis", "a:6379/2"),
        (
            &["--store", "redis+sentinel://a,b/main"],
            "Redis",
            "a:26379,b:26379/main/0",
        ),
    ] {
        let settings = store_of(flags).expect("settings");
        assert_eq!((settings.name(), &*settings.shown()), (name, shown));
    }
}

#[test]
fn up_has_the_store_in_memory_unless_another_is_named() {
    let up = |flags: &[&str]| match settings_of(&["up"], flags) {
        Ok(commands::Command::Up(settings)) => Ok(*settings),
        Ok(_) => panic!("another command"),
        Err(why) => Err(why),
    };
    for (flags, label, host_ip, set) in [
        (&[][..], "memory", "127.0.0.1", &["loopback=true"][..]),
        (
            &["--store", "memory:"],
            "memory",
            "127.0.0.1",
            &["loopback=true"],
        ),
        (&["--host-ip", "10.0.0.1"], "memory", "10.0.0.1", &[]),
        (
            &["--set", "loopback="],
            "memory",
            "127.0.0.1",
            &["loopback="],
        ),
        (&["--etcd", "127.0.0.1:2379"], "etcd", "", &[]),
        (&["--store", "redis://a"], "redis", "", &[]),
    ] {
        let settings = up(flags).expect("settings");
        let (register, discover) = (settings.register.host, settings.discover.routing);
        assert_eq!(register.store.label(), label, "{flags:?}");
        assert_eq!(discover.store.label(), label, "{flags:?}");
        assert_eq!(register.options.host_ip, host_ip, "{flags:?}");
        let shown = register
            .options
            .set
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        assert_eq!(shown.collect::<Vec<_>>(), set, "{flags:?}");
        assert_eq!(register.options.prefix, discover.options.prefix);
    }
    let why = up(&["--store-user", "me"]).err().expect("a refusal");
    assert!(
        why.contains("--store-user is about a store in the network"),
        "{why}"
    );
    let why = up(&["--proxy", "haproxy", "--pid-file", "x"]).err();
    assert!(
        why.expect("a refusal")
            .contains("--pid-file is about nginx")
    );
}

#[test]
fn tls_and_the_user_have_names_of_every_store_and_of_etcd() {
    for [kind, cacert] in [
        ["etcds://a", "--store-cacert"],
        ["etcds://a", "--etcd-cacert"],
        ["rediss://a", "--store-cacert"],
    ] {
        let tls = match store_of(&["--store", kind, cacert, "x"]).expect("settings") {
            store::Settings::Etcd(settings) => settings.tls,
            store::Settings::Redis(settings) => settings.tls,
            store::Settings::Memory(_) => None,
        };
        let authorities = tls.expect("TLS").authorities;
        assert_eq!(authorities, Some(PathBuf::from("x")));
    }
    let flags = ["--store", "redis://a", "--store-password-file", "x"];
    let Ok(store::Settings::Redis(settings)) = store_of(&flags) else {
        panic!("Redis has a user without a name");
    };
    assert_eq!(settings.user.expect("a user").name, "default");
}

#[test]
fn flags_that_contradict_the_store_are_refused() {
    for (flags, wanted) in [
        (
            &["--store", "redis://a", "--etcd", "b"][..],
            "--store and --etcd name two stores",
        ),
        (
            &["--store", "redis://me:secret@a"],
            "pass --store-user NAME",
        ),
        (
            &["--store", "redis://a", "--store-cacert", "x"],
            "--store-cacert is about TLS, which redis:// does not use: write rediss://",
        ),
        (
            &["--store", "rediss://a", "--store-cert", "x"],
            "--store-cert needs --store-key <FILE>",
        ),
        (
            &["--store", "redis://a", "--store-user", "me"],
            "--store-user needs a password: pass --store-password-file FILE",
        ),
        (
            &["--etcd", "a", "--store-password-file", "x"],
            "--etcd-password-file needs --etcd-user <NAME>",
        ),
        (&["--store", "a:1"], "expected etcd://HOST:PORT"),
        (&["--store", "memory:"], "run `docker-register up`"),
    ] {
        let why = store_of(flags).expect_err("a refusal");
        assert!(why.contains(wanted), "{why}");
        assert!(!why.contains("secret"), "{why}");
    }
}

fn discover_of(flags: &[&str]) -> Result<DiscoverSettings, String> {
    let command = settings_of(&["discover", "--directory", "/d/"], flags)?;
    let commands::Command::Discover(settings) = command else {
        panic!("another command");
    };
    Ok(settings)
}

#[test]
fn a_policy_learns_the_paths_of_the_proxy() {
    for (flags, name, [socket, pid_file], is_ours) in [
        (&[][..], "haproxy", ["/d/admin.sock", "/d/nginx.pid"], true),
        (
            &["--socket", "/s"],
            "haproxy",
            ["/s", "/d/nginx.pid"],
            false,
        ),
        (
            &["--proxy", "nginx", "--", "nginx"],
            "nginx",
            ["/d/admin.sock", "/d/nginx.pid"],
            true,
        ),
        (
            &["--proxy", "nginx", "--pid-file", "/run/nginx.pid"],
            "nginx",
            ["/d/admin.sock", "/run/nginx.pid"],
            false,
        ),
        (
            &["--proxy", "envoy"],
            "envoy",
            ["/d/admin.sock", "/d/nginx.pid"],
            true,
        ),
        (
            &["--proxy", "envoy", "--socket", "/s"],
            "envoy",
            ["/s", "/d/nginx.pid"],
            false,
        ),
        (
            &["--proxy", "none", "--set", "target=hosts", "--check", "c"],
            "none",
            ["/d/admin.sock", "/d/nginx.pid"],
            false,
        ),
    ] {
        let settings = discover_of(flags).expect("settings");
        let options = &settings.routing.options.proxy;
        assert_eq!(options.name, name);
        assert_eq!(
            (&*options.directory, &*options.state_file),
            ("/d", "/d/.state")
        );
        assert_eq!((&*options.socket, &*options.pid_file), (socket, pid_file));
        assert_eq!(settings.proxy.is_ours(), is_ours, "{flags:?}");
    }
}

#[test]
fn the_commands_about_files_may_be_passed_with_every_proxy() {
    for proxy in ["haproxy", "nginx", "envoy", "none"] {
        let flags = ["--proxy", proxy, "--check", "test a", "--reload", "b"];
        let flags = [&flags[..], &["--set", "target=hosts"]].concat();
        let settings = discover_of(&flags).expect("settings");
        assert_eq!(settings.commands.check.as_deref(), Some("test a"));
        assert_eq!(settings.commands.reload.as_deref(), Some("b"));
    }
    let settings = discover_of(&["--proxy", "none", "--script", "mine.lua"]).expect("settings");
    assert!(matches!(settings.proxy.proxy, Proxy::None));
    assert!(settings.proxy.proxy.protocols().is_empty());
}

#[test]
fn flags_that_contradict_the_proxy_are_refused() {
    for (flags, wanted) in [
        (
            &["--pid-file", "/p"][..],
            "--pid-file is about nginx: pass --proxy nginx",
        ),
        (
            &["--proxy", "none", "--pid-file", "/p"],
            "--pid-file is about nginx: pass --proxy nginx",
        ),
        (
            &["--proxy", "nginx", "--socket", "/s"],
            "for an nginx that somebody else starts, pass --pid-file PATH",
        ),
        (
            &["--proxy", "none", "--socket", "/s"],
            "--socket is about HAProxy and Envoy",
        ),
        (
            &[
                "--proxy",
                "envoy",
                "--socket",
                "/s",
                "--master-socket",
                "/m",
            ],
            "--master-socket is about HAProxy",
        ),
        (
            &["--socket", "/s", "--", "haproxy"],
            "--socket names a proxy that somebody else starts, so there is no COMMAND",
        ),
        (
            &["--proxy", "nginx", "--pid-file", "/p", "--", "nginx"],
            "--pid-file names an nginx that somebody else starts, so there is no COMMAND",
        ),
        (
            &["--proxy", "none", "--", "prometheus"],
            "--proxy none starts no proxy, so there is no COMMAND",
        ),
        (&["--proxy", "none"], "--proxy none needs a target"),
        (&["--proxy", "traefik"], "invalid value 'traefik'"),
        (&["--check", " "], "expected a command"),
        (
            &["--layout", "traefik"],
            "expected `docker_discover` or `registrator`",
        ),
    ] {
        let why = discover_of(flags).expect_err("a refusal");
        assert!(why.contains(wanted), "{why}");
    }
}

#[test]
fn a_directory_is_too_long_for_the_sockets_of_a_proxy_that_has_some() {
    // With `/admin.sock` 108 bytes, with `/master.sock` 109.
    let long = format!("/{}", "x".repeat(96));
    for (proxy, directory, is_good) in [
        ("haproxy", &long[..95], true),
        ("haproxy", &long[..96], false),
        ("envoy", &long[..96], true),
        ("envoy", &long[..], false),
        ("nginx", &long[..], true),
        ("none", &long[..], true),
    ] {
        let flags = [
            "--proxy",
            proxy,
            "--directory",
            directory,
            "--set",
            "target=hosts",
        ];
        let settings = settings_of(&["discover"], &flags);
        assert_eq!(settings.is_ok(), is_good, "{proxy}");
        let why = settings.err().unwrap_or_default();
        assert!(is_good || why.contains("is too long"), "{why}");
    }
}

#[test]
fn every_command_that_makes_routes_knows_the_layout() {
    let flags = ["--layout", "registrator", "--proxy", "nginx"];
    for command in [&["discover"][..], &["discover", "files"], &["services"]] {
        let routing = match settings_of(command, &flags).expect("settings") {
            commands::Command::Discover(settings) => settings.routing,
            commands::Command::Files(settings) => settings.routing,
            commands::Command::Services(settings) => settings.routing,
            _ => panic!("another command"),
        };
        assert_eq!(routing.options.layout.as_deref(), Some("registrator"));
        assert_eq!(routing.options.proxy.name, "nginx");
    }
}
