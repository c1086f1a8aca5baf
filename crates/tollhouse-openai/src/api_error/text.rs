use std::fmt::{self, Write};

/// Somebody else's text, fit for a line of a log: one line, not too long, and
/// without anything that looks like a key, which begins with `sk-` or stands behind `Bearer`.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::api_error::OneLine;
///
/// let said = "Incorrect API key provided:\n sk-abc123. See the page on keys.";
/// let line = "Incorrect API key provided: sk-… See the page on keys.";
/// assert_eq!(OneLine::long(said).to_string(), line);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OneLine<'t> {
    text: &'t str,
    most_chars: usize,
}

impl<'t> OneLine<'t> {
    /// For a name or a code: its first 80 characters.
    pub fn short(text: &'t str) -> Self {
        let most_chars = 80;
        OneLine { text, most_chars }
    }

    /// For a sentence or three: its first 400 characters.
    pub fn long(text: &'t str) -> Self {
        let most_chars = 400;
        OneLine { text, most_chars }
    }
}

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_break = |c: char| c.is_whitespace() || c.is_control();
        let words = self.text.split(is_break).filter(|word| !word.is_empty());
        let mut left = self.most_chars;
        let mut previous = "";
        for word in words {
            if !previous.is_empty() {
                f.write_char(' ')?;
            }
            let shown = match secret(previous, word) {
                Some(at) => &word[..at],
                None => word,
            };
            for c in shown.chars() {
                if left == 0 {
                    return f.write_char('…');
                }
                f.write_char(c)?;
                left -= 1;
            }
            if shown.len() < word.len() {
                f.write_char('…')?;
            }
            left = left.saturating_sub(1);
            previous = word;
        }
        Ok(())
    }
}

/// Where in a word a key begins: after `Bearer`, or what `sk-` leads in.
fn secret(previous: &str, word: &str) -> Option<usize> {
    if previous.eq_ignore_ascii_case("bearer") {
        return Some(0);
    }
    let begins = |at: &usize| !word[..*at].ends_with(|c: char| c.is_alphanumeric());
    let mut places = word.match_indices("sk-").map(|(at, _)| at);
    places.find(begins).map(|at| at + "sk-".len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_line_without_keys() {
        for (text, line) in [
            ("", ""),
            ("Wait.", "Wait."),
            (
                " two\n\n lines\r\tand a bit \u{1b}[31m",
                "two lines and a bit [31m",
            ),
            ("key sk-proj-abc_123, please", "key sk-… please"),
            ("(sk-abc)", "(sk-…"),
            (
                "Authorization: Bearer abc def",
                "Authorization: Bearer … def",
            ),
            ("a task-force of risk-takers", "a task-force of risk-takers"),
        ] {
            assert_eq!(OneLine::long(text).to_string(), line);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "ü".repeat(500);
        let line = OneLine::long(&text).to_string();
        assert_eq!(line, format!("{}…", "ü".repeat(400)));
        let words = "wort ".repeat(500);
        let line = OneLine::short(&words).to_string();
        assert!(line.ends_with('…') && line.chars().count() <= 82, "{line}");
    }
}
