//! The judge: says which promise is broken, from what clients saw and what the database has.
//!
//! A pure function of both. It is tested with seeded bugs (`checker/seeded`), because a judge that
//! never convicts proves nothing. Not here: how either side came to be.

use std::collections::{HashMap, HashSet};

use super::books::{Books, Spend};
use super::history::{Call, Decided, Outcome, Request};

mod seeded;

/// Every call about one key, and the row of its decision.
#[derive(Default)]
struct Case<'a> {
    calls: Vec<&'a Call>,
    rows: Vec<&'a Spend>,
}

impl Case<'_> {
    fn answers(&self) -> impl Iterator<Item = (&Call, &Decided)> {
        self.calls.iter().filter_map(|call| match &call.outcome {
            Outcome::Decided(decided) => Some((*call, decided)),
            Outcome::Resolved | Outcome::Changed { .. } | Outcome::Failed(_) | Outcome::Unknown => {
                None
            }
        })
    }

    fn first_invoked(&self) -> Option<u64> {
        self.calls.iter().map(|call| call.invoked).min()
    }

    fn first_answered(&self) -> Option<u64> {
        self.answers().map(|(call, _)| call.completed).min()
    }
}

/// Everything that is wrong; empty if nothing is.
pub(crate) fn violations(history: &[Call], books: &Books) -> Vec<String> {
    let mut found = Vec::new();
    let cases = cases(history, books);
    for (key, case) in &cases {
        decisions(key, case, &mut found);
    }
    record(books, &mut found);
    resolutions(history, books, &mut found);
    budgets(books, &mut found);
    counters(books, &mut found);
    order_of_changes(history, books, &cases, &mut found);
    order_of_calls(&cases, &mut found);
    found
}

fn cases<'a>(history: &'a [Call], books: &'a Books) -> HashMap<(String, String), Case<'a>> {
    let mut cases = HashMap::<(String, String), Case<'a>>::new();
    for call in history {
        if let Request::Evaluate { agent, key, .. } = &call.request {
            cases.entry((agent.clone(), key.clone())).or_default().calls.push(call);
        }
    }
    for row in &books.spends {
        cases.entry((row.agent.clone(), row.key.clone())).or_default().rows.push(row);
    }
    cases
}

/// What was answered is in the record, once, as it was answered; what is in it was asked.
fn decisions(key: &(String, String), case: &Case<'_>, found: &mut Vec<String>) {
    let key = &key.1;
    let mut answers = case.answers().map(|(_, decided)| decided);
    let first = answers.next();
    if answers.any(|other| Some(other) != first) {
        found.push(format!("{key}: two answers differ"));
    }
    if case.rows.len() > 1 {
        found.push(format!("{key}: is in the record {} times", case.rows.len()));
    }
    let Some(row) = case.rows.first() else {
        if first.is_some() {
            found.push(format!("{key}: was answered and is not in the record"));
        }
        return;
    };
    if case.calls.is_empty() {
        found.push(format!("{key}: is in the record and was never asked"));
        return;
    }
    if first.is_none() && !case.calls.iter().any(|call| call.outcome == Outcome::Unknown) {
        found.push(format!("{key}: every call failed, and it is in the record"));
    }
    if let Some(first) = first
        && (first.id != row.id
            || first.approved != row.approved
            || first.version != row.version
            || first.decided_at != row.decided_at)
    {
        found.push(format!("{key}: was answered {first:?} and recorded {row:?}"));
    }
    for call in &case.calls {
        if let Request::Evaluate { amount, vendor, .. } = &call.request
            && (*amount, vendor) != (row.amount, &row.vendor)
        {
            found.push(format!("{key}: {amount} was asked and {} recorded", row.amount));
        }
    }
}

/// The record has no hole, no two entries with one id, and time never runs backwards in it.
fn record(books: &Books, found: &mut Vec<String>) {
    let mut ids = HashSet::new();
    let mut floor = i64::MIN;
    for (row, seq) in books.spends.iter().zip(1_i64..) {
        if row.seq != seq {
            found.push(format!("the record has {} in place {seq}", row.seq));
            return;
        }
        if !ids.insert(&row.id) {
            found.push(format!("{} is in the record twice", row.id));
        }
        if row.decided_at < floor {
            found.push(format!("{} was decided before the entry in front of it", row.id));
        }
        floor = row.decided_at;
    }
}

/// What was settled or voided was asked to be, and stays so.
fn resolutions(history: &[Call], books: &Books, found: &mut Vec<String>) {
    let mut asked = HashMap::<&str, Vec<(&Call, Option<i64>)>>::new();
    for call in history {
        match &call.request {
            Request::Settle { id, amount } => {
                asked.entry(id).or_default().push((call, Some(*amount)));
            }
            Request::Void { id } => asked.entry(id).or_default().push((call, None)),
            Request::Evaluate { .. } | Request::Change { .. } => {}
        }
    }
    let no_calls = Vec::new();
    for row in &books.spends {
        let calls = asked.get(row.id.as_str()).unwrap_or(&no_calls);
        let stands = match row.state.as_str() {
            "settled" => Some(row.settled),
            "voided" => Some(None),
            _ => None,
        };
        for (call, settled) in calls {
            if call.outcome == Outcome::Resolved && stands != Some(*settled) {
                found.push(format!("{}: {:?} was answered and is lost", row.id, call.request));
            }
        }
        let may_have = |(call, settled): &(&Call, Option<i64>)| {
            Some(*settled) == stands && !matches!(call.outcome, Outcome::Failed(_))
        };
        if stands.is_some() && !calls.iter().any(may_have) {
            found.push(format!("{}: is {} and nobody asked for it", row.id, row.state));
        }
        if row.settled.is_some_and(|settled| settled > row.amount) {
            found.push(format!("{}: more was settled than approved", row.id));
        }
    }
}

/// What a row takes from its budget: after a time, or finally.
fn load(row: &Spend) -> i64 {
    match row.state.as_str() {
        "approved" => row.amount,
        "settled" => row.settled.unwrap_or(row.amount),
        _ => 0,
    }
}

/// No approval went over the total of its version, and no refusal under an active one had room.
fn budgets(books: &Books, found: &mut Vec<String>) {
    let mut mandates = HashMap::<&str, Vec<&Spend>>::new();
    for row in &books.spends {
        mandates.entry(&row.mandate).or_default().push(row);
    }
    for (mandate, rows) in mandates {
        // What was given back, and when; times are equal within one batch, whose inner order the
        // record does not tell.
        let mut returns = rows
            .iter()
            .filter(|row| row.approved)
            .map(|row| (row.updated_at, row.amount - load(row)))
            .filter(|(_, amount)| *amount > 0)
            .collect::<Vec<_>>();
        returns.sort_unstable();
        let (mut spent, mut sure, mut likely) = (0, 0, 0);
        let (mut before, mut until) = (0, 0);
        for row in rows {
            while returns.get(before).is_some_and(|(at, _)| *at < row.decided_at) {
                sure += returns[before].1;
                before += 1;
            }
            while returns.get(until).is_some_and(|(at, _)| *at <= row.decided_at) {
                likely += returns[until].1;
                until += 1;
            }
            let Some(terms) = books.terms.get(&(mandate.to_owned(), row.version)) else {
                found.push(format!("{}: version {} is unknown", row.id, row.version));
                continue;
            };
            if row.approved {
                if terms.status != "active" {
                    found.push(format!("{}: approved while {}", row.id, terms.status));
                }
                if spent - likely + row.amount > terms.total {
                    let over = spent - likely + row.amount - terms.total;
                    found.push(format!("{}: {over} over the total {}", row.id, terms.total));
                }
                spent += row.amount;
            } else if terms.status == "active" && spent - sure + row.amount <= terms.total {
                found.push(format!("{}: refused, and there was room", row.id));
            }
        }
    }
}

/// Counters and tallies are what the record sums up to.
fn counters(books: &Books, found: &mut Vec<String>) {
    let mut sums = HashMap::<&str, (i64, i64, i64)>::new();
    for row in books.spends.iter().filter(|row| row.approved) {
        let sum = sums.entry(&row.mandate).or_default();
        *sum = (sum.0 + load(row), sum.1 + 1, sum.2 + row.amount);
    }
    for (mandate, sum) in sums {
        let counter = books.counters.get(mandate).copied();
        if counter != Some(sum.0) {
            found.push(format!("counter of {mandate}: {counter:?}, not {}", sum.0));
        }
        let tally = books.tallies.get(mandate).copied();
        if tally != Some((sum.1, sum.2)) {
            found.push(format!("tally of {mandate}: {tally:?}, not {:?}", (sum.1, sum.2)));
        }
    }
}

/// What was first asked after a change had returned was judged by that version or a later one.
fn order_of_changes(
    history: &[Call],
    books: &Books,
    cases: &HashMap<(String, String), Case<'_>>,
    found: &mut Vec<String>,
) {
    let mut changes = HashMap::<&str, Vec<(u64, i64)>>::new();
    for call in history {
        if let (Request::Change { mandate }, Outcome::Changed { version }) =
            (&call.request, &call.outcome)
        {
            changes.entry(mandate).or_default().push((call.completed, *version));
            if !books.terms.contains_key(&(mandate.clone(), *version)) {
                found.push(format!("{mandate}: version {version} was answered and is lost"));
            }
        }
    }
    for changes in changes.values_mut() {
        changes.sort_unstable();
    }
    for case in cases.values() {
        let (Some(row), Some(invoked)) = (case.rows.first(), case.first_invoked()) else {
            continue;
        };
        let Some(changes) = changes.get(row.mandate.as_str()) else {
            continue;
        };
        let seen = &changes[..changes.partition_point(|(completed, _)| *completed < invoked)];
        let least = seen.iter().map(|(_, version)| *version).max().unwrap_or_default();
        if row.version < least {
            let version = row.version;
            found.push(format!("{}: judged by version {version} after {least} stood", row.id));
        }
    }
}

/// What was answered before another was asked comes before it in the record.
fn order_of_calls(cases: &HashMap<(String, String), Case<'_>>, found: &mut Vec<String>) {
    let mut asked = Vec::new();
    let mut answered = Vec::new();
    for case in cases.values() {
        if let (Some(row), Some(invoked)) = (case.rows.first(), case.first_invoked()) {
            asked.push((invoked, *row));
            answered.extend(case.first_answered().map(|completed| (completed, row.seq)));
        }
    }
    asked.sort_unstable_by_key(|(invoked, _)| *invoked);
    answered.sort_unstable();
    let (mut next, mut highest) = (0, 0);
    for (invoked, row) in asked {
        while answered.get(next).is_some_and(|(completed, _)| *completed < invoked) {
            highest = highest.max(answered[next].1);
            next += 1;
        }
        if row.seq < highest {
            found.push(format!("{}: stands before what was answered before it", row.id));
        }
    }
}
