//! The drain file, read again and again: what it asks for, and whether it can be read.

use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::Order;
use crate::base::file;

/// The pause between two reads. With [`CONFIRMATION`], a change is noticed within half a second.
const PAUSE: Duration = Duration::from_millis(400);
/// The pause before a change is read once more. A shell that writes to a file empties it first, and an empty file means
/// all containers, so a change counts only when two reads agree.
const CONFIRMATION: Duration = Duration::from_millis(100);
/// The time limit of one read. The disk may hang.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest file that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// The newest state of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The order in the file; the last one while it cannot be read.
    pub order: Order,
    /// Why it cannot be read.
    pub trouble: Option<Arc<str>>,
}

/// A read that may still be going on.
struct Reader {
    path: PathBuf,
    read: Option<JoinHandle<io::Result<Option<String>>>>,
}

/// Publishes the state of the file whenever it changes, for ever.
pub async fn follow(path: PathBuf, readings: watch::Sender<Option<Reading>>) {
    let mut reader = Reader { path, read: None };
    let mut last = reader.read().await;
    loop {
        sleep(CONFIRMATION).await;
        loop {
            let now = reader.read().await;
            if now != last {
                last = now;
                break;
            }
            readings.send_if_modified(|reading| publish(reading, &last));
            sleep(PAUSE).await;
        }
    }
}

/// Returns whether this is news.
fn publish(reading: &mut Option<Reading>, read: &Result<Order, Arc<str>>) -> bool {
    let before = reading.clone();
    let new = reading.get_or_insert_default();
    match read {
        Ok(order) => {
            *new = Reading {
                order: order.clone(),
                trouble: None,
            }
        }
        Err(why) => new.trouble = Some(Arc::clone(why)),
    }
    before.as_ref() != reading.as_ref()
}

impl Reader {
    async fn read(&mut self) -> Result<Order, Arc<str>> {
        let path = &self.path;
        // A read that hangs is waited for again, so that no more than one does.
        let read = self.read.get_or_insert_with(|| {
            let path = path.clone();
            spawn_blocking(move || text_of(&path))
        });
        let Ok(done) = timeout(PATIENCE, read).await else {
            return Err("the disk does not answer".into());
        };
        self.read = None;
        match done.map_err(io::Error::other).and_then(|text| text) {
            Ok(None) => Ok(Order::Nothing),
            Ok(Some(text)) => Ok(Order::read(&text)),
            Err(error) => Err(error.to_string().into()),
        }
    }
}

/// The text of the file; none if there is no file.
fn text_of(path: &Path) -> io::Result<Option<String>> {
    let file = match file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_and_leaves_the_last_order_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("drain");
        let readings = watch::Sender::new(None);
        let mut newest = readings.subscribe();
        let task = tokio::spawn(follow(path.clone(), readings));
        let mut next = async || {
            newest.changed().await.unwrap();
            newest.borrow_and_update().clone().unwrap()
        };
        assert_eq!(next().await, Reading::default());
        fs::write(&path, " web-1 \n\n").unwrap();
        let named = Order::Named(["web-1".to_owned()].into());
        assert_eq!(next().await.order, named);
        for (text, trouble) in [
            (vec![b'\xff'], "stream did not contain valid UTF-8"),
            (vec![b'x'; 1024 * 1024 + 1], "it has more than 1 MiB"),
        ] {
            fs::write(&path, text).unwrap();
            let reading = next().await;
            assert_eq!(reading.order, named);
            assert_eq!(reading.trouble.as_deref(), Some(trouble));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(next().await, Reading::default());
        fs::create_dir(&path).unwrap();
        let reading = next().await;
        assert_eq!(reading.order, Order::Nothing);
        let trouble = reading.trouble.expect("a directory is no file");
        assert!(trouble.contains("only a regular file is read"), "{trouble}");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_empty_for_a_moment_drains_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("drain");
        let readings = watch::Sender::new(None);
        let newest = readings.subscribe();
        fs::write(&path, "web-1\n").unwrap();
        let task = tokio::spawn(follow(path.clone(), readings));
        let named = Order::Named(["web-1".to_owned()].into());
        let mut steps = 0;
        while newest.borrow().is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        // Every read may be in such a moment, but not two in a row that are a confirmation apart.
        while steps < 200 {
            fs::write(&path, if steps % 5 == 0 { "" } else { "web-1\n" }).unwrap();
            sleep(Duration::from_millis(50)).await;
            assert_eq!(newest.borrow().clone().unwrap().order, named);
            steps += 1;
        }
        task.abort();
    }
}
