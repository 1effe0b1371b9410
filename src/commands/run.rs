//! `run`: keeps etcd in step until a signal ends it.

use crate::ops::log::Recent;
use crate::register::{self, Settings};

pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<bool> {
    // In place it would make every command's future as large as this one.
    Box::pin(register::run(settings, recent))
        .await
        .map(|()| true)
}
