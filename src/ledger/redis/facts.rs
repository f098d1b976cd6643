//! What a script adds to an entry when it decides: the time, the verdict, and how everything stood.
//!
//! The same bytes are in the outbox and in the reply, so a server answers what the projector will
//! record. Not here: the rest of a decision (`store::sql::spends::entry`).

use jiff::Timestamp;

use crate::domain::decision::Verdict;
use crate::domain::ledger::{Level, WindowLevel};
use crate::domain::transaction::TransactionRecord;

/// What a script adds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    pub(super) at: Timestamp,
    pub(super) approved: bool,
    pub(super) levels: Vec<Level>,
    pub(super) windows: Vec<WindowLevel>,
}

impl Facts {
    /// Reads them; `None` if they were written by something else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(11)?;
        let (at, flags) = head.split_at_checked(8)?;
        let &[approved, levels, windows] = flags else { return None };
        let at = Timestamp::from_microsecond(i64::from_be_bytes(at.try_into().ok()?)).ok()?;
        let mut number = || {
            let (number, left) = rest.split_at_checked(8)?;
            rest = left;
            Some(i64::from_be_bytes(number.try_into().ok()?))
        };
        let mut facts =
            Self { at, approved: approved == 1, levels: Vec::new(), windows: Vec::new() };
        for _ in 0..levels {
            facts.levels.push(Level { spent: number()?, held: number()? });
        }
        for _ in 0..windows {
            let (count, sum, oldest) = (number()?, number()?, number()?);
            let oldest = if oldest > 0 { Timestamp::from_microsecond(oldest).ok() } else { None };
            facts.windows.push(WindowLevel { count, sum, oldest });
        }
        rest.is_empty().then_some(facts)
    }

    /// The record of a decision with these facts. It was drafted as if it were approved.
    pub(super) fn conclude(self, draft: &mut TransactionRecord) {
        draft.evidence.levels = self.levels;
        draft.evidence.windows = self.windows;
        let verdict = if self.approved { draft.verdict } else { Verdict::Rejected };
        draft.begin(verdict, self.at);
        if !self.approved {
            draft.charged = Vec::new();
        }
    }
}

/// Levels as a script copies them into a rejection.
pub(super) fn packed_levels(levels: &[Level]) -> Vec<u8> {
    let numbers = levels.iter().flat_map(|level| [level.spent, level.held]);
    numbers.flat_map(i64::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_that_are_cut_short_are_no_facts() {
        let mut bytes = 1_790_000_000_000_000_i64.to_be_bytes().to_vec();
        bytes.extend([1, 1, 0]);
        bytes.extend(packed_levels(&[Level { spent: 3, held: 4 }]));
        let facts = Facts::parse(&bytes).unwrap();
        assert_eq!(facts.levels, [Level { spent: 3, held: 4 }]);
        assert!(facts.approved);
        for length in 0..bytes.len() {
            assert_eq!(Facts::parse(&bytes[..length]), None, "{length}");
        }
        bytes.push(0);
        assert_eq!(Facts::parse(&bytes), None);
    }
}
