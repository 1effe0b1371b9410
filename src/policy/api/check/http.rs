//! The fields of a check that make its HTTP request, and those that judge the answer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use mlua::Value;

use super::Fields;
use crate::base::text::quote;
use crate::policy::api::entries::{a, read_text};
use crate::policy::sandbox::frozen::Frozen;
use crate::routes::read_address;
use crate::wanted::check::{ANY_GOOD_STATUS, Headers, Http, Kind, MAX_TEXT, Tls};

pub const DEFAULT_METHOD: &str = "GET";

const STATUS: RangeInclusive<u16> = 100..=599;
/// The headers that the request has anyway: a second one would make it ambiguous.
const OWN_HEADERS: [&str; 4] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
];

impl Fields<'_> {
    pub(super) fn http(&mut self, name: &str, tls: Option<Tls>) -> Result<Kind, String> {
        let path = self.text(name)?.unwrap_or_default();
        check_path(&path).map_err(|why| format!("`check.{name}` {why}"))?;
        let method = self.text("method")?;
        let method = method.unwrap_or_else(|| DEFAULT_METHOD.to_owned());
        if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(format!(
                "`check.method` is {}; a method has capital letters alone, such as GET",
                quote(&method)
            ));
        }
        if method == "CONNECT" {
            return Err(
                "`check.method` is `CONNECT`, which asks for a tunnel and no page".to_owned(),
            );
        }
        let host = self.text("host")?;
        if let Some(host) = host.as_deref().filter(|host| !is_host(host)) {
            return Err(format!(
                "`check.host` is {}; it is a host name, with or without a port",
                quote(host)
            ));
        }
        Ok(Kind::Http(Http {
            tls,
            path: path.into(),
            method: method.into(),
            host: host.map(Into::into),
            headers: self.headers()?,
            status: self.status()?,
        }))
    }

    fn headers(&mut self) -> Result<Headers, String> {
        let Some(value) = self.values.remove("headers") else {
            return Ok(Vec::new());
        };
        read_headers(self.frozen, &value)
    }

    fn status(&mut self) -> Result<Vec<RangeInclusive<u16>>, String> {
        let Some(text) = self.text("status")? else {
            return Ok(ANY_GOOD_STATUS.to_vec());
        };
        let ranges = text.split(',').map(|range| read_statuses(range.trim()));
        ranges.collect::<Option<_>>().ok_or_else(|| {
            format!(
                "`check.status` is {}; it is a list such as \"200-299,404\", of statuses from {} to {}",
                quote(&text),
                STATUS.start(),
                STATUS.end()
            )
        })
    }
}

fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!(
            "is {}; it is a path that begins with a slash, such as /health",
            quote(path)
        ));
    }
    let is_illegal = |c: &char| !c.is_ascii_graphic() || "#<>`".contains(*c);
    match path.chars().find(is_illegal) {
        Some(c) => Err(format!(
            "is {}; a path cannot have {c:?}: encode it, as %20 for a space",
            quote(path)
        )),
        None => Ok(()),
    }
}

/// Whether it is a host, with or without a port.
fn is_host(text: &str) -> bool {
    read_address(text).is_ok() || read_address(&format!("{text}:80")).is_ok()
}

/// The headers in order of their names; a Lua table has none.
fn read_headers(frozen: &Frozen, value: &Value) -> Result<Headers, String> {
    let Value::Table(table) = value else {
        return Err(format!(
            "`check.headers` is {}; it is a table of names and values",
            a(value)
        ));
    };
    let lua_error = |error: mlua::Error| format!("`check.headers`: {error}");
    let table = frozen.contents(table).map_err(lua_error)?;
    let mut headers: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    let mut size = 0;
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(lua_error)?;
        let Value::String(name) = &name else {
            return Err(format!(
                "a name in `check.headers` is {}; it is a string",
                a(&name)
            ));
        };
        let name = name.to_string_lossy();
        check_header_name(&name)?;
        let text = read_text(&value)
            .map_err(|why| format!("{} in `check.headers` {why}", quote(&name)))?;
        if text.chars().any(|c| c != ' ' && !c.is_ascii_graphic()) {
            return Err(format!(
                "{} in `check.headers` has a character that no header may have: {}",
                quote(&name),
                quote(&text)
            ));
        }
        size += name.len() + text.len();
        headers.insert(Arc::from(name), Arc::from(text));
    }
    if size > MAX_TEXT {
        return Err(format!(
            "`check.headers` has {size} bytes, more than {MAX_TEXT}"
        ));
    }
    Ok(headers.into_iter().collect())
}

fn check_header_name(name: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_legal) {
        return Err(format!(
            "{} in `check.headers` is no name of a header",
            quote(name)
        ));
    }
    let lower = name.to_ascii_lowercase();
    if lower == "host" {
        return Err(format!(
            "{} in `check.headers` has a field of its own: set `check.host`",
            quote(name)
        ));
    }
    if OWN_HEADERS.contains(&lower.as_str()) {
        return Err(format!(
            "{} in `check.headers` cannot be set: the request has its own",
            quote(name)
        ));
    }
    Ok(())
}

/// A range such as `200-299`, or one status.
fn read_statuses(range: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (read_status(first.trim())?, read_status(last.trim())?);
    (first <= last).then_some(first..=last)
}

/// `parse` alone would take a sign.
fn read_status(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let status = text.parse::<u16>().ok()?;
    (is_number && STATUS.contains(&status)).then_some(status)
}
