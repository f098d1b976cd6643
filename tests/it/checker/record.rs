//! The record and what must agree with it at rest: order, tallies, counters, heads, indexes, and
//! the bounds of what is stored.
//!
//! Not here: what each decision saw (`money`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::books::{Books, Entry, Indexes, Name};
use super::caps::counts;
use super::{Findings, Invariant, by_mandate};

/// Of one spend, and of one limit: the contract's bounds.
const AMOUNT_MAX: i64 = 1_000_000_000_000;
const LIMIT_MAX: i64 = 90_000_000_000_000;
const RULES_MAX: usize = 50;
const KEY_MAX: usize = 128;
const VENDOR_MAX: usize = 2_048;

pub(super) fn check(books: &Books, found: &mut Findings) {
    order(books, found);
    tallies(books, found);
    counters(books, found);
    heads(books, found);
    if let Some(indexes) = &books.indexes {
        check_indexes(indexes, books, found);
    }
    if let Some(names) = &books.names {
        check_names(names, books, found);
    }
    bounds(books, found);
    secrets(books, found);
}

/// Dense, no id twice, and time never runs backwards where one store decides.
fn order(books: &Books, found: &mut Findings) {
    let mut ids = HashMap::<&str, &Entry>::new();
    let mut last: Option<&Entry> = None;
    for entry in &books.entries {
        let before = last.filter(|last| last.chain == entry.chain);
        let wanted = before.map_or(0, |last| last.seq) + 1;
        if entry.seq != wanted {
            let what = format!("the record has {} in place {wanted}", entry.seq);
            found.rows(
                Invariant::Audit,
                what,
                &before.into_iter().chain([entry]).collect::<Vec<_>>(),
            );
        }
        if let Some(first) = ids.insert(&entry.id, entry) {
            let what = format!("{} is in the record twice", entry.id);
            found.rows(Invariant::Audit, what, &[first, entry]);
        }
        // Two stores that decide need not be recorded in the order of their times.
        let before = before.filter(|_| books.escrow.is_none());
        if let Some(before) = before.filter(|before| entry.decided_at < before.decided_at) {
            let what = format!("{} was decided before the entry in front of it", entry.id);
            found.rows(Invariant::Time, what, &[before, entry]);
        }
        if entry.updated_at < entry.decided_at {
            let what = format!("{} changed before it was decided", entry.id);
            found.rows(Invariant::Time, what, &[entry]);
        }
        last = Some(entry);
    }
}

/// Every entry continues the tally of its mandate. Where two stores decide, approvals may come
/// before a rejection that is recorded already, which keeps the tally that was known then.
fn tallies(books: &Books, found: &mut Findings) {
    for entries in by_mandate(books).into_values() {
        let (mut tally, mut last) = ((0, 0), None::<&Entry>);
        for entry in entries {
            let may_differ = entry.is_rejected() && books.escrow.is_some();
            if entry.before != tally && !may_differ {
                let what = format!("{} continues {tally:?} with {:?}", entry.id, entry.before);
                found.rows(
                    Invariant::Parity,
                    what,
                    &last.into_iter().chain([entry]).collect::<Vec<_>>(),
                );
                tally = entry.before;
            }
            if !entry.is_rejected() {
                tally = (tally.0 + 1, tally.1 + entry.amount);
                last = Some(entry);
            }
        }
    }
}

/// Every counter is the sum of what the record has in its window, up to where the row says.
fn counters(books: &Books, found: &mut Findings) {
    let mandates = by_mandate(books);
    let mut seen = BTreeSet::new();
    for counter in &books.counters {
        let window = counter.starts_at..counter.ends_at;
        let mut sum = (0, 0);
        let mut rows = Vec::new();
        for entry in mandates.get(counter.mandate.as_str()).into_iter().flatten() {
            let load = entry.last_load();
            if entry.seq <= counter.through
                && window.contains(&entry.decided_at)
                && load != (0, 0)
                && counts(&counter.subject, entry)
            {
                sum = (sum.0 + load.0, sum.1 + load.1);
                rows.push(*entry);
            }
        }
        let stands = (counter.spent, counter.held);
        if stands != sum {
            let what = format!(
                "the counter {} of {} stands at {stands:?}, not at {sum:?}",
                counter.subject, counter.mandate
            );
            found.rows(Invariant::Convergence, what, &rows);
        }
        if !seen.insert((&counter.mandate, &counter.subject, counter.starts_at)) {
            let what = format!("the counter {} is there twice", counter.subject);
            found.rows(Invariant::Convergence, what, &[]);
        }
    }
}

/// Where an organization's record goes on is where it ended.
fn heads(books: &Books, found: &mut Findings) {
    let mut ends = BTreeMap::<&str, (i64, i64)>::new();
    for entry in &books.entries {
        let end = ends.entry(&entry.org).or_default();
        *end = (end.0 + 1, end.1.max(entry.updated_at));
    }
    for head in &books.heads {
        let (count, latest) = ends.get(head.org.as_str()).copied().unwrap_or_default();
        if head.seq != count || head.floor < latest {
            let what = format!("{head:?} where {count} entries are, the last of {latest}");
            found.rows(Invariant::Convergence, what, &[]);
        }
    }
}

/// The indexes say nothing that the record does not, and all of it up to where they claim to be.
fn check_indexes(indexes: &Indexes, books: &Books, found: &mut Findings) {
    let mut compare = |name: &str, has: BTreeSet<(String, i64)>, wanted: Vec<(String, &Entry)>| {
        let all = wanted.iter().map(|(text, entry)| (text.clone(), entry.seq));
        for (text, seq) in has.difference(&all.collect::<BTreeSet<_>>()) {
            let what = format!("the index by {name} has {text} at {seq}");
            found.rows(Invariant::Convergence, what, &[]);
        }
        for (text, entry) in &wanted {
            if entry.seq <= indexes.through && !has.contains(&(text.clone(), entry.seq)) {
                let what = format!("entry {} is not found by {name}", entry.seq);
                found.rows(Invariant::Convergence, what, &[*entry]);
            }
        }
    };
    let entries = &books.entries;
    let ids = entries.iter().map(|entry| (entry.id.clone(), entry));
    compare("id", indexes.by_id.iter().cloned().collect(), ids.collect());
    let agents = entries.iter().map(|entry| (entry.agent.clone(), entry));
    compare("agent", indexes.by_agent.iter().cloned().collect(), agents.collect());
    let approved = entries.iter().filter(|entry| !entry.is_rejected());
    let approved = approved.map(|entry| {
        let mandate = entry.mandate.clone().unwrap_or_default();
        let text = format!("{mandate} {} {:?} {}", entry.decided_at, entry.before, entry.amount);
        (text, entry)
    });
    let indexed = indexes.approvals.iter().map(|(mandate, at, seq, count, sum, amount)| {
        (format!("{mandate} {at} {:?} {amount}", (count, sum)), *seq)
    });
    compare("mandate", indexed.collect(), approved.collect());
}

/// Each decision of a record in parts is found by its id, and by no other.
fn check_names(names: &[Name], books: &Books, found: &mut Findings) {
    let entries = books
        .entries
        .iter()
        .map(|entry| ((entry.id.clone(), entry.org.clone(), entry.seq, entry.decided_at), entry));
    let entries = entries.collect::<BTreeMap<_, _>>();
    for name in names.iter().filter(|name| !entries.contains_key(*name)) {
        let what = format!("{} is said to be in place {} and is not", name.0, name.2);
        found.rows(Invariant::Convergence, what, &[]);
    }
    let names = names.iter().collect::<BTreeSet<_>>();
    for (name, entry) in entries.iter().filter(|(name, _)| !names.contains(name)) {
        let what = format!("{} is not found by its id", name.0);
        found.rows(Invariant::Convergence, what, &[*entry]);
    }
}

/// Nothing is stored that is larger than the contract allows.
fn bounds(books: &Books, found: &mut Findings) {
    for entry in &books.entries {
        let too_large = !(0..=AMOUNT_MAX).contains(&entry.amount)
            || entry.key.len() > KEY_MAX
            || entry.vendor.len() > VENDOR_MAX;
        if too_large {
            let what = format!("{} is larger than may be asked", entry.id);
            found.rows(Invariant::Bounds, what, &[entry]);
        }
    }
    for ((mandate, version), terms) in &books.terms {
        let limits = terms.caps.iter().map(|cap| cap.limit).chain([terms.total]);
        let wrong = limits.into_iter().any(|limit| !(1..=LIMIT_MAX).contains(&limit));
        if wrong || terms.per_transaction > AMOUNT_MAX || terms.rules > RULES_MAX {
            let what = format!("{mandate} in version {version} is larger than may be asked");
            found.rows(Invariant::Bounds, what, &[]);
        }
    }
}

/// What was planted as a secret is nowhere, as it is or in a form that gives it away.
fn secrets(books: &Books, found: &mut Findings) {
    for secret in &books.secrets {
        let reversed = secret.chars().rev().collect::<String>();
        for (place, text) in &books.texts {
            if [secret.clone(), reversed.clone(), hex::encode(secret)]
                .iter()
                .any(|form| text.contains(form))
            {
                // The secret is not said here either.
                let what = format!("a secret of {} letters is in {place}", secret.len());
                found.rows(Invariant::Secrets, what, &[]);
            }
        }
    }
}
