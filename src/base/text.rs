//! Makes text from outside fit for messages.

/// Text from outside as a literal: in backticks, control characters escaped, cut after 60 characters.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let end = text.char_indices().nth(SHOWN);
    let shown = printable(end.map_or(text, |(end, _)| &text[..end]));
    format!("`{shown}{}`", if end.is_some() { "…" } else { "" })
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
