//! Drains containers: takes away the keys of those that an operator names in a file, while the file exists. It stands
//! between the policy's wanted state and the keeper, and is left out without `--drain-file`.

mod file;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::status::Status;
use crate::base::by_age::ByAge;
use crate::base::text::quote;
use crate::container::{Container, SHORT_ID};
use crate::wanted::{Claim, ContainerName, Wanted, WantedReceiver};
use file::Reading;

/// The most names in a message.
const MOST_NAMES: usize = 10;

/// The containers to drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Order {
    /// There is no file.
    #[default]
    Nothing,
    /// The file is empty.
    All,
    /// Names, and ids of at least 12 digits.
    Named(BTreeSet<String>),
}

/// The drained containers of the last wanted state.
#[derive(Debug, Default)]
struct Drained {
    /// The claims without their entries, by container. An equal claim stays the same allocation, by which the plan sees
    /// that nothing has changed.
    claims: HashMap<Arc<str>, Arc<Claim>>,
    /// The drained containers, by name.
    names: BTreeSet<Arc<str>>,
    /// The names in the file that fit no running container.
    unknown: BTreeSet<String>,
}

/// The last messages in the log.
#[derive(Debug, Default)]
struct Said {
    drained: Option<String>,
    trouble: Option<Arc<str>>,
}

/// Returns the wanted state without the drained containers' entries; the wanted state itself if there is no file to
/// follow.
pub fn start(file: Option<&Path>, wanted: WantedReceiver, status: &Arc<Status>) -> WantedReceiver {
    let Some(file) = file else { return wanted };
    let (readings, left) = (watch::Sender::new(None), watch::Sender::new(None));
    let (read, receiver) = (readings.subscribe(), left.subscribe());
    tokio::spawn(file::follow(file.to_owned(), readings));
    tokio::spawn(follow(
        file.to_owned(),
        read,
        wanted,
        left,
        Arc::clone(status),
    ));
    receiver
}

/// Hands on each wanted state, from the first read of the file on.
async fn follow(
    path: PathBuf,
    mut readings: watch::Receiver<Option<Reading>>,
    mut wanted: WantedReceiver,
    left: watch::Sender<Option<Arc<Wanted>>>,
    status: Arc<Status>,
) {
    let (mut drained, mut said) = (Drained::default(), Said::default());
    loop {
        let reading = readings.borrow_and_update().clone();
        let newest = wanted.borrow_and_update().clone();
        if let (Some(reading), Some(newest)) = (reading, newest) {
            left.send_replace(Some(drained.apply(&reading.order, &newest)));
            said.tell(&path, &reading, &drained, &status);
        }
        let is_open = tokio::select! {
            changed = wanted.changed() => changed.is_ok(),
            changed = readings.changed() => changed.is_ok(),
        };
        if !is_open {
            return;
        }
    }
}

impl Order {
    fn read(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let names: BTreeSet<String> = lines
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        if names.is_empty() {
            Self::All
        } else {
            Self::Named(names)
        }
    }

    fn fits(&self, id: &str, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Named(names) => names.contains(name) || names.iter().any(|it| is_id(it, id)),
        }
    }
}

/// Whether a line of the file is the beginning of an id.
fn is_id(line: &str, id: &str) -> bool {
    line.len() >= SHORT_ID && id.starts_with(line)
}

impl Drained {
    fn apply(&mut self, order: &Order, wanted: &Arc<Wanted>) -> Arc<Wanted> {
        let before = std::mem::take(self);
        if *order == Order::Nothing {
            return Arc::clone(wanted);
        }
        let mut left = Wanted::clone(wanted);
        for claim in wanted.claims.iter() {
            let ContainerName { id, name } = &claim.who;
            if !order.fits(id, name) {
                continue;
            }
            let known = before.claims.get(id);
            let known = known.filter(|known| known.who == claim.who && known.age == claim.age);
            let empty = known.map_or_else(|| without_entries(claim), Arc::clone);
            left.claims.insert(Arc::clone(&empty));
            self.claims.insert(Arc::clone(id), empty);
            self.names.insert(Arc::clone(name));
        }
        self.drain_unclaimed(order, &mut left, &wanted.running);
        if let Order::Named(names) = order {
            let has_name = |name: &str| {
                self.names.contains(name) || self.claims.keys().any(|id| is_id(name, id))
            };
            let runs = |name: &str| wanted.running.iter().any(|it| it.is_called(name));
            let unknown = names.iter().filter(|name| !has_name(name) && !runs(name));
            self.unknown = unknown.cloned().collect();
        }
        Arc::new(left)
    }

    /// Gives up the protection of drained containers whose entries are not known, so that keys which an earlier process
    /// has put for them are removed too.
    fn drain_unclaimed(&mut self, order: &Order, left: &mut Wanted, running: &ByAge<Container>) {
        if *order == Order::All {
            left.protected.clear();
            left.host_is_unknown = false;
        } else if !left.protected.is_empty() {
            let fits = |it: &&Arc<Container>| order.fits(&it.id, &it.name);
            for container in running.iter().filter(fits) {
                let marks = container.marks();
                left.protected.retain(|mark| !marks.contains(mark));
                self.names.insert(Arc::clone(&container.name));
            }
        }
    }
}

fn without_entries(claim: &Claim) -> Arc<Claim> {
    Arc::new(Claim {
        who: claim.who.clone(),
        age: Arc::clone(&claim.age),
        entries: [].into(),
        unproven: [].into(),
    })
}

impl Said {
    /// Logs and shows what has changed.
    fn tell(&mut self, path: &Path, reading: &Reading, drained: &Drained, status: &Status) {
        let drain = describe(path, &reading.order, drained);
        if drain != self.drained {
            if let Some(drain) = &drain {
                warn!("drain: {drain}");
            } else {
                info!("drain: `{}` is gone: all keys come back", path.display());
            }
        }
        let failed = reading.trouble.as_ref().map(|why| {
            format!(
                "cannot read `{}`: {why}; what it last said counts",
                path.display()
            )
        });
        if reading.trouble != self.trouble
            && let Some(failed) = &failed
        {
            error!("drain: {failed}");
        }
        let all: Vec<&str> = failed.iter().chain(&drain).map(String::as_str).collect();
        if all.is_empty() {
            status.drain.good();
        } else {
            status.drain.bad(&all.join("; "));
        }
        status.drained.send_if_modified(|names| {
            let is_new = *names != drained.names;
            names.clone_from(&drained.names);
            is_new
        });
        self.drained = drain;
        self.trouble.clone_from(&reading.trouble);
    }
}

/// The drain in words; none if there is none.
fn describe(path: &Path, order: &Order, drained: &Drained) -> Option<String> {
    let path = path.display();
    if *order == Order::Nothing {
        return None;
    }
    if *order == Order::All {
        return Some(format!(
            "the keys of all containers are taken away while `{path}` exists, because it is empty"
        ));
    }
    let mut parts = Vec::new();
    if !drained.names.is_empty() {
        let names = list(drained.names.iter().map(|name| &**name));
        parts.push(format!(
            "the keys of {names} are taken away while `{path}` names them"
        ));
    }
    if !drained.unknown.is_empty() {
        let names = list(drained.unknown.iter().map(String::as_str));
        parts.push(format!(
            "no running container has a name or an id like {names} in `{path}`: correct it, or remove the line"
        ));
    }
    Some(parts.join("; "))
}

/// The names as a list for a message.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let number = names.len();
    let mut shown: Vec<String> = names.take(MOST_NAMES).map(quote).collect();
    if number > MOST_NAMES {
        shown.push(format!("{} more", number - MOST_NAMES));
    }
    let last = shown.pop().unwrap_or_default();
    if shown.is_empty() {
        last
    } else {
        format!("{} and {last}", shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::Entry;

    fn claim(id: &str, name: &str) -> Arc<Claim> {
        let entry = Entry {
            key: format!("/backends/{name}").into(),
            value: "1".into(),
            ttl: 60,
            shared: false,
            check: None,
        };
        Arc::new(Claim {
            who: ContainerName {
                id: id.into(),
                name: name.into(),
            },
            age: "1".into(),
            entries: [entry].into(),
            unproven: [].into(),
        })
    }

    fn wanted() -> Arc<Wanted> {
        let claims = [
            claim("0123456789abcdef", "web-1"),
            claim("fedcba9876543210", "web-2"),
        ];
        Arc::new(Wanted {
            claims: claims.into_iter().collect(),
            protected: vec!["x".to_owned()],
            ..Wanted::default()
        })
    }

    /// The containers that still have entries.
    fn left(order: &Order) -> Vec<String> {
        let left = Drained::default().apply(order, &wanted());
        let claims = left.claims.iter();
        let claims = claims.filter(|claim| !claim.entries.is_empty());
        claims.map(|claim| claim.who.name.to_string()).collect()
    }

    #[test]
    fn a_line_is_a_name_or_twelve_digits_of_an_id() {
        for (text, wanted) in [
            ("web-1\n", ["web-2"].as_slice()),
            ("  fedcba987654\r\n", &["web-1"]),
            ("fedcba98765", &["web-1", "web-2"]),
            ("web", &["web-1", "web-2"]),
            ("web-2\n\n0123456789abcdef\n", &[]),
            ("", &[]),
            (" \n\n", &[]),
        ] {
            assert_eq!(left(&Order::read(text)), wanted, "{text:?}");
        }
        assert_eq!(left(&Order::Nothing), ["web-1", "web-2"]);
    }

    #[test]
    fn what_stays_drained_stays_the_same_claim() {
        let (mut drained, wanted) = (Drained::default(), wanted());
        let order = Order::read("web-1");
        let first = drained.apply(&order, &wanted);
        let again = drained.apply(&order, &wanted);
        assert!(first.claims.changes(&again.claims).is_empty());
        assert_eq!(first.protected, ["x"]);
        assert!(drained.apply(&Order::All, &wanted).protected.is_empty());
    }

    #[test]
    fn names_that_fit_nothing_are_named() {
        let mut drained = Drained::default();
        let order = Order::read("web-1\nwbe-2\n");
        drained.apply(&order, &wanted());
        assert_eq!(
            describe(Path::new("/d"), &order, &drained).as_deref(),
            Some(
                "the keys of `web-1` are taken away while `/d` names them; no running container has a name or an id \
                 like `wbe-2` in `/d`: correct it, or remove the line"
            )
        );
        let many: BTreeSet<String> = (10..30).map(|number| number.to_string()).collect();
        let listed = list(many.iter().map(String::as_str));
        assert!(listed.ends_with("`19` and 10 more"), "{listed}");
    }
}
