//! Money that is leased to Redis: what Postgres has leased is what Redis has left, to the unit, and
//! no counter is exceeded by what is spent, held and leased together.
//!
//! A Redis that was not spent from since it came back has nothing that counts. The protocol is in
//! docs/PROTOCOL.md, and what its levels promise is judged where that matters. Not here: how it is
//! read.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Entry};
use super::caps::counts;
use super::history::{Call, Request};
use super::{Case, Cases, Findings, Invariant};

/// What an approval is worth when it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Postgres has it: `strict`.
    #[default]
    Recorded,
    /// Redis has it, and will keep it: `fast` and `durable`.
    Ahead,
    /// Redis has it, and may lose it with its memory or its disk.
    MayBeLost,
}

/// What Postgres and Redis say of leases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Escrow {
    pub(crate) answers: Answers,
    pub(crate) shards: Vec<Shard>,
    pub(crate) leases: Vec<Lease>,
    /// What each slice in Redis says: epoch, last lease that was installed, rest.
    pub(crate) slices: BTreeMap<String, (i64, i64, i64)>,
}

/// One shard, as both say it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) shard: i64,
    /// Postgres' epoch, and the last entry of the outbox that is recorded.
    pub(crate) epoch: i64,
    pub(crate) position: (i64, i64),
    /// Redis' epoch, the last entry that was ever appended, and those that are still there.
    pub(crate) begun: Option<i64>,
    pub(crate) last: (i64, i64),
    pub(crate) outbox: Vec<(i64, i64)>,
}

/// What one epoch holds of one counter.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) mandate: String,
    pub(crate) subject: String,
    pub(crate) starts_at: i64,
    pub(crate) shard: i64,
    pub(crate) epoch: i64,
    /// The last lease that was granted, and its amount.
    pub(crate) number: i64,
    pub(crate) amount: i64,
    pub(crate) leased: i64,
    pub(crate) limit: i64,
}

impl Lease {
    /// Where its slice is in Redis.
    pub(crate) fn key(&self) -> String {
        let Self { mandate, subject, starts_at, shard, .. } = self;
        format!("v1:{{s{shard:02}}}:b:{mandate}:{subject}:{starts_at}")
    }
}

pub(super) fn check(escrow: &Escrow, books: &Books, found: &mut Findings) {
    leased(escrow, books, found);
    for shard in &escrow.shards {
        outbox(shard, found);
        let is_current = |lease: &&Lease| (lease.shard, lease.epoch) == (shard.shard, shard.epoch);
        if shard.begun == Some(shard.epoch) {
            for lease in escrow.leases.iter().filter(is_current) {
                slice(lease, escrow, found);
            }
        }
    }
}

/// The mechanism of I1: spent, held and leased together stay within the limit.
fn leased(escrow: &Escrow, books: &Books, found: &mut Findings) {
    let mut counters = BTreeMap::<(&str, &str, i64), (i64, i64)>::new();
    for lease in &escrow.leases {
        let key = (lease.mandate.as_str(), lease.subject.as_str(), lease.starts_at);
        let sum = counters.entry(key).or_insert((0, lease.limit));
        *sum = (sum.0 + lease.leased, sum.1.max(lease.limit));
    }
    for ((mandate, subject, starts_at), (leased, limit)) in counters {
        let counter = books.counters.iter().find(|counter| {
            (counter.mandate.as_str(), counter.subject.as_str(), counter.starts_at)
                == (mandate, subject, starts_at)
        });
        let ends_at = counter.map_or(i64::MAX, |counter| counter.ends_at);
        let rows = books.entries.iter().filter(|entry| {
            entry.mandate.as_deref() == Some(mandate)
                && (starts_at..ends_at).contains(&entry.decided_at)
                && entry.last_load() != (0, 0)
                && counts(subject, entry)
        });
        let rows = rows.collect::<Vec<&Entry>>();
        let sum =
            rows.iter().map(|entry| entry.last_load()).fold(0, |sum, load| sum + load.0 + load.1);
        if sum + leased > limit {
            let what = format!("{subject} of {mandate}: {sum} and {leased} leased of {limit}");
            found.rows(Invariant::NoOverspend, what, &rows);
        }
    }
}

/// What was answered and lost was leased to an epoch that is over, and counts as spent.
pub(super) fn lost(escrow: &Escrow, cases: &Cases<'_>, books: &Books, found: &mut Findings) {
    if escrow.answers != Answers::MayBeLost {
        return;
    }
    let mut lost = BTreeMap::<&str, (i64, Vec<&Call>)>::new();
    for ((agent, _), case) in cases {
        if let Some((call, amount)) = lost_of(case) {
            let (sum, calls) = lost.entry(agent).or_default();
            *sum += amount;
            calls.push(call);
        }
    }
    for (agent, (sum, calls)) in lost {
        let of_agent = books.terms.iter().filter(|(_, terms)| terms.agent == agent);
        let mandates = of_agent.map(|((mandate, _), _)| mandate).collect::<BTreeSet<_>>();
        let has_ended = |lease: &&Lease| {
            let shard = escrow.shards.iter().find(|shard| shard.shard == lease.shard);
            shard.is_some_and(|shard| lease.epoch < shard.epoch)
        };
        let ended = escrow.leases.iter().filter(has_ended);
        let budget = ended
            .filter(|lease| mandates.contains(&lease.mandate) && lease.subject.starts_with('b'));
        let leased = budget.map(|lease| lease.leased).sum::<i64>();
        if sum > leased {
            let what = format!("{sum} of {agent} were answered and lost, {leased} are leased");
            found.add(Invariant::NoOverspend, what, &calls, &[]);
        }
    }
}

/// What was told to be approved under a key and is not recorded as that.
fn lost_of<'a>(case: &Case<'a>) -> Option<(&'a Call, i64)> {
    let (call, _) = case.answers().find(|(_, answer)| answer.verdict == "approved")?;
    let is_recorded = case.rows.iter().any(|row| !row.is_rejected());
    let Request::Evaluate { amount, .. } = &call.request else { return None };
    (!is_recorded).then_some((call, *amount))
}

/// The outbox has no hole, and at rest all of it is recorded.
fn outbox(shard: &Shard, found: &mut Findings) {
    let name = shard.shard;
    for pair in shard.outbox.windows(2) {
        let ((epoch, seq), next) = (pair[0], pair[1]);
        // A later epoch begins with its number 0.
        if next != (epoch, seq + 1) && !(next.0 > epoch && next.1 == 0) {
            let what = format!("the outbox of shard {name} has {next:?} after {:?}", pair[0]);
            found.rows(Invariant::Audit, what, &[]);
        }
    }
    if shard.begun.is_some_and(|epoch| epoch > shard.epoch) {
        let what = format!("Redis is in an epoch of shard {name} that nobody gave it");
        found.rows(Invariant::Authority, what, &[]);
    }
    if shard.begun == Some(shard.epoch) && shard.position != shard.last {
        let (position, last) = (shard.position, shard.last);
        let what = format!("shard {name} is recorded up to {position:?}, not to {last:?}");
        found.rows(Invariant::Convergence, what, &[]);
    }
}

/// What a slice can still spend is what is leased to it.
fn slice(lease: &Lease, escrow: &Escrow, found: &mut Findings) {
    let key = lease.key();
    let stored = escrow.slices.get(&key);
    let (installed, rest) = match stored {
        Some((epoch, number, rest)) if *epoch == lease.epoch => (*number, *rest),
        _ => (0, 0),
    };
    // One lease may be on its way.
    let coming = if installed < lease.number { lease.amount } else { 0 };
    if installed > lease.number || rest + coming > lease.leased {
        let what = format!("{key} can spend {rest} and {coming}, {} are leased", lease.leased);
        found.rows(Invariant::NoOverspend, what, &[]);
    } else if rest + coming != lease.leased && !(stored.is_none() && lease.number > 1) {
        // A slice is gone a day after its period; what was leased then stays counted.
        let what = format!("{key} has {rest} and {coming}, {} are leased", lease.leased);
        found.rows(Invariant::Convergence, what, &[]);
    }
}
