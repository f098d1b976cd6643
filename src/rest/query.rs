//! The query of an address: known names, given once, each with its type.
//!
//! A misspelt name is an error, because `?agentld=…` would otherwise list everyone's. Not here:
//! what the values select.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use axum::extract::Query as Pairs;
use http::Uri;

use super::failure::{Failure, Violation};
use super::tree::shown;
use crate::forms::{Time, Vocabulary, Word};

/// The query of one request; faults are gathered until [`Query::finish`].
#[derive(Debug)]
pub(super) struct Query {
    given: BTreeMap<String, String>,
    violations: Vec<Violation>,
}

impl Query {
    /// Reads the query; only the `known` names may occur.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Self {
        let mut query = Self { given: BTreeMap::new(), violations: Vec::new() };
        let Ok(Pairs(pairs)) = Pairs::<Vec<(String, String)>>::try_from_uri(uri) else {
            query.wrong("query", "is not a list of name=value pairs".to_owned());
            return query;
        };
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                query.wrong(&shown(&name), format!("is not a known parameter; known are {known}"));
            } else if query.given.insert(name.clone(), value).is_some() {
                query.wrong(&name, "is given twice".to_owned());
            }
        }
        query
    }

    fn wrong(&mut self, name: &str, description: String) {
        self.violations.push(Violation::new(name, description));
    }

    /// A text; empty if it is not given.
    pub(super) fn text(&mut self, name: &str) -> String {
        self.given.get(name).cloned().unwrap_or_default()
    }

    /// A whole number within bounds.
    pub(super) fn whole(&mut self, name: &str, bounds: RangeInclusive<i32>) -> Option<i32> {
        let text = self.given.get(name)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && bounds.contains(number));
        if number.is_none() {
            let (first, last) = (bounds.start(), bounds.end());
            self.wrong(name, format!("must be a whole number from {first} to {last}"));
        }
        number
    }

    /// A word of a vocabulary, as its number; unspecified if it is not given.
    pub(super) fn word<T: Vocabulary + Into<i32>>(&mut self, name: &str) -> i32 {
        let Some(text) = self.given.get(name) else {
            return T::default().into();
        };
        let Some(word) = Word::<T>::parse(text) else {
            self.wrong(name, format!("must be one of {}", Word::<T>::list()));
            return T::default().into();
        };
        word.number()
    }

    /// A time.
    pub(super) fn time(&mut self, name: &str) -> Option<prost_types::Timestamp> {
        let time = self.given.get(name)?.parse::<Time>();
        if time.is_err() {
            let wanted = "must be an RFC 3339 time with an offset, such as 2026-01-31T09:00:00Z";
            self.wrong(name, wanted.to_owned());
        }
        time.ok().map(Time::to_proto)
    }

    /// All faults at once, if there are any.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.violations.is_empty() { Ok(()) } else { Err(Failure::fields(self.violations)) }
    }
}
