//! The values of flags that are a choice of words.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::commands::{diff, keys};
use crate::ops::log;
use crate::register::OnExit;

/// The words for the values of a type that knows no command line, each with its help.
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
    Text = "text": "`KEY VALUE`, one a line",
    Json = "json": "All facts about each key",
    Etcdctl = "etcdctl": "A shell script of `etcdctl` calls that has the same effect",
});

words!(diff::Format {
    Text = "text": "For people",
    Json = "json": "One list",
});

words!(OnExit {
    Leave = "leave": "They stay for their TTL, so that an upgrade is no outage",
    Remove = "remove": "They are removed before the process ends",
});

words!(log::Format {
    Text = "text": "For people",
    Json = "json": "One object a line",
});
