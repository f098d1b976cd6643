//! Boundaries to the microsecond, the zones that break naive calendars, and tiling properties.
//!
//! Deliberately not here: budgets, and anything that depends on the machine's own zone data.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow here fails the test")]

use jiff::civil::Weekday;
use proptest::prelude::*;

use super::*;
use crate::domain::samples::config;

const CALENDAR: [Period; 3] = [Period::Daily, Period::Weekly, Period::Monthly];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn zone(name: &str) -> TimeZone {
    parse_zone(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn noon(date: &str, zone: &TimeZone) -> Timestamp {
    zone.to_timestamp(format!("{date}T12:00").parse().unwrap()).unwrap()
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    zone.to_datetime(at).to_string()
}

fn minutes(window: &Window) -> i64 {
    window.ends_at.unwrap().duration_since(window.starts_at).as_secs() / 60
}

fn assert_tiles(period: Period, at: Timestamp, zone: &TimeZone) {
    let nano = SignedDuration::from_nanos(1);
    let window = period.window(at, zone).unwrap();
    let end = window.ends_at.unwrap();
    let told = || format!("{period:?} {at} {zone:?} {window:?}");

    assert!(window.contains(at) && window.starts_at < end, "{}", told());
    assert!(!window.contains(end) && !window.contains(window.starts_at - nano), "{}", told());
    assert_eq!(period.window(window.starts_at, zone).unwrap(), window, "{}", told());
    assert_eq!(period.window(end - nano, zone).unwrap(), window, "{}", told());
    assert_eq!(period.window(end, zone).unwrap().starts_at, end, "{}", told());
    let before = period.window(window.starts_at - nano, zone).unwrap();
    assert_eq!(before.ends_at, Some(window.starts_at), "{}", told());

    // It starts exactly when the local date first reaches its first day, or jumps over it.
    let first = zone.to_datetime(window.starts_at).date();
    let last = zone.to_datetime(window.starts_at - nano).date();
    assert!(last < first, "{}", told());
    let turned = match period {
        Period::None => false,
        Period::Daily => true,
        Period::Weekly => {
            (last.until(first).unwrap().get_days() >= 7) || {
                first.weekday().to_monday_zero_offset() < last.weekday().to_monday_zero_offset()
            }
        }
        Period::Monthly => first.first_of_month() != last.first_of_month(),
    };
    assert!(turned, "{}", told());
}

#[test]
fn a_lifetime_window_starts_at_the_epoch_and_never_ends() {
    for at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let window = Period::None.window(at, &zone("Asia/Tokyo")).unwrap();
        assert_eq!(window, Window { starts_at: Timestamp::UNIX_EPOCH, ends_at: None });
        assert_eq!(window.contains(at), at >= Timestamp::UNIX_EPOCH);
    }
}

#[test]
fn a_period_is_stored_by_its_lower_case_name() {
    let all = [Period::None, Period::Daily, Period::Weekly, Period::Monthly];
    let text = r#"["none","daily","weekly","monthly"]"#;
    assert_eq!(serde_json::to_string(&all).unwrap(), text);
    assert_eq!(serde_json::from_str::<[Period; 4]>(text).unwrap(), all);
}

#[test]
fn a_boundary_is_exact_to_the_microsecond() {
    let berlin = zone("Europe/Berlin");
    let start = at("2026-07-01T00:00:00+02:00");
    for period in [Period::Daily, Period::Monthly] {
        for distance in [SignedDuration::from_micros(1), SignedDuration::from_millis(50)] {
            let before = period.window(start - distance, &berlin).unwrap();
            let after = period.window(start + distance, &berlin).unwrap();
            assert_eq!(before.ends_at, Some(start));
            assert_eq!(after.starts_at, start);
            assert!(before.contains(start - distance) && !before.contains(start));
            assert!(after.contains(start) && !after.contains(start - distance));
        }
        assert_eq!(period.window(start, &berlin).unwrap().starts_at, start);
    }
}

#[test]
fn a_day_is_as_long_as_its_clocks_make_it() {
    for (name, date, length, starts) in [
        ("UTC", "2024-02-29", 1440, "00:00:00"),
        ("Asia/Kathmandu", "2024-06-01", 1440, "00:00:00"),
        ("America/New_York", "2024-03-10", 1380, "00:00:00"),
        ("America/New_York", "2024-11-03", 1500, "00:00:00"),
        ("Europe/Berlin", "2024-03-31", 1380, "00:00:00"),
        ("Europe/Berlin", "2024-10-27", 1500, "00:00:00"),
        ("Europe/London", "2024-03-31", 1380, "00:00:00"),
        ("Europe/London", "2024-10-27", 1500, "00:00:00"),
        ("Europe/Dublin", "2024-10-27", 1500, "00:00:00"),
        ("Australia/Sydney", "2024-10-06", 1380, "00:00:00"),
        ("Australia/Sydney", "2024-04-07", 1500, "00:00:00"),
        ("Australia/Lord_Howe", "2024-10-06", 1410, "00:00:00"),
        ("Australia/Lord_Howe", "2024-04-07", 1470, "00:00:00"),
        ("Pacific/Auckland", "2024-09-29", 1380, "00:00:00"),
        ("Pacific/Auckland", "2024-04-07", 1500, "00:00:00"),
        ("Antarctica/Troll", "2024-03-31", 1320, "00:00:00"),
        ("Antarctica/Troll", "2024-10-27", 1560, "00:00:00"),
        ("Africa/Casablanca", "2024-03-10", 1500, "00:00:00"),
        ("Africa/Casablanca", "2024-04-14", 1380, "00:00:00"),
        ("America/Sao_Paulo", "2018-11-04", 1380, "01:00:00"),
        ("America/Sao_Paulo", "2018-02-17", 1500, "00:00:00"),
        ("Asia/Beirut", "2024-03-31", 1380, "01:00:00"),
        ("Asia/Beirut", "2024-10-26", 1500, "00:00:00"),
        ("Africa/Cairo", "2024-04-26", 1380, "01:00:00"),
        ("Africa/Cairo", "2024-10-31", 1500, "00:00:00"),
        ("America/Havana", "2024-03-10", 1380, "01:00:00"),
        ("America/Havana", "2024-11-03", 1500, "00:00:00"),
        ("America/Santiago", "2024-09-08", 1380, "01:00:00"),
        ("America/Santiago", "2024-04-06", 1500, "00:00:00"),
        ("Asia/Tehran", "2022-03-22", 1380, "01:00:00"),
        ("Asia/Tehran", "2021-09-21", 1500, "00:00:00"),
        // 23:30 jumped to 00:30, so one day lost its end and the next one its start.
        ("America/Toronto", "1919-03-30", 1410, "00:00:00"),
        ("America/Toronto", "1919-03-31", 1410, "00:30:00"),
        // At 00:01 clocks went back to 23:01; the day that had begun stays begun.
        ("America/St_Johns", "2010-11-06", 1440, "00:00:00"),
        ("America/St_Johns", "2010-11-07", 1500, "00:00:00"),
        ("America/St_Johns", "2010-03-14", 1380, "00:00:00"),
    ] {
        let zone = zone(name);
        let noon = noon(date, &zone);
        let window = Period::Daily.window(noon, &zone).unwrap();
        assert_eq!(minutes(&window), length, "{name} {date}");
        assert_eq!(local(window.starts_at, &zone), format!("{date}T{starts}"), "{name} {date}");
        for period in CALENDAR {
            assert_tiles(period, noon, &zone);
        }
    }
}

#[test]
fn the_day_after_midnight_was_repeated_does_not_open_again() {
    let zone = zone("America/St_Johns");
    let midnight = at("2010-11-07T00:00:00-02:30");
    let second_pass = at("2010-11-06T23:30:00-03:30");
    assert_eq!(local(second_pass, &zone), "2010-11-06T23:30:00");
    assert!(second_pass > midnight);
    let window = Period::Daily.window(second_pass, &zone).unwrap();
    assert_eq!(window.starts_at, midnight);
    assert_eq!(window.ends_at, Some(at("2010-11-08T00:00:00-03:30")));
}

#[test]
fn a_skipped_day_has_no_window() {
    for (name, before, after, zulu) in [
        ("Pacific/Apia", "2011-12-29", "2011-12-31", "2011-12-30T10:00:00Z"),
        ("Pacific/Fakaofo", "2011-12-29", "2011-12-31", "2011-12-30T11:00:00Z"),
        ("Pacific/Kwajalein", "1993-08-20", "1993-08-22", "1993-08-21T12:00:00Z"),
    ] {
        let zone = zone(name);
        let last = Period::Daily.window(noon(before, &zone), &zone).unwrap();
        let next = Period::Daily.window(noon(after, &zone), &zone).unwrap();
        assert_eq!(last.ends_at, Some(at(zulu)), "{name}");
        assert_eq!(next.starts_at, at(zulu), "{name}");
        assert_eq!((minutes(&last), minutes(&next)), (1440, 1440), "{name}");
    }
    // The year's last day was skipped, and the month still ends where the next one starts.
    let zone = zone("Pacific/Kiritimati");
    let month = Period::Monthly.window(noon("1994-12-10", &zone), &zone).unwrap();
    assert_eq!(local(month.ends_at.unwrap(), &zone), "1995-01-01T00:00:00");
    assert_eq!(minutes(&month), 30 * 1440);
}

#[test]
fn months_end_where_the_calendar_says() {
    let zone = zone("Asia/Kolkata");
    for (date, starts, ends) in [
        ("2024-02-29", "2024-02-01", "2024-03-01"),
        ("2023-02-28", "2023-02-01", "2023-03-01"),
        ("2000-02-29", "2000-02-01", "2000-03-01"),
        ("1900-02-28", "1900-02-01", "1900-03-01"),
        ("2026-01-31", "2026-01-01", "2026-02-01"),
        ("2026-04-30", "2026-04-01", "2026-05-01"),
        ("2026-12-31", "2026-12-01", "2027-01-01"),
    ] {
        let window = Period::Monthly.window(noon(date, &zone), &zone).unwrap();
        assert_eq!(local(window.starts_at, &zone), format!("{starts}T00:00:00"), "{date}");
        assert_eq!(local(window.ends_at.unwrap(), &zone), format!("{ends}T00:00:00"), "{date}");
    }
}

#[test]
fn weeks_start_on_monday_across_years() {
    let zone = zone("America/New_York");
    for (date, starts, length) in [
        ("2026-01-01", "2025-12-29", 10_080),
        ("2026-01-04", "2025-12-29", 10_080),
        ("2026-01-05", "2026-01-05", 10_080),
        ("2024-02-29", "2024-02-26", 10_080),
        ("2021-01-03", "2020-12-28", 10_080),
        ("2024-03-10", "2024-03-04", 10_020),
        ("2024-11-03", "2024-10-28", 10_140),
    ] {
        let window = Period::Weekly.window(noon(date, &zone), &zone).unwrap();
        assert_eq!(local(window.starts_at, &zone), format!("{starts}T00:00:00"), "{date}");
        assert_eq!(zone.to_datetime(window.starts_at).weekday(), Weekday::Monday, "{date}");
        assert_eq!(minutes(&window), length, "{date}");
    }
}

#[test]
fn windows_tile_around_every_jump_of_every_zone() {
    let nano = SignedDuration::from_nanos(1);
    let (from, to) = (at("1840-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"));
    let mut jumps = 0;
    for name in TimeZoneDatabase::bundled().available() {
        let Ok(zone) = parse_zone(name.as_str()) else {
            continue;
        };
        for jump in zone.following(from).take_while(|jump| jump.timestamp() < to) {
            for period in CALENDAR {
                assert_tiles(period, jump.timestamp(), &zone);
            }
            assert_tiles(Period::Daily, jump.timestamp() - nano, &zone);
            jumps += 1;
        }
    }
    assert!(jumps > 10_000, "{jumps} jumps, is `tzdb-bundle-always` on?");
}

#[test]
fn the_ends_of_the_calendar_are_errors_and_not_panics() {
    for name in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
        for period in CALENDAR {
            for at in [Timestamp::MIN, Timestamp::MAX] {
                match period.window(at, &zone(name)) {
                    Ok(window) => assert!(window.contains(at), "{name} {period:?} {at}"),
                    Err(error) => assert_eq!(error, PeriodError::OutOfRange),
                }
            }
        }
    }
    assert_eq!(jiff::civil::Date::MIN.weekday(), Weekday::Monday);
}

#[test]
fn zones_are_iana_names_and_nothing_else() {
    for (name, canonical) in [
        ("UTC", "UTC"),
        ("utc", "UTC"),
        ("Europe/Berlin", "Europe/Berlin"),
        ("america/NEW_YORK", "America/New_York"),
        ("US/Eastern", "US/Eastern"),
        ("EST5EDT", "EST5EDT"),
        ("Asia/Calcutta", "Asia/Calcutta"),
        ("Etc/GMT+5", "Etc/GMT+5"),
        ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
    ] {
        assert_eq!(zone(name).iana_name(), Some(canonical), "{name}");
    }
    for name in [
        "",
        " ",
        "Mars/Base",
        "EST5EDT4",
        "EST5EDT,M3.2.0,M11.1.0",
        "<-03>3",
        "+02:00",
        "-05",
        "UTC+2",
        "Z",
        "local",
        "localtime",
        "Etc/Unknown",
        "Factory",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "../../etc/passwd",
        "/usr/share/zoneinfo/UTC",
        " Europe/Berlin",
        "Europe/Berlin\0",
        "Europe",
    ] {
        assert_eq!(parse_zone(name), Err(PeriodError::UnknownZone), "{name:?}");
    }
}

fn any_zone() -> impl Strategy<Value = TimeZone> {
    let database = TimeZoneDatabase::bundled();
    let names = database.available().map(|name| name.to_string());
    let zones: Vec<_> = names.filter_map(|name| parse_zone(&name).ok()).collect();
    proptest::sample::select(zones)
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    let (from, to) = (at("1800-01-01T00:00:00Z"), at("2300-01-01T00:00:00Z"));
    (from.as_microsecond()..to.as_microsecond())
        .prop_map(|micros| Timestamp::from_microsecond(micros).unwrap())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_instant_is_in_exactly_one_window(
        at in any_instant(), other in any_instant(), zone in any_zone(),
        period in proptest::sample::select(&CALENDAR),
    ) {
        assert_tiles(period, at, &zone);
        let left = period.window(at, &zone).unwrap();
        let right = period.window(other, &zone).unwrap();
        prop_assert_eq!(left.contains(other), left == right);
        prop_assert_eq!(right.contains(at), left == right);
        prop_assert_eq!(left.starts_at <= right.starts_at, at <= other || left == right);
    }

    #[test]
    fn zone_lookup_never_panics(name in any::<String>()) {
        if let Ok(zone) = parse_zone(&name) {
            prop_assert!(zone.iana_name().is_some());
        }
    }
}
