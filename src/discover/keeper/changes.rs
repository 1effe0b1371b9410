//! Run-time changes: sends them, deletes drained servers, and reads back what runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Keeper, Seen};
use crate::discover::haproxy::{Change, Haproxy, Running, Version};
use crate::routes::File;

/// The most servers in maintenance that a version that cannot delete them safely keeps before a reload.
const MAX_MAINT: usize = 200;
/// The most backends that are read back one by one. Above, all are read at once.
const MOST_ALONE: usize = 20;

impl Keeper {
    /// Sends run-time changes. One that is refused is a reason for a reload. Returns whether there is one.
    pub(super) async fn change(
        &mut self,
        main: &File,
        changes: &[Change],
        reload: &mut Option<String>,
    ) -> anyhow::Result<bool> {
        if changes.is_empty() {
            return Ok(false);
        }
        let refusals = self.haproxy.carry_out(changes).await?;
        let is_refused = |change: &Change| refusals.iter().any(|refusal| refusal.change == *change);
        for change in changes.iter().filter(|change| !is_refused(change)) {
            info!("{change}");
            self.status.metrics.count_change(change);
            if let (Change::Add { backend, server }, Some(applied)) = (change, &mut self.applied) {
                let wanted = main.servers().find(|servers| servers.backend == *backend);
                let lines = wanted
                    .iter()
                    .flat_map(|wanted| wanted.servers.iter().zip(&wanted.lines));
                for (_, line) in lines.filter(|(wanted, _)| wanted.name == server.name) {
                    applied.add(backend, &server.name, line);
                }
            }
            if let Change::Maint { backend, name } = change {
                let key = (Arc::clone(backend), Arc::clone(name));
                self.maint.entry(key).or_insert_with(Instant::now);
            }
        }
        if let Some(refusal) = refusals.first() {
            reload.get_or_insert_with(|| format!("it refused a change: {refusal}"));
        }
        Ok(!refusals.is_empty())
    }

    /// Whether drained servers wait for a look at the running state. Without it, changes in close order would put that
    /// look off for ever.
    pub(super) fn is_drain_due(&self) -> bool {
        if !self.version.is_some_and(Version::can_delete_servers) {
            return self.maint.len() > MAX_MAINT;
        }
        let now = Instant::now();
        let mut since = self.maint.values();
        since.any(|since| now - *since >= self.settings.drain)
    }

    /// Deletes the servers that have been in maintenance for long enough, where the version can; else asks for a reload
    /// when there are many.
    pub(super) async fn drain(
        &mut self,
        main: &File,
        running: &Running,
        reload: &mut Option<String>,
    ) {
        let now = Instant::now();
        let wanted: BTreeSet<(&str, &str)> = main
            .servers()
            .flat_map(|servers| {
                servers
                    .servers
                    .iter()
                    .map(|server| (&*servers.backend, &*server.name))
            })
            .collect();
        let mut in_maint = Vec::new();
        for (backend, servers) in &running.backends {
            for server in servers.values().filter(|server| server.is_maint) {
                if !wanted.contains(&(&**backend, &*server.name)) {
                    in_maint.push((backend, server));
                }
            }
        }
        let is_there = |key: &(Arc<str>, Arc<str>)| {
            in_maint
                .iter()
                .any(|(backend, server)| key.0 == **backend && key.1 == server.name)
        };
        self.maint
            .retain(|key, since| is_there(key) || now - *since < Duration::from_secs(1));
        if !self.version.is_some_and(Version::can_delete_servers) {
            if in_maint.len() > MAX_MAINT {
                reload.get_or_insert_with(|| {
                    format!("{} servers are in maintenance", in_maint.len())
                });
            }
            return;
        }
        let mut deletes = Vec::new();
        for (backend, server) in in_maint {
            let key = (Arc::clone(backend), Arc::clone(&server.name));
            let since = *self.maint.entry(key).or_insert(now);
            if now - since >= self.settings.drain && server.sessions == 0 {
                deletes.push(Change::Delete {
                    backend: Arc::clone(backend),
                    name: Arc::clone(&server.name),
                });
            }
        }
        // One that is refused is tried again in the next round.
        match self.haproxy.carry_out(&deletes).await {
            Ok(refusals) => {
                for delete in deletes
                    .iter()
                    .filter(|delete| refusals.iter().all(|refusal| refusal.change != **delete))
                {
                    if let (Change::Delete { backend, name }, Some(applied)) =
                        (delete, &mut self.applied)
                    {
                        applied.remove(backend, name);
                    }
                }
            }
            Err(error) => debug!("cannot delete servers: {error:#}"),
        }
    }

    /// Compares what runs with what is wanted, unless that is `unchanged`. Returns the time of the next round. A
    /// difference is an error, and the next round mends it; it is none if the changes were made to something that was
    /// remembered from `before`.
    pub(super) async fn read_back(
        &mut self,
        main: &File,
        unchanged: Option<Arc<Running>>,
        before: Option<Seen>,
    ) -> anyhow::Result<Option<Instant>> {
        let read_at = before
            .as_ref()
            .map_or_else(Instant::now, |seen| seen.read_at);
        let running = match unchanged {
            Some(running) => running,
            None => match self.read_changed(main, before.as_ref()).await? {
                Some(running) => Arc::new(running),
                None => return Ok(None),
            },
        };
        self.seen = Some(Seen {
            running: Arc::clone(&running),
            file: main.clone(),
            read_at,
        });
        let workers = self.haproxy.workers().await.ok();
        self.status
            .show(running, workers.map(|workers| workers.old.len()));
        let now = Instant::now();
        let drained = self
            .maint
            .values()
            .map(|since| *since + self.settings.drain);
        let soonest = drained.filter(|at| *at > now).min();
        Ok(soonest
            .into_iter()
            .chain([now + self.settings.pause()])
            .min())
    }

    /// Reads what runs after changes. It is an error if that is not what is wanted.
    async fn read_changed(
        &mut self,
        main: &File,
        before: Option<&Seen>,
    ) -> anyhow::Result<Option<Running>> {
        let running = look(&self.haproxy, main, before).await?;
        let mut plan = self.plan(main, &running, before);
        // A reload opens the frontends of services without a server.
        let closes = |change: &Change| matches!(change, Change::Disable { .. });
        if plan.reload.is_none() && plan.changes.iter().all(closes) {
            self.change(main, &plan.changes, &mut plan.reload).await?;
            plan.changes.clear();
        }
        let missing = plan.changes.first();
        let missing = || missing.map(|change| format!("{change} is missing"));
        if let Some(why) = plan.reload.or_else(missing) {
            if before.is_some() {
                debug!("HAProxy was changed by somebody else: {why}");
                return Ok(None);
            }
            self.status.metrics.count_drift();
            self.applied = None;
            bail!("HAProxy does not run what it was told: {why}");
        }
        Ok(Some(running))
    }
}

/// Reads the running state. Where the rest is known from `before`, only the servers that differ are read.
async fn look(haproxy: &Haproxy, main: &File, before: Option<&Seen>) -> anyhow::Result<Running> {
    if let Some(before) = before
        && let Some(changed) = main.changed_servers(&before.file)
        && changed.len() <= MOST_ALONE
    {
        match haproxy.running_again(&before.running, &changed).await {
            Ok(running) => return Ok(running),
            Err(error) => debug!("cannot read some servers alone: {error:#}"),
        }
    }
    haproxy.running().await
}
