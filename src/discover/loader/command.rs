//! The operator's commands about files, `--check` and `--reload`.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::base::text::quote;
use crate::discover::files::Files;
use crate::discover::process;
use crate::discover::refused::Refused;
use crate::routes::File;

/// The time limit of a command.
const LIMIT: Duration = Duration::from_secs(30);

/// Lets a command check files before they are in force: all of them, in a directory of their own.
pub async fn check(command: &str, files: &Files, wanted: &[File]) -> Result<(), Refused> {
    let staging = files.staging()?;
    for file in wanted {
        staging.put(&file.name, &file.text())?;
    }
    let result = run(command, staging.directory(), "check the files").await;
    staging.discard();
    result
}

/// Lets a command load the files that are in force.
pub async fn reload(command: &str, files: &Files) -> Result<(), Refused> {
    run(command, files.directory(), "load the files").await
}

async fn run(text: &str, directory: &Path, task: &str) -> Result<(), Refused> {
    let mut command = Command::new("sh");
    command.args(["-c", text]).env("DIRECTORY", directory);
    process::run(command, &quote(text), task, LIMIT).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Piece;

    fn file(name: &str, text: &str) -> File {
        File {
            name: name.into(),
            pieces: vec![Piece::Text(text.into())],
        }
    }

    #[tokio::test]
    async fn a_check_sees_all_files_and_its_output_is_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path()).unwrap();
        let wanted = [file("a", "1"), file("below/b", "2")];
        let command = r#"cat "$DIRECTORY/a" "$DIRECTORY/below/b" >&2; exit 1"#;
        let refused = check(command, &files, &wanted).await.unwrap_err();
        assert_eq!(refused.lines(), ["12"]);
        check("true", &files, &wanted).await.unwrap();
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "nothing is installed by a check");

        let refused = reload("exit 3", &files).await.unwrap_err();
        let lines = refused.lines();
        assert!(lines[0].starts_with("`exit 3` said nothing"), "{lines:?}");
        files.put("a", "1").unwrap();
        reload(r#"test -e "$DIRECTORY/a""#, &files).await.unwrap();
    }
}
