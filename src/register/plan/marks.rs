//! Marks of containers, by which their keys are recognised: ids, names, addresses and published ports.

use std::collections::HashMap;

use crate::container::SHORT_ID;

/// The number of digits of a whole container id.
const WHOLE_ID: usize = 64;

/// The marks of some containers, by the first word of each.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<String, Vec<String>>);

impl Marks {
    /// Whether a text contains one of the marks as a word of its own, not as part of a longer word or number.
    pub fn is_in(&self, text: &str) -> bool {
        words(text).any(|word| {
            let marks = self.0.get(word).into_iter().flatten();
            marks.into_iter().any(|mark| has_word(text, mark))
        })
    }

    /// Whether a key is one of these containers'. An id in the key decides, because an address may belong to a new
    /// container by now.
    pub fn find(&self, key: &str, value: &str) -> Match {
        let mut ids = words(key).filter(|word| is_id(word)).peekable();
        if ids.peek().is_some() {
            return if ids.any(|id| self.is_in(id)) {
                Match::Known
            } else {
                Match::Other
            };
        }
        if self.is_in(key) || self.is_in(value) {
            Match::Known
        } else {
            Match::Unclear
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// One of the containers with these marks.
    Known,
    /// Another container.
    Other,
    /// The key has no id, and neither key nor value has a mark.
    Unclear,
}

impl FromIterator<String> for Marks {
    fn from_iter<T: IntoIterator<Item = String>>(marks: T) -> Self {
        let mut by_word: HashMap<String, Vec<String>> = HashMap::new();
        for mark in marks {
            let first = words(&mark).next().map(str::to_owned);
            if let Some(first) = first {
                by_word.entry(first).or_default().push(mark);
            }
        }
        Self(by_word)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|next: char| !next.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}

fn is_id(word: &str) -> bool {
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    [SHORT_ID, WHOLE_ID].contains(&word.len()) && word.bytes().all(is_digit)
}

fn has_word(text: &str, word: &str) -> bool {
    let is_end = |next: Option<char>| !next.is_some_and(char::is_alphanumeric);
    // A port's mark begins with its colon.
    let begins_itself = is_end(word.chars().next());
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        (begins_itself || is_end(before.chars().next_back())) && is_end(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(marks: &[&str]) -> Marks {
        marks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_mark_is_found_as_a_word_alone() {
        let marks = marks(&["web-1", ":8080", "10.0.0.7"]);
        for text in [
            "/b/web-1/port",
            "x=web-1",
            "1.2.3.4:8080",
            "http://10.0.0.7/",
        ] {
            assert!(marks.is_in(text), "{text}");
        }
        for text in [
            "/b/web-12",
            "/b/web/1",
            "1.2.3.4:18080",
            ":80801",
            "10.0.0.70",
            "",
        ] {
            assert!(!marks.is_in(text), "{text}");
        }
    }

    #[test]
    fn an_id_in_a_key_decides() {
        let marks = marks(&["0123456789ab", "web-1", ":8080"]);
        let find = |member: &str, value| marks.find(&format!("/b/web/1/{member}"), value);
        assert_eq!(find("0123456789ab", "1.2.3.4:9999"), Match::Known);
        assert_eq!(find("web-1", "1.2.3.4:9999"), Match::Known);
        assert_eq!(find("other", "1.2.3.4:8080"), Match::Known);
        // A new container has the port of one that is gone.
        assert_eq!(find("fedcba987654", "1.2.3.4:8080"), Match::Other);
        assert_eq!(find("other", "1.2.3.4:9999"), Match::Unclear);
    }
}
