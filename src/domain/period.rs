//! Calendar periods of a budget: which day, week or month an instant belongs to, in a time zone.
//!
//! Windows of one period and zone tile time: each instant is in exactly one, whatever the zone
//! does to its clocks. A week starts on Monday, in every zone and for every organization.
//!
//! Deliberately not here: a clock, the system's time zone database (the compiled-in one makes
//! every node of a release agree), sliding windows of rate rules, and any reset job.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[cfg(test)]
mod tests;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How often a budget starts afresh; stored and signed by its lower-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Never: one window for the whole lifetime.
    None,
    /// At the start of each local day.
    Daily,
    /// At the start of each local Monday.
    Weekly,
    /// At the start of the first local day of each month.
    Monthly,
}

/// One instance of a period: half-open, `starts_at` belongs to it and `ends_at` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first instant; the Unix epoch for [`Period::None`].
    pub starts_at: Timestamp,
    /// The first instant after it; `None` when it never ends.
    pub ends_at: Option<Timestamp>,
}

/// Why a period or zone could not be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum PeriodError {
    /// The name is not in the IANA time zone database.
    #[error("time zone is unknown; send an IANA name such as `Europe/Berlin`")]
    UnknownZone,
    /// The window begins or ends outside of the years -9999 to 9999.
    #[error("instant is too close to the end of the calendar")]
    OutOfRange,
}

impl Window {
    /// Whether `at` is inside; the cheap test before asking [`Period::window`] again.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.starts_at <= at && self.ends_at.is_none_or(|end| at < end)
    }
}

impl Period {
    /// The window that `at` belongs to, by the calendar of `zone`.
    ///
    /// A window starts when its first local day does: at midnight, or at the jump that swallowed
    /// midnight. Where clocks are set back over midnight the day that began stays begun, so a
    /// closed window never opens again. A day that a zone skipped has no window.
    ///
    /// # Errors
    ///
    /// [`PeriodError::OutOfRange`] near the ends of the calendar, never for [`Period::None`].
    pub fn window(self, at: Timestamp, zone: &TimeZone) -> Result<Window, PeriodError> {
        let Some(mut first) = self.first_day(zone.to_datetime(at).date()) else {
            return Ok(Window { starts_at: Timestamp::UNIX_EPOCH, ends_at: None });
        };
        let mut starts_at = start_of_day(first, zone)?;
        loop {
            first = self.next_first_day(first)?;
            let ends_at = start_of_day(first, zone)?;
            if at < ends_at {
                return Ok(Window { starts_at, ends_at: Some(ends_at) });
            }
            // Clocks were set back over midnight: the local date lags one or two days behind.
            starts_at = ends_at;
        }
    }

    fn first_day(self, date: Date) -> Option<Date> {
        match self {
            Self::None => None,
            Self::Daily => Some(date),
            // The calendar starts on a Monday (-9999-01-01), so saturation is never reached.
            Self::Weekly => {
                let days = date.weekday().to_monday_zero_offset();
                Some(date.saturating_sub(DAY.saturating_mul(days.into())))
            }
            Self::Monthly => Some(date.first_of_month()),
        }
    }

    fn next_first_day(self, first: Date) -> Result<Date, PeriodError> {
        let days = match self {
            Self::None | Self::Daily => 1,
            Self::Weekly => 7,
            Self::Monthly => first.days_in_month().into(),
        };
        first.checked_add(DAY.saturating_mul(days)).map_err(|_| PeriodError::OutOfRange)
    }
}

/// Looks up an IANA time zone by name, without regard to case.
///
/// Links and legacy names (`US/Eastern`, `EST5EDT`) are accepted. POSIX rules (`EST5EDT4`) and
/// offsets are not: they do not follow what governments decide.
///
/// # Errors
///
/// [`PeriodError::UnknownZone`] for any other text.
pub fn parse_zone(name: &str) -> Result<TimeZone, PeriodError> {
    let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| PeriodError::UnknownZone)?;
    // The database has two names for "not configured"; both would silently mean UTC.
    if zone.is_unknown() || zone.iana_name() == Some("Factory") {
        return Err(PeriodError::UnknownZone);
    }
    Ok(zone)
}

/// The first instant whose local date is `date` or, if the zone skipped it, a later one.
fn start_of_day(date: Date, zone: &TimeZone) -> Result<Timestamp, PeriodError> {
    let midnight = zone.to_ambiguous_timestamp(date.to_datetime(Time::midnight()));
    let offset = midnight.offset();
    // In a fold this is the earlier midnight, in a gap an instant that is not before the jump.
    let instant = midnight.compatible().map_err(|_| PeriodError::OutOfRange)?;
    match offset {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => Ok(instant),
        // The jump may have begun before midnight (Toronto 1919: 23:30 to 00:30).
        AmbiguousOffset::Gap { .. } => {
            let just_after = instant.checked_add(SignedDuration::from_nanos(1));
            let jump = just_after.ok().and_then(|after| zone.preceding(after).next());
            jump.map(|jump| jump.timestamp()).ok_or(PeriodError::OutOfRange)
        }
    }
}
