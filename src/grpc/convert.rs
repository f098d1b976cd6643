//! Between messages and the domain: parsing that collects every violation, and plain mapping back.
//!
//! What the field rules of the protos can say is checked before (`codec`); here is what needs
//! meaning: ids, currencies, vendors, times, masks. Not here: any decision.

use std::str::FromStr;

use jiff::Timestamp;
use prost_types::FieldMask;

use crate::domain::money::Currency;
use crate::engine::pages::PageAsk;
use crate::engine::{EngineError, EngineResult, FieldViolation};
use crate::proto::v1;

pub(super) mod agent;
pub(super) mod approval;
pub(super) mod audit;
pub(super) mod decision;
pub(super) mod event;
pub(super) mod mandate;
pub(super) mod organization;
pub(super) mod rule;
pub(super) mod spend;
pub(super) mod transaction;
pub(super) mod webhook;

/// Collects what is wrong with a request, so that all of it is reported at once.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<FieldViolation>);

impl Violations {
    pub(super) fn refuse(&mut self, field: &str, why: impl std::fmt::Display) {
        self.0.push(FieldViolation { field: field.to_owned(), why: why.to_string() });
    }

    /// Parses a text that must be given.
    pub(super) fn parse<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error| self.refuse(field, error)).ok()
    }

    /// Parses a text that may be empty, which means none.
    pub(super) fn parse_optional<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        if text.is_empty() { None } else { self.parse(field, text) }
    }

    pub(super) fn currency(&mut self, field: &str, code: &str) -> Option<Currency> {
        Currency::parse(code).map_err(|error| self.refuse(field, error)).ok()
    }

    pub(super) fn time(
        &mut self,
        field: &str,
        time: Option<prost_types::Timestamp>,
    ) -> Option<Timestamp> {
        let time = time?;
        let read = Timestamp::new(time.seconds, time.nanos).ok();
        // Cut to microseconds, as everything stored is.
        let read = read.and_then(|at| Timestamp::from_microsecond(at.as_microsecond()).ok());
        if read.is_none() {
            self.refuse(field, "must be a time between the years 1 and 9999");
        }
        read
    }

    /// Refuses a range of time that nothing is in.
    pub(super) fn in_order(&mut self, since: Option<Timestamp>, until: Option<Timestamp>) {
        if since.zip(until).is_some_and(|(since, until)| until <= since) {
            self.refuse("until", "must be after since");
        }
    }

    /// A text for people: nothing that hides or reorders it when it is shown.
    pub(super) fn visible(&mut self, field: &str, text: &str) {
        let hidden = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\t'))
                || matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
                    | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
        };
        if text.chars().any(hidden) {
            self.refuse(field, "must not have characters that hide or reorder text");
        }
    }

    /// A name for people: visible, and more than white space.
    pub(super) fn name(&mut self, field: &str, text: &str) {
        if text.trim().is_empty() {
            self.refuse(field, "must not be empty");
        }
        self.visible(field, text);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> EngineResult<T> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(EngineError::Invalid(self.0)),
        }
    }
}

/// Parses one id and nothing else.
pub(super) fn id<T>(field: &str, text: &str) -> EngineResult<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| EngineError::invalid(field, error))
}

/// The paths of a mask, each one of those that are known; the mask must name something.
pub(super) fn mask(
    mask: Option<&FieldMask>,
    known: &[&str],
    violations: &mut Violations,
) -> Vec<String> {
    let paths = mask.map(|mask| mask.paths.clone()).unwrap_or_default();
    if paths.is_empty() {
        violations.refuse("update_mask", "must name at least one field");
    }
    for path in &paths {
        if !known.contains(&path.as_str()) {
            let why = format!("may name only: {}", known.join(", "));
            violations.refuse("update_mask", why);
            break;
        }
    }
    paths
}

pub(super) fn page(page: Option<v1::PageRequest>) -> PageAsk {
    let page = page.unwrap_or_default();
    PageAsk { size: u32::try_from(page.page_size).unwrap_or(0), token: page.page_token }
}

pub(super) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// An enum value that the codec has already found to be defined.
pub(super) fn defined<E: TryFrom<i32>>(value: i32, unspecified: E) -> E {
    E::try_from(value).unwrap_or(unspecified)
}
