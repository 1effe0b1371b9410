//! The layout of the source: the imports that each room of `src/` may have, and the places of its files. A failure
//! names the broken law, the places, and the remedy.

mod imports;
mod laws;
mod reader;
mod table;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use imports::{Files, Source};
use laws::Kept;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

static FILES: LazyLock<Files> = LazyLock::new(files);
static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::read(&FILES));

/// The files of `src/`.
fn files() -> Files {
    let mut files = Files::new();
    let mut open = vec![Path::new(REPOSITORY).join("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let file = path.strip_prefix(REPOSITORY).expect("it is inside");
                let file = file.to_str().expect("its name is UTF-8").to_owned();
                files.insert(file, fs::read_to_string(path).expect("it can be read"));
            }
        }
    }
    files
}

#[track_caller]
fn assert_kept(kept: Kept) {
    if let Err(report) = kept {
        panic!("\n{report}");
    }
}

#[test]
fn roles_never_import_each_other() {
    assert_kept(laws::roles_import_no_other_role(&SOURCE));
}

#[test]
fn what_any_role_uses_imports_no_role() {
    assert_kept(laws::what_any_role_uses_imports_no_role(&SOURCE));
}

#[test]
fn the_rooms_of_the_laws_exist() {
    assert_kept(laws::the_rooms_of_the_laws_exist(&SOURCE));
}

#[test]
fn there_is_no_circle_between_rooms() {
    assert_kept(laws::no_circle_between_rooms(&SOURCE));
}

#[test]
fn no_room_imports_the_root() {
    assert_kept(laws::no_room_imports_the_root(&SOURCE));
}

#[test]
fn no_file_has_more_than_four_hundred_lines() {
    assert_kept(laws::no_file_is_long(&FILES));
}

#[test]
fn a_directory_has_its_module_in_mod_rs() {
    assert_kept(laws::a_directory_has_its_module_in_mod_rs(&SOURCE, &FILES));
}

#[test]
fn the_table_of_rooms_is_what_the_imports_say() {
    let text = fs::read_to_string(Path::new(REPOSITORY).join("ARCHITECTURE.md"));
    // Without the file, each room is reported as one without a row.
    let text = text.unwrap_or_default();
    assert_kept(table::the_table_is_what_the_imports_say(&text, &SOURCE));
}
