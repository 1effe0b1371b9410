//! The laws of the rooms. The report of a broken law lists every violation.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{Files, Import, Source, files, is_in};

const ROLES: [&str; 2] = ["register", "discover"];

/// Rooms and sub-rooms that any role can use.
const BELOW_ROLES: [&str; 5] = ["policy/sandbox", "docker", "store", "ops", "base"];

const MAX_LINES: usize = 400;

/// Ok, or a report with the violations and advice.
pub type Kept = Result<(), String>;

/// A law is kept if there are no offenders.
pub fn verdict(law: &str, advice: &str, offenders: &[String]) -> Kept {
    if offenders.is_empty() {
        return Ok(());
    }
    let offenders = offenders.join("\n").replace('\n', "\n  ");
    Err(format!("{law}\n\n  {offenders}\n\n{advice}\n"))
}

fn lines<'a>(imports: impl IntoIterator<Item = &'a Import>) -> Vec<String> {
    imports.into_iter().map(Import::to_string).collect()
}

/// Law 1.
pub fn roles_import_no_other_role(source: &Source) -> Kept {
    let role = |path: &[String]| ROLES.into_iter().find(|role| is_in(path, role));
    let offends = |import: &&Import| match (role(&import.from), role(&import.to)) {
        (Some(from), Some(to)) => from != to,
        _ => false,
    };
    verdict(
        "Law 1: roles (`register`, `discover`) never import each other.",
        "Move what both need to a lower room. What only one of them has, `commands` can hand in to the other.",
        &lines(source.imports.iter().filter(offends)),
    )
}

/// Law 2.
pub fn what_any_role_uses_imports_no_role(source: &Source) -> Kept {
    let is_below = |path: &[String]| BELOW_ROLES.iter().any(|room| is_in(path, room));
    let is_role = |path: &[String]| ROLES.iter().any(|role| is_in(path, role));
    let offends = |import: &&Import| is_below(&import.from) && is_role(&import.to);
    verdict(
        "Law 2: `policy/sandbox`, `docker`, `store`, `ops` and `base` import no role (`register`, `discover`).",
        "Hand it in instead, as a parameter or a closure of the role, or move the noun to a lower room.",
        &lines(source.imports.iter().filter(offends)),
    )
}

/// The laws above name rooms, so a renamed room would be under no law.
pub fn the_rooms_of_the_laws_exist(source: &Source) -> Kept {
    let names = ROLES.into_iter().chain(BELOW_ROLES);
    let is_missing = |name: &&str| !source.modules.iter().any(|path| is_in(path, name));
    verdict(
        "Each room that laws 1 and 2 speak of exists in src/. These do not:",
        "If a room has a new name, change its name in tests/rooms/laws.rs too.",
        &names
            .filter(is_missing)
            .map(|name| format!("src/{name}/"))
            .collect::<Vec<_>>(),
    )
}

/// Law 3.
pub fn no_circle_between_rooms(source: &Source) -> Kept {
    let rooms = source.rooms.iter().map(String::as_str);
    let imported = rooms.map(|room| (room, source.imported_by(room)));
    let imported = imported.collect::<BTreeMap<_, _>>();
    let reached = imported
        .keys()
        .map(|&room| (room, reached(&imported, room)));
    let reached = reached.collect::<BTreeMap<_, _>>();
    // Rooms that reach each other are in one circle, or in several that have rooms in common.
    let mut circles = BTreeSet::new();
    for (room, others) in &reached {
        let others = others.iter().copied();
        let circle = others.filter(|other| reached[other].contains(room));
        circles.insert(circle.collect::<BTreeSet<_>>());
    }
    let mut offenders = Vec::new();
    for circle in circles.iter().filter(|circle| !circle.is_empty()) {
        let names = quoted(circle.iter().copied());
        offenders.push(format!("{names} import each other:"));
        for room in circle {
            let within = imported[room].iter();
            for (to, imports) in within.filter(|(to, _)| circle.contains(*to)) {
                offenders.push(format!("  `{room}` → `{to}` ({}):", imports.len()));
                offenders.extend(imports.iter().map(|import| format!("    {import}")));
            }
        }
    }
    verdict(
        "Law 3: no circle between rooms.",
        "Take away the arrow that points upwards: move the noun to the lower room of the two, or hand it in instead.",
        &offenders,
    )
}

/// The rooms that a room imports, and those that these import, and so on.
fn reached<'a>(
    imported: &BTreeMap<&'a str, BTreeMap<&'a str, Vec<&Import>>>,
    room: &str,
) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![room];
    while let Some(room) = open.pop() {
        for &next in imported[room].keys() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

/// The root imports every room, so a room that imports the root closes a circle.
pub fn no_room_imports_the_root(source: &Source) -> Kept {
    let offends =
        |import: &&Import| source.room(&import.from).is_some() && source.room(&import.to).is_none();
    verdict(
        "No room imports the root, which imports every room. These paths lead to no room:",
        "Name the room that the item is in. An item of lib.rs, main.rs or another file beside them belongs in a room first.",
        &lines(source.imports.iter().filter(offends)),
    )
}

pub fn no_file_is_long(files: &Files) -> Kept {
    let lengths = files
        .iter()
        .map(|(file, text)| (file, text.lines().count()));
    let long = lengths.filter(|&(_, lines)| lines > MAX_LINES);
    verdict(
        &format!("No file of src/ has more than {MAX_LINES} lines, and no file of its tests."),
        "Split it by subject: a file of its own for each part that has a name.",
        &long
            .map(|(file, lines)| format!("{file} has {lines} lines"))
            .collect::<Vec<_>>(),
    )
}

pub fn a_directory_has_its_module_in_mod_rs(source: &Source, files: &Files) -> Kept {
    let beside = files.keys().filter_map(|file| {
        let directory = format!("{}/", file.strip_suffix(".rs")?);
        let is_beside = files.keys().any(|other| other.starts_with(&directory));
        is_beside.then(|| format!("{file} belongs in {directory}mod.rs"))
    });
    let redirections = source.redirections.iter();
    let redirections = redirections.map(|place| format!("{place} has #[path]: leave it out"));
    let mut offenders = beside.chain(redirections).collect::<Vec<_>>();
    offenders.sort();
    verdict(
        "One form everywhere: the module of a directory is its mod.rs, and the path of a file is that of its module.",
        "Move the file: `git mv src/NAME.rs src/NAME/mod.rs`.",
        &offenders,
    )
}

/// `` `a`, `b` ``
pub fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names = names.map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

/// Asserts that a law is broken by just what is listed.
#[track_caller]
pub fn assert_broken(kept: Kept, expected: &[&str]) {
    let report = kept.expect_err("the law is broken");
    let offenders = report.lines().filter_map(|line| line.strip_prefix("  "));
    assert_eq!(offenders.collect::<Vec<_>>(), expected, "{report}");
}

#[test]
fn a_role_may_import_itself_and_what_is_below_but_no_other_role() {
    let mut files = files([
        ("src/base/mod.rs", ""),
        ("src/discover/mod.rs", "use crate::base; use self::run;"),
        ("src/register/run.rs", "use super::plan; use crate::base;"),
        ("src/commands/run.rs", "use crate::{register, discover};"),
    ]);
    assert_eq!(roles_import_no_other_role(&Source::read(&files)), Ok(()));
    let text = "\nfn f() { crate::discover::run() }";
    files.insert("src/register/plan/mod.rs".to_owned(), text.to_owned());
    let text = "use super::super::register::{plan::Plan, run as start};";
    files.insert("src/discover/page.rs".to_owned(), text.to_owned());
    assert_broken(
        roles_import_no_other_role(&Source::read(&files)),
        &[
            "src/discover/page.rs:1 imports crate::register::plan::Plan",
            "src/discover/page.rs:1 imports crate::register::run",
            "src/register/plan/mod.rs:2 imports crate::discover::run",
        ],
    );
}

#[test]
fn what_any_role_uses_may_import_anything_but_a_role() {
    let mut files = files([
        ("src/docker/mod.rs", "use crate::{base, registers};"),
        ("src/ops/mod.rs", "#[cfg(test)] use crate::register::run;"),
        ("src/policy/api/mod.rs", "use crate::register::Status;"),
        ("src/policy/sandbox_of_others.rs", "use crate::register;"),
        ("src/policy/sandbox/mod.rs", "use super::api;"),
    ]);
    let kept = |files: &Files| what_any_role_uses_imports_no_role(&Source::read(files));
    assert_eq!(kept(&files), Ok(()));
    let text = "fn f() {\n  info!(at = crate::register::now());\n}";
    for room in BELOW_ROLES {
        files.insert(format!("src/{room}/deep/er.rs"), text.to_owned());
    }
    let text = "use super::super::discover::{self};";
    files.insert("src/policy/sandbox.rs".to_owned(), text.to_owned());
    assert_broken(
        kept(&files),
        &[
            "src/base/deep/er.rs:2 imports crate::register::now",
            "src/docker/deep/er.rs:2 imports crate::register::now",
            "src/ops/deep/er.rs:2 imports crate::register::now",
            "src/policy/sandbox.rs:1 imports crate::discover",
            "src/policy/sandbox/deep/er.rs:2 imports crate::register::now",
            "src/store/deep/er.rs:2 imports crate::register::now",
        ],
    );
}

#[test]
fn a_room_of_the_laws_that_is_missing_is_named() {
    let mut files = files([
        ("src/base/mod.rs", ""),
        ("src/discover/mod.rs", ""),
        ("src/docker/mod.rs", ""),
        ("src/ops/mod.rs", ""),
        ("src/policy/mod.rs", ""),
        ("src/register/mod.rs", ""),
        ("src/stores/mod.rs", ""),
    ]);
    assert_broken(
        the_rooms_of_the_laws_exist(&Source::read(&files)),
        &["src/policy/sandbox/", "src/store/"],
    );
    files.insert("src/policy/sandbox.rs".to_owned(), String::new());
    files.insert("src/store/mod.rs".to_owned(), String::new());
    assert_eq!(the_rooms_of_the_laws_exist(&Source::read(&files)), Ok(()));
}

#[test]
fn circles_are_told_with_the_imports_that_make_them_and_no_others() {
    let mut files = files([
        ("src/lib.rs", "use a::A; use crate::b;"),
        ("src/a/mod.rs", "use crate::{b::B, d};\nuse crate::b;"),
        ("src/b/mod.rs", "use crate::c;"),
        ("src/c/mod.rs", "#[cfg(test)] use crate::a;\nuse crate::d;"),
        ("src/d/mod.rs", "use self::inner; use crate::steps;"),
        ("src/d/inner.rs", "use super::d;"),
        ("src/steps.rs", "use crate::{a, b, c, d};"),
    ]);
    assert_eq!(no_circle_between_rooms(&Source::read(&files)), Ok(()));
    let text = "\n\nuse crate::a::A;";
    files.insert("src/c/deep.rs".to_owned(), text.to_owned());
    let text = "use crate::y;";
    files.insert("src/x/mod.rs".to_owned(), text.to_owned());
    let text = "fn f() { super::x::g() }";
    files.insert("src/y/mod.rs".to_owned(), text.to_owned());
    assert_broken(
        no_circle_between_rooms(&Source::read(&files)),
        &[
            "`a`, `b`, `c` import each other:",
            "  `a` → `b` (2):",
            "    src/a/mod.rs:1 imports crate::b::B",
            "    src/a/mod.rs:2 imports crate::b",
            "  `b` → `c` (1):",
            "    src/b/mod.rs:1 imports crate::c",
            "  `c` → `a` (1):",
            "    src/c/deep.rs:3 imports crate::a::A",
            "`x`, `y` import each other:",
            "  `x` → `y` (1):",
            "    src/x/mod.rs:1 imports crate::y",
            "  `y` → `x` (1):",
            "    src/y/mod.rs:1 imports crate::x::g",
        ],
    );
}

#[test]
fn a_path_from_a_room_to_the_root_is_told() {
    let source = Source::read(&files([
        (
            "src/lib.rs",
            "use a::A; pub mod steps { pub use crate::a; }",
        ),
        ("src/a/mod.rs", "use super::b; use self::c::*;"),
        (
            "src/b/mod.rs",
            "use crate as c;\nuse crate::*;\nuse crate::A;",
        ),
        (
            "src/b/deep.rs",
            "extern crate self as c;\nuse super::super::{self as s, steps};",
        ),
    ]));
    assert_broken(
        no_room_imports_the_root(&source),
        &[
            "src/b/deep.rs:1 imports crate",
            "src/b/deep.rs:2 imports crate",
            "src/b/deep.rs:2 imports crate::steps",
            "src/b/mod.rs:1 imports crate",
            "src/b/mod.rs:2 imports crate::*",
            "src/b/mod.rs:3 imports crate::A",
        ],
    );
}

#[test]
fn a_file_may_have_four_hundred_lines_and_none_more() {
    let (most, too_many) = ("\n".repeat(400), "\n".repeat(401));
    let mut files = files([("src/lib.rs", most.as_str())]);
    assert_eq!(no_file_is_long(&files), Ok(()));
    files.insert("src/a/tests.rs".to_owned(), too_many);
    assert_broken(no_file_is_long(&files), &["src/a/tests.rs has 401 lines"]);
}

#[test]
fn a_file_beside_the_directory_of_its_module_is_told() {
    let kept = |files: &Files| a_directory_has_its_module_in_mod_rs(&Source::read(files), files);
    let mut files = files([
        ("src/lib.rs", "mod a;"),
        ("src/a/mod.rs", "mod b;"),
        ("src/a/b.rs", ""),
        ("src/a/bc/d.rs", ""),
    ]);
    assert_eq!(kept(&files), Ok(()));
    let text = "\n#[path = \"elsewhere.rs\"] mod e;";
    files.insert("src/a/b/c/mod.rs".to_owned(), text.to_owned());
    assert_broken(
        kept(&files),
        &[
            "src/a/b.rs belongs in src/a/b/mod.rs",
            "src/a/b/c/mod.rs:2 has #[path]: leave it out",
        ],
    );
}
