//! `forget`: ends a dead host's lease, which removes its keys.

use std::io::{IsTerminal as _, Write, stderr, stdin};

use anyhow::{Context as _, anyhow, bail};

use super::leases::{self, Registrar};
use super::print;
use crate::store::{self, LeaseId, Store};

pub struct Settings {
    pub store: store::Settings,
    /// `--instance` of the registrar that is this host's.
    pub instance: String,
    pub lease: LeaseId,
    /// Whether it is ended without a question.
    pub yes: bool,
}

/// Ends the lease. Returns whether it has.
pub async fn run(settings: Settings, out: &mut impl Write) -> anyhow::Result<bool> {
    let Settings { lease, yes, .. } = settings;
    let mut store = leases::open(&settings.store);
    let all = leases::list(&mut store, &settings.instance).await?;
    let Some(registrar) = all.into_iter().find(|known| known.lease == lease) else {
        let found = store::ask_any(&mut store, async |store| store.lookup(lease).await).await;
        if found.map_err(|error| anyhow!("{error}"))?.is_some() {
            bail!(
                "lease {lease} is not of a registrar's own keys, so it stays: it is of a key that hosts share, or \
                 another program's{}",
                settings.store.look_at(lease)
            );
        }
        bail!("there is no lease {lease}: `docker-register leases` lists those of all registrars");
    };
    if !yes && !is_confirmed(&registrar)? {
        print(b"nothing is changed\n", "result", out)?;
        return Ok(false);
    }
    store::ask_any(&mut store, async |store| store.revoke(lease).await)
        .await
        .map_err(|error| anyhow!("{error}"))?;
    let said = format!(
        "lease {lease} has ended; keys removed: {}\n",
        registrar.keys
    );
    print(said.as_bytes(), "result", out)?;
    Ok(true)
}

/// Asks on the terminal.
fn is_confirmed(registrar: &Registrar) -> anyhow::Result<bool> {
    let Registrar {
        lease, keys, left, ..
    } = registrar;
    if !stdin().is_terminal() {
        bail!(
            "nobody can be asked, because this is not a terminal: pass --yes to end lease {lease}"
        );
    }
    let addresses = registrar.shown_addresses();
    let warning = if registrar.runs {
        "Its registrar runs, or was killed less than a minute ago. If it runs, the keys come back.\n"
    } else {
        ""
    };
    let mut terminal = stderr();
    write!(
        terminal,
        "Lease {lease} expires in {left} s. Keys: {keys}; addresses: {addresses}.\n{warning}Remove the keys now? [y/N] "
    )
    .and_then(|()| terminal.flush())
    .context("cannot ask")?;
    let mut answer = String::new();
    stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
