//! Which counters count a record, or are summed up from it, in the words of the rows.
//!
//! Not here: SQL, and what a counter is (`domain::ledger`).

use jiff::{SignedDuration, Timestamp};

use crate::domain::ledger::{Level, Subject};
use crate::domain::period::Period;
use crate::domain::transaction::TransactionRecord;
use crate::domain::vendor::Vendor;
use crate::store::sql::spends;

/// Longer than any window of a period that ends.
const WINDOW_MAX: SignedDuration = SignedDuration::from_hours(40 * 24);

/// Every subject that counts a record, in every period, with the earliest start of such a window.
pub(super) fn subjects(record: &TransactionRecord) -> Vec<(String, i64)> {
    let spend = &record.spend;
    let mut subjects = vec![Subject::Budget];
    subjects.extend(spend.category.clone().map(Subject::Category));
    let mut text = Some(spend.vendor.canonical());
    while let Some(host) = text {
        let vendor = Vendor::parse(host).ok().filter(|vendor| vendor.covers(&spend.vendor));
        subjects.extend(vendor.map(Subject::Vendor));
        text = host.split_once('.').map(|(_, parent)| parent);
    }
    let earliest = record.decided_at.checked_sub(WINDOW_MAX).unwrap_or(Timestamp::MIN);
    let starts = |period| match period {
        Period::None => Timestamp::UNIX_EPOCH,
        Period::Daily | Period::Weekly | Period::Monthly => earliest,
    };
    let with_periods = |subject: Subject| {
        [Period::None, Period::Daily, Period::Weekly, Period::Monthly]
            .map(|period| (spends::subject_text(&subject, period), starts(period).as_microsecond()))
    };
    subjects.into_iter().flat_map(with_periods).collect()
}

/// The kind of a subject, and what it is about, as the sums are asked for.
pub(super) fn sum_of(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::Budget => ("budget", ""),
        Subject::Vendor(vendor) => ("vendor", vendor.canonical()),
        Subject::Category(category) => ("category", category.as_str()),
    }
}

/// Adds what was spent at a vendor, if the subject counts it: only the domain knows which host
/// belongs to which.
pub(super) fn add(level: &mut Level, subject: &Subject, vendor: &str, more: Level) {
    let counts = match subject {
        Subject::Vendor(cap) => Vendor::parse(vendor).is_ok_and(|vendor| cap.covers(&vendor)),
        Subject::Budget | Subject::Category(_) => true,
    };
    if counts {
        level.spent = level.spent.saturating_add(more.spent);
        level.held = level.held.saturating_add(more.held);
    }
}
