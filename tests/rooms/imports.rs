//! The imports of each module of `src/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use crate::reader::Reader;

/// The text of each file of `src/`, by its path in the repository.
pub type Files = BTreeMap<String, String>;

/// The names from the root of the crate to a module, or to an item of one.
pub type Path = Vec<String>;

/// One path in the source. It resolves no re-export: it is what the line says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub file: String,
    pub line: usize,
    pub from: Path,
    pub to: Path,
}

/// `src/docker/feed.rs:31 imports crate::register::Status`
impl Display for Import {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} imports crate", self.file, self.line)?;
        self.to.iter().try_for_each(|name| write!(f, "::{name}"))
    }
}

/// All of `src/`.
pub struct Source {
    /// The directories of `src/`.
    pub rooms: BTreeSet<String>,
    /// The module that each file is.
    pub modules: Vec<Path>,
    /// Sorted, and without those of tests.
    pub imports: Vec<Import>,
    /// Where `#[path]` gives a module a file elsewhere, so that its path is not that of the file.
    pub redirections: Vec<String>,
}

impl Source {
    pub fn read(files: &Files) -> Self {
        let rooms = files.keys().filter_map(|file| {
            let (room, _) = file.strip_prefix("src/")?.split_once('/')?;
            Some(room.to_owned())
        });
        let mut reader = Reader::default();
        for (file, text) in files {
            reader.read(file, text);
        }
        let Reader {
            mut imports,
            tests,
            redirections,
            ..
        } = reader;
        imports.retain(|import| !tests.iter().any(|test| import.from.starts_with(test)));
        imports.sort();
        imports.dedup();
        Self {
            rooms: rooms.collect(),
            modules: files.keys().map(|file| module_of(file)).collect(),
            imports,
            redirections,
        }
    }

    /// The room that a module or an item is in. The root is in none.
    pub fn room<'a>(&self, path: &'a [String]) -> Option<&'a str> {
        let first = path.first()?;
        self.rooms.contains(first).then_some(first)
    }

    /// The other rooms that are imported by the files of a room or sub-room, with where.
    pub fn imported_by(&self, room: &str) -> BTreeMap<&str, Vec<&Import>> {
        let mut imported = BTreeMap::<_, Vec<_>>::new();
        for import in self.imports.iter().filter(|it| is_in(&it.from, room)) {
            if let Some(other) = self.room(&import.to)
                && import.from.first().is_some_and(|own| own != other)
            {
                imported.entry(other).or_default().push(import);
            }
        }
        imported
    }
}

/// Whether a module or an item belongs to a room, as `docker`, or to a sub-room, as `policy/sandbox`.
pub fn is_in(path: &[String], room: &str) -> bool {
    let mut names = path.iter();
    room.split('/')
        .all(|part| names.next().is_some_and(|name| name == part))
}

/// `src/docker/feed.rs` → `docker::feed`.
pub fn module_of(file: &str) -> Path {
    let inner = file.strip_prefix("src/").unwrap_or(file);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    if matches!(inner, "lib" | "main") {
        return Path::new();
    }
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    inner.split('/').map(str::to_owned).collect()
}

/// A source made up for a test.
pub fn files<const COUNT: usize>(files: [(&str, &str); COUNT]) -> Files {
    let files = files.map(|(file, text)| (file.to_owned(), text.to_owned()));
    files.into()
}

/// The imports of one file, as `line path`.
fn imported_in(file: &str, text: &str) -> Vec<String> {
    let imports = Source::read(&files([(file, text)])).imports.into_iter();
    imports
        .map(|it| format!("{} {}", it.line, it.to.join("::")))
        .collect()
}

fn imported(text: &str) -> Vec<String> {
    imported_in("src/docker/feed.rs", text)
}

#[test]
fn a_use_is_read_with_its_groups_renames_and_globs() {
    let text = "
        use std::io;
        use crate::base;
        use crate::base::text as words;
        use crate::ops::*;
        use crate::store::{self, Outcome, etcd::{Access, tls::{*}}};
        use {crate::wanted::Entry as Wish, tokio::time};
        pub(crate) use crate::container::Container;
        use crate::r#type::Name;
        use ::crate_of_others::register;
        use events::Event;";
    let expected = [
        "3 base",
        "4 base::text",
        "5 ops::*",
        "6 store",
        "6 store::Outcome",
        "6 store::etcd::Access",
        "6 store::etcd::tls::*",
        "7 wanted::Entry",
        "8 container::Container",
        "9 type::Name",
    ];
    assert_eq!(imported(text), expected);
}

#[test]
fn super_and_self_begin_at_the_module_that_the_file_is() {
    let text = "
        use self::own::A;
        use super::{b, super::c};
        use super::super::super::d;";
    let expected = |own: [&str; 4]| own.map(str::to_owned).to_vec();
    assert_eq!(
        imported_in("src/policy/sandbox/clock.rs", text),
        expected([
            "2 policy::sandbox::clock::own::A",
            "3 policy::c",
            "3 policy::sandbox::b",
            "4 d"
        ])
    );
    assert_eq!(
        imported_in("src/policy/sandbox/mod.rs", text),
        expected(["2 policy::sandbox::own::A", "3 c", "3 policy::b", "4 d"])
    );
}

#[test]
fn super_in_an_inline_module_begins_at_that_module() {
    let text = "
        mod outer {
            use super::a;
            mod inner {
                use super::super::super::super::b;
                fn f() { super::c(); self::d() }
            }
        }
        use super::e;";
    let expected = [
        "3 docker::feed::a",
        "5 b",
        "6 docker::feed::outer::c",
        "6 docker::feed::outer::inner::d",
        "9 docker::e",
    ];
    let mut found = imported(text);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn paths_in_types_expressions_and_patterns_are_imports() {
    let text = "
        struct S(Vec<crate::a::A>);
        impl crate::b::B for S where S: crate::c::C<crate::d::D> {
            fn f(&self, x: &dyn crate::e::E) -> impl Fn(crate::f::F) -> super::G {
                let crate::h::H { y, .. } = <crate::i::I as crate::j::J>::j(x)?;
                match y {
                    crate::k::K::<crate::l::L>::M(me) => self.y,
                    _ => crate::m::m(crate::n::N { o: 1 }),
                }
            }
        }";
    let expected = [
        "2 a::A",
        "3 b::B",
        "3 c::C",
        "3 d::D",
        "4 docker::G",
        "4 e::E",
        "4 f::F",
        "5 h::H",
        "5 i::I",
        "5 j::J::j",
        "7 k::K::M",
        "7 l::L",
        "8 m::m",
        "8 n::N",
    ];
    let mut found = imported(text);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_bodies_of_macros_are_read_token_by_token() {
    let text = "
        macro_rules! rule { ($x:expr) => { $crate::a::f($x) }; }
        fn f(&self) {
            crate::b::call!(self.x, self::c);
            tokio::select! { _ = super::super::d::wait() => { html! { p { (crate::e::E) } } } }
            info!(since = %crate::f::<crate::g::G>::since(), \"crate::text is no path\");
            quoted! { use crate::{h::{self, I as J}, k::*}; pub(in crate::l) struct M; }
            names!(own::crate_of, crate, super, self);
        }";
    let expected = [
        "2 a::f",
        "4 b::call",
        "4 docker::feed::c",
        "5 d::wait",
        "5 e::E",
        "6 f",
        "6 g::G",
        "7 h",
        "7 h::I",
        "7 k::*",
    ];
    assert_eq!(imported(text), expected);
}

#[test]
fn attributes_are_read_with_their_strings_and_comments_are_not() {
    let text = r#"
        //! [`crate::comment`]
        /// crate::comment
        #[serde(with = "crate::a::b", rename = "crate: no path")]
        #[derive(crate::c::D)]
        #[path_of = "super::e"]
        struct S;"#;
    let expected = ["4 a::b", "5 c::D", "6 docker::e"];
    assert_eq!(imported(text), expected);
}

#[test]
fn a_visibility_and_a_receiver_import_nothing() {
    let text = "
        pub(in crate::register) struct S { pub(super) x: u8, pub(crate) y: u8 }
        impl S { pub(self) fn f(self) -> u8 { self.x + g(self) + Self::N } }";
    assert!(imported(text).is_empty(), "{:?}", imported(text));
}

#[test]
fn code_for_tests_alone_is_not_read() {
    let text = "
        #[cfg(test)] use crate::a::A;
        #[cfg(all(unix, test))] mod tests { use crate::b::B; mod deep { use crate::b::B; } }
        #[cfg(any(test, all(test, unix)))] impl S { fn f() { crate::c::c() } }
        #[test] fn f() { crate::d::d() }
        #[tokio::test] async fn f() { crate::e::e() }
        struct S { #[cfg(test)] f: crate::f::F }
        impl S { #[cfg(test)] fn g(&self) { crate::g::g(); } }
        trait T { #[cfg(test)] fn h() -> crate::h::H; }
        fn g() {
            #[cfg(test)] let i = crate::i::I;
            #[cfg(test)] crate::j::j();
            #[cfg(test)] log!(crate::k::K);
            #[cfg(test)] { crate::l::l() }
            match x { #[cfg(test)] crate::m::M => {} _ => {} }
        }";
    assert!(imported(text).is_empty(), "{:?}", imported(text));
}

#[test]
fn code_for_tests_and_for_the_program_is_read() {
    let text = "
        #[cfg(any(test, unix))] use crate::a::A;
        #[cfg(not(test))] use crate::b::B;
        #[cfg(unix)] mod inner { use crate::c::C; }";
    assert_eq!(imported(text), ["2 a::A", "3 b::B", "4 c::C"]);
}

#[test]
fn a_file_for_tests_alone_is_not_read_and_neither_are_its_modules() {
    let text = "use crate::register::run;";
    let source = Source::read(&files([
        ("src/store/mod.rs", "#[cfg(test)] mod model; mod print;"),
        ("src/store/model.rs", "mod inner;"),
        ("src/store/model/inner.rs", text),
        ("src/store/model_of_others.rs", text),
        ("src/store/print.rs", text),
        ("src/store/tests/mod.rs", &format!("#![cfg(test)] {text}")),
        ("src/store/tests/fuzz.rs", text),
    ]));
    let found = source.imports.iter().map(|it| it.file.as_str());
    assert_eq!(
        found.collect::<Vec<_>>(),
        ["src/store/model_of_others.rs", "src/store/print.rs"]
    );
}

#[test]
fn a_room_imports_other_rooms_and_a_sub_room_what_is_outside_its_room() {
    let text = "use crate::{base, docker::Feed, steps, policy::api};";
    let source = Source::read(&files([
        ("src/lib.rs", text),
        ("src/base/mod.rs", ""),
        ("src/docker/mod.rs", "use crate::base::text; use self::x;"),
        ("src/policy/api.rs", "use crate::base::text;"),
        ("src/policy/sandbox/mod.rs", "use crate::docker::Feed;"),
        ("src/policy/sandbox/clock.rs", text),
        ("src/policy/sandbox_of_others.rs", "use crate::base;"),
        ("src/steps.rs", text),
    ]));
    let imported_by = |room| {
        let imported = source.imported_by(room).into_iter();
        imported
            .map(|(room, imports)| format!("{room} {}", imports.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(imported_by("base"), Vec::<String>::new());
    assert_eq!(imported_by("docker"), ["base 1"]);
    assert_eq!(imported_by("policy"), ["base 3", "docker 2"]);
    assert_eq!(imported_by("policy/sandbox"), ["base 1", "docker 2"]);
}
