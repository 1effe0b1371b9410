//! The flags of `leases` and `forget`.

use clap::Args;

use super::flags::{InstanceArg, LogArgs};
use super::store::StoreArgs;
use super::{Wrong, value};
use crate::commands::{forget, leases};
use crate::store::LeaseId;

#[derive(Debug, Args)]
pub struct LeasesArgs {
    /// The format of the printed registrars
    #[arg(long, value_enum, default_value_t = leases::Format::Text)]
    pub format: leases::Format,

    #[command(flatten)]
    pub instance: InstanceArg,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The lease, as `leases` prints it
    #[arg(value_parser = value::lease)]
    pub lease: LeaseId,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,

    #[command(flatten)]
    pub instance: InstanceArg,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

impl LeasesArgs {
    pub(super) fn check(self) -> Result<leases::Settings, Wrong> {
        Ok(leases::Settings {
            store: self.store.check()?,
            instance: self.instance.instance,
            format: self.format,
        })
    }
}

impl ForgetArgs {
    pub(super) fn check(self) -> Result<forget::Settings, Wrong> {
        Ok(forget::Settings {
            store: self.store.check()?,
            instance: self.instance.instance,
            lease: self.lease,
            yes: self.yes,
        })
    }
}
