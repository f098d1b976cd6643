//! How an endpoint does: how many attempts at a time it gets, and how long it rests.
//!
//! One that answers well gets more attempts at a time, one that fails gets fewer, and one that
//! keeps failing rests. Not here: when a delivery is tried again (`schedule`).

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::schedule::{FAILURES_UNTIL_REST, rest};

/// The most attempts at a time of an endpoint that answers quickly.
const AT_ONCE_MAX: usize = 16;

/// The same of one that nothing is known of yet.
const AT_ONCE_START: usize = 4;

/// How long an endpoint rests at most because it asked to.
const ASKED_REST_MAX: Duration = Duration::from_mins(5);

/// How an endpoint does.
#[derive(Debug)]
pub(super) struct Health {
    at_once: usize,
    /// In a row.
    failures: u32,
    /// How often it was sent to rest.
    rests: u32,
    rest_until: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self { at_once: AT_ONCE_START, failures: 0, rests: 0, rest_until: None }
    }
}

/// When an attempt began, in rests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(u32);

impl Health {
    /// An attempt begins.
    pub(super) const fn begin(&self) -> Begun {
        Begun(self.rests)
    }

    /// How many attempts it may have at a time.
    pub(super) const fn at_once(&self) -> usize {
        if self.failures >= FAILURES_UNTIL_REST { 1 } else { self.at_once }
    }

    /// How long it still rests, if it does.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let rest = self.rest_until?.saturating_duration_since(now);
        (!rest.is_zero()).then_some(rest)
    }

    /// It has accepted something.
    pub(super) fn accepted(&mut self) {
        self.failures = 0;
        self.rest_until = None;
        self.at_once = self.at_once.saturating_mul(2).min(AT_ONCE_MAX);
    }

    /// It has refused something. Attempts that were under way together fail together: those that
    /// had begun before a rest do not make the next one longer.
    pub(super) fn refused(
        &mut self,
        Begun(rests): Begun,
        (asked, is_overloaded): (Option<SignedDuration>, bool),
        now: Instant,
    ) {
        let halved = self.at_once.checked_div(2).unwrap_or(1).max(1);
        self.at_once = if is_overloaded { 1 } else { halved };
        let asked = asked.map(|asked| asked.unsigned_abs().min(ASKED_REST_MAX));
        let mut earned = None;
        if rests == self.rests {
            self.failures = self.failures.saturating_add(1);
            earned = rest(self.failures);
        }
        let Some(rest) = earned.max(asked) else { return };
        self.rests = self.rests.saturating_add(1);
        self.rest_until = self.rest_until.max(now.checked_add(rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_fails_together_makes_one_rest() {
        let start = Instant::now();
        let mut health = Health::default();
        health.accepted();
        health.accepted();
        let under_way: Vec<_> = (0..health.at_once()).map(|_| health.begin()).collect();
        assert_eq!(under_way.len(), 16);
        for begun in under_way {
            health.refused(begun, (None, false), start);
        }
        assert_eq!(health.at_once(), 1);
        assert_eq!(health.rest(start), Some(Duration::from_secs(5)));
        // One attempt after each rest, and each failure makes the next rest longer.
        let mut now = 0;
        for expected in [5, 10, 20, 40, 60, 60] {
            let rest = health.rest(at(now, start)).unwrap();
            assert_eq!(rest.as_secs(), expected);
            now += expected;
            assert_eq!(health.rest(at(now, start)), None);
            health.refused(health.begin(), (None, false), at(now, start));
        }
        health.accepted();
        assert_eq!((health.rest(start), health.at_once()), (None, 2));
    }

    #[test]
    fn a_rest_that_is_asked_for_is_kept_to_and_bounded() {
        let start = Instant::now();
        let mut health = Health::default();
        let begun = [health.begin(), health.begin()];
        health.refused(begun[0], (Some(SignedDuration::from_secs(30)), true), start);
        assert_eq!((health.rest(start), health.at_once()), (Some(Duration::from_secs(30)), 1));
        health.refused(begun[1], (Some(SignedDuration::from_hours(9)), true), start);
        assert_eq!(health.rest(start), Some(ASKED_REST_MAX));
    }
}
