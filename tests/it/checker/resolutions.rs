//! What becomes of an approval or a hold: it is settled, voided or refunded once, because somebody
//! asked for it, and stays so.
//!
//! Not here: what that gives back to a budget (`money`).

use std::collections::HashMap;

use super::books::{Books, Entry};
use super::history::{Call, Outcome, Request};
use super::{Findings, Invariant};

/// The states that a verdict can come to.
fn states(verdict: &str) -> &'static [&'static str] {
    match verdict {
        "approved" => &["approved", "settled", "voided", "refunded"],
        "pending_approval" => &["pending_approval", "voided"],
        "rejected" => &["rejected"],
        _ => &[],
    }
}

/// No state that the verdict cannot come to, and no more money than was approved.
pub(super) fn check(books: &Books, found: &mut Findings) {
    for entry in &books.entries {
        if !states(&entry.verdict).contains(&entry.state.as_str()) {
            let what = format!("{} was {} and is {}", entry.id, entry.verdict, entry.state);
            found.rows(Invariant::Holds, what, &[entry]);
        }
        let has = (entry.settled.is_some(), entry.refunded.is_some());
        let wanted = match entry.state.as_str() {
            "settled" => (true, false),
            "refunded" => (true, true),
            _ => (false, false),
        };
        if has != wanted {
            let what = format!("{} is {} with amounts of another state", entry.id, entry.state);
            found.rows(Invariant::Holds, what, &[entry]);
        }
        let settled = entry.settled.unwrap_or_default();
        if !(0..=entry.amount).contains(&settled) {
            let what = format!("{}: {settled} of {} was settled", entry.id, entry.amount);
            found.rows(Invariant::Execution, what, &[entry]);
        }
        if !(0..=settled).contains(&entry.refunded.unwrap_or_default()) {
            let what = format!("{}: more was refunded than settled", entry.id);
            found.rows(Invariant::Execution, what, &[entry]);
        }
    }
}

/// What a call wanted to come of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Settle(i64),
    Void,
    Refund(Option<i64>),
}

fn act(request: &Request) -> Option<(&str, Act)> {
    match request {
        Request::Settle { id, amount } => Some((id, Act::Settle(*amount))),
        Request::Void { id } => Some((id, Act::Void)),
        Request::Refund { id, amount } => Some((id, Act::Refund(*amount))),
        Request::Evaluate { .. } | Request::Change { .. } | Request::Switch { .. } => None,
    }
}

/// Whether a row stands as it does after an act.
fn shows(row: &Entry, act: Act) -> bool {
    let is_settled = matches!(row.state.as_str(), "settled" | "refunded");
    match act {
        Act::Settle(amount) => is_settled && row.settled == Some(amount),
        Act::Void => row.state == "voided",
        Act::Refund(None) => row.state == "refunded" && row.refunded == row.settled,
        Act::Refund(amount) => row.state == "refunded" && row.refunded == amount,
    }
}

/// What was answered is so, and what is so was asked for.
pub(super) fn asked(history: &[Call], books: &Books, found: &mut Findings) {
    let mut acts = HashMap::<&str, Vec<(&Call, Act)>>::new();
    for call in history {
        if let Some((id, act)) = act(&call.request) {
            acts.entry(id).or_default().push((call, act));
        }
    }
    let rows = books.entries.iter().map(|entry| (entry.id.as_str(), entry));
    let rows = rows.collect::<HashMap<_, _>>();
    for (id, acts) in &acts {
        let answered = acts.iter().filter(|(call, _)| call.outcome == Outcome::Resolved);
        let answered = answered.collect::<Vec<_>>();
        if let Some(twice) = exclusive(&answered) {
            let what = format!("{id} was resolved twice, in different ways");
            found.add(Invariant::Holds, what, &twice, &[]);
        }
        for (call, act) in answered {
            match rows.get(id) {
                Some(row) if shows(row, *act) => {}
                row => {
                    let what = format!("{id}: {:?} was answered and is lost", call.request);
                    let rows = row.into_iter().copied().collect::<Vec<_>>();
                    found.add(Invariant::Holds, what, &[call], &rows);
                    break;
                }
            }
        }
    }
    for row in &books.entries {
        let steps: &[fn(Act) -> bool] = match row.state.as_str() {
            "settled" => &[|act| matches!(act, Act::Settle(_))],
            "voided" => &[|act| act == Act::Void],
            "refunded" => {
                &[|act| matches!(act, Act::Settle(_)), |act| matches!(act, Act::Refund(_))]
            }
            _ => &[],
        };
        let acts = acts.get(row.id.as_str()).map_or(&[][..], Vec::as_slice);
        let failed = |call: &Call| matches!(call.outcome, Outcome::Failed(_));
        for step in steps {
            let by_call =
                |(call, act): &(&Call, Act)| step(*act) && shows(row, *act) && !failed(call);
            if !acts.iter().any(by_call) {
                let what = format!("{} is {} and nobody asked for it", row.id, row.state);
                found.rows(Invariant::Holds, what, &[row]);
                break;
            }
        }
    }
}

/// Two answers of which only one can be true.
fn exclusive<'a>(answered: &[&(&'a Call, Act)]) -> Option<[&'a Call; 2]> {
    let is_first_step = |act: Act| !matches!(act, Act::Refund(_));
    for (index, (one, first)) in answered.iter().enumerate() {
        for (two, second) in &answered[index + 1..] {
            let both_first = is_first_step(*first) && is_first_step(*second);
            let of_a_void = *first == Act::Void || *second == Act::Void;
            if first != second && (both_first || of_a_void) {
                return Some([one, two]);
            }
        }
    }
    None
}
