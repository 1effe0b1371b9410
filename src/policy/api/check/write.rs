//! Writes a check as the table that a policy returns for it.

use std::time::Duration;

use mlua::{Lua, Result, Table, Value};

use super::http::DEFAULT_METHOD;
use super::{DEFAULT_FALL, DEFAULT_INTERVAL, DEFAULT_RISE, DEFAULT_TIMEOUT};
use crate::wanted::Check;
use crate::wanted::check::{ANY_GOOD_STATUS, Http, Kind, Tls};

/// The table of a check. Fields with their default are left out, except `address`.
pub fn write(lua: &Lua, check: &Check) -> Result<Table> {
    let table = lua.create_table()?;
    if !check.uptime.is_zero() {
        table.raw_set("uptime", seconds(check.uptime))?;
    }
    let Some(probe) = &check.probe else {
        return Ok(table);
    };
    table.raw_set("address", &*probe.address)?;
    if check.interval != DEFAULT_INTERVAL {
        table.raw_set("interval", seconds(check.interval))?;
    }
    if check.timeout != DEFAULT_TIMEOUT.min(check.interval) {
        table.raw_set("timeout", seconds(check.timeout))?;
    }
    if check.rise != DEFAULT_RISE {
        table.raw_set("rise", check.rise)?;
    }
    if check.fall != DEFAULT_FALL {
        table.raw_set("fall", check.fall)?;
    }
    match &probe.kind {
        Kind::Tcp(tcp) => {
            table.raw_set("tcp", true)?;
            for (name, text) in [("send", &tcp.send), ("expect", &tcp.expect)] {
                if !text.is_empty() {
                    table.raw_set(name, &**text)?;
                }
            }
        }
        Kind::Http(http) => write_http(lua, &table, http)?,
    }
    Ok(table)
}

fn write_http(lua: &Lua, table: &Table, http: &Http) -> Result<()> {
    let name = if http.tls.is_some() { "https" } else { "http" };
    table.raw_set(name, &*http.path)?;
    if http.tls == Some(Tls::Insecure) {
        table.raw_set("insecure", true)?;
    }
    if &*http.method != DEFAULT_METHOD {
        table.raw_set("method", &*http.method)?;
    }
    table.raw_set("host", http.host.as_deref())?;
    if !http.headers.is_empty() {
        let headers = http.headers.iter();
        let headers = headers.map(|(name, value)| (&**name, &**value));
        table.raw_set("headers", lua.create_table_from(headers)?)?;
    }
    if http.status != ANY_GOOD_STATUS {
        let ranges = http.status.iter().map(|range| {
            let (first, last) = (range.start(), range.end());
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        });
        table.raw_set("status", ranges.collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

fn seconds(time: Duration) -> Value {
    match i64::try_from(time.as_secs()) {
        Ok(seconds) if time.subsec_nanos() == 0 => Value::Integer(seconds),
        _ => Value::Number(time.as_secs_f64()),
    }
}
