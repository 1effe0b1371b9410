//! A role that the sandbox does not know.

use mlua::Value;

use super::*;

static SCRIPTS: [Bundled; 1] = [Bundled {
    name: "greet",
    file: "scripts/greet.lua",
    text: "local greet = {}
        function greet.name() return require('names').first end
        return require('decisions').guard('greet', greet, { name = 'string' })",
}];

/// Loads a script of the role. Returns its result as text, or its failure without the directory.
fn load(script: &str) -> std::result::Result<String, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("site.lua");
    std::fs::write(&path, script).expect("the script");
    let setup = Setup {
        script: path,
        bundled: &SCRIPTS,
        policy: "greet",
        elsewhere: &[("later", "the module `later` comes later")],
        looks_above: false,
        runs_once: true,
    };
    let names = Module::new("names", |lua, context| {
        let names = lua.create_table_from([("first", "Ada")])?;
        context.frozen().freeze(names)
    });
    let sandbox = Sandbox::new(setup, vec![names]).expect("a sandbox");
    let directory = format!("{}/", directory.path().display());
    match sandbox.load() {
        Ok(values) => {
            let value = values.front().unwrap_or(&Value::Nil).to_string();
            Ok(value.expect("a text"))
        }
        Err(failure) => Err(failure.to_string().replace(&directory, "")),
    }
}

#[test]
fn a_script_has_the_modules_and_the_bundled_scripts_of_its_role() {
    let script = "return require('greet').name()";
    assert_eq!(load(script), Ok("Ada".to_owned()));
    for (script, message) in [
        (
            "require 'docker'",
            "there is no module `docker`: cannot read `docker.lua`: No such file or directory (os error 2); \
             there are decisions, names and the bundled policies greet\n  at site.lua:1",
        ),
        (
            "require 'later'",
            "the module `later` comes later\n  at site.lua:1",
        ),
        (
            "require('names').first = 'Bob'",
            "this table is read-only: `first` cannot be set\n  at site.lua:1",
        ),
    ] {
        assert_eq!(load(script), Err(message.to_owned()), "{script}");
    }
}

#[test]
fn messages_name_the_functions_of_the_roles_policy() {
    let script = "local greet = require 'greet'
        function greet.name() error('no') end
        greet.name()";
    let message = "no\n  at site.lua:2 in greet.name".to_owned();
    assert_eq!(load(script), Err(message));
}

#[test]
fn a_decision_is_checked_where_it_is_read_set_and_called() {
    for (script, message) in [
        (
            "return require('greet').nmae",
            "greet has no decision `nmae`; did you mean `name`?\n  at site.lua:1",
        ),
        (
            "local greet = require 'greet'\ngreet.anme = print",
            "greet has no decision `anme`; did you mean `name`?\n  at site.lua:2",
        ),
        (
            "local greet = require 'greet'\ngreet.age = print",
            "greet has no decision `age`\n  at site.lua:2",
        ),
        (
            "local greet = require 'greet'\ngreet.name = 'Bob'",
            "greet.name is a function, not a string\n  at site.lua:2",
        ),
        (
            "local greet = require 'greet'\n\nfunction greet.name() end\ngreet.name()",
            "`greet.name` returned nothing and not a string\n  at site.lua:3 in greet.name",
        ),
        (
            "local greet = require 'greet'\nfunction greet.name() return true end\nlocal _, why = pcall(greet.name)\n\
             return why",
            "",
        ),
    ] {
        let told = "site.lua:2: `greet.name` returned true and not a string".to_owned();
        let wanted = if message.is_empty() {
            Ok(told)
        } else {
            Err(message.to_owned())
        };
        assert_eq!(
            load(script).map(|text| text.rsplit('/').next().unwrap_or_default().to_owned()),
            wanted,
            "{script}"
        );
    }
}
