//! Reads the field `check` of an entry; `entries` reads the rest. `http` has the fields of a request, and `write` makes
//! the table again, for `test.run`.

mod http;
mod write;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use mlua::{Table, Value};

use super::entries::{a, read_text, read_whole, shown};
use crate::base::text::{nearest, quote};
use crate::policy::sandbox::frozen::Frozen;
use crate::routes::read_address;
use crate::wanted::Check;
use crate::wanted::check::{IN_A_ROW, INTERVAL, Kind, MAX_TEXT, MIN_TIMEOUT, Probe, Tcp, Tls};

pub use write::write;

/// All fields of a check.
pub const FIELDS: [&str; 16] = [
    "http", "https", "tcp", "uptime", "address", "interval", "timeout", "rise", "fall", "method",
    "host", "headers", "status", "insecure", "send", "expect",
];
/// The fields that ask something. A check has one of them at most.
const PROBES: [&str; 3] = ["http", "https", "tcp"];

/// The legal uptimes, in milliseconds: up to a day.
const UPTIME: RangeInclusive<u64> = 1..=86_400_000;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
/// The default timeout, where the interval is not shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u32 = 1;
const DEFAULT_FALL: u32 = 3;

/// Reads a check. It asks the address in `value`, the entry's value, unless it has one of its own.
pub fn read(frozen: &Frozen, check: &Value, value: &str) -> Result<Check, String> {
    let Value::Table(table) = check else {
        return Err(format!(
            "`check` is {}; it is a table, such as `{{ http = \"/health\" }}`",
            a(check)
        ));
    };
    let mut fields = Fields::read(frozen, table)?;
    let uptime = fields.millis("uptime", &UPTIME)?;
    let given: Vec<&str> = PROBES
        .into_iter()
        .filter(|name| fields.values.contains_key(name))
        .collect();
    let (kind, asked) = match given[..] {
        [] if uptime.is_none() => {
            return Err(
                "`check` asks nothing: it has one of `http`, `https` and `tcp`, or `uptime`"
                    .to_owned(),
            );
        }
        [] => (None, "`uptime` alone".to_owned()),
        [name] => (Some(fields.kind(name)?), format!("`{name}`")),
        [first, second, ..] => {
            return Err(format!(
                "`check` has both `{first}` and `{second}`; it asks one of them"
            ));
        }
    };
    let mut interval = DEFAULT_INTERVAL;
    let mut timeout = DEFAULT_TIMEOUT;
    let (mut rise, mut fall) = (DEFAULT_RISE, DEFAULT_FALL);
    let mut probe = None;
    if let Some(kind) = kind {
        interval = fields.millis("interval", &INTERVAL)?.unwrap_or(interval);
        timeout = fields.timeout(interval)?;
        rise = fields.in_a_row("rise")?.unwrap_or(rise);
        fall = fields.in_a_row("fall")?.unwrap_or(fall);
        let address = fields.address(value)?;
        probe = Some(Probe { address, kind });
    }
    fields.end(&asked)?;
    Ok(Check {
        probe,
        uptime: uptime.unwrap_or_default(),
        interval,
        timeout,
        rise,
        fall,
    })
}

/// The fields of a check that have not been read yet, by name.
struct Fields<'a> {
    frozen: &'a Frozen,
    values: BTreeMap<&'static str, Value>,
}

impl<'a> Fields<'a> {
    fn read(frozen: &'a Frozen, table: &Table) -> Result<Self, String> {
        let table = frozen
            .contents(table)
            .map_err(|error| format!("`check`: {error}"))?;
        let mut values = BTreeMap::new();
        for pair in table.pairs::<Value, Value>() {
            let (name, value) = pair.map_err(|error| format!("`check`: {error}"))?;
            let name = match &name {
                Value::String(name) => name.to_string_lossy(),
                other => return Err(format!("`check` has the unknown field {}", shown(other))),
            };
            let Some(known) = FIELDS.into_iter().find(|known| *known == name) else {
                let hint = match nearest(&name, FIELDS) {
                    Some(like) => format!("did you mean `{like}`?"),
                    None => "`docker-register types` has all fields, in `Check`".to_owned(),
                };
                return Err(format!(
                    "`check` has the unknown field {}; {hint}",
                    quote(&name)
                ));
            };
            values.insert(known, value);
        }
        Ok(Self { frozen, values })
    }

    /// Refuses the fields that have not been read, because the check has no use for them.
    fn end(&self, asked: &str) -> Result<(), String> {
        let Some(name) = self.values.keys().next() else {
            return Ok(());
        };
        let kinds = match *name {
            "method" | "host" | "headers" | "status" => "`http` and `https`",
            "insecure" => "`https`",
            "send" | "expect" => "`tcp`",
            _ => "`http`, `https` and `tcp`",
        };
        Err(format!(
            "`check.{name}` is for {kinds}, and means nothing with {asked}"
        ))
    }

    /// A text that is neither empty nor too long.
    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(value) = self.values.remove(name) else {
            return Ok(None);
        };
        let text = read_text(&value).map_err(|why| format!("`check.{name}` {why}"))?;
        match text.len() {
            0 => Err(format!("`check.{name}` is empty; leave it out")),
            length if length > MAX_TEXT => Err(format!(
                "`check.{name}` has {length} bytes, more than {MAX_TEXT}"
            )),
            _ => Ok(Some(text)),
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.values.remove(name) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => Err(format!(
                "`check.{name}` is {}; it is true or false",
                a(&other)
            )),
        }
    }

    /// A time in seconds, within a range of milliseconds.
    fn millis(
        &mut self,
        name: &str,
        range: &RangeInclusive<u64>,
    ) -> Result<Option<Duration>, String> {
        let (least, most) = (
            Duration::from_millis(*range.start()),
            Duration::from_millis(*range.end()),
        );
        let most_text = most.as_secs_f64().to_string();
        self.time(name, least, most, &most_text)
    }

    fn timeout(&mut self, interval: Duration) -> Result<Duration, String> {
        let least = Duration::from_millis(MIN_TIMEOUT);
        let most = format!("{}, the interval", interval.as_secs_f64());
        let timeout = self.time("timeout", least, interval, &most)?;
        Ok(timeout.unwrap_or(DEFAULT_TIMEOUT.min(interval)))
    }

    fn time(
        &mut self,
        name: &str,
        least: Duration,
        most: Duration,
        most_text: &str,
    ) -> Result<Option<Duration>, String> {
        let Some(value) = self.values.remove(name) else {
            return Ok(None);
        };
        let time = match &value {
            Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            // It refuses negative, infinite and huge ones.
            Value::Number(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
            _ => None,
        };
        match time.filter(|time| (least..=most).contains(time)) {
            Some(time) => Ok(Some(time)),
            None => Err(format!(
                "`check.{name}` is {}; it is a number of seconds from {} to {most_text}",
                number_or_type(&value),
                least.as_secs_f64()
            )),
        }
    }

    fn in_a_row(&mut self, name: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.values.remove(name) else {
            return Ok(None);
        };
        let number = read_whole(&value).filter(|number| IN_A_ROW.contains(number));
        number.map(Some).ok_or_else(|| {
            format!(
                "`check.{name}` is {}; it is a whole number from {} to {}",
                number_or_type(&value),
                IN_A_ROW.start(),
                IN_A_ROW.end()
            )
        })
    }

    fn address(&mut self, value: &str) -> Result<Arc<str>, String> {
        if let Some(address) = self.text("address")? {
            read_address(&address).map_err(|why| format!("`check.address`: {why}"))?;
            return Ok(address.into());
        }
        match read_address(value) {
            Ok(_) => Ok(value.into()),
            Err(_) => Err(format!(
                "`check` has no address to ask, because the entry's value, {}, is not `host:port`: set `check.address`",
                quote(value)
            )),
        }
    }

    fn kind(&mut self, name: &str) -> Result<Kind, String> {
        match name {
            "tcp" => self.tcp(),
            "https" => {
                let is_insecure = self.flag("insecure")?.unwrap_or(false);
                let tls = if is_insecure {
                    Tls::Insecure
                } else {
                    Tls::Verified
                };
                self.http(name, Some(tls))
            }
            _ => self.http(name, None),
        }
    }

    fn tcp(&mut self) -> Result<Kind, String> {
        match self.values.remove("tcp") {
            Some(Value::Boolean(true)) | None => {}
            Some(other) => {
                let other = match other {
                    Value::Boolean(flag) => flag.to_string(),
                    other => a(&other),
                };
                return Err(format!("`check.tcp` is {other}; it is true, or left out"));
            }
        }
        let (send, expect) = (self.text("send")?, self.text("expect")?);
        if send.is_some() && expect.is_none() {
            return Err(
                "`check.send` needs `check.expect`, because the answer is not read without it"
                    .to_owned(),
            );
        }
        Ok(Kind::Tcp(Tcp {
            send: send.unwrap_or_default().into(),
            expect: expect.unwrap_or_default().into(),
        }))
    }
}

/// A number, or the type of any other value.
fn number_or_type(value: &Value) -> String {
    match value {
        Value::Integer(_) | Value::Number(_) => shown(value),
        other => a(other),
    }
}
