//! Text from outside, made fit for a message.

/// The literal for messages: in backticks, control characters escaped, cut where it is too long to read.
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let end = text.char_indices().nth(SHOWN);
    let shown = printable(end.map_or(text, |(end, _)| &text[..end]));
    format!("`{shown}{}`", if end.is_some() { "…" } else { "" })
}

/// A foreign text for messages: control characters escaped, so that it stays on its line.
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
