//! Edges of the span, nights, changes of clocks, and the search for the next opening.
//!
//! Deliberately not here: the rule around the window, and the wording of its results.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow here fails the test")]

use proptest::prelude::*;

use super::*;
use crate::domain::samples::config;

const WEEKDAYS: [u8; 5] = [1, 2, 3, 4, 5];
const ALL_DAYS: [u8; 7] = [0, 1, 2, 3, 4, 5, 6];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn window(days: &[u8], start: &str, end: &str, zone: &str) -> TimeWindow {
    TimeWindow::try_new(days, start, end, zone).unwrap()
}

fn assert_edge(window: &TimeWindow, edge: &str, opens: bool) {
    let edge = at(edge);
    for distance in [
        SignedDuration::from_nanos(1),
        SignedDuration::from_micros(1),
        SignedDuration::from_millis(50),
    ] {
        assert_eq!(window.contains(edge - distance), !opens, "{edge} - {distance}");
        assert_eq!(window.contains(edge + distance), opens, "{edge} + {distance}");
    }
    assert_eq!(window.contains(edge), opens, "{edge}");
}

#[test]
fn office_hours_include_their_start_and_exclude_their_end() {
    let office = window(&WEEKDAYS, "09:00", "17:30", "Europe/Berlin");
    assert_edge(&office, "2026-07-01T09:00:00+02:00", true);
    assert_edge(&office, "2026-07-01T17:30:00+02:00", false);
    assert_edge(&office, "2026-01-07T09:00:00+01:00", true);
    assert!(!office.contains(at("2026-07-05T12:00:00+02:00")), "Sunday");
    assert!(!office.contains(at("2026-07-04T12:00:00+02:00")), "Saturday");
}

#[test]
fn day_zero_is_sunday() {
    let sunday = window(&[0, 0], "00:00", "24:00", "UTC");
    assert_edge(&sunday, "2026-07-05T00:00:00Z", true);
    assert_edge(&sunday, "2026-07-06T00:00:00Z", false);
}

#[test]
fn an_overnight_window_belongs_to_the_day_it_opens() {
    let friday_night = window(&[5], "22:00", "06:00", "America/New_York");
    assert_edge(&friday_night, "2026-07-03T22:00:00-04:00", true);
    assert_edge(&friday_night, "2026-07-04T06:00:00-04:00", false);
    assert!(friday_night.contains(at("2026-07-04T00:00:00-04:00")), "midnight");
    assert!(!friday_night.contains(at("2026-07-03T05:00:00-04:00")), "Friday's own early hours");
    assert!(!friday_night.contains(at("2026-07-04T23:00:00-04:00")), "Saturday night");
}

#[test]
fn midnight_can_be_an_end_in_two_spellings() {
    for end in ["00:00", "24:00"] {
        let evening = window(&[5], "18:00", end, "UTC");
        assert_edge(&evening, "2026-07-03T18:00:00Z", true);
        assert_edge(&evening, "2026-07-04T00:00:00Z", false);
    }
    let morning = window(&[5], "00:00", "06:00", "UTC");
    assert_edge(&morning, "2026-07-03T00:00:00Z", true);
    assert_edge(&morning, "2026-07-03T06:00:00Z", false);
}

#[test]
fn input_that_is_no_window_says_why() {
    use TimeWindowError as E;
    for (days, start, end, zone, why) in [
        (&[][..], "09:00", "17:00", "UTC", E::NoDays),
        (&[7], "09:00", "17:00", "UTC", E::BadDay),
        (&[1, 255], "09:00", "17:00", "UTC", E::BadDay),
        (&[1], "24:00", "17:00", "UTC", E::BadStart),
        (&[1], "9:00", "17:00", "UTC", E::BadStart),
        (&[1], "", "17:00", "UTC", E::BadStart),
        (&[1], "09:60", "17:00", "UTC", E::BadStart),
        (&[1], "+9:00", "17:00", "UTC", E::BadStart),
        (&[1], "09:00:00", "17:00", "UTC", E::BadStart),
        (&[1], "０９:00", "17:00", "UTC", E::BadStart),
        (&[1], "09:00", "24:01", "UTC", E::BadEnd),
        (&[1], "09:00", "25:00", "UTC", E::BadEnd),
        (&[1], "09:00", "99:99", "UTC", E::BadEnd),
        (&[1], "09:00", "17", "UTC", E::BadEnd),
        (&[1], "09:00", "09:00", "UTC", E::EmptyWindow),
        (&[1], "00:00", "00:00", "UTC", E::EmptyWindow),
        (&[1], "09:00", "17:00", "Mars/Base", E::BadZone),
        (&[1], "09:00", "17:00", "EST5EDT4", E::BadZone),
        (&[1], "09:00", "17:00", "", E::BadZone),
    ] {
        let told = TimeWindow::try_new(days, start, end, zone);
        assert_eq!(told, Err(why), "{days:?} {start} {end} {zone}");
        assert!(!why.to_string().ends_with('.'));
    }
}

#[test]
fn a_repeated_hour_is_inside_twice_and_a_skipped_one_never() {
    for (zone, repeated) in [
        ("America/New_York", ["2024-11-03T01:30:00-04:00", "2024-11-03T01:30:00-05:00"]),
        ("Europe/Berlin", ["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00"]),
        ("Australia/Sydney", ["2024-04-07T02:30:00+11:00", "2024-04-07T02:30:00+10:00"]),
        ("America/Havana", ["2024-11-03T00:30:00-04:00", "2024-11-03T00:30:00-05:00"]),
        ("Africa/Cairo", ["2024-10-31T23:30:00+03:00", "2024-10-31T23:30:00+02:00"]),
    ] {
        let local = window(&ALL_DAYS, "00:00", "24:00", zone).zone().to_datetime(at(repeated[0]));
        let hour = local.hour();
        let half = window(&ALL_DAYS, &format!("{hour:02}:15"), &format!("{hour:02}:45"), zone);
        for instant in repeated {
            assert!(half.contains(at(instant)), "{zone} {instant}");
        }
        // Both openings are found, one after the other.
        let quarter = SignedDuration::from_mins(15);
        let opening = half.next_opening(at(repeated[0]) - quarter * 2);
        assert_eq!(opening, Some(at(repeated[0]) - quarter), "{zone}");
        let opening = half.next_opening(at(repeated[0]));
        assert_eq!(opening, Some(at(repeated[1]) - quarter), "{zone}");
    }
    let skipped = window(&[0], "02:15", "02:45", "America/New_York");
    assert_eq!(skipped.next_opening(at("2024-03-08T12:00:00-05:00")), None);
    assert_eq!(
        skipped.next_opening(at("2024-03-10T12:00:00-04:00")),
        Some(at("2024-03-17T02:15:00-04:00"))
    );
}

#[test]
fn clocks_may_jump_into_and_fall_back_into_a_window() {
    // 02:00 becomes 03:00, inside a window that would have opened at 02:30.
    let forward = window(&[0], "02:30", "05:00", "Europe/Berlin");
    let jump = at("2024-03-31T03:00:00+02:00");
    assert_eq!(forward.next_opening(at("2024-03-30T12:00:00+01:00")), Some(jump));
    assert_edge(&forward, "2024-03-31T03:00:00+02:00", true);

    // 03:00 becomes 02:00 again, inside a window that had closed at 02:30.
    let back = window(&[6], "22:00", "02:30", "Europe/Berlin");
    let again = at("2024-10-27T02:00:00+01:00");
    assert_eq!(back.next_opening(at("2024-10-27T02:45:00+02:00")), Some(again));
    assert_edge(&back, "2024-10-27T02:00:00+01:00", true);

    // Midnight itself is skipped in Cairo, and a whole Friday was in Apia.
    let cairo = window(&[5], "00:00", "08:00", "Africa/Cairo");
    assert_edge(&cairo, "2024-04-26T01:00:00+03:00", true);
    let apia = window(&[5], "00:00", "24:00", "Pacific/Apia");
    assert_eq!(apia.next_opening(at("2011-12-27T12:00:00-10:00")), None);
    let saturday = window(&[6], "00:00", "24:00", "Pacific/Apia");
    assert_edge(&saturday, "2011-12-30T10:00:00Z", true);
}

#[test]
fn the_next_opening_skips_closed_days_and_reaches_the_same_day_next_week() {
    let office = window(&WEEKDAYS, "09:00", "17:00", "Europe/Berlin");
    for (now, opening) in [
        ("2026-07-03T08:59:59.999999+02:00", "2026-07-03T09:00:00+02:00"),
        ("2026-07-03T09:00:00+02:00", "2026-07-06T09:00:00+02:00"),
        ("2026-07-03T17:00:00+02:00", "2026-07-06T09:00:00+02:00"),
        ("2026-10-23T18:00:00+02:00", "2026-10-26T09:00:00+01:00"),
        ("2025-12-31T18:00:00+01:00", "2026-01-01T09:00:00+01:00"),
        ("2024-02-28T18:00:00+01:00", "2024-02-29T09:00:00+01:00"),
    ] {
        assert_eq!(office.next_opening(at(now)), Some(at(opening)), "{now}");
    }
    let monday = window(&[1], "09:00", "17:00", "Europe/Berlin");
    assert_eq!(
        monday.next_opening(at("2026-10-19T09:00:00+02:00")),
        Some(at("2026-10-26T09:00:00+01:00")),
        "a week and one hour"
    );
    let always = window(&ALL_DAYS, "00:00", "24:00", "UTC");
    assert_eq!(always.next_opening(at("2026-07-01T12:00:00Z")), None);
}

#[test]
fn the_ends_of_the_calendar_do_not_panic() {
    for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        let night = window(&ALL_DAYS, "22:00", "06:00", zone);
        for at in [Timestamp::MIN, Timestamp::MAX] {
            let opening = night.next_opening(at);
            assert!(opening.is_none_or(|opening| night.contains(opening)));
        }
    }
}

fn any_window() -> impl Strategy<Value = TimeWindow> {
    let zones = proptest::sample::select(vec![
        "UTC",
        "America/New_York",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "America/Sao_Paulo",
        "Africa/Cairo",
        "Pacific/Apia",
        "Antarctica/Troll",
        "Asia/Kathmandu",
    ]);
    let days = prop::collection::vec(0..7_u8, 1..7);
    (days, 0..1440_u16, 0..=1440_u16, zones)
        .prop_filter("start and end differ", |(_, start, end, _)| start != end)
        .prop_map(|(days, start, end, zone)| {
            let text = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            window(&days, &text(start), &text(end), zone)
        })
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    let (from, to) = (at("2009-01-01T00:00:00Z"), at("2030-01-01T00:00:00Z"));
    (from.as_second()..to.as_second()).prop_map(|second| Timestamp::from_second(second).unwrap())
}

#[test]
fn a_window_is_open_until_it_closes_or_the_clocks_change() {
    let office = window(&WEEKDAYS, "09:00", "17:30", "Europe/Berlin");
    let friday_night = window(&[5], "22:00", "06:00", "America/New_York");
    let half = window(&ALL_DAYS, "01:15", "01:45", "America/New_York");
    let skipped = window(&[0], "00:00", "02:30", "America/New_York");
    let always = window(&ALL_DAYS, "00:00", "24:00", "UTC");
    for (window, now, end) in [
        (&office, "2026-07-01T09:00:00+02:00", Some("2026-07-01T17:30:00+02:00")),
        (&office, "2026-07-01T17:29:59.999999+02:00", Some("2026-07-01T17:30:00+02:00")),
        (&office, "2026-07-01T17:30:00+02:00", None),
        (&friday_night, "2026-07-03T23:00:00-04:00", Some("2026-07-04T06:00:00-04:00")),
        (&friday_night, "2026-07-04T05:00:00-04:00", Some("2026-07-04T06:00:00-04:00")),
        (&friday_night, "2026-07-04T23:00:00-04:00", None),
        // An hour that is repeated ends twice, one that is skipped when it is.
        (&half, "2024-11-03T01:30:00-04:00", Some("2024-11-03T01:45:00-04:00")),
        (&half, "2024-11-03T01:30:00-05:00", Some("2024-11-03T01:45:00-05:00")),
        (&skipped, "2024-03-10T01:30:00-05:00", Some("2024-03-10T03:00:00-04:00")),
        (&always, "2026-07-01T12:00:00Z", Some("2026-07-02T00:00:00Z")),
    ] {
        assert_eq!(window.open_until(at(now)), end.map(at), "{window:?} at {now}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_window_stays_open_up_to_the_end_that_is_told(
        window in any_window(), at in any_instant(),
    ) {
        let end = window.open_until(at);
        prop_assert_eq!(end.is_some(), window.contains(at));
        let mut now = at;
        while end.is_some_and(|end| now < end) {
            prop_assert!(window.contains(now), "closed at {} before {:?}", now, end);
            now += SignedDuration::from_mins(7);
        }
        if let Some(end) = end {
            prop_assert!(at < end && window.contains(end - SignedDuration::from_nanos(1)));
        }
    }

    #[test]
    fn the_window_stays_closed_until_its_next_opening(
        window in any_window(), at in any_instant(),
    ) {
        let opening = window.next_opening(at);
        let end = opening.unwrap_or(at + DAY * OPENING_SEARCH_DAYS);
        if let Some(opening) = opening {
            prop_assert!(at < opening && window.contains(opening));
            prop_assert!(!window.contains(opening - SignedDuration::from_nanos(1)));
        }
        // Between the two it may close once and never opens.
        let mut open = window.contains(at);
        let mut now = at;
        while now < end {
            let inside = window.contains(now);
            prop_assert!(open || !inside, "open at {} before {:?}", now, opening);
            open = inside;
            now += SignedDuration::from_mins(7);
        }
    }

    #[test]
    fn a_window_and_its_complement_never_agree(
        start in 0..1440_u16, end in 0..1440_u16, at in any_instant(),
    ) {
        prop_assume!(start != end);
        let text = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let inside = window(&ALL_DAYS, &text(start), &text(end), "America/Havana");
        let outside = window(&ALL_DAYS, &text(end), &text(start), "America/Havana");
        prop_assert_ne!(inside.contains(at), outside.contains(at));
    }

    #[test]
    fn any_input_is_read_or_refused(
        days in prop::collection::vec(any::<u8>(), 0..3),
        start in "\\PC{0,6}", end in "[0-9:]{0,5}", zone in "\\PC*",
    ) {
        prop_assert!(TimeWindow::try_new(&days, &start, &end, &zone).is_err());
    }
}
