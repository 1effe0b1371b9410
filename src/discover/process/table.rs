//! The kernel's table of processes, in `/proc`.

use std::fs;

use rustix::process::Pid;

/// The arguments of a process with spaces between them, which a program may replace by a title; empty if it has ended.
pub fn title(process: i32) -> String {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim_end().to_owned()
}

/// Whether a process goes on. One that has ended, and whose status nobody has collected yet, does not.
pub fn is_running(process: Pid) -> bool {
    // Not by its arguments, of which there are none for a moment while a program takes the place of another.
    let state = fields(process.as_raw_nonzero().get());
    let state = state.and_then(|fields| fields.into_iter().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// The name of its program.
pub fn name(process: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Tells a process from every other one, also from a later one with the same id; none if it has ended.
pub fn instance(process: Pid) -> Option<String> {
    let process = process.as_raw_nonzero().get();
    let began = fields(process)?.get(19)?.clone();
    Some(format!("{process}@{began}"))
}

/// The processes that this one has started.
pub fn children(of: i32) -> Vec<i32> {
    // A kernel may be built without this file.
    if let Ok(text) = fs::read_to_string(format!("/proc/{of}/task/{of}/children")) {
        let words = text.split_ascii_whitespace();
        return words.filter_map(|word| word.parse().ok()).collect();
    }
    let parent = of.to_string();
    let is_child = |process: &i32| fields(*process).is_some_and(|it| it.get(1) == Some(&parent));
    all().filter(is_child).collect()
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/PID/stat` from the third on: the second, the program's name, may have any character in it.
fn fields(process: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_and_told_from_others() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = child.id().cast_signed();
        let pid = Pid::from_raw(id).unwrap();
        let own = std::process::id();
        // `children` cannot be tried: it is the child of a thread that is not the first one here.
        let parent = own.to_string();
        assert_eq!(fields(id).unwrap().get(1), Some(&parent));
        assert!(all().any(|process| process == id));
        assert!(instance(pid).unwrap().starts_with(&format!("{id}@")));
        assert!(is_running(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(instance(pid), None);
        assert_eq!(title(id), "");
    }
}
