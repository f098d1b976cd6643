//! Faults of judgement: limits that are exceeded, approvals in doubt, refusals without a true
//! reason, wrong windows, and decisions that saw something else than the record.
//!
//! Not here: how a fault is judged (`seeded`).

use super::super::Invariant::{FailClosed, NoOverspend, Parity, Time};
use super::super::books::{Entry, Most, Terms};
use super::super::history::Outcome;
use super::{Run, Seed, is_approved, place, situations};

/// Lowers a limit until the last charge under it was one unit too much. Which one, says the first
/// letter of its subject.
fn exceed(run: &mut Run, kind: char, with_holds: bool) -> Option<()> {
    let situations = situations(&run.books);
    let mut fits = None;
    for entry in run.books.entries.iter().filter(|entry| !entry.is_rejected()) {
        for (limit, range) in &situations[&place(entry)].limits {
            let most = range.least() + entry.amount - 1;
            let has_holds = range.held.0 > 0 || !with_holds;
            if limit.subject.starts_with(kind) && range.least() > 0 && most > 0 && has_holds {
                let key = (entry.mandate.clone()?, entry.evidence.mandate?);
                fits = Some((key, limit.subject.clone(), most));
            }
        }
    }
    let (key, subject, most) = fits?;
    let terms = run.books.terms.get_mut(&key)?;
    if kind == 'b' {
        terms.total = most;
    }
    for cap in terms.caps.iter_mut().filter(|cap| cap.kind == kind) {
        if subject.contains(&cap.period) {
            cap.limit = cap.limit.min(most);
        }
    }
    Some(())
}

/// Lowers a rate until it was exceeded.
fn exceed_rate(run: &mut Run, is_sum: bool) -> Option<()> {
    let situations = situations(&run.books);
    let mut fits = None;
    for entry in run.books.entries.iter().filter(|entry| !entry.is_rejected()) {
        let rates = &situations[&place(entry)].rates;
        for (at, (rate, (count, sum, _))) in rates.iter().enumerate() {
            let most = match rate.most {
                Most::Count(_) if !is_sum && *count > 0 => Most::Count(*count),
                Most::Sum(_) if is_sum && *count > 0 => Most::Sum(sum + entry.amount - 1),
                Most::Count(_) | Most::Sum(_) => continue,
            };
            fits = Some(((entry.mandate.clone()?, entry.evidence.mandate?), at, most));
        }
    }
    let (key, at, most) = fits?;
    run.books.terms.get_mut(&key)?.rates[at].most = most;
    Some(())
}

/// Changes what the version says that judged an approval.
fn terms_of_an_approval(run: &mut Run, change: impl FnOnce(&mut Terms, i64, i64)) -> Option<()> {
    let index = run.find(|entry| is_approved(entry) && entry.amount > 1)?;
    let entry = &run.books.entries[index];
    let key = (entry.mandate.clone()?, entry.evidence.mandate?);
    let (amount, at) = (entry.amount, entry.decided_at);
    change(run.books.terms.get_mut(&key)?, amount, at);
    Some(())
}

fn was_simply_approved(entry: &Entry) -> bool {
    is_approved(entry) && entry.state == "approved"
}

/// A decision whose first counter surely stood at one level.
fn sure_of_its_level(run: &mut Run) -> Option<&mut Entry> {
    run.books.escrow = None;
    let situations = situations(&run.books);
    run.entry(|entry| {
        let first = situations.get(&place(entry)).and_then(|at| at.limits.first());
        let is_sure = first.is_some_and(|(_, range)| range.least() == range.most());
        is_sure && !entry.evidence.levels.is_empty()
    })
}

/// Refuses, with this reason, what had no reason to be refused.
fn refuse(run: &mut Run, reason: &str) -> Option<()> {
    let index = run.find(was_simply_approved)?;
    for answer in run.answers(index) {
        answer.verdict = "rejected".to_owned();
        answer.reasons = vec![reason.to_owned()];
    }
    let entry = &mut run.books.entries[index];
    (entry.verdict, entry.state) = ("rejected".to_owned(), "rejected".to_owned());
    entry.evidence.charged.clear();
    Some(())
}

pub(super) const SEEDS: &[Seed] = &[
    ("a budget is overspent", NoOverspend, 40, |run| exceed(run, 'b', false)),
    ("a budget is overspent beside what is held", NoOverspend, 40, |run| exceed(run, 'b', true)),
    ("a vendor's cap is exceeded", NoOverspend, 40, |run| exceed(run, 'v', false)),
    ("a category's cap is exceeded", NoOverspend, 40, |run| exceed(run, 'c', false)),
    ("one spend is more than a whole budget", NoOverspend, 1, |run| {
        terms_of_an_approval(run, |terms, amount, _| terms.total = amount - 1)
    }),
    ("one approval more than the rate", NoOverspend, 20, |run| exceed_rate(run, false)),
    ("one unit more than the rate of spending", NoOverspend, 20, |run| exceed_rate(run, true)),
    ("an approval in a frozen organization", FailClosed, 1, |run| {
        run.entry(is_approved)?.evidence.frozen = true;
        Some(())
    }),
    ("an approval for a suspended agent", FailClosed, 1, |run| {
        run.entry(is_approved)?.evidence.agent = "suspended".to_owned();
        Some(())
    }),
    ("an approval under a paused mandate", FailClosed, 1, |run| {
        terms_of_an_approval(run, |terms, _, _| terms.status = "paused".to_owned())
    }),
    ("an approval before the mandate is valid", FailClosed, 1, |run| {
        terms_of_an_approval(run, |terms, _, at| terms.valid.0 = at + 1)
    }),
    ("an approval after the mandate has ended", FailClosed, 1, |run| {
        terms_of_an_approval(run, |terms, _, at| terms.valid.1 = Some(at))
    }),
    ("an approval in another currency", FailClosed, 1, |run| {
        run.entry(is_approved)?.currency = "EUR".to_owned();
        Some(())
    }),
    ("an approval above the ceiling", FailClosed, 1, |run| {
        terms_of_an_approval(run, |terms, amount, _| terms.per_transaction = amount - 1)
    }),
    ("an approval that a person had to give", FailClosed, 1, |run| {
        terms_of_an_approval(run, |terms, amount, _| terms.approval = Some(amount - 1))
    }),
    ("an approval without a mandate", FailClosed, 1, |run| {
        let entry = run.entry(is_approved)?;
        (entry.mandate, entry.evidence.mandate) = (None, None);
        Some(())
    }),
    ("a refusal although there is room", FailClosed, 2, |run| refuse(run, "budget_exhausted")),
    ("a refusal for a pause that is not", FailClosed, 2, |run| refuse(run, "mandate_paused")),
    ("a refusal of an allowed currency", FailClosed, 2, |run| refuse(run, "currency_mismatch")),
    ("a refusal for a rate that is kept", FailClosed, 2, |run| refuse(run, "spend_rate_exceeded")),
    ("a refusal that nobody heard, although there is room", FailClosed, 1, |run| {
        let index = run.find(was_simply_approved)?;
        if run.books.entries[index].terms(&run.books)?.others {
            return None;
        }
        refuse(run, "")?;
        run.calls(index).for_each(|call| call.outcome = Outcome::Unknown);
        Some(())
    }),
    ("a refusal without a reason", FailClosed, 2, |run| {
        let index = run.find(|entry| entry.is_rejected())?;
        run.answers(index).for_each(|answer| answer.reasons.clear());
        Some(())
    }),
    ("an approval with a reason to refuse", FailClosed, 2, |run| {
        let index = run.find(is_approved)?;
        run.answers(index).for_each(|answer| answer.reasons.push("budget_exhausted".to_owned()));
        Some(())
    }),
    ("a charge in yesterday's window", Time, 1, |run| {
        let entry = run.entry(|entry| {
            entry.evidence.charged.first().is_some_and(|(subject, _)| subject == "b:daily")
        })?;
        entry.evidence.charged[0].1 -= 86_400_000_000;
        Some(())
    }),
    ("a charge that leaves a cap out", Time, 1, |run| {
        run.entry(|entry| entry.evidence.charged.len() > 1)?.evidence.charged.pop();
        Some(())
    }),
    ("a day that begins in another time zone", Time, 1, |run| {
        let entry = run.entry(|entry| {
            let is_daily = entry.evidence.charged.iter().any(|(name, _)| name.contains("daily"));
            is_daily && entry.evidence.zone != "UTC"
        })?;
        entry.evidence.zone = "UTC".to_owned();
        Some(())
    }),
    ("time that runs backwards", Time, 2, |run| {
        run.books.escrow = None;
        let index = run.find(|entry| entry.seq > 2)?;
        let entry = &mut run.books.entries[index];
        entry.decided_at = 1;
        Some(())
    }),
    ("a change before the decision", Time, 1, |run| {
        let entry = run.entry(|entry| entry.state == "settled")?;
        entry.updated_at = entry.decided_at - 1;
        Some(())
    }),
    ("a decision that saw less spent than was", Parity, 1, |run| {
        sure_of_its_level(run)?.evidence.levels[0].0 -= 1;
        Some(())
    }),
    ("a decision that saw less held than was", Parity, 1, |run| {
        sure_of_its_level(run)?.evidence.levels[0].1 -= 1;
        Some(())
    }),
    ("an approval in Redis that its slice does not allow", Parity, 1, |run| {
        run.books.escrow.as_ref()?;
        let has_budget = |entry: &Entry| !entry.evidence.levels.is_empty() && is_approved(entry);
        run.entry(has_budget)?.evidence.levels[0].0 = 90_000_000_000_000;
        Some(())
    }),
    ("a decision that did not look at a cap", Parity, 1, |run| {
        run.entry(|entry| entry.evidence.levels.len() > 1)?.evidence.levels.pop();
        Some(())
    }),
    ("a decision that saw one approval less in its window", Parity, 1, |run| {
        run.entry(|entry| !entry.evidence.windows.is_empty())?.evidence.windows[0].0 -= 1;
        Some(())
    }),
    ("a tally that skips an approval", Parity, 2, |run| {
        run.entry(|entry| entry.before.0 > 0 && !entry.is_rejected())?.before.0 += 1;
        Some(())
    }),
    ("a tally that loses money", Parity, 2, |run| {
        run.entry(|entry| entry.before.0 > 0 && !entry.is_rejected())?.before.1 -= 1;
        Some(())
    }),
];
