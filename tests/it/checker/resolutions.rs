//! What becomes of an approval or a hold: it is settled, voided or refunded once, because somebody
//! asked for it, and stays so.
//!
//! Not here: what that gives back to a budget (`money`).

use std::collections::{HashMap, HashSet};

use super::books::{Books, Entry};
use super::history::{Call, Outcome, Request};
use super::{Findings, Invariant};

/// The states that a verdict can come to.
fn states(verdict: &str) -> &'static [&'static str] {
    match verdict {
        "approved" => &["approved", "settled", "voided", "refunded", "expired"],
        "pending_approval" => &[
            "pending_approval",
            "withdrawn",
            "denied",
            "timeout",
            "approved",
            "settled",
            "voided",
            "refunded",
            "expired",
        ],
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
        if !(0..=entry.amount + entry.evidence.terms.tolerance).contains(&settled) {
            let what = format!("{}: {settled} of {} was settled", entry.id, entry.amount);
            found.rows(Invariant::Execution, what, &[entry]);
        }
        if !(0..=settled).contains(&entry.refunded.unwrap_or_default()) {
            let what = format!("{}: more was refunded than settled", entry.id);
            found.rows(Invariant::Execution, what, &[entry]);
        }
        for what in untimely(entry).into_iter().chain(unanswered(entry)) {
            let what = format!("{}: {what}", entry.id);
            found.rows(Invariant::Holds, what, &[entry]);
        }
    }
}

/// What is wrong with when it ended, or will.
fn untimely(entry: &Entry) -> Option<&'static str> {
    let terms = &entry.evidence.terms;
    let after = |since: i64, seconds: i64| since + seconds * 1_000_000;
    let asked = terms.approval.as_ref().map(|asked| after(entry.decided_at, asked.seconds));
    let held = terms.hold_seconds.map(|seconds| {
        let granted = entry.followup.grants.last().map(|grant| grant.at.as_microsecond());
        after(granted.unwrap_or(entry.decided_at), seconds)
    });
    let wanted = match entry.state.as_str() {
        "pending_approval" => asked,
        "approved" => held,
        _ => None,
    };
    if entry.due_at != wanted {
        return Some("it ends by itself at another time than was agreed");
    }
    let ended = match entry.state.as_str() {
        "timeout" => asked,
        "expired" => held,
        _ => return None,
    };
    match ended {
        None => Some("it ended by itself, and there was no time for it"),
        Some(due) if entry.updated_at < due => Some("it ended by itself before its time"),
        Some(_) => None,
    }
}

/// What is wrong with what people said.
fn unanswered(entry: &Entry) -> Option<&'static str> {
    let Some(asked) = &entry.evidence.terms.approval else {
        let said = &entry.followup;
        return (!said.grants.is_empty() || said.denial.is_some())
            .then_some("somebody answered where nobody was asked");
    };
    let due = entry.decided_at + asked.seconds * 1_000_000;
    let grants = &entry.followup.grants;
    let by = grants.iter().map(|grant| grant.by.as_str()).collect::<HashSet<_>>();
    let is_open = entry.state == "pending_approval";
    let is_granted =
        matches!(entry.state.as_str(), "approved" | "settled" | "voided" | "refunded" | "expired");
    if by.len() != grants.len() {
        return Some("one person approved twice");
    }
    if asked.asked_by.as_deref().is_some_and(|asker| by.contains(asker)) {
        return Some("who asked has approved");
    }
    if grants.iter().any(|grant| grant.at.as_microsecond() >= due) {
        return Some("it was approved when its time was over");
    }
    if is_granted != (grants.len() >= asked.required) {
        return Some("it has not the approvals that its state needs");
    }
    if (entry.state == "denied") != entry.followup.denial.is_some() {
        return Some("it is denied by nobody, or was denied and is not");
    }
    (is_open && grants.len() >= asked.required).then_some("it waits and is approved")
}

/// What a call wanted to come of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Settle(i64),
    Void,
    Refund(Option<i64>),
    Approve,
    Deny,
    Expire,
}

fn act(request: &Request) -> Option<(&str, Act)> {
    match request {
        Request::Settle { id, amount } => Some((id, Act::Settle(*amount))),
        Request::Void { id } => Some((id, Act::Void)),
        Request::Refund { id, amount } => Some((id, Act::Refund(*amount))),
        Request::Approve { id, .. } => Some((id, Act::Approve)),
        Request::Deny { id, .. } => Some((id, Act::Deny)),
        Request::Expire { id } => Some((id, Act::Expire)),
        Request::Evaluate { .. } | Request::Change { .. } | Request::Switch { .. } => None,
    }
}

/// Whether a row stands as it does after an act.
fn shows(row: &Entry, act: Act) -> bool {
    let is_settled = matches!(row.state.as_str(), "settled" | "refunded");
    match act {
        Act::Settle(amount) => is_settled && row.settled == Some(amount),
        Act::Void => matches!(row.state.as_str(), "voided" | "withdrawn"),
        Act::Approve => !row.followup.grants.is_empty(),
        Act::Deny => row.state == "denied",
        // Before its time it does nothing.
        Act::Expire => true,
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
        let was_asked = row.verdict == "pending_approval";
        let steps: &[fn(Act) -> bool] = match row.state.as_str() {
            "approved" | "expired" if was_asked => &[|act| act == Act::Approve],
            "denied" => &[|act| act == Act::Deny],
            "withdrawn" => &[|act| act == Act::Void],
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
    let is_first_step = |act: Act| matches!(act, Act::Settle(_) | Act::Void | Act::Deny);
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
