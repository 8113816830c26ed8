//! Text from elsewhere, on its way to a terminal or a log.

/// Whether a character steers a terminal, ends a line of a log or turns the direction of a line.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text from elsewhere, safe for a terminal and a log: one line, no control characters, nothing
/// that turns the line.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a text is one that people can read: 1 to `longest` characters, none of them hidden.
pub(super) fn is_line(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.chars().count()) && !text.chars().any(is_hidden)
}

/// Whether a name is one that people can read: 1 to 64 characters, none of them hidden.
pub(super) fn is_name(text: &str) -> bool {
    is_line(text, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n\u{202e}é"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}é");
        assert!(
            is_name("tablet 2 ü") && !is_name("") && !is_name("a\nb") && !is_name(&"x".repeat(65))
        );
    }
}
