//! The keeper against a model of etcd.

mod schedules;
mod slow;

use super::*;
use crate::store;
