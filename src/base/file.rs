//! Reads policies, certificates and passwords while the program runs, and replaces files. Only regular files: a named pipe, a terminal or
//! another device may block its reader for ever, and the keys would expire meanwhile.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a regular file as bytes. Symbolic links are followed.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// Reads a regular file as UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a regular file. Symbolic links are followed.
pub fn open(path: &Path) -> io::Result<File> {
    // Checked before it is opened too, because opening a device may have side effects.
    check(&fs::metadata(path)?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // The file may have been replaced since.
    check(&file.metadata()?)?;
    Ok(file)
}

/// Replaces a file by one with this text: after a crash it has the old text or the new one.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Of a process of its own, so that two that write at once do not mix their texts.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = write(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    // The name is on disk only when its directory is.
    path.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn check(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::other(format!(
        "it is {what}, and only a regular file is read while the program runs; put a regular file there"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn anything_but_a_regular_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let made = Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(made.success());
        let _listener = UnixListener::bind(path("socket")).unwrap();
        symlink(path("fifo"), path("link to the fifo")).unwrap();
        for (path, what) in [
            (path("fifo"), "a named pipe"),
            (path("link to the fifo"), "a named pipe"),
            (path("socket"), "a socket"),
            (path(""), "a directory"),
            ("/dev/zero".into(), "a device"),
            ("/dev/ptmx".into(), "a device"),
        ] {
            assert_eq!(
                read(&path).unwrap_err().to_string(),
                format!(
                    "it is {what}, and only a regular file is read while the program runs; put a regular file there"
                )
            );
        }
    }

    #[test]
    fn a_link_to_a_regular_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        assert_eq!(read(&path("link")).unwrap(), b"text");
    }
}
