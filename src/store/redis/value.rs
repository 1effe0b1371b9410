//! Reads the answers of Redis. Nothing here trusts them: an answer of another shape is none.

use redis::Value;

/// The parts of a list.
pub fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(parts) | Value::Set(parts) => Some(parts),
        // Lua's empty table, where a client makes a map of it.
        Value::Map(parts) if parts.is_empty() => Some(Vec::new()),
        _ => None,
    }
}

/// A text. Bytes that are not UTF-8 are replaced.
pub fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A text, or none if it is not UTF-8.
pub fn exact_text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        other => text(other),
    }
}

/// The texts of a list. Those that are not UTF-8 are left out.
pub fn texts(value: Value) -> Option<Vec<String>> {
    Some(list(value)?.into_iter().filter_map(exact_text).collect())
}

/// A whole number, which Redis may give as text.
pub fn number(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        other => text(other)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_read_in_each_form() {
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        assert_eq!(number(bulk(b"-12")), Some(-12));
        assert_eq!(number(Value::Int(3)), Some(3));
        assert_eq!(number(bulk(b"x")), None);
        assert_eq!(text(bulk(b"a\xff")), Some("a\u{fffd}".to_owned()));
        assert_eq!(exact_text(bulk(b"a\xff")), None);
        let mixed = Value::Array(vec![bulk(b"a"), bulk(b"\xff"), bulk(b"b")]);
        assert_eq!(texts(mixed), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(Value::Map(Vec::new())), Some(Vec::new()));
        assert_eq!(texts(Value::Nil), None);
    }
}
