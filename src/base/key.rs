//! Keys: the rules for legal ones, and their directories.

use std::fmt;
use std::sync::Arc;

use super::text::{printable, quote};

/// A key in the store. Counted, because the wanted state, the view of the store and the changes share it.
pub type Key = Arc<str>;

/// The longest segment of a key, in bytes.
pub const MAX_SEGMENT: usize = 255;
/// The longest key, in bytes.
pub const MAX_KEY: usize = 2048;

/// The reason for refusing a key, a segment of a key, or another part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Illegal(String);

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Illegal {}

impl Illegal {
    /// The reason is the whole message.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Joins segments to a key with `/`. A segment that could reach outside its place is an error.
pub fn join<S: AsRef<str>>(segments: &[S]) -> Result<String, Illegal> {
    if segments.is_empty() {
        return Err(Illegal("a key has at least one segment".to_owned()));
    }
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    check_segments(&segments, "the key")?;
    Ok(segments.join("/"))
}

/// Checks a whole key: legal segments between single slashes, with or without a slash in front (Traefik reads
/// keys without one), and none at the end.
pub fn check_key(key: &str) -> Result<(), Illegal> {
    if key.len() > MAX_KEY {
        return Err(Illegal(format!(
            "the key {} has {} bytes, more than {MAX_KEY}",
            quote(key),
            key.len()
        )));
    }
    let segments: Vec<&str> = key.strip_prefix('/').unwrap_or(key).split('/').collect();
    check_segments(&segments, &format!("the key {}", quote(key)))
}

/// The part of a key up to its last slash, the slash included.
pub fn directory(key: &str) -> &str {
    key.rfind('/').map_or("", |slash| &key[..=slash])
}

/// Several keys in words.
pub fn in_words<'a>(mut keys: impl Iterator<Item = &'a Key>) -> String {
    let Some(first) = keys.next() else {
        return "no key".to_owned();
    };
    match keys.count() {
        0 => quote(first),
        1 => format!("{} and another key", quote(first)),
        more => format!("{} and {more} more keys", quote(first)),
    }
}

/// Checks a text for use as one segment of a key. The error names it with `what`, such as "the service name", and its
/// `origin`, such as a label.
pub fn check_segment(what: &str, text: &str, origin: Option<&str>) -> Result<(), Illegal> {
    let Some(fault) = fault(text) else {
        return Ok(());
    };
    let mut message = printable(what);
    if fault.shows_text {
        message = format!("{message} {}", quote(text));
    }
    if let Some(origin) = origin {
        message = format!("{message} ({})", printable(origin));
    }
    Err(Illegal(format!("{message} {}", fault.text)))
}

/// Whether a text can be one segment of a key.
pub fn is_segment(text: &str) -> bool {
    fault(text).is_none()
}

fn check_segments(segments: &[&str], whole: &str) -> Result<(), Illegal> {
    for (index, segment) in segments.iter().enumerate() {
        if let Some(fault) = fault(segment) {
            let mut message = format!("segment {} of {whole} {}", index + 1, fault.text);
            if fault.shows_text {
                message = format!("{message}: {}", quote(segment));
            }
            return Err(Illegal(message));
        }
    }
    Ok(())
}

struct Fault {
    /// The end of a message that begins with the segment.
    text: String,
    /// Whether the message has to show the segment too.
    shows_text: bool,
}

fn fault(segment: &str) -> Option<Fault> {
    let (text, shows_text) = if segment.is_empty() {
        ("is empty".to_owned(), false)
    } else if matches!(segment, "." | "..") {
        (format!("is `{segment}`"), false)
    } else if segment.contains('/') {
        ("has a slash".to_owned(), true)
    } else if segment.chars().any(char::is_control) {
        ("has a control character".to_owned(), true)
    } else if segment.len() > MAX_SEGMENT {
        let bytes = segment.len();
        (format!("has {bytes} bytes, more than {MAX_SEGMENT}"), true)
    } else {
        return None;
    };
    Some(Fault { text, shows_text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_joined_with_slashes() {
        assert_eq!(join(&["web", "1", "0123"]).unwrap(), "web/1/0123");
        assert_eq!(join(&["größe", "a b"]).unwrap(), "größe/a b");
    }

    #[test]
    fn a_segment_cannot_reach_outside_its_place() {
        let long = "x".repeat(10_240);
        for (segments, fault) in [
            (
                vec!["../../x", "1"],
                "segment 1 of the key has a slash: `../../x`",
            ),
            (vec!["web", ".."], "segment 2 of the key is `..`"),
            (vec!["", "1"], "segment 1 of the key is empty"),
            (
                vec!["a\nb"],
                "segment 1 of the key has a control character: `a\\nb`",
            ),
            (
                vec![&long],
                &format!(
                    "segment 1 of the key has 10240 bytes, more than 255: `{}…`",
                    &long[..72]
                ),
            ),
            (vec![], "a key has at least one segment"),
        ] {
            assert_eq!(join(&segments).unwrap_err().to_string(), fault);
        }
    }

    #[test]
    fn the_error_about_a_segment_has_its_name_and_origin() {
        let long = "x".repeat(256);
        for (text, fault) in [
            (
                "../x",
                "the service name `../x` (label SERVICE_NAME) has a slash",
            ),
            ("..", "the service name (label SERVICE_NAME) is `..`"),
            ("", "the service name (label SERVICE_NAME) is empty"),
            (
                "a\nb",
                "the service name `a\\nb` (label SERVICE_NAME) has a control character",
            ),
            (
                &long,
                &format!(
                    "the service name `{}…` (label SERVICE_NAME) has 256 bytes, more than 255",
                    &long[..72]
                ),
            ),
        ] {
            let checked = check_segment("the service name", text, Some("label SERVICE_NAME"));
            assert_eq!(checked.unwrap_err().to_string(), fault);
        }
        let checked = check_segment("the member", "a/b", None);
        assert_eq!(
            checked.unwrap_err().to_string(),
            "the member `a/b` has a slash"
        );
        assert!(check_segment("the member", "a b", None).is_ok());
        assert!(is_segment("a b") && !is_segment("a/b"));
    }

    #[test]
    fn a_whole_key_is_checked_segment_by_segment() {
        for key in ["/backends/web/1/port", "traefik/http/x", "a"] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in [
            "",
            "/",
            "//a",
            "/a/",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/a/\u{7f}",
        ] {
            assert!(check_key(key).is_err(), "{key}");
        }
        assert!(check_key(&"a/".repeat(MAX_KEY)).is_err());
    }

    #[test]
    fn a_directory_ends_with_its_slash() {
        assert_eq!(directory("/backends/web/1/port"), "/backends/web/1/");
        assert_eq!(directory("port"), "");
    }
}
