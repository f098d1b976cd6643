//! How long nobody was answered, for each fault, and what came of all calls.
//!
//! What is judged is whether the story is sound; this says what the faults cost. Not here: the
//! judge (`checker`).

use std::fmt;

use super::fault::{Fault, RedisFault};
use crate::checker::history::{Call, Outcome};

/// A fault, from when until when it was made, in milliseconds since the run began.
pub(super) struct Made {
    pub(super) fault: Fault,
    pub(super) ms: (u64, u64),
}

/// What came of a run.
pub(super) struct Told {
    calls: usize,
    decided: usize,
    changed: usize,
    refused: usize,
    unknown: usize,
    kills: usize,
    waits: Vec<(Fault, u64, u64)>,
}

impl Told {
    pub(super) fn new(history: &[Call], made: &[Made]) -> Self {
        let count =
            |is: fn(&Outcome) -> bool| history.iter().filter(|call| is(&call.outcome)).count();
        let decided = |call: &&Call| matches!(call.outcome, Outcome::Decided(_));
        let mut answers = history.iter().filter(decided).map(|call| call.ms.1).collect::<Vec<_>>();
        answers.sort_unstable();
        let ends = made.iter().skip(1).map(|next| next.ms.0).chain([u64::MAX]);
        let waits = made.iter().zip(ends).map(|(one, end)| {
            let (begin, healed) = one.ms;
            let during = answers.iter().copied().filter(|at| (begin..end).contains(at));
            let (mut longest, mut last) = (0, begin);
            for at in during.clone() {
                longest = longest.max(at - last);
                last = at;
            }
            let after = during.clone().find(|at| *at >= healed).unwrap_or(healed) - healed;
            (one.fault, longest, after)
        });
        Self {
            calls: history.len(),
            decided: answers.len(),
            changed: count(|outcome| {
                matches!(outcome, Outcome::Changed { .. } | Outcome::Resolved)
            }),
            refused: count(|outcome| matches!(outcome, Outcome::Failed(_))),
            unknown: count(|outcome| *outcome == Outcome::Unknown),
            kills: made.iter().map(|one| kills(one.fault)).sum(),
            waits: waits.collect(),
        }
    }
}

/// How many processes a fault ends.
const fn kills(fault: Fault) -> usize {
    match fault {
        Fault::Kill(_) | Fault::KillOnDecision(_) | Fault::StopPostgres(_) => 1,
        Fault::KillAll => super::scene::SERVERS,
        Fault::Redis(RedisFault::Kill | RedisFault::Empty | RedisFault::Promote(..)) => 1,
        Fault::Redis(RedisFault::Old) => 2,
        Fault::Redis(RedisFault::Freeze(_) | RedisFault::Flush)
        | Fault::Freeze(..)
        | Fault::FreezePostgres(_)
        | Fault::Cut(..)
        | Fault::Slow(..)
        | Fault::End(..)
        | Fault::Clock(..) => 0,
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, decided, changed, refused, unknown, kills, .. } = self;
        writeln!(
            f,
            "{calls} calls: {decided} decided, {changed} changed something, {refused} refused, \
             {unknown} without an answer; {} faults, {kills} kills",
            self.waits.len(),
        )?;
        for (fault, longest, after) in &self.waits {
            writeln!(
                f,
                "nobody was answered for {longest} ms at most, {after} ms after healing: {fault:?}"
            )?;
        }
        Ok(())
    }
}
