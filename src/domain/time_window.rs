//! The hours of the week during which a rule lets an agent spend.
//!
//! Judged on the wall clock of one time zone: an hour that clocks repeat is inside twice, an
//! hour they skip never comes. Overnight windows belong to the day on which they open.
//!
//! Deliberately not here: a clock, holidays, several spans in one day (a mandate lists several
//! rules), and the calendar periods of budgets (see `period`).

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::domain::period::parse_zone;

#[cfg(test)]
mod tests;

/// How far [`TimeWindow::next_opening`] looks: a week, and the day clocks may add to it.
pub const OPENING_SEARCH_DAYS: i32 = 8;

const DAY_MINUTES: u16 = 24 * 60;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Days of the week and one span of local time on each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// Whether a window opens on each day, Sunday first.
    days: [bool; 7],
    start_minute: u16,
    /// Up to 1440; less than `start_minute` when the window ends on the next day.
    end_minute: u16,
    zone: TimeZone,
}

/// Why days, hours and a zone are no time window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TimeWindowError {
    /// The list of days is empty.
    #[error("has no days; list at least one, 0 is Sunday")]
    NoDays,
    /// A day is over 6.
    #[error("has a day over 6; days go from 0, Sunday, to 6, Saturday")]
    BadDay,
    /// The start is not a time of day.
    #[error("is not a time from `00:00` to `23:59`")]
    BadStart,
    /// The end is not a time of day.
    #[error("is not a time from `00:00` to `24:00`")]
    BadEnd,
    /// Start and end are equal, which could mean never or always.
    #[error("is when the window starts; use `00:00` to `24:00` for whole days")]
    EmptyWindow,
    /// The zone is not an IANA name.
    #[error("is unknown; send an IANA name such as `Europe/Berlin`")]
    BadZone,
}

impl TimeWindow {
    /// Builds a window from days (0 is Sunday), two `HH:MM` times and an IANA zone name.
    ///
    /// An end before the start is on the next day. `24:00` is an end only.
    ///
    /// # Errors
    ///
    /// The first [`TimeWindowError`] in the order of the arguments.
    pub fn try_new(
        days: &[u8],
        start: &str,
        end: &str,
        zone_name: &str,
    ) -> Result<Self, TimeWindowError> {
        if days.is_empty() {
            return Err(TimeWindowError::NoDays);
        }
        let mut open_days = [false; 7];
        for day in days {
            *open_days.get_mut(usize::from(*day)).ok_or(TimeWindowError::BadDay)? = true;
        }
        let start_minute = parse_minute(start)
            .filter(|minute| *minute < DAY_MINUTES)
            .ok_or(TimeWindowError::BadStart)?;
        let end_minute = parse_minute(end).ok_or(TimeWindowError::BadEnd)?;
        if start_minute == end_minute {
            return Err(TimeWindowError::EmptyWindow);
        }
        let zone = parse_zone(zone_name).map_err(|_| TimeWindowError::BadZone)?;
        Ok(Self { days: open_days, start_minute, end_minute, zone })
    }

    /// The zone whose wall clock decides.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether the local time at `at` is inside: the start is, the end is not.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let minute = minute_of_day(local.hour().unsigned_abs(), local.minute().unsigned_abs());
        let opened_today = self.opens_on(local.weekday()) && self.start_minute <= minute;
        if self.start_minute < self.end_minute {
            return opened_today && minute < self.end_minute;
        }
        opened_today || (self.opens_on(local.weekday().previous()) && minute < self.end_minute)
    }

    /// The first instant after `at` at which the window turns from closed to open.
    ///
    /// `None` if that does not happen within [`OPENING_SEARCH_DAYS`]: the window is open all
    /// the time, or its only span of the week was skipped by a change of clocks.
    #[must_use]
    pub fn next_opening(&self, at: Timestamp) -> Option<Timestamp> {
        let span = DAY.saturating_mul(OPENING_SEARCH_DAYS);
        let last = at.saturating_add(span).unwrap_or(Timestamp::MAX);
        let today = self.zone.to_datetime(at).date();
        // A window opens when the wall clock reaches its start or when clocks jump into it. The
        // local date may lag behind by a day, hence the wider range of days.
        let starts = (-1..=OPENING_SEARCH_DAYS.saturating_add(2))
            .filter_map(|days| today.checked_add(DAY.saturating_mul(days)).ok())
            .flat_map(|date| self.instants_of(date, self.start_minute));
        let jumps = self.zone.following(at).map(|jump| jump.timestamp());
        starts
            .chain(jumps.take_while(|jump| *jump <= last))
            .filter(|instant| at < *instant && *instant <= last && self.turns_open(*instant))
            .min()
    }

    /// An instant after `at` up to which the window stays open; `None` if it is closed at `at`.
    ///
    /// Never later than the window closes, but possibly earlier: where the clocks change, and at a
    /// midnight that the next day's window joins.
    #[must_use]
    pub fn open_until(&self, at: Timestamp) -> Option<Timestamp> {
        if !self.contains(at) {
            return None;
        }
        let today = self.zone.to_datetime(at).date();
        let ends = (0..=1_i32)
            .filter_map(|days| today.checked_add(DAY.saturating_mul(days)).ok())
            .flat_map(|date| self.instants_of(date, self.end_minute));
        let jump = self.zone.following(at).next().map(|jump| jump.timestamp());
        ends.chain(jump).filter(|end| *end > at).min()
    }

    fn opens_on(&self, day: Weekday) -> bool {
        let index = usize::from(day.to_sunday_zero_offset().unsigned_abs());
        self.days.get(index).is_some_and(|open| *open)
    }

    fn turns_open(&self, at: Timestamp) -> bool {
        let before = at.checked_sub(SignedDuration::from_nanos(1));
        self.contains(at) && before.is_ok_and(|before| !self.contains(before))
    }

    // Both instants at which the wall clock shows a minute of a day, if clocks repeat it.
    fn instants_of(&self, date: Date, minute: u16) -> impl Iterator<Item = Timestamp> + use<> {
        let minutes = SignedDuration::from_mins(minute.into());
        let local = date.to_datetime(Time::midnight()).saturating_add(minutes);
        let instant = self.zone.to_ambiguous_timestamp(local);
        [instant.earlier(), instant.later()].into_iter().flatten()
    }
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let total = minute_of_day(hour, minute);
    (minute < 60 && total <= DAY_MINUTES).then_some(total)
}

fn two_digits(text: &str) -> Option<u8> {
    let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

fn minute_of_day(hour: u8, minute: u8) -> u16 {
    u16::from(hour).saturating_mul(60).saturating_add(minute.into())
}
