//! `discover`: routes to the registered services until a signal ends it.

use crate::discover::{self, Settings};
use crate::ops::log::Recent;

pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<bool> {
    discover::run(settings, recent).await.map(|()| true)
}
