use super::flags::POLICY;
use super::*;

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
    let headings = ["resync", "etcd-user", "script", "ttl", "log-level"].map(heading_of);
    let wanted = [None, Some("etcd"), Some(POLICY), Some(POLICY), Some("Log")];
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
