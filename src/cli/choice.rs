//! The values of flags that take one of several words.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::discover::ProxyName;
use super::up;
use crate::commands::{diff, keys, leases, services};
use crate::discover;
use crate::ops::log;
use crate::register::OnExit;

/// Implements clap's trait for a type of another room: a word and its help for each value.
macro_rules! words {
    ($type:ty { $($value:ident = $word:literal: $help:literal,)+ }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$value),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$value => PossibleValue::new($word).help($help),)+
                })
            }
        }
    };
}

words!(keys::Format {
    Text = "text": "`KEY VALUE`, one per line",
    Json = "json": "A JSON list with all facts about each key",
    Etcdctl = "etcdctl": "A shell script of `etcdctl` calls that has the same effect",
});

words!(diff::Format {
    Text = "text": "For people",
    Json = "json": "One JSON list",
});

words!(leases::Format {
    Text = "text": "A table for people",
    Json = "json": "One JSON list",
});

words!(OnExit {
    Leave = "leave": "Keys stay until their TTL ends, so that an upgrade is no outage",
    Remove = "remove": "Keys are removed before the process ends",
});

words!(services::Format {
    Text = "text": "A table for people",
    Json = "json": "A JSON list with all facts about each service",
});

words!(discover::OnExit {
    Leave = "leave": "It goes on, and the next process uses it",
    Stop = "stop": "It ends too, when its connections have ended or after a few seconds",
});

words!(up::OnExit {
    Leave = "leave": "The proxy goes on, and the next process uses it; keys stay until their TTL ends",
    Stop = "stop": "The proxy ends, when its connections have ended or after a few seconds; keys stay until their TTL ends",
    Remove = "remove": "The proxy ends in the same way, and keys are removed",
});

words!(ProxyName {
    Haproxy = "haproxy": "HAProxy: TCP, and HTTP by host names; its servers change without a reload",
    Nginx = "nginx": "nginx: TCP, UDP, and HTTP by host names; each change is a reload",
    Envoy = "envoy": "Envoy, by files that it watches: TCP, UDP, and HTTP by host names",
    None = "none": "Whatever reads the files; --check and --reload are run for it",
});

words!(log::Format {
    Text = "text": "For people",
    Json = "json": "One object per line",
});
