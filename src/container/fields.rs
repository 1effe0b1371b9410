//! The fields of a container and of the records in it: one row for each, with the name, the Lua type and the meaning
//! that `scripts/types.lua` tells editors, and the value. A container's row also says how a test sets the field. This
//! file knows no Lua: `policy/api/container` makes Lua values of these.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::sample::{self, Sample, Sampler};
use super::{Binding, Container, Image, Inspect, Map, Network, Port};

/// The value of a field.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Nil in Lua.
    Missing,
    Text(&'a str),
    Number(i64),
    Flag(bool),
    Texts(&'a [String]),
    TextMap(&'a Map<Box<str>>),
    Image(&'a Image),
    Ports(&'a [Port]),
    Bindings(&'a [Binding]),
    Networks(&'a Map<Network>),
    Inspect(&'a Inspect),
}

/// A row: a field of the record `R`.
pub struct Field<R> {
    pub name: &'static str,
    /// The type in `scripts/types.lua`.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests read it"))]
    pub lua_type: &'static str,
    /// The description in `scripts/types.lua`.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests read it"))]
    pub meaning: &'static str,
    pub get: fn(&R) -> Value<'_>,
    /// How `test.container` sets it; none for a field that follows from others.
    pub sampler: Option<Sampler>,
}

/// A table with known fields.
pub trait Record: Sized + 'static {
    /// Its name in messages.
    const KIND: &'static str;
    const FIELDS: &'static [Field<Self>];
}

impl Record for Container {
    const KIND: &'static str = "a container";
    const FIELDS: &'static [Field<Self>] = &[
        Field::<Self>::new("id", "string", "the whole id: 64 hex digits", |it| {
            Value::Text(&it.id)
        })
        .sampled(Sample::set_id),
        Field::<Self>::new("short_id", "string", "its first 12 digits", |it| {
            Value::Text(it.short_id())
        }),
        Field::<Self>::new("name", "string", "without Docker's leading slash", |it| {
            Value::Text(&it.name)
        })
        .sampled(|sample, given| sample.set_name(given, "web-1")),
        Field::<Self>::new("hostname", "string", "the host name inside it", |it| {
            Value::Text(&it.hostname)
        })
        .sampled(|sample, given| sample.set("Config.Hostname", given, "web-1".to_owned())),
        Field::<Self>::new("image", "Image", "its image's reference, in parts", |it| {
            Value::Image(&it.image)
        })
        .sampled(|sample, given| sample.set("Config.Image", given, "web:latest".to_owned())),
        Field::<Self>::new(
            "labels",
            "table<string, string>",
            "its own and its image's",
            |it| Value::TextMap(&it.labels),
        )
        .sampled(|sample, given| {
            sample.set("Config.Labels", given, BTreeMap::<String, String>::new())
        }),
        Field::<Self>::new(
            "env",
            "table<string, string>",
            "its own and its image's",
            |it| Value::TextMap(&it.env),
        )
        .sampled(Sample::set_env),
        Field::<Self>::new(
            "status",
            "string",
            "\"running\", \"paused\", \"restarting\", …: Docker's word",
            |it| Value::Text(&it.status),
        )
        .sampled(|sample, given| sample.set_status(given, "running")),
        Field::<Self>::new(
            "health",
            "string",
            "\"none\" (no health check), \"starting\", \"healthy\", \"unhealthy\", …: Docker's word",
            |it| Value::Text(&it.health),
        )
        .sampled(|sample, given| sample.set("State.Health.Status", given, "none".to_owned())),
        Field::<Self>::new(
            "stopping",
            "boolean",
            "whether it was sent its stop signal, TERM or KILL and has not survived it",
            |it| Value::Flag(it.stopping),
        )
        .sampled(Sample::set_stopping),
        Field::<Self>::new(
            "ports",
            "Port[]",
            "all exposed ports, in order of port number, then protocol",
            |it| Value::Ports(&it.ports),
        )
        .sampled(Sample::set_ports),
        Field::<Self>::new("networks", "table<string, Network>", "by name", |it| {
            Value::Networks(&it.networks)
        })
        .sampled(Sample::set_networks),
        Field::<Self>::new(
            "network_mode",
            "string",
            "\"bridge\", \"host\", \"container:ID\", the name of a network, …",
            |it| Value::Text(&it.network_mode),
        )
        .sampled(|sample, given| {
            sample.set("HostConfig.NetworkMode", given, "bridge".to_owned())
        }),
        Field::<Self>::new(
            "network_owner",
            "string?",
            "the name of the container whose network it uses; nil if it has one of its own",
            |it| Value::text(it.network_owner.as_deref()),
        )
        .sampled(Sample::set_network_owner),
        Field::<Self>::new(
            "cut_off",
            "boolean",
            "whether the owner of its network has started after it, so that nobody reaches it until it restarts",
            |it| Value::Flag(it.cut_off),
        )
        .sampled(Sample::set_cut_off),
        Field::<Self>::new(
            "infra",
            "string?",
            "why it counts as an infra container, which only holds the network of a pod; nil if it does not",
            |it| Value::text(it.infra.as_deref()),
        )
        .sampled(Sample::set_infra),
        Field::<Self>::new(
            "created",
            "string",
            "the time when it was created, as Docker writes it",
            |it| Value::Text(&it.created),
        )
        .sampled(|sample, given| sample.set("Created", given, sample::TIME.to_owned())),
        Field::<Self>::new(
            "created_at",
            "integer?",
            "the same as seconds since 1970; nil if it is not known",
            |it| Value::seconds(&it.created),
        ),
        Field::<Self>::new(
            "started",
            "string",
            "the time of its last start, as Docker writes it",
            |it| Value::Text(&it.started),
        )
        .sampled(|sample, given| sample.set("State.StartedAt", given, sample::TIME.to_owned())),
        Field::<Self>::new(
            "started_at",
            "integer?",
            "the same as seconds since 1970; nil if it has never started",
            |it| Value::seconds(&it.started),
        ),
        Field::<Self>::new(
            "inspect",
            "table",
            "the whole inspect object; fields that raise no event, such as the health log, may be up to ten `--resync` \
             intervals old",
            |it| Value::Inspect(&it.inspect),
        )
        .sampled(Sample::lay_over),
    ];
}

impl Record for Image {
    const KIND: &'static str = "an image";
    const FIELDS: &'static [Field<Self>] = &[
        Field::new(
            "reference",
            "string",
            "as the container was created with it",
            |it| Value::Text(&it.reference),
        ),
        Field::new(
            "registry",
            "string?",
            "`registry.example.org:5000`; nil if none is named",
            |it| Value::text(it.registry.as_deref()),
        ),
        Field::new(
            "repository",
            "string?",
            "`team/app`; nil if the image was given by its id",
            |it| Value::text(it.repository.as_deref()),
        ),
        Field::new(
            "name",
            "string?",
            "the last part of the repository: `app`",
            |it| Value::text(it.name.as_deref()),
        ),
        Field::new(
            "tag",
            "string?",
            "`latest` if neither a tag nor a digest is named",
            |it| Value::text(it.tag.as_deref()),
        ),
        Field::new(
            "digest",
            "string?",
            "`sha256:…`; nil if none is named",
            |it| Value::text(it.digest.as_deref()),
        ),
        Field::new("id", "string", "the image's id: `sha256:…`", |it| {
            Value::Text(&it.id)
        }),
    ];
}

impl Record for Port {
    const KIND: &'static str = "a port";
    const FIELDS: &'static [Field<Self>] = &[
        Field::new("port", "integer", "the number inside the container", |it| {
            Value::Number(it.port.into())
        }),
        Field::new("protocol", "\"tcp\"|\"udp\"|\"sctp\"", "", |it| {
            Value::Text(&it.protocol)
        }),
        Field::new(
            "index",
            "integer",
            "its place among all exposed ports, published or not, from 1",
            |it| Value::Number(i64::try_from(it.index).unwrap_or(i64::MAX)),
        ),
        Field::new(
            "host_ip",
            "string?",
            "the host's address that it is published on, the best if there are several; nil if it is not published",
            |it| Value::text(it.bindings.first().map(|best| best.ip.as_str())),
        ),
        Field::new(
            "host_port",
            "integer?",
            "the port on the host; nil if it is not published",
            |it| {
                let best = it.bindings.first();
                best.map_or(Value::Missing, |best| Value::Number(best.port.into()))
            },
        ),
        Field::new(
            "bindings",
            "Binding[]",
            "all that it is published on, the best first: addresses that others can reach before loopback, IPv4 before IPv6",
            |it| Value::Bindings(&it.bindings),
        ),
        Field::new(
            "guests",
            "string?",
            "the containers in its container's network that expose it, so that it is theirs; nil if there are none",
            |it| Value::text(it.guests.as_deref()),
        ),
    ];
}

impl Record for Binding {
    const KIND: &'static str = "a binding";
    const FIELDS: &'static [Field<Self>] = &[
        Field::new(
            "ip",
            "string",
            "the host's address; `0.0.0.0` or `::` for all of them",
            |it| Value::Text(&it.ip),
        ),
        Field::new("port", "integer", "the port on the host", |it| {
            Value::Number(it.port.into())
        }),
    ];
}

impl Record for Network {
    const KIND: &'static str = "a network";
    const FIELDS: &'static [Field<Self>] = &[
        Field::new(
            "ip",
            "string?",
            "the container's IPv4 address in it",
            |it| Value::text(it.ip.as_deref()),
        ),
        Field::new(
            "ip6",
            "string?",
            "the container's IPv6 address in it",
            |it| Value::text(it.ip6.as_deref()),
        ),
        Field::new(
            "gateway",
            "string?",
            "the host's IPv4 address in it",
            |it| Value::text(it.gateway.as_deref()),
        ),
        Field::new(
            "gateway6",
            "string?",
            "the host's IPv6 address in it",
            |it| Value::text(it.gateway6.as_deref()),
        ),
        Field::new("aliases", "string[]", "the container's names in it", |it| {
            Value::Texts(&it.aliases)
        }),
    ];
}

impl<R> Field<R> {
    const fn new(
        name: &'static str,
        lua_type: &'static str,
        meaning: &'static str,
        get: fn(&R) -> Value<'_>,
    ) -> Self {
        Self {
            name,
            lua_type,
            meaning,
            get,
            sampler: None,
        }
    }

    const fn sampled(self, sampler: Sampler) -> Self {
        Self {
            sampler: Some(sampler),
            ..self
        }
    }
}

impl<'a> Value<'a> {
    fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Missing, Self::Text)
    }

    /// The seconds since 1970 of one of Docker's times. A container that has never started has one in the year 1.
    fn seconds(time: &str) -> Self {
        let seconds = time.parse().map(Timestamp::as_second);
        seconds
            .ok()
            .filter(|seconds| *seconds > 0)
            .map_or(Self::Missing, Self::Number)
    }
}
