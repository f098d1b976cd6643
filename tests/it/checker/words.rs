//! Reasons to refuse: each one that the checker can compute again is true, and there is one.
//!
//! Rules that need no sums (vendors, hours, countries, expressions) are not computed again: the
//! decision vectors do that. Not here: reasons not to approve (`mandates`, `money`).

use std::collections::BTreeSet;

use super::books::{Books, Entry, Most, Terms};
use super::caps::Limit;
use super::money::{Situation, counters, place, situations};
use super::{Cases, Findings, Invariant};

/// The words that are computed again.
const KNOWN: [&str; 15] = [
    "organization_frozen",
    "agent_not_active",
    "no_active_mandate",
    "mandate_paused",
    "mandate_revoked",
    "mandate_expired",
    "mandate_not_yet_valid",
    "currency_mismatch",
    "budget_per_tx_exceeded",
    "budget_exhausted",
    "vendor_cap_exceeded",
    "category_cap_exceeded",
    "rate_limit_exceeded",
    "spend_rate_exceeded",
    "without a reason",
];

/// The reason of a limit that is exceeded.
fn word_of(limit: &Limit) -> &'static str {
    match limit.subject.chars().next() {
        Some('v') => "vendor_cap_exceeded",
        Some('c') => "category_cap_exceeded",
        _ => "budget_exhausted",
    }
}

/// Whether Redis refused for something else and names what was also so when it last looked.
fn is_beside(entry: &Entry, at: &Situation, reason: &str) -> bool {
    let counters = counters(at);
    let mut read = counters.iter().zip(&entry.evidence.levels);
    read.any(|((limit, _), (spent, held))| {
        word_of(limit) == reason && spent + held + entry.amount > limit.limit
    })
}

/// Every known reason that may have been true.
fn causes(entry: &Entry, terms: Option<&Terms>, at: &Situation) -> BTreeSet<&'static str> {
    let mut causes = BTreeSet::new();
    let mut add = |is_so: bool, word| {
        if is_so {
            causes.insert(word);
        }
    };
    add(entry.evidence.frozen, "organization_frozen");
    add(entry.evidence.agent != "active", "agent_not_active");
    let Some(terms) = terms else {
        add(true, "no_active_mandate");
        return causes;
    };
    let screened = entry.decided_at - entry.evidence.screened;
    let over = terms.valid.1.is_some_and(|end| end <= screened);
    add(terms.status == "draft", "no_active_mandate");
    add(terms.status == "paused" && !over, "mandate_paused");
    add(terms.status == "revoked", "mandate_revoked");
    add(terms.status == "expired" || over, "mandate_expired");
    add(screened < terms.valid.0, "mandate_not_yet_valid");
    add(entry.currency != terms.currency, "currency_mismatch");
    add(entry.amount > terms.per_transaction, "budget_per_tx_exceeded");
    for (limit, range) in &at.limits {
        add(range.most() + entry.amount > limit.limit, word_of(limit));
    }
    for (rate, (count, sum, _)) in &at.rates {
        match rate.most {
            Most::Count(most) => add(*count >= most, "rate_limit_exceeded"),
            Most::Sum(most) => add(sum + entry.amount > most, "spend_rate_exceeded"),
        }
    }
    causes
}

/// What was refused without an answer that is known still had a reason.
pub(super) fn room(books: &Books, found: &mut Findings) {
    let situations = situations(books);
    for entry in books.entries.iter().filter(|entry| entry.is_rejected()) {
        let terms = entry.terms(books);
        // An unknown version is said elsewhere.
        if entry.mandate.is_some() != terms.is_some() || terms.is_some_and(|terms| terms.others) {
            continue;
        }
        let nothing = Situation::default();
        let at = situations.get(&place(entry)).unwrap_or(&nothing);
        if causes(entry, terms, at).is_empty() {
            let what = format!("{}: refused, and there was room", entry.id);
            found.rows(Invariant::FailClosed, what, &[entry]);
        }
    }
}

/// Every reason that was answered was true of the version that judged.
pub(super) fn reasons(cases: &Cases<'_>, books: &Books, found: &mut Findings) {
    let situations = situations(books);
    for case in cases.values() {
        let (Some(row), Some((call, answer))) = (case.rows.first(), case.answers().next()) else {
            continue;
        };
        if answer.verdict != "rejected" {
            if let Some(reason) = answer.reasons.first() {
                let what = format!("{}: {} with the reason {reason}", row.id, answer.verdict);
                found.add(Invariant::FailClosed, what, &[call], &[*row]);
            }
            continue;
        }
        let nothing = Situation::default();
        let at = situations.get(&place(row)).unwrap_or(&nothing);
        let causes = causes(row, row.terms(books), at);
        let given = match answer.reasons.is_empty() {
            true => &["without a reason".to_owned()][..],
            false => &answer.reasons,
        };
        for reason in given {
            let beside = books.escrow.is_some() && !causes.is_empty();
            let is_true = causes.contains(reason.as_str()) || beside && is_beside(row, at, reason);
            if KNOWN.contains(&reason.as_str()) && !is_true {
                let what = format!("{}: refused, {reason}, which was not so", row.id);
                found.add(Invariant::FailClosed, what, &[call], &[*row]);
            }
        }
    }
}
