//! The page that a role shows to people: its conditions, facts about it, sections of its own, and the last warnings and
//! errors. If there are several roles, an index leads to their pages.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::condition::State;
use super::log::{Line, Recent};
use super::role::View;

const STYLE: &str = "
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --dim: #6e7781 }
body { font: 16px/1.4 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 0 1rem 2rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dd { margin: 0; overflow-wrap: anywhere }
ul { list-style: none; padding: 0 } li { padding: .5rem 0; border-top: 1px solid #8884; overflow-wrap: anywhere }
code, pre { font: .9em ui-monospace, monospace; white-space: pre-wrap; margin: 0 }
.good { color: var(--good) } .bad { color: var(--bad) } .dim, small { color: var(--dim) }
";

pub struct Page<'a> {
    pub title: &'a str,
    pub conditions: Vec<(&'static str, State)>,
    /// Facts, by name.
    pub facts: &'a [(&'static str, String)],
    pub sections: Markup,
    /// The last warnings and errors, the newest first.
    pub lines: &'a [Line],
}

impl Page<'_> {
    pub fn draw(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (self.title) }
                    dl {
                        @for (name, state) in &self.conditions {
                            dt { (name) }
                            dd { (condition(state)) }
                        }
                        @for (name, value) in self.facts {
                            dt { (name) }
                            dd { (value) }
                        }
                    }
                    (self.sections)
                    h2 { "Last warnings and errors" }
                    @if self.lines.is_empty() { p.dim { "None." } }
                    ul {
                        @for line in self.lines {
                            li {
                                small { (time(line.at)) " " }
                                @if line.is_error { span.bad { "error" } } @else { "warning" }
                                pre { (line.text) }
                            }
                        }
                    }
                }
            }
        }
        .into_string()
    }
}

/// A page with a link to that of each role.
pub fn index(views: &[View], recent: &Recent) -> String {
    let sections = html! {
        @for view in views {
            h2 { a href={ "/" (view.name) } { (view.name) } }
            @let problems = view.readiness.problems();
            @if problems.is_empty() { p.good { "ready" } }
            ul { @for problem in &problems { li.bad { (problem) } } }
        }
    };
    let page = Page {
        title: "docker-register",
        conditions: Vec::new(),
        facts: &[("version", env!("VERSION_AND_COMMIT").to_owned())],
        sections,
        lines: &recent.lines(),
    };
    page.draw()
}

/// A time for people, to the second.
pub fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn condition(state: &State) -> Markup {
    html! {
        @match state {
            State::Unknown => span.dim { "no answer yet" },
            State::Good { since } => { span.good { "good" } small { " since " (time(*since)) } }
            State::Bad { since, why } => { span.bad { (why) } small { " since " (time(*since)) } }
        }
    }
}
