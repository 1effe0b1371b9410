use super::flags::POLICY;
use super::*;
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

/// The store that the flags of `leases` name, or the error.
fn store_of(flags: &[&str]) -> Result<store::Settings, String> {
    let words = ["docker-register", "leases"].iter().chain(flags);
    let matches = definitions(false).try_get_matches_from(words);
    let matches = matches.map_err(|error| error.to_string())?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    match cli.command.check() {
        Ok(commands::Command::Leases(settings)) => Ok(settings.store),
        Ok(_) => panic!("another command"),
        Err((_, why)) => Err(why),
    }
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
fn tls_and_the_user_have_names_of_every_store_and_of_etcd() {
    for [kind, cacert] in [
        ["etcds://a", "--store-cacert"],
        ["etcds://a", "--etcd-cacert"],
        ["rediss://a", "--store-cacert"],
    ] {
        let tls = match store_of(&["--store", kind, cacert, "x"]).expect("settings") {
            store::Settings::Etcd(settings) => settings.tls,
            store::Settings::Redis(settings) => settings.tls,
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
    ] {
        let why = store_of(flags).expect_err("a refusal");
        assert!(why.contains(wanted), "{why}");
        assert!(!why.contains("secret"), "{why}");
    }
}
