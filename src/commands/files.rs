//! `files`: prints the files that `discover` would make.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use super::print;
use crate::base::key::Key;
use crate::discover::{self, RoutingSettings};
use crate::policy::{KeySource, Report, Role as _, RoutingWorld};
use crate::routes::{Keys, Routes};
use crate::store::{Found, On, Store as _};

pub struct Settings {
    /// The saved keys; none is those in the store.
    pub keys: Option<PathBuf>,
    pub explain: bool,
    pub routing: RoutingSettings,
}

/// Prints the files. Returns whether the policy failed for no service.
pub async fn run(settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    let keys = match &settings.keys {
        Some(path) => read_saved(path, &settings.routing.options.prefix)?,
        None => list(&settings.routing).await?,
    };
    let routes = decide(settings.routing, keys).await?;
    let mut stderr = io::stderr().lock();
    let failed = routes.services.iter().filter_map(|route| {
        let failure = route.failure.as_ref()?;
        Some((&route.service.id, failure))
    });
    let mut is_whole = true;
    for (id, failure) in failed {
        // A closed stderr is no failure.
        let _ = writeln!(stderr, "error: service {id}: {failure}");
        is_whole = false;
    }
    for left_out in routes.left_out.iter().filter(|_| settings.explain) {
        let _ = writeln!(stderr, "{left_out}");
    }
    let several = routes.files.len() > 1;
    let mut text = String::new();
    for file in routes.files.iter() {
        if several {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "==> {} <==", file.name);
        }
        text.push_str(&file.text());
    }
    print(text.as_bytes(), "files", out)?;
    Ok(is_whole)
}

/// Runs the policy once, for these keys. Each address has one owner, and none is tried.
async fn decide(settings: RoutingSettings, keys: Keys) -> anyhow::Result<Arc<Routes>> {
    let owners = discover::owners_of_a_dry_run();
    let world = RoutingWorld::new(settings.options, KeySource::Once(Arc::new(keys)), owners)
        .script(settings.script)
        .reporting(Report::Nothing);
    let routes = world.routes();
    let script = world.load().map_err(|failure| anyhow!("{failure}"))?;
    script.run().await.map_err(|failure| anyhow!("{failure}"))?;
    routes
        .borrow()
        .clone()
        .context("the policy's `run` returned without calling proxy.sync")
}

/// All keys below the prefix.
pub(super) async fn list(settings: &RoutingSettings) -> anyhow::Result<Keys> {
    let prefix = format!("{}/", settings.options.prefix);
    let listing = settings.connect().scan(&prefix).await?;
    let found = listing.keys.into_iter();
    Ok(Keys {
        found: found.map(|found| (Arc::clone(&found.key), found)).collect(),
        revision: listing.revision,
    })
}

fn read_saved(path: &Path, prefix: &str) -> anyhow::Result<Keys> {
    let shown = path.display();
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.with_context(|| format!("cannot read the keys from `{shown}`"))?;
    let pairs = parse(&text).with_context(|| format!("cannot read the keys from `{shown}`"))?;
    let prefix = format!("{prefix}/");
    let mut keys = Keys::default();
    for (line, (key, value)) in pairs.into_iter().enumerate() {
        let key: Key = key.into();
        if !key.starts_with(&prefix) {
            continue;
        }
        let revision = i64::try_from(line).unwrap_or(i64::MAX) + 1;
        let found = Found {
            key: Arc::clone(&key),
            value: value.into(),
            on: On::Nothing,
            created: revision,
            revision,
        };
        keys.found.insert(key, found);
    }
    Ok(keys)
}

/// The keys in a text: `KEY VALUE` in each line, or keys and values in turn, a line each.
fn parse(text: &str) -> anyhow::Result<Vec<(&str, &str)>> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let is_key = |line: &&str| line.starts_with('/') && !line.contains(' ');
    if lines.len().is_multiple_of(2) && lines.iter().step_by(2).all(is_key) && !lines.is_empty() {
        return Ok(lines.chunks(2).map(|pair| (pair[0], pair[1])).collect());
    }
    let pairs = lines.iter().map(|line| match line.split_once(' ') {
        Some(pair) => Ok(pair),
        None => {
            bail!("the line `{line}` is no key and value, as `docker-register keys` prints them")
        }
    });
    pairs.collect()
}
