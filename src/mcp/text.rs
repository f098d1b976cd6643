//! Text that people, agents and vendors wrote, as it may reach a language model.
//!
//! Control and direction characters go, line ends become spaces and the length is bounded, so that
//! a name cannot pretend to be a part of the answer around it. Not here: what the text means.

use crate::terminal::is_unsafe;

/// Characters of a name: of an agent, a mandate, a vendor, a category.
pub(super) const NAME_MAX: usize = 128;

/// Characters of a description.
pub(super) const DESCRIPTION_MAX: usize = 400;

/// Characters of a sentence that the server wrote, which may quote what others wrote.
pub(super) const SENTENCE_MAX: usize = 1_200;

/// At most `most` characters, one space where there was any kind of gap.
pub(super) fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut count = 0_usize;
    let mut gap = false;
    for letter in text.chars() {
        if letter.is_whitespace() {
            gap = !out.is_empty();
            continue;
        }
        if is_unsafe(letter) {
            continue;
        }
        if count >= most {
            out.push('…');
            return out;
        }
        if gap {
            out.push(' ');
            count = count.saturating_add(1);
            gap = false;
        }
        out.push(letter);
        count = count.saturating_add(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_pretend_to_be_more_than_a_name_is_gone() {
        assert_eq!(clean("Acme Travel", 20), "Acme Travel");
        assert_eq!(clean("  a\n\n\tb \u{202e}c\u{1b}[31m\u{200b}d ", 20), "a b c[31md");
        assert_eq!(clean("東京 café", 20), "東京 café");
        assert_eq!(clean("abcdef", 3), "abc…");
        assert_eq!(clean("abc", 3), "abc");
        assert_eq!(clean("abc \u{202e}\n", 3), "abc");
        assert_eq!(clean(&"x".repeat(5_000), NAME_MAX).chars().count(), NAME_MAX + 1);
    }
}
