//! When a delivery is tried again, and when nobody is asked any more: pure arithmetic of time.
//!
//! The schedule is the one that Standard Webhooks gives as an example. Not here: clocks, sleeping
//! and random bits; who calls brings them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long after each attempt that failed the next one is made; the first is made at once.
pub const DELAYS: [SignedDuration; 9] = [
    SignedDuration::from_secs(5),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(30),
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(5),
    SignedDuration::from_hours(10),
    SignedDuration::from_hours(14),
    SignedDuration::from_hours(20),
    SignedDuration::from_hours(24),
];

/// The longest that a receiver may put an attempt off.
pub const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(24);

/// An endpoint that has answered nothing well for so long is disabled.
pub const FAILING_TIME_MAX: SignedDuration = SignedDuration::from_hours(5 * 24);

/// Failures in a row after which an endpoint rests, and only one attempt at a time is made.
pub const FAILURES_UNTIL_REST: u32 = 5;

/// The first and the longest rest between two such attempts.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_mins(1);

/// When to try again after `made` attempts, the last one now; `None` when the schedule is over.
///
/// A wait that the receiver asked for is kept to if it is longer. `jitter` is any number: it makes
/// the wait up to a tenth longer, so that what failed together is not repeated together.
#[must_use]
pub fn next_attempt(
    made: u32,
    now: Timestamp,
    retry_after: Option<SignedDuration>,
    jitter: u16,
) -> Option<Timestamp> {
    let index = usize::try_from(made.checked_sub(1)?).ok()?;
    let delay = DELAYS.get(index)?;
    let tenth = delay.checked_div(10)?;
    let part = tenth.as_millis().checked_mul(i128::from(jitter))?.checked_div(0xffff)?;
    let jittered = delay.checked_add(SignedDuration::from_millis(i64::try_from(part).ok()?))?;
    let asked = retry_after.unwrap_or(SignedDuration::ZERO).min(RETRY_AFTER_MAX);
    now.checked_add(jittered.max(asked)).ok()
}

/// How long an endpoint rests after so many failures in a row; `None` while it need not.
#[must_use]
pub fn rest(failures: u32) -> Option<Duration> {
    let beyond = failures.checked_sub(FAILURES_UNTIL_REST)?;
    let factor = 2_u32.checked_pow(beyond.min(8))?;
    Some(REST_MIN.saturating_mul(factor).min(REST_MAX))
}

/// What a receiver says with `Retry-After`: seconds, or a date of HTTP. Anything else says nothing.
#[must_use]
pub fn retry_after(header: &str, now: Timestamp) -> Option<SignedDuration> {
    let text = header.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has mean a very long time.
        let seconds = text.parse::<i64>().unwrap_or(i64::MAX);
        return Some(SignedDuration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = at.duration_since(now);
    (wait > SignedDuration::ZERO).then(|| wait.min(RETRY_AFTER_MAX))
}

/// Whether an endpoint that fails since then has failed for too long.
#[must_use]
pub fn has_failed_too_long(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) >= FAILING_TIME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-05-04T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn attempts_follow_the_schedule_and_end_after_days() {
        let mut whole = SignedDuration::ZERO;
        for (index, delay) in DELAYS.iter().enumerate() {
            let made = u32::try_from(index + 1).unwrap();
            let least = next_attempt(made, now(), None, 0).unwrap();
            assert_eq!(least.duration_since(now()), *delay);
            let most = next_attempt(made, now(), None, u16::MAX).unwrap();
            let tenth = *delay / 10;
            assert_eq!(most.duration_since(now()), *delay + tenth);
            whole += *delay;
        }
        assert!(whole > SignedDuration::from_hours(72), "{whole}");
        assert_eq!(next_attempt(0, now(), None, 0), None);
        assert_eq!(next_attempt(10, now(), None, 0), None);
        assert_eq!(next_attempt(u32::MAX, now(), None, 0), None);
    }

    #[test]
    fn a_longer_wait_that_is_asked_for_is_kept_to_within_a_day() {
        let wait = |asked| next_attempt(1, now(), Some(asked), 0).unwrap().duration_since(now());
        assert_eq!(wait(SignedDuration::from_secs(1)), SignedDuration::from_secs(5));
        assert_eq!(wait(SignedDuration::from_mins(7)), SignedDuration::from_mins(7));
        assert_eq!(wait(SignedDuration::from_hours(1_000)), RETRY_AFTER_MAX);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text| retry_after(text, now());
        assert_eq!(read("120"), Some(SignedDuration::from_secs(120)));
        assert_eq!(read(" 0 "), Some(SignedDuration::ZERO));
        assert_eq!(read("99999999999999999999999"), Some(RETRY_AFTER_MAX));
        let date = "Mon, 04 May 2026 12:01:30 GMT";
        assert_eq!(read(date), Some(SignedDuration::from_secs(90)));
        for text in ["", "-1", "1.5", "soon", "Mon, 04 May 2026 11:00:00 GMT", "١٢"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_endpoint_rests_longer_and_longer_and_never_longer_than_a_minute() {
        assert_eq!(rest(FAILURES_UNTIL_REST - 1), None);
        let rests: Vec<u64> = (5..12).map(|failures| rest(failures).unwrap().as_secs()).collect();
        assert_eq!(rests, [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(rest(u32::MAX), Some(REST_MAX));
    }

    #[test]
    fn five_days_of_nothing_but_failure_are_too_long() {
        let since = now();
        let after = |hours| since + SignedDuration::from_hours(hours);
        assert!(!has_failed_too_long(since, after(119)));
        assert!(has_failed_too_long(since, after(120)));
        assert!(!has_failed_too_long(since, after(-1)));
    }
}
