//! Tests one value against the rules of its field and says in a sentence what is wrong.
//!
//! Not here: counting, presence and paths, which need the whole message.

use super::{ChoiceRules, NumberRules, Rules, TextRules};

/// One value as it was read from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Value<'a> {
    /// Every integer, bool and enum; floats and unsigned 64-bit integers by their bits.
    Number(i64),
    Text(&'a str),
    /// Bytes, or an encoded message.
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// Whether it is what an absent field means.
    pub(crate) fn is_default(self) -> bool {
        match self {
            Self::Number(number) => number == 0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

impl Rules {
    /// What is wrong with the value, as a sentence without its subject, or `None`.
    pub(crate) fn violation(&self, value: Value<'_>) -> Option<String> {
        match (self, value) {
            (Self::Text(rules), Value::Text(text)) => rules.violation(text),
            (Self::Number(rules), Value::Number(number)) => rules.violation(number),
            (Self::Choice(rules), Value::Number(number)) => rules.violation(number),
            (Self::None | Self::Text(_) | Self::Number(_) | Self::Choice(_), _) => None,
        }
    }
}

impl TextRules {
    fn violation(&self, text: &str) -> Option<String> {
        let bytes = text.len();
        if self.bytes_max.is_some_and(|most| bytes > most) {
            let most = self.bytes_max.unwrap_or_default();
            return Some(format!("must have at most {most} bytes, has {bytes}"));
        }
        if bytes == 0 && (self.length_min.is_some() || self.bytes_min.is_some()) {
            return Some("is required and must not be empty".to_owned());
        }
        if self.bytes_min.is_some_and(|least| bytes < least) {
            let least = self.bytes_min.unwrap_or_default();
            return Some(format!("must have at least {least} bytes, has {bytes}"));
        }
        self.length_violation(text).or_else(|| self.pattern_violation(text))
    }

    fn length_violation(&self, text: &str) -> Option<String> {
        if self.length_min.is_none_or(|least| least <= 1)
            && self.length_max.is_none_or(|most| text.len() <= most)
        {
            return None; // never fewer bytes than characters: nothing to count
        }
        let length = text.chars().count();
        if let Some(most) = self.length_max.filter(|most| length > *most) {
            return Some(format!("must have at most {most} characters, has {length}"));
        }
        let least = self.length_min.filter(|least| length < *least)?;
        Some(format!("must have at least {least} characters, has {length}"))
    }

    fn pattern_violation(&self, text: &str) -> Option<String> {
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text))?;
        let absent = if text.is_empty() { "is required and " } else { "" };
        Some(format!("{absent}must match {pattern}"))
    }
}

impl NumberRules {
    fn violation(&self, number: i64) -> Option<String> {
        if let Some(least) = self.least.filter(|least| number < *least) {
            return Some(format!("must be at least {least}, is {number}"));
        }
        let most = self.most.filter(|most| number > *most)?;
        Some(format!("must be at most {most}, is {number}"))
    }
}

impl ChoiceRules {
    fn violation(&self, number: i64) -> Option<String> {
        let is_forbidden = self.forbidden.iter().any(|value| i64::from(*value) == number);
        let Some(allowed) = &self.allowed else {
            return is_forbidden.then(|| format!("must not be {number}"));
        };
        if !is_forbidden && allowed.iter().any(|(value, _)| i64::from(*value) == number) {
            return None;
        }
        let names: Vec<&str> = allowed
            .iter()
            .filter(|(value, _)| !self.forbidden.contains(value))
            .map(|(_, name)| name.as_str())
            .collect();
        let absent = if number == 0 { "is required and " } else { "" };
        Some(format!("{absent}must be one of {}", names.join(", ")))
    }
}
