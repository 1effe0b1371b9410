//! `run`: keeps the store in step until a signal ends it.

use crate::ops::log::Recent;
use crate::register::{self, Settings};

pub async fn run(settings: Settings, recent: Recent) -> anyhow::Result<bool> {
    register::run(settings, recent).await.map(|()| true)
}
