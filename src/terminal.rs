//! Text that others wrote, made harmless for a terminal, a log and a pipe.
//!
//! An agent chooses vendors, descriptions and names; an escape sequence in one of them must not
//! move a cursor, hide a line or reverse the order of what an operator reads.
//! Not here: what the text means, and layout (`cli`).

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal would act on the character, or show the text around it in another order, or
/// show nothing at all.
#[must_use]
pub fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}')
}

/// For people: control and direction characters become `\n`, `\u{1b}` and so on.
#[must_use]
pub fn escape_text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unsafe(letter) => out.extend(letter.escape_unicode()),
            _ => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// For JSON text that is already serialized: the same characters become JSON escapes, which leaves
/// every value as it is. Line ends between values stay.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let escapes = |letter: char| is_unsafe(letter) && letter != '\n';
    if !json.contains(escapes) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        if escapes(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_in_any_script_is_left_alone() {
        for text in ["Acme Travel", "東京", "emoji 👩‍💻", "naïve café"] {
            assert!(matches!(escape_text(text), Cow::Borrowed(_)));
            assert!(matches!(escape_json(text), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_spelt_out() {
        assert_eq!(escape_text("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(escape_text("\u{9b}31m\u{e0041}"), "\\u{9b}31m\\u{e0041}");
    }

    #[test]
    fn escaped_json_has_the_same_values() {
        let value = serde_json::json!({ "vendor": "a\u{9b}\u{7f}\u{202e}\u{e0041}b\u{1b}\n" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escape_json(&text);
        assert!(escaped.chars().all(|letter| letter == '\n' || !is_unsafe(letter)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
