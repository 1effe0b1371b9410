//! The table of the rooms in ARCHITECTURE.md, compared with what they import.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{Import, Source, files, is_in};
use crate::laws::{Kept, assert_broken, quoted, verdict};

const LAW: &str = "The table in ARCHITECTURE.md says which rooms there are and what each imports.";
const HEAD: [&str; 3] = ["room", "what it is", "imports"];
const ADVICE: &str = "Where the import is right, correct the table; where the table is right, take the import away: move \
    the noun to a\nlower room or hand it in instead. A row is ``| `room` | what it is | `imported`, `imported` |``, with – \
    for no import.";

/// Each room has a row; a sub-room may have one.
pub fn the_table_is_what_the_imports_say(text: &str, source: &Source) -> Kept {
    let mut offenders = Vec::new();
    let mut told = BTreeSet::new();
    for row in rows(text) {
        match room_of(row) {
            Some(room) if !is_room(source, room) => {
                offenders.push(format!(
                    "`{room}` has a row and is no room: there is no src/{room}/"
                ));
            }
            Some(room) if !told.insert(room) => {
                offenders.push(format!("`{room}` has two rows"));
            }
            Some(room) => match imports_of(row) {
                Some(imports) => offenders.extend(differences(room, &imports, source)),
                None => offenders.push(format!("`{room}`: the column of imports cannot be read")),
            },
            None => offenders.push(format!("no room in the first column: {row}")),
        }
    }
    let rooms = source.rooms.iter().map(String::as_str);
    for room in rooms.filter(|room| !told.contains(room)) {
        let imported = imports_column(&source.imported_by(room));
        offenders.push(format!("`{room}` has no row; it imports {imported}"));
    }
    offenders.sort();
    verdict(LAW, ADVICE, &offenders)
}

fn is_room(source: &Source, room: &str) -> bool {
    source.rooms.contains(room) || {
        room.contains('/') && source.modules.iter().any(|path| is_in(path, room))
    }
}

/// The rows below the head of the table and the line under it.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| cells(line).is_some_and(|cells| cells == HEAD));
    lines.skip(1).take_while(|line| line.starts_with('|'))
}

fn cells(row: &str) -> Option<Vec<&str>> {
    let row = row.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

fn room_of(row: &str) -> Option<&str> {
    backticked(cells(row)?.first()?)
}

/// The imports that a row lists for its room.
fn imports_of(row: &str) -> Option<BTreeSet<&str>> {
    match *cells(row)?.last()? {
        "–" => Some(BTreeSet::new()),
        cell => cell
            .split(',')
            .map(|name| backticked(name.trim()))
            .collect(),
    }
}

fn backticked(cell: &str) -> Option<&str> {
    let name = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!name.is_empty()).then_some(name)
}

fn differences(room: &str, said: &BTreeSet<&str>, source: &Source) -> Option<String> {
    let imported = source.imported_by(room);
    if imported.keys().eq(said.iter()) {
        return None;
    }
    let told = format!(
        "`{room}` imports {}, and its row says {}",
        imports_column(&imported),
        column(said.iter().copied()),
    );
    let unsaid = imported.iter().filter(|(other, _)| !said.contains(*other));
    let places = unsaid.flat_map(|(_, imports)| imports);
    let places = places.map(|import| format!("\n  {import}"));
    Some(told + &places.collect::<String>())
}

fn imports_column(imported: &BTreeMap<&str, Vec<&Import>>) -> String {
    column(imported.keys().copied())
}

fn column<'a>(rooms: impl Iterator<Item = &'a str>) -> String {
    let rooms = quoted(rooms);
    if rooms.is_empty() {
        "–".to_owned()
    } else {
        rooms
    }
}

fn three_rooms() -> Source {
    Source::read(&files([
        ("src/lib.rs", "use docker::Feed;"),
        ("src/base/mod.rs", ""),
        ("src/docker/mod.rs", "use crate::base::text;"),
        (
            "src/policy/mod.rs",
            "use crate::docker;\n\nuse crate::docker::Feed;",
        ),
        ("src/policy/sandbox/mod.rs", "use crate::base;"),
    ]))
}

fn check(rows: &[&str]) -> Kept {
    let rows = rows.join("\n");
    let text = format!(
        "# Rooms\n\n| of | another |\n| --- | --- |\n| `x` | `y` |\n\n\
        | room | what it is | imports |\n| --- | --- | --- |\n{rows}\n\n| `z` | `y` |\n"
    );
    the_table_is_what_the_imports_say(&text, &three_rooms())
}

#[test]
fn a_table_that_says_what_the_imports_say_is_right() {
    let rows = [
        "| `base`   | text, `key` | – |",
        "| `policy` | a \\| b | `docker`, `base` |",
        "| `policy/sandbox` | any role's script | `base` |",
        "| `docker` | the feed | `base` |",
    ];
    assert_eq!(check(&rows), Ok(()));
    assert_eq!(check(&[rows[0], rows[1], rows[3]]), Ok(()));
}

#[test]
fn an_import_that_the_table_lacks_and_one_that_only_the_table_has_are_told() {
    let rows = [
        "| `base` | text | `docker` |",
        "| `docker` | the feed | – |",
        "| `policy` | scripts | `base`, `lua` |",
        "| `policy/sandbox` | any role's script | `docker` |",
    ];
    assert_broken(
        check(&rows),
        &[
            "`base` imports –, and its row says `docker`",
            "`docker` imports `base`, and its row says –",
            "  src/docker/mod.rs:1 imports crate::base::text",
            "`policy/sandbox` imports `base`, and its row says `docker`",
            "  src/policy/sandbox/mod.rs:1 imports crate::base",
            "`policy` imports `base`, `docker`, and its row says `base`, `lua`",
            "  src/policy/mod.rs:1 imports crate::docker",
            "  src/policy/mod.rs:3 imports crate::docker::Feed",
        ],
    );
}

#[test]
fn a_row_that_is_missing_double_unknown_or_unreadable_is_told() {
    let rows = [
        "| `base` | text | – |",
        "| `base` | text | – |",
        "| `plan` | pure | – |",
        "| policy | scripts | – |",
        "| `policy` | scripts | base and docker |",
    ];
    assert_broken(
        check(&rows),
        &[
            "`base` has two rows",
            "`docker` has no row; it imports `base`",
            "`plan` has a row and is no room: there is no src/plan/",
            "`policy`: the column of imports cannot be read",
            "no room in the first column: | policy | scripts | – |",
        ],
    );
}

#[test]
fn without_a_table_each_room_has_no_row() {
    assert_broken(
        the_table_is_what_the_imports_say("# Rooms", &three_rooms()),
        &[
            "`base` has no row; it imports –",
            "`docker` has no row; it imports `base`",
            "`policy` has no row; it imports `base`, `docker`",
        ],
    );
}
