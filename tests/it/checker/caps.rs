//! Which limits a spend is under, and which window of its calendar each counts: computed again,
//! from the mandate and the time zone alone.
//!
//! Not here: what is in a window (`money`).

use std::cell::RefCell;
use std::collections::HashMap;

use jiff::civil::Weekday;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};
use quetra::domain::vendor::Vendor;

use super::books::{Cap, Entry, Terms};

/// A limit and the window that a spend falls into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// `b:daily`, `v:none:openai.com`, `c:weekly:research`.
    pub(super) subject: String,
    pub(super) starts_at: i64,
    /// Exclusive; the largest integer for a window that never ends.
    pub(super) ends_at: i64,
    pub(super) limit: i64,
}

/// Time zones, and the last window that was computed of each period: most spends fall into it.
#[derive(Default)]
pub(super) struct Calendar {
    zones: HashMap<String, TimeZone>,
    windows: HashMap<(String, String), (i64, i64)>,
}

impl Calendar {
    fn zone(&mut self, name: &str) -> TimeZone {
        let find = || TimeZoneDatabase::bundled().get(name).unwrap();
        self.zones.entry(name.to_owned()).or_insert_with(find).clone()
    }

    /// The day, week or month of a place that an instant is in.
    pub(super) fn window(&mut self, zone: &str, period: &str, at: i64) -> (i64, i64) {
        if period == "none" {
            return (0, i64::MAX);
        }
        let key = (zone.to_owned(), period.to_owned());
        if let Some(window) = self.windows.get(&key)
            && (window.0..window.1).contains(&at)
        {
            return *window;
        }
        let local = Timestamp::from_microsecond(at).unwrap().to_zoned(self.zone(zone));
        let start = |day: Zoned| day.start_of_day().unwrap();
        let (first, next) = match period {
            "daily" => (start(local.clone()), start(local.tomorrow().unwrap())),
            "weekly" => {
                let days = i64::from(local.weekday().since(Weekday::Monday));
                let monday = local.checked_sub(days.days()).unwrap();
                (start(monday.clone()), start(monday.checked_add(7.days()).unwrap()))
            }
            "monthly" => {
                let first = local.first_of_month().unwrap();
                (start(first.clone()), start(first.checked_add(1.month()).unwrap()))
            }
            other => panic!("{other} is no period"),
        };
        let micros = |at: &Zoned| at.timestamp().as_microsecond();
        let window = (micros(&first), micros(&next));
        self.windows.insert(key, window);
        window
    }

    /// The limits of a version that a spend counts against: the budget, then the caps.
    pub(super) fn limits(&mut self, terms: &Terms, entry: &Entry) -> Vec<Limit> {
        let mut all = vec![(format!("b:{}", terms.reset), terms.reset.clone(), terms.total)];
        for cap in terms.caps.iter().filter(|cap| applies(cap, entry)) {
            let name = match cap.kind {
                'v' => parsed(&cap.name).canonical().to_owned(),
                _ => cap.name.clone(),
            };
            all.push((
                format!("{}:{}:{name}", cap.kind, cap.period),
                cap.period.clone(),
                cap.limit,
            ));
        }
        let zone = &entry.evidence.zone;
        let limits = all.into_iter().map(|(subject, period, limit)| {
            let (starts_at, ends_at) = self.window(zone, &period, entry.decided_at);
            Limit { subject, starts_at, ends_at, limit }
        });
        limits.collect()
    }
}

fn applies(cap: &Cap, entry: &Entry) -> bool {
    match cap.kind {
        'v' => covers(&cap.name, &entry.vendor),
        _ => entry.category.as_ref() == Some(&cap.name),
    }
}

thread_local! {
    /// Vendors that were parsed before: there are few of them, asked for again and again.
    static VENDORS: RefCell<HashMap<String, Vendor>> = RefCell::default();
}

fn parsed(vendor: &str) -> Vendor {
    let parse = || Vendor::parse(vendor).unwrap();
    VENDORS.with_borrow_mut(|known| {
        if let Some(known) = known.get(vendor) {
            return known.clone();
        }
        known.entry(vendor.to_owned()).or_insert_with(parse).clone()
    })
}

fn covers(vendor: &str, other: &str) -> bool {
    parsed(vendor).covers(&parsed(other))
}

/// Whether what is spent here is summed up under a subject.
pub(super) fn counts(subject: &str, entry: &Entry) -> bool {
    let mut parts = subject.splitn(3, ':');
    match (parts.next().unwrap(), parts.nth(1)) {
        ("b", None) => true,
        ("v", Some(vendor)) => covers(vendor, &entry.vendor),
        ("c", Some(category)) => entry.category.as_deref() == Some(category),
        _ => panic!("{subject} is no subject"),
    }
}
