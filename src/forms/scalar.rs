//! The scalars of the forms: whole numbers, hours and times.
//!
//! A number with a fraction, with an exponent or in quotes is refused here and never rounded.
//! Not here: bounds of amounts, which the server checks.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// A whole number that fits `T` (`i64` for money and counts, `i32` for minutes and days).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<T>(pub T);

impl<'de, T: TryFrom<i64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `deserialize_any`, because the typed hint would let YAML read a quoted number.
        deserializer.deserialize_any(WholeVisitor(PhantomData))
    }
}

struct WholeVisitor<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for WholeVisitor<T> {
    type Value = Whole<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a whole number, without quotes, fraction or exponent")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        let out_of_range = || E::invalid_value(Unexpected::Signed(number), &"a smaller number");
        T::try_from(number).map(Whole).map_err(|_error| out_of_range())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &"a smaller number")),
        }
    }
}

/// Reads a required [`Whole`].
pub(super) fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

/// Reads a [`Whole`] that may be absent or null.
pub(super) fn whole_or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    let number = Option::<Whole<T>>::deserialize(deserializer)?;
    Ok(number.map(|Whole(number)| number))
}

/// An hour of the day, 0 to `LAST`, as the published time window writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hour<const LAST: i64>(pub i64);

impl<const LAST: i64> Hour<LAST> {
    /// The hour as `HH:00`.
    #[must_use]
    pub fn to_clock(self) -> String {
        format!("{:02}:00", self.0)
    }
}

impl<'de, const LAST: i64> Deserialize<'de> for Hour<LAST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HourVisitor::<LAST>)
    }
}

struct HourVisitor<const LAST: i64>;

impl<const LAST: i64> Visitor<'_> for HourVisitor<LAST> {
    type Value = Hour<LAST>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "a whole hour from 0 to {LAST}; for other minutes give `start` and `end` as \"HH:MM\""
        )
    }

    fn visit_i64<E: de::Error>(self, hour: i64) -> Result<Self::Value, E> {
        if (0..=LAST).contains(&hour) {
            Ok(Hour(hour))
        } else {
            Err(E::invalid_value(Unexpected::Signed(hour), &self))
        }
    }

    fn visit_u64<E: de::Error>(self, hour: u64) -> Result<Self::Value, E> {
        match i64::try_from(hour) {
            Ok(hour) => self.visit_i64(hour),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(hour), &self)),
        }
    }
}

/// A point in time, written as RFC 3339 with an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// Reads a protobuf time; none if it is absent or outside the years 1 to 9999.
    #[must_use]
    pub fn from_proto(time: Option<&prost_types::Timestamp>) -> Option<Self> {
        let time = time?;
        jiff::Timestamp::new(time.seconds, time.nanos).ok().map(Self)
    }

    /// The same time as protobuf writes it.
    #[must_use]
    pub fn to_proto(self) -> prost_types::Timestamp {
        // jiff counts both parts down before 1970, protobuf only the seconds.
        let (seconds, nanos) = (self.0.as_second(), self.0.subsec_nanosecond());
        if nanos < 0 {
            prost_types::Timestamp {
                seconds: seconds.saturating_sub(1),
                nanos: nanos.saturating_add(1_000_000_000),
            }
        } else {
            prost_types::Timestamp { seconds, nanos }
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time with an offset, such as 2026-01-31T09:00:00Z")]
pub struct NoTime;

impl std::str::FromStr for Time {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = Some(text).filter(|text| is_rfc3339(text)).and_then(|text| text.parse().ok());
        time.map(Self).ok_or(NoTime)
    }
}

/// Whether a text has the form of RFC 3339, section 5.6. The parser reads other forms too, and
/// moves times by offsets that there are not.
fn is_rfc3339(text: &str) -> bool {
    let form = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
    let form = form.collect::<String>().to_ascii_uppercase();
    let Some(rest) = form.strip_prefix("0000-00-00T00:00:00") else { return false };
    let rest = match rest.strip_prefix(".0") {
        Some(fraction) => fraction.trim_start_matches('0'),
        None => rest,
    };
    match rest {
        "Z" => true,
        "+00:00" | "-00:00" => {
            let offset = text.get(text.len().saturating_sub(5)..).unwrap_or_default();
            let (hour, minute) = offset.split_once(':').unwrap_or_default();
            hour < "24" && minute < "60"
        }
        _ => false,
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an RFC 3339 time with an offset, such as \"2026-01-31T09:00:00Z\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map_err(|_error| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_form_of_rfc_3339_and_an_offset_that_there_is() {
        for good in [
            "2027-01-01T00:00:00Z",
            "2027-01-01t00:00:00z",
            "2027-01-01T00:00:00.5+23:59",
            "2027-01-01T00:00:00.123456789-00:00",
        ] {
            assert!(good.parse::<Time>().is_ok(), "{good}");
        }
        for wrong in [
            "",
            "2027-01-01",
            "2027-01-01T00:00:00",
            "2027-01-01T00:00:00+25:00",
            "2027-01-01T00:00:00+23:60",
            "2027-01-01T00:00:00+25:59:59",
            "2027-01-01T00:00:00+08",
            "2027-01-01T00-08",
            "20270101T000000Z",
            "2027-01-01T00:00Z",
            "2027-01-01T00:00:00,5Z",
            "2027-01-01T00:00:00.Z",
            "2027-01-01 00:00:00Z",
            "+002027-01-01T00:00:00Z",
            "2027-01-01T00:00:00Z[America/New_York]",
            "2027-01-01T00:00:00+00:00[Mars/Base]",
            "2027-02-29T00:00:00Z",
            "２０２７-01-01T00:00:00Z",
        ] {
            assert_eq!(wrong.parse::<Time>(), Err(NoTime), "{wrong}");
        }
    }
}
