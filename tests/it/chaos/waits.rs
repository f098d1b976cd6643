//! How long nobody was answered, for each fault, and what came of all calls.
//!
//! What is judged is whether the story is sound; this says what the faults cost. Not here: the
//! judge (`checker`).

use std::collections::BTreeMap;
use std::fmt;

use super::fault::{Fault, RedisFault};
use crate::checker::history::{Call, Outcome, Request};

/// How soon a question that has no answer is asked again, in milliseconds.
const AT_ONCE: u64 = 500;

/// A fault, from when until when it was made, in milliseconds since the run began.
pub(super) struct Made {
    pub(super) fault: Fault,
    pub(super) ms: (u64, u64),
}

/// What a fault cost, in milliseconds.
struct Wait {
    fault: Fault,
    /// How long nobody was answered at all.
    all: u64,
    /// How long one question was not, since it was asked or the fault began.
    one: u64,
}

/// What came of a run.
pub(super) struct Told {
    calls: usize,
    decided: usize,
    changed: usize,
    refused: usize,
    unknown: usize,
    kills: usize,
    waits: Vec<Wait>,
}

impl Told {
    pub(super) fn new(history: &[Call], made: &[Made]) -> Self {
        let count =
            |is: fn(&Outcome) -> bool| history.iter().filter(|call| is(&call.outcome)).count();
        let decided = |call: &&Call| matches!(call.outcome, Outcome::Decided(_));
        let mut answers = history.iter().filter(decided).map(|call| call.ms.1).collect::<Vec<_>>();
        answers.sort_unstable();
        let ends = made.iter().skip(1).map(|next| next.ms.0).chain([u64::MAX]);
        let questions = questions(history);
        let waits = made.iter().zip(ends).map(|(one, end)| {
            let begin = one.ms.0;
            let (mut all, mut last) = (0, begin);
            for at in answers.iter().copied().filter(|at| (begin..end).contains(at)) {
                all = all.max(at - last);
                last = at;
            }
            let during = questions.iter().filter(|(asked, told)| *asked < end && *told >= begin);
            let waited = during.map(|(asked, told)| told.min(&end) - asked.max(&begin));
            Wait { fault: one.fault, all, one: waited.max().unwrap_or_default() }
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

/// When each question was asked, and when it was answered or refused. A question that is given up
/// and asked again much later, as an old one, is another one then.
fn questions(history: &[Call]) -> Vec<(u64, u64)> {
    let mut keys = BTreeMap::<&str, Vec<&Call>>::new();
    for call in history {
        if let Request::Evaluate { key, .. } = &call.request {
            keys.entry(key).or_default().push(call);
        }
    }
    let mut questions = Vec::new();
    for calls in keys.values_mut() {
        calls.sort_unstable_by_key(|call| call.ms);
        let mut asked = None;
        for (call, before) in calls.iter().zip([None].into_iter().chain(calls.iter().map(Some))) {
            let is_again = before.is_some_and(|before| call.ms.0 < before.ms.1 + AT_ONCE);
            let since = asked.filter(|_| is_again).unwrap_or(call.ms.0);
            let is_told = call.outcome != Outcome::Unknown;
            asked = (!is_told).then_some(since);
            questions.extend(is_told.then_some((since, call.ms.1)));
        }
    }
    questions
}

/// How many processes a fault ends.
const fn kills(fault: Fault) -> usize {
    match fault {
        Fault::Kill(_)
        | Fault::KillOnDecision(_)
        | Fault::KillBehind(..)
        | Fault::StopPostgres(_) => 1,
        Fault::KillAll => super::scene::SERVERS,
        Fault::Redis(
            RedisFault::Kill | RedisFault::Power(_) | RedisFault::Empty | RedisFault::Promote(..),
        ) => 1,
        Fault::Redis(RedisFault::Old) => 2,
        Fault::Redis(RedisFault::Freeze(_) | RedisFault::Flush | RedisFault::MoveSlot(_))
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
        for Wait { fault, all, one } in &self.waits {
            writeln!(
                f,
                "for {all} ms nobody was answered, for {one} ms somebody was not: {fault:?}"
            )?;
        }
        Ok(())
    }
}
