//! Makes text from outside fit for messages.

/// Text from outside as a literal: in backticks, control characters escaped, cut after 72 characters, so that no id is cut.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 72;
    let end = text.char_indices().nth(SHOWN);
    let shown = printable(end.map_or(text, |(end, _)| &text[..end]));
    format!("`{shown}{}`", if end.is_some() { "…" } else { "" })
}

/// The known name that a misspelt one is most like, if it is like one.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    let known = known.into_iter();
    let by_distance = known.map(|known| (strsim::osa_distance(name, known), known));
    let (_, nearest) = by_distance
        .filter(|(distance, _)| *distance <= most)
        .min()?;
    Some(nearest)
}

/// Text from outside with its control characters escaped, so that a message stays on its line.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_like_one_and_another_is_like_none() {
        let nearest = |name| nearest(name, ["env", "accept", "accept_port", "service"]);
        for (name, known) in [
            ("evn", "env"),
            ("serivce", "service"),
            ("accept_prot", "accept_port"),
            ("acept", "accept"),
        ] {
            assert_eq!(nearest(name), Some(known));
        }
        for name in ["domain", "x", ""] {
            assert_eq!(nearest(name), None, "{name}");
        }
    }
}
