//! Faults of the stores at rest: order, counters, heads, indexes, leases, bounds and secrets.
//!
//! Not here: how a fault is judged (`seeded`).

use super::super::Invariant::{Audit, Authority, Bounds, Convergence, NoOverspend, Secrets, Time};
use super::super::books::Counter;
use super::super::escrow::{Answers, Escrow, Lease, Shard};
use super::{Run, Seed, is_approved};

fn escrow(run: &mut Run) -> Option<&mut Escrow> {
    run.books.escrow.as_mut()
}

fn shard(run: &mut Run) -> Option<&mut Shard> {
    escrow(run)?.shards.first_mut()
}

/// A lease that has something left.
fn lease(run: &mut Run) -> Option<&mut Lease> {
    escrow(run)?.leases.iter_mut().find(|lease| lease.leased > 0)
}

/// The slice of such a lease.
fn slice(run: &mut Run) -> Option<&mut (i64, i64, i64)> {
    let key = lease(run)?.key();
    escrow(run)?.slices.get_mut(&key)
}

fn counter(run: &mut Run) -> Option<&mut Counter> {
    run.books.counters.iter_mut().find(|counter| counter.spent > 0)
}

pub(super) const SEEDS: &[Seed] = &[
    ("an order of the record that nobody saw", Time, 4, |run| {
        run.books.escrow = None;
        let entries = &mut run.books.entries;
        let chain = entries.first()?.chain.clone();
        let last = entries.iter().rposition(|entry| entry.chain == chain)?;
        // Far enough apart that their calls do not overlap.
        let first = last.checked_sub(9)?;
        (entries[first].seq, entries[last].seq) = (entries[last].seq, entries[first].seq);
        entries.swap(first, last);
        let is_answered = |run: &mut Run, at: usize| run.answers(at).next().is_some();
        (is_answered(run, first) && is_answered(run, last)).then_some(())
    }),
    ("a counter that was charged twice", Convergence, 40, |run| {
        counter(run)?.spent += 1;
        Some(())
    }),
    ("a counter that forgot what was given back", Convergence, 40, |run| {
        run.books.counters.iter_mut().next_back()?.held += 5;
        Some(())
    }),
    ("a counter that is there twice", Convergence, 0, |run| {
        let counter = counter(run)?.clone();
        run.books.counters.push(counter);
        Some(())
    }),
    ("a head that is behind the record", Convergence, 0, |run| {
        run.books.heads.first_mut()?.seq -= 1;
        Some(())
    }),
    ("a head that would let time run back", Convergence, 0, |run| {
        run.books.heads.first_mut()?.floor = 0;
        Some(())
    }),
    ("an entry that is not found by its id", Convergence, 1, |run| {
        run.books.indexes.as_mut()?.by_id.pop()?;
        Some(())
    }),
    ("an entry that is not found by its agent", Convergence, 1, |run| {
        run.books.indexes.as_mut()?.by_agent.pop()?;
        Some(())
    }),
    ("an approval that is not found by its mandate", Convergence, 1, |run| {
        run.books.indexes.as_mut()?.approvals.pop()?;
        Some(())
    }),
    ("an index that has what the record has not", Convergence, 0, |run| {
        run.books.indexes.as_mut()?.by_agent.push(("0".repeat(32), 1));
        Some(())
    }),
    ("a decision without a name", Convergence, 1, |run| {
        run.books.names.as_mut()?.pop()?;
        Some(())
    }),
    ("a name that leads into the part of another year", Convergence, 0, |run| {
        run.books.names.as_mut()?.first_mut()?.3 += 1;
        Some(())
    }),
    ("an outbox that is not recorded to its end", Convergence, 0, |run| {
        shard(run)?.position = (2, 1);
        Some(())
    }),
    ("a slice that lost money", Convergence, 0, |run| {
        slice(run)?.2 -= 1;
        Some(())
    }),
    ("a slice that has more than is leased to it", NoOverspend, 0, |run| {
        slice(run)?.2 += 1;
        Some(())
    }),
    ("a slice with a lease that nobody granted", NoOverspend, 0, |run| {
        slice(run)?.1 += 1;
        Some(())
    }),
    ("more leased than the limit has left", NoOverspend, 40, |run| {
        lease(run)?.limit -= 1;
        Some(())
    }),
    ("more answered and lost than was leased to what lost it", NoOverspend, 40, |run| {
        escrow(run)?.answers = Answers::MayBeLost;
        let index = run.find(|entry| is_approved(entry) && entry.amount > 0)?;
        run.remove(index);
        Some(())
    }),
    ("an approval that Redis lost and decided again", Audit, 2, |run| {
        escrow(run)?.answers = Answers::Ahead;
        let index = run.find(|entry| is_approved(entry) && entry.due_at.is_none())?;
        run.decide_later(index);
        Some(())
    }),
    ("an outbox with a hole", Audit, 0, |run| {
        shard(run)?.outbox.remove(3);
        Some(())
    }),
    ("an outbox that was rolled back and goes on", Audit, 0, |run| {
        shard(run)?.outbox.push((2, 1));
        Some(())
    }),
    ("an epoch that nobody gave", Authority, 0, |run| {
        shard(run)?.begun = Some(3);
        Some(())
    }),
    ("an amount beyond every bound", Bounds, 1, |run| {
        run.entry(|_| true)?.amount = 1_000_000_000_001;
        Some(())
    }),
    ("a key beyond its bound", Bounds, 1, |run| {
        run.entry(|_| true)?.key = "k".repeat(129);
        Some(())
    }),
    ("a mandate with too many rules", Bounds, 0, |run| {
        run.books.terms.values_mut().next()?.rules = 51;
        Some(())
    }),
    ("a limit beyond every bound", Bounds, 0, |run| {
        run.books.terms.values_mut().next()?.total = 90_000_000_000_001;
        Some(())
    }),
    ("a key in a log", Secrets, 0, |run| {
        run.books.secrets.push("sk_4f1cd0".to_owned());
        run.books.texts.push(("one.log".to_owned(), "refused sk_4f1cd0, try again".to_owned()));
        Some(())
    }),
    ("a password in a dump, as digits", Secrets, 0, |run| {
        run.books.secrets.push("correct horse".to_owned());
        run.books.texts.push(("a dump".to_owned(), hex::encode("a correct horse")));
        Some(())
    }),
];
