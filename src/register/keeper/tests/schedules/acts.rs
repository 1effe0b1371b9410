//! The acts of a schedule, and the wanted state of a host.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{ENTRY_TTLS, LAYOUTS, REGISTRARS};
use crate::base::key::Key;
use crate::register::keeper::tests::*;
use crate::store::model::{Model, Refuses};
use crate::wanted::{Claim, ContainerName, Entry};

/// The containers of one registrar's host, in six places. Even places are of one service, odd ones of another.
pub(super) type Host = [Option<Asked>; 6];

/// The policy's decision for one container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Asked {
    /// The version of its address.
    pub(super) version: u8,
    pub(super) layout: usize,
    pub(super) ttl: usize,
    /// Whether the keys that can be owned or shared are shared.
    pub(super) shared: bool,
    /// Whether it has so many ports that its keys need several transactions.
    pub(super) wide: bool,
    /// Whether its check passes; none if it has no verdict yet.
    pub(super) passes: Option<bool>,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    /// The host's containers change, and the registrar learns of it.
    Want(usize, Host),
    /// The host's containers change after a number of further transactions, and the registrar learns of it then.
    Meanwhile(usize, Host, usize),
    /// The registrar does its pending work.
    Step(usize),
    /// One of its next calls fails, with or without its effect.
    Fault(usize, usize, bool),
    /// It is killed, and started again with the same identity, and possibly without verdicts on the checks.
    Restart(usize, bool),
    /// Seconds pass, while the first registrar may be stopped.
    Pass(u8, bool),
    /// etcd elects a new leader.
    Elect,
    /// etcd refuses some puts from now on, or takes all of them again.
    Refuse(Refuses),
    /// Somebody changes a key by hand, at once or right after the next refused transaction.
    Meddle(Meddling, Index, bool),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Meddling {
    Delete,
    Overwrite,
    Revoke,
}

impl Meddling {
    pub(super) fn with(self, model: &mut Model, index: Index) {
        if model.keys().is_empty() {
            return;
        }
        let keys: Vec<Key> = model.keys().keys().cloned().collect();
        let key = index.get(&keys);
        match self {
            Self::Delete => model.delete(key),
            Self::Overwrite => model.put(key, "meddled", None),
            Self::Revoke => {
                let lease = model.keys()[key].lease();
                if let Some(lease) = lease {
                    model.end(lease);
                }
            }
        }
    }
}

pub(super) fn name(registrar: usize, container: usize) -> String {
    format!("r{registrar}c{container}")
}

/// The address of a container.
pub(super) fn address(registrar: usize, asked: Asked) -> String {
    format!("10.0.0.{registrar}:{}", asked.version)
}

pub(super) fn wanted(registrar: usize, host: &Host) -> Wanted {
    let claims = host.iter().enumerate().filter_map(|(container, asked)| {
        let asked = (*asked)?;
        let (service, name) = (container % 2, name(registrar, container));
        let entry = |key: String, value: String, shared| Entry {
            key: key.into(),
            value: value.into(),
            ttl: ENTRY_TTLS[asked.ttl],
            shared,
            check: None,
        };
        let who = ContainerName {
            id: name.as_str().into(),
            name: name.as_str().into(),
        };
        let address = address(registrar, asked);
        let ports = 1..=if asked.wide { 8 } else { 1 };
        let in_directories = ports.flat_map(|port| {
            let directory = format!("{}s{service}/{port}/", LAYOUTS[asked.layout]);
            [
                entry(format!("{directory}{name}"), address.clone(), false),
                entry(format!("{directory}port"), "80".to_owned(), true),
            ]
        });
        let entries = in_directories.chain([
            // A key that this registrar alone wants, and a key that both want.
            entry(
                format!("/own/r{registrar}s{service}"),
                address.clone(),
                asked.shared,
            ),
            entry(format!("/all/s{service}"), "all".to_owned(), asked.shared),
        ]);
        let entries: Arc<[Entry]> = entries.collect();
        let having = |passes| {
            if asked.passes == passes {
                Arc::clone(&entries)
            } else {
                [].into()
            }
        };
        Some(Arc::new(Claim {
            // Not in the order of the ids.
            age: format!("{}", 9 - container).into(),
            who,
            entries: having(Some(true)),
            unproven: having(None),
        }))
    });
    Wanted {
        claims: claims.collect(),
        ..Wanted::default()
    }
}

pub(super) fn act(meddling: bool) -> impl Strategy<Value = Act> {
    let registrar = 0..REGISTRARS;
    let (is_shared, is_wide) = (any::<bool>(), prop::bool::weighted(0.2));
    let passes = prop_oneof![7 => Just(Some(true)), 1 => Just(Some(false)), 2 => Just(None)];
    let asked = (1..4u8, 0..2usize, 0..3usize, is_shared, is_wide, passes);
    let asked = asked.prop_map(|(version, layout, ttl, shared, wide, passes)| Asked {
        version,
        layout,
        ttl,
        shared,
        wide,
        passes,
    });
    let host = prop::array::uniform6(prop::option::of(asked));
    let refuses = prop_oneof![
        2 => Just(Refuses::Nothing),
        1 => Just(Refuses::Below(LAYOUTS[1])),
        1 => Just(Refuses::Below("/new/s0/1/port")),
        1 => Just(Refuses::Everything),
    ];
    let meddlings = prop_oneof![
        Just(Meddling::Delete),
        Just(Meddling::Overwrite),
        Just(Meddling::Revoke)
    ];
    prop_oneof![
        6 => (registrar.clone(), host.clone()).prop_map(|(registrar, host)| Act::Want(registrar, host)),
        3 => (registrar.clone(), host, 0..6usize)
            .prop_map(|(registrar, host, after)| Act::Meanwhile(registrar, host, after)),
        2 => registrar.clone().prop_map(Act::Step),
        3 => (registrar.clone(), 0..8usize, any::<bool>())
            .prop_map(|(registrar, after, with_effect)| Act::Fault(registrar, after, with_effect)),
        2 => (registrar, any::<bool>()).prop_map(|(registrar, forgets)| Act::Restart(registrar, forgets)),
        1 => Just(Act::Elect),
        2 => refuses.prop_map(Act::Refuse),
        3 => (1..12u8, any::<bool>()).prop_map(|(seconds, stopped)| Act::Pass(seconds, stopped)),
        if meddling { 3 } else { 0 } =>
            (meddlings, any::<Index>(), any::<bool>())
                .prop_map(|(meddling, index, is_later)| Act::Meddle(meddling, index, is_later)),
    ]
}
