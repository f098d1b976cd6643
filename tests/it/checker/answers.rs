//! Answers and the record: what was answered is there once, as it was answered; what is there was
//! asked; and what was answered first stands first.
//!
//! Not here: whether an answer was right (`money`, `words`, `control`).

use super::books::{Books, Entry};
use super::escrow::Answers;
use super::history::{Call, Decided, Outcome, Request};
use super::{Case, Cases, Findings, Invariant};

pub(super) fn check(cases: &Cases<'_>, books: &Books, worth: Answers, found: &mut Findings) {
    // A key whose decision is lost is decided again.
    let may_be_lost = worth == Answers::MayBeLost;
    for ((_, key), case) in cases {
        if let [first, second, ..] = case.rows[..] {
            let what = format!("{key} is in the record {} times", case.rows.len());
            found.rows(Invariant::Idempotency, what, &[first, second]);
        }
        let first = case.answers().next();
        let other = case
            .answers()
            .find(|(_, other)| first.is_some_and(|(_, one)| !same(worth, one, other)));
        if let (Some((one, _)), Some((two, _))) = (first, other)
            && !may_be_lost
        {
            let what = format!("two answers for {key} differ");
            found.add(Invariant::Idempotency, what, &[one, two], &[]);
        }
        match case.rows.first() {
            None => {
                if let Some((call, _)) = first.filter(|_| !may_be_lost) {
                    let what = format!("{key} was answered and is not in the record");
                    found.add(Invariant::Audit, what, &[call], &[]);
                }
            }
            Some(row) => recorded(key, (case, row), (books, worth), found),
        }
    }
}

/// Whether two answers for a key say the same. What Redis approves and a server that does not reach
/// it approves at the same time is one approval, with the time and the budget of either.
fn same(worth: Answers, one: &Decided, other: &Decided) -> bool {
    let is_beside =
        worth == Answers::Ahead && one.verdict == "approved" && one.decided_at != other.decided_at;
    let Decided { decided_at, digest, .. } = *other;
    one == other || (is_beside && Decided { decided_at, digest, ..one.clone() } == *other)
}

/// How an answer differs from its row.
fn difference(
    books: &Books,
    worth: Answers,
    answer: &Decided,
    row: &Entry,
) -> Option<&'static str> {
    // The record may be what another server had begun to write. What was lost and decided again
    // would be later than the answer, and so is what a server that does not reach Redis writes when
    // it is asked again; but of that Redis still has the other, and a server has met it there.
    let is_at_another_time = match worth {
        Answers::Ahead if answer.verdict == "approved" => {
            answer.decided_at < row.decided_at && !books.beside.contains(&row.id)
        }
        Answers::Ahead | Answers::Recorded | Answers::MayBeLost => {
            answer.decided_at != row.decided_at
        }
    };
    let version = row.evidence.mandate.unwrap_or_default();
    let differences = [
        ("id", answer.id != row.id),
        ("verdict", answer.verdict != row.verdict),
        ("version", answer.version != version),
        ("time", is_at_another_time),
    ];
    differences.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
}

/// Whether a call asked for what a row says.
fn asks_for(call: &Call, row: &Entry) -> bool {
    match &call.request {
        Request::Evaluate { amount, vendor, .. } => (*amount, vendor) == (row.amount, &row.vendor),
        Request::Settle { .. }
        | Request::Void { .. }
        | Request::Refund { .. }
        | Request::Approve { .. }
        | Request::Deny { .. }
        | Request::Expire { .. }
        | Request::Change { .. }
        | Request::Switch { .. } => false,
    }
}

fn recorded(
    key: &str,
    (case, row): (&Case<'_>, &Entry),
    (books, worth): (&Books, Answers),
    found: &mut Findings,
) {
    let may_be_lost = worth == Answers::MayBeLost;
    if case.calls.is_empty() {
        let what = format!("{key} is in the record and was never asked");
        found.rows(Invariant::Audit, what, &[row]);
        return;
    }
    for (call, answer) in case.answers() {
        let differs = difference(books, worth, answer, row);
        if let Some(what) = differs.filter(|_| !may_be_lost) {
            let what = format!("{key} was answered with another {what} than is recorded");
            found.add(Invariant::Audit, what, &[call], &[row]);
            break;
        }
        if !asks_for(call, row) {
            let what = format!("{key} was answered for another request than is recorded");
            found.add(Invariant::Idempotency, what, &[call], &[row]);
            break;
        }
    }
    if case.answers().next().is_some() {
        return;
    }
    let unknown = case.calls.iter().filter(|call| call.outcome == Outcome::Unknown);
    let unknown = unknown.copied().collect::<Vec<_>>();
    if unknown.is_empty() {
        let what = format!("every call with {key} failed, and it is in the record");
        found.add(Invariant::Audit, what, &case.calls[..1], &[row]);
    } else if !unknown.iter().any(|call| asks_for(call, row)) {
        let what = format!("{key} was asked for another request than is recorded");
        found.add(Invariant::Audit, what, &unknown[..1], &[row]);
    }
}

/// What was answered before another was asked stands before it, in the same record.
pub(super) fn order(cases: &Cases<'_>, found: &mut Findings) {
    let mut asked = Vec::new();
    let mut answered = Vec::new();
    for case in cases.values() {
        if let (Some(row), Some((call, end))) = (case.rows.first(), case.span()) {
            asked.push((call, *row));
            if let Some((answer, _)) = case.answers().min_by_key(|(call, _)| call.completed) {
                answered.push((end, *row, answer));
            }
        }
    }
    asked.sort_by_key(|(call, _)| call.invoked);
    answered.sort_by_key(|(end, ..)| *end);
    let mut next = 0;
    let mut highest = std::collections::HashMap::<&str, (&Entry, &Call)>::new();
    for (call, row) in asked {
        while let Some((_, other, answer)) =
            answered.get(next).filter(|(end, ..)| *end < call.invoked)
        {
            let high = highest.entry(&other.chain).or_insert((other, answer));
            if high.0.seq < other.seq {
                *high = (other, answer);
            }
            next += 1;
        }
        if let Some((other, answer)) = highest.get(row.chain.as_str())
            && row.seq < other.seq
        {
            let what = format!("{} stands before what was answered before it", row.id);
            found.add(Invariant::Time, what, &[answer, call], &[row, other]);
        }
    }
}
