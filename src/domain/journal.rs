//! The journal's order: decisions and acts as one sequence, and what follows from them.
//!
//! An act says behind which decision it was done, which was so under the same lock that numbers
//! both: the order is the one in which things were committed, whatever clocks said. Budget marks
//! are reached at decisions alone, by what each of them recorded. Everything here is a function of
//! what is recorded, so whoever goes on after a crash writes the same. Not here: digests (`audit`),
//! and where it is written (`journal`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::EventKind;
use super::id::{AgentId, MandateId};
use super::mandate::Budget;
use super::money::{Currency, Minor};
use super::period::{PeriodError, parse_zone};

/// At which parts of a budget somebody is told, in percent, and by which event.
pub const MARKS: [(i64, EventKind); 2] =
    [(80, EventKind::MandateBudgetWarning), (100, EventKind::MandateBudgetExhausted)];

/// One of the next entries: a decision or an act, by its place in what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The decision at this index.
    Spend(usize),
    /// The act at this index.
    Act(usize),
}

/// What was read behind a position: numbers, and whether more is there behind them.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// The numbers of decisions, ascending.
    pub spends: &'a [i64],
    /// Each act's number of the decision before it, in the order of the acts.
    pub acts: &'a [i64],
    /// There may be decisions behind these.
    pub more_spends: bool,
    /// There may be acts behind these.
    pub more_acts: bool,
}

impl Read<'_> {
    /// The one order of all of them; it ends where something unread may come next.
    #[must_use]
    pub fn merge(&self) -> Vec<Next> {
        let mut merged = Vec::with_capacity(self.spends.len().saturating_add(self.acts.len()));
        let mut spends = self.spends.iter().copied().enumerate().peekable();
        let mut acts = self.acts.iter().copied().enumerate().peekable();
        loop {
            match (spends.peek().copied(), acts.peek().copied()) {
                (Some((at, spend)), Some((_, after))) if spend <= after => {
                    merged.push(Next::Spend(at));
                    spends.next();
                }
                (_, Some((at, after))) => {
                    // A decision that was not read may come before it.
                    let last = self.spends.last().copied();
                    if self.more_spends && last.is_none_or(|last| last < after) {
                        return merged;
                    }
                    merged.push(Next::Act(at));
                    acts.next();
                }
                (Some((at, spend)), None) => {
                    // An act that was not read is behind the last one that was.
                    let last = self.acts.last().copied();
                    if self.more_acts && last.is_none_or(|last| last < spend) {
                        return merged;
                    }
                    merged.push(Next::Spend(at));
                    spends.next();
                }
                (None, None) => return merged,
            }
        }
    }
}

/// How a budget stood after a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The mandate.
    pub mandate: MandateId,
    /// Its version, whose limits were held to.
    pub version: i64,
    /// The agent.
    pub agent: AgentId,
    /// Spent.
    pub spent: Minor,
    /// Held.
    pub held: Minor,
    /// When.
    pub at: Timestamp,
}

/// A part of a budget that was reached: once for each window and limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The mandate.
    pub mandate: MandateId,
    /// When the window starts, in microseconds.
    pub starts_at: i64,
    /// The part.
    pub percent: i64,
    /// The limit that it is a part of. Another limit has marks of its own.
    pub limit: Minor,
}

/// The document of an entry about a mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkReached {
    /// The mandate.
    pub mandate: MandateId,
    /// The agent.
    pub agent: AgentId,
    /// The start of the window.
    pub window_start: Timestamp,
    /// The part, in percent.
    pub percent: i64,
    /// The limit.
    pub limit: Minor,
    /// Spent then.
    pub spent: Minor,
    /// Held then.
    pub held: Minor,
    /// In which currency.
    pub currency: Currency,
}

impl Reached {
    /// Whether any mark of this limit is reached: the cheap test before asking for them.
    #[must_use]
    pub fn is_notable(&self, limit: Minor) -> bool {
        MARKS.iter().any(|(percent, _)| self.is_at(*percent, limit))
    }

    const fn is_at(&self, percent: i64, limit: Minor) -> bool {
        // A limit is 9·10^13 at most.
        let committed = self.spent.saturating_add(self.held);
        committed.saturating_mul(100) >= limit.saturating_mul(percent)
    }

    /// The marks of a budget that this is at or above, in a zone, with what is said of each.
    ///
    /// # Errors
    /// When the zone is none.
    pub fn marks(
        &self,
        budget: &Budget,
        zone: &str,
    ) -> Result<Vec<(Mark, EventKind, MarkReached)>, PeriodError> {
        let window = budget.reset.window(self.at, &parse_zone(zone)?)?;
        let reached = MARKS.iter().filter(|(percent, _)| self.is_at(*percent, budget.total));
        Ok(reached
            .map(|&(percent, kind)| {
                let mark = Mark {
                    mandate: self.mandate,
                    starts_at: window.starts_at.as_microsecond(),
                    percent,
                    limit: budget.total,
                };
                let said = MarkReached {
                    mandate: self.mandate,
                    agent: self.agent,
                    window_start: window.starts_at,
                    percent,
                    limit: budget.total,
                    spent: self.spent,
                    held: self.held,
                    currency: budget.currency,
                };
                (mark, kind, said)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::samples::config;

    /// The order of everything, read at once.
    fn whole(spends: &[i64], acts: &[i64]) -> Vec<(bool, i64)> {
        let mut order = spends.iter().map(|seq| (*seq, 0, true, *seq)).collect::<Vec<_>>();
        let acts = acts.iter().zip(1..);
        order.extend(acts.map(|(after, number)| (*after, number, false, number)));
        order.sort_by_key(|(place, act, ..)| (*place, *act));
        order.into_iter().map(|(.., is_spend, number)| (is_spend, number)).collect()
    }

    /// The same order, read in parts of a few.
    fn in_parts(spends: &[i64], acts: &[i64], part: usize) -> Vec<(bool, i64)> {
        let (mut order, mut from_spend, mut from_act) = (Vec::new(), 0, 0);
        loop {
            let (to_spend, to_act) =
                ((from_spend + part).min(spends.len()), (from_act + part).min(acts.len()));
            let read = Read {
                spends: &spends[from_spend..to_spend],
                acts: &acts[from_act..to_act],
                more_spends: to_spend - from_spend == part,
                more_acts: to_act - from_act == part,
            };
            let merged = read.merge();
            let (first_spend, first_act) = (from_spend, from_act);
            for next in &merged {
                order.push(match *next {
                    Next::Spend(at) => {
                        from_spend += 1;
                        (true, spends[first_spend + at])
                    }
                    Next::Act(at) => {
                        from_act += 1;
                        (false, i64::try_from(first_act + at + 1).unwrap())
                    }
                });
            }
            if merged.is_empty() {
                return order;
            }
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_order_is_the_same_however_it_is_read(
            spends in 0_i64..30,
            gap in 1_i64..3,
            acts in proptest::collection::vec(0_i64..70, 0..30),
            part in 1_usize..8,
        ) {
            let spends = (1..=spends).map(|seq| seq * gap).collect::<Vec<_>>();
            let mut acts = acts;
            acts.sort_unstable();
            prop_assert_eq!(in_parts(&spends, &acts, part), whole(&spends, &acts));
        }
    }
}
