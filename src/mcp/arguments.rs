//! The arguments of one tool call, read strictly: known names, exact types, every fault at once.
//!
//! A model corrects itself when it is told what is wrong, so each fault is a sentence that says
//! what to send instead. Values are never echoed. Not here: bounds and meaning, which the server
//! checks for every way in.

use serde_json::{Map, Value};

use super::failure::Failure;
use crate::forms::{Vocabulary, Word};

/// The arguments of a call, taken out one by one.
pub(super) struct Arguments {
    left: Map<String, Value>,
    faults: Vec<String>,
}

impl Arguments {
    pub(super) const fn new(given: Map<String, Value>) -> Self {
        Self { left: given, faults: Vec::new() }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn fault(&mut self, sentence: String) {
        self.faults.push(sentence);
    }

    /// Text that may be left out.
    pub(super) fn text(&mut self, name: &str) -> String {
        match self.take(name) {
            None => String::new(),
            Some(Value::String(text)) => text,
            Some(Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                self.fault(format!("`{name}` must be text in quotes"));
                String::new()
            }
            Some(Value::Null) => String::new(),
        }
    }

    /// Text that must be there.
    pub(super) fn required_text(&mut self, name: &str) -> String {
        if !self.left.contains_key(name) {
            self.fault(format!("`{name}` is required"));
        }
        self.text(name)
    }

    /// Minor units. A fraction is refused and never rounded.
    pub(super) fn amount(&mut self, name: &str) -> i64 {
        let Some(value) = self.take(name) else {
            self.fault(format!("`{name}` is required: whole minor units, such as 1500 for $15.00"));
            return 0;
        };
        if let Some(amount) = value.as_i64() {
            return amount;
        }
        let what = if value.is_number() {
            "has a fraction, an exponent or too many digits"
        } else {
            "is not a number"
        };
        self.fault(format!(
            "`{name}` {what}; send whole minor units (cents) without quotes: 1500 for $15.00, 200 \
             for $2.00"
        ));
        0
    }

    /// A whole number within bounds, or what it is if left out.
    pub(super) fn count(&mut self, name: &str, default: i32, most: i32) -> i32 {
        let Some(value) = self.take(name) else {
            return default;
        };
        let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
        number.filter(|number| (1..=most).contains(number)).unwrap_or_else(|| {
            self.fault(format!("`{name}` must be a whole number from 1 to {most}"));
            default
        })
    }

    /// One of a closed set of words, if it is given.
    pub(super) fn word<T: Vocabulary>(&mut self, name: &str) -> Option<Word<T>> {
        let value = self.take(name)?;
        let word = value.as_str().and_then(Word::parse);
        if word.is_none() {
            self.fault(format!("`{name}` must be one of {}", Word::<T>::list()));
        }
        word
    }

    /// Ends the reading: whatever is left is not known here.
    ///
    /// # Errors
    /// All faults that were found.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let unknown: Vec<_> = self.left.keys().map(|name| shown(name)).collect();
        if !unknown.is_empty() {
            self.faults.push(format!(
                "there is no argument {}; leave it out, or see the tool's input schema",
                unknown.join(", ")
            ));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Failure::Arguments(self.faults)) }
    }
}

/// At most 32 characters of a name that the client chose, harmless.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(32).flat_map(char::escape_debug).collect();
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::v1;

    fn arguments(given: Value) -> Arguments {
        match given {
            Value::Object(given) => Arguments::new(given),
            other => panic!("not an object: {other}"),
        }
    }

    fn faults(read: Arguments) -> Vec<String> {
        match read.finish() {
            Err(Failure::Arguments(faults)) => faults,
            other => panic!("no faults: {other:?}"),
        }
    }

    #[test]
    fn an_amount_is_a_whole_number_or_a_lesson() {
        let mut good = arguments(json!({"amount": 1500}));
        assert_eq!(good.amount("amount"), 1500);
        good.finish().unwrap();
        for bad in [json!(15.5), json!(1500.0), json!(1e3), json!("1500"), json!(u64::MAX)] {
            let mut read = arguments(json!({ "amount": bad }));
            assert_eq!(read.amount("amount"), 0);
            assert!(faults(read)[0].contains("1500 for $15.00"), "{bad}");
        }
    }

    #[test]
    fn every_fault_is_told_at_once_and_no_value_is_echoed() {
        let mut read = arguments(json!({
            "vendor": 7, "decision": "maybe-secret", "limit": 0, "verbose\u{1b}": "sk_secret",
        }));
        read.required_text("vendor");
        read.required_text("currency");
        read.amount("amount");
        read.count("limit", 10, 50);
        assert!(read.word::<v1::Decision>("decision").is_none());
        let faults = faults(read);
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(!faults.concat().contains("secret"), "{faults:?}");
        assert!(!faults.concat().contains('\u{1b}'), "{faults:?}");
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let mut read = arguments(json!({"category": null, "limit": null, "decision": null}));
        assert_eq!(read.text("category"), "");
        assert_eq!(read.count("limit", 10, 50), 10);
        assert!(read.word::<v1::Decision>("decision").is_none());
        read.finish().unwrap();
    }
}
