//! Documents that are generated from the command line's definitions: a shell's completions, and the manual page.

use clap::{Arg, Args as _, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{MORE, RunArgs, definitions};

pub fn completions(shell: Shell) -> Vec<u8> {
    let definitions = definitions(false);
    let name = definitions.get_name().to_owned();
    // Without a command, the flags are those of `run`.
    let mut command = RunArgs::augment_args(definitions);
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    text
}

/// One manual page for all commands. A flag that several commands share is listed once.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let mut root = definitions(false).disable_help_subcommand(true);
    root.build();
    let mut commands: Vec<Command> = root.get_subcommands().cloned().collect();
    let usages = commands.iter_mut().map(|command| {
        let usage = command.render_usage().to_string();
        usage.trim_start_matches("Usage: ").to_owned()
    });
    let usages: Vec<String> = usages.collect();

    let mut page = Vec::new();
    let head = Man::new(root.clone().override_usage(usages.join("\n")));
    head.render_title(&mut page)?;
    head.render_name_section(&mut page)?;
    head.render_synopsis_section(&mut page)?;
    head.render_description_section(&mut page)?;
    list(&commands).to_writer(&mut page)?;

    // First each command's own flags, under its name; then the shared ones, once.
    let mut shared: Vec<Arg> = Vec::new();
    for command in &commands {
        let (of_several, own): (Vec<Arg>, Vec<Arg>) = command
            .get_arguments()
            .filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version"))
            .cloned()
            .partition(|flag| commands.iter().filter(|other| has(other, flag)).count() > 1);
        let heading = format!("Options of {}", command.get_name());
        options(
            own.into_iter()
                .map(|flag| flag.help_heading(heading.clone())),
            &mut page,
        )?;
        let new = of_several
            .into_iter()
            .filter(|flag| !shared.iter().any(|seen| seen.get_id() == flag.get_id()));
        shared.extend(new.collect::<Vec<_>>());
    }
    options(shared, &mut page)?;

    let mut more = Roff::new();
    more.control("SH", ["NOTES"]);
    for paragraph in MORE.split("\n\n") {
        more.control("PP", []).text([roman(paragraph)]);
    }
    more.to_writer(&mut page)?;
    Ok(page)
}

fn list(commands: &[Command]) -> Roff {
    let mut list = Roff::new();
    list.control("SH", ["COMMANDS"]);
    for command in commands {
        let about = command.get_long_about().or_else(|| command.get_about());
        list.control("TP", []);
        list.text([bold(command.get_name())]);
        list.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
    }
    list
}

/// Whether the command has this very flag, because one name may mean different things to two commands.
fn has(command: &Command, flag: &Arg) -> bool {
    let same = |other: &&Arg| {
        other.get_id() == flag.get_id()
            && other.get_help().map(ToString::to_string) == flag.get_help().map(ToString::to_string)
            && other.get_value_names() == flag.get_value_names()
    };
    command.get_arguments().any(|other| same(&other))
}

fn options(flags: impl IntoIterator<Item = Arg>, page: &mut Vec<u8>) -> std::io::Result<()> {
    let flags = Command::new("").disable_help_flag(true).args(flags);
    Man::new(flags).render_options_section(page)
}
