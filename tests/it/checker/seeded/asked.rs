//! Faults of the record and its answers: decisions that are lost, invented, doubled or told
//! otherwise; settlements, voids and refunds that are lost or invented.
//!
//! Not here: how a fault is judged (`seeded`).

use super::super::Invariant::{Audit, Execution, Holds, Idempotency};
use super::super::history::{Outcome, Request};
use super::{Seed, is_approved};

pub(super) const SEEDS: &[Seed] = &[
    ("a decision is lost", Audit, 1, |run| {
        let index = run.find(|_| true)?;
        run.remove(index);
        Some(())
    }),
    ("an entry is taken out of the record", Audit, 2, |run| {
        let entries = &mut run.books.entries;
        let index = entries.windows(2).position(|pair| pair[0].chain == pair[1].chain)?;
        entries.remove(index);
        Some(())
    }),
    ("a decision is invented", Audit, 1, |run| {
        let index = run.find(|_| true)?;
        run.append(index, |entry| entry.key = "nobody".to_owned());
        Some(())
    }),
    ("a call fails and is recorded", Audit, 2, |run| {
        let index = run.find(|entry| entry.is_rejected())?;
        for call in run.calls(index) {
            call.outcome = Outcome::Failed("it did not work".to_owned());
        }
        Some(())
    }),
    ("another verdict is recorded than was answered", Audit, 2, |run| {
        run.entry(is_approved)?.verdict = "rejected".to_owned();
        Some(())
    }),
    ("another id is recorded than was answered", Audit, 2, |run| {
        run.entry(|_| true)?.id = format!("{:032x}", 5);
        Some(())
    }),
    ("another version is recorded than was answered", Audit, 2, |run| {
        let entry = run.entry(|entry| entry.evidence.mandate.is_some())?;
        entry.evidence.mandate = entry.evidence.mandate.map(|version| version + 1);
        Some(())
    }),
    ("another time is recorded than was answered", Audit, 2, |run| {
        run.entry(|_| true)?.decided_at += 1;
        Some(())
    }),
    ("one id is given to two decisions", Audit, 2, |run| {
        let index = run.find(|_| true)?;
        let id = run.books.entries[index].id.clone();
        run.append(index, |entry| entry.id = id);
        Some(())
    }),
    ("another amount is recorded than was asked", Audit, 2, |run| {
        let index = run.find(|entry| entry.amount > 0)?;
        for call in run.calls(index) {
            call.outcome = Outcome::Unknown;
        }
        run.books.entries[index].amount -= 1;
        Some(())
    }),
    ("a repetition is decided again, and otherwise", Idempotency, 2, |run| {
        let index = (0..run.books.entries.len()).rfind(|at| run.answers(*at).count() > 1)?;
        let verdict = &mut run.answers(index).next()?.verdict;
        *verdict = if verdict == "rejected" { "approved" } else { "rejected" }.to_owned();
        Some(())
    }),
    ("a repetition is explained otherwise", Idempotency, 2, |run| {
        let index = (0..run.books.entries.len()).rfind(|at| run.answers(*at).count() > 1)?;
        run.answers(index).next()?.digest += 1;
        Some(())
    }),
    ("a repetition is another transaction", Idempotency, 2, |run| {
        let index = (0..run.books.entries.len()).rfind(|at| run.answers(*at).count() > 1)?;
        run.answers(index).next()?.id = format!("{:032x}", 6);
        Some(())
    }),
    ("a key is charged twice", Idempotency, 2, |run| {
        let index = run.find(is_approved)?;
        run.append(index, |_| ());
        Some(())
    }),
    ("a reused key is answered for another amount", Idempotency, 2, |run| {
        let index = run.find(|_| true)?;
        for call in run.calls(index) {
            if let Request::Evaluate { amount, .. } = &mut call.request {
                *amount += 1;
            }
        }
        Some(())
    }),
    ("a reused key is answered for another vendor", Idempotency, 2, |run| {
        let index = run.find(|_| true)?;
        for call in run.calls(index) {
            if let Request::Evaluate { vendor, .. } = &mut call.request {
                vendor.push('x');
            }
        }
        Some(())
    }),
    ("a settlement that was answered is lost", Holds, 2, |run| {
        let acts = resolved(run, |request| matches!(request, Request::Settle { .. }));
        let entry = run.entry(|entry| entry.state == "settled" && acts.contains(&entry.id))?;
        (entry.state, entry.settled) = ("approved".to_owned(), None);
        Some(())
    }),
    ("another amount is settled than was asked", Holds, 1, |run| {
        let entry = run.entry(|entry| entry.settled.is_some_and(|settled| settled > 0))?;
        entry.settled = entry.settled.map(|settled| settled - 1);
        entry.refunded = entry.refunded.map(|_| 0);
        Some(())
    }),
    ("a void that was answered is lost", Holds, 2, |run| {
        let acts = resolved(run, |request| matches!(request, Request::Void { .. }));
        let entry = run.entry(|entry| entry.state == "voided" && acts.contains(&entry.id))?;
        entry.state.clone_from(&entry.verdict);
        Some(())
    }),
    ("a refund that was answered is lost", Holds, 2, |run| {
        let acts = resolved(run, |request| matches!(request, Request::Refund { .. }));
        let is_known = |id: &String| acts.contains(id);
        let entries = run.books.entries.iter_mut();
        let mut refunded = entries.filter(|entry| entry.state == "refunded");
        let entry = refunded.find(|entry| is_known(&entry.id))?;
        (entry.state, entry.refunded) = ("settled".to_owned(), None);
        Some(())
    }),
    ("a void is invented", Holds, 1, |run| {
        run.entry(|entry| entry.state == "approved")?.state = "voided".to_owned();
        Some(())
    }),
    ("a settlement and a void both succeed", Holds, 2, |run| {
        let acts = resolved(run, |request| matches!(request, Request::Settle { .. }));
        let id = acts.first()?.clone();
        run.after(Request::Void { id }, Outcome::Resolved);
        Some(())
    }),
    ("a hold is spent that nobody approved", Holds, 1, |run| {
        run.entry(|entry| entry.state == "pending_approval")?.state = "approved".to_owned();
        Some(())
    }),
    ("what was rejected is settled", Holds, 1, |run| {
        let entry = run.entry(|entry| entry.is_rejected())?;
        (entry.state, entry.settled) = ("settled".to_owned(), Some(0));
        Some(())
    }),
    ("something is settled that is not in the record", Holds, 1, |run| {
        let id = format!("{:032x}", 8);
        run.after(Request::Settle { id, amount: 1 }, Outcome::Resolved);
        Some(())
    }),
    ("a settlement without an amount", Holds, 1, |run| {
        run.entry(|entry| entry.state == "settled")?.settled = None;
        Some(())
    }),
    ("more is settled than was approved", Execution, 1, |run| {
        let entry = run.entry(|entry| entry.state == "settled")?;
        entry.settled = Some(entry.amount + 1);
        Some(())
    }),
    ("more is refunded than was settled", Execution, 1, |run| {
        let entry = run.books.entries.iter_mut().find(|entry| entry.state == "refunded")?;
        entry.refunded = entry.settled.map(|settled| settled + 1);
        Some(())
    }),
];

/// The transactions of calls of a kind that were answered.
fn resolved(run: &super::Run, is_it: fn(&Request) -> bool) -> Vec<String> {
    let calls = run.history.iter().filter(|call| call.outcome == Outcome::Resolved);
    let ids = calls.filter(|call| is_it(&call.request)).filter_map(|call| match &call.request {
        Request::Settle { id, .. }
        | Request::Void { id }
        | Request::Refund { id, .. }
        | Request::Approve { id, .. }
        | Request::Deny { id, .. }
        | Request::Expire { id } => Some(id.clone()),
        Request::Evaluate { .. } | Request::Change { .. } | Request::Switch { .. } => None,
    });
    ids.collect()
}
