//! What this server has answered at `durable` before Postgres had it.
//!
//! When the epoch of an answer is over, its record must have the answer. If the log of the epoch
//! was put back meanwhile, nobody else may know: what was leased to it must not be spent again
//! then. Not here: who asks Postgres (`watch`), and what it does
//! (`ledger::sql::postgres::escrow::endings`).

use std::sync::{Mutex, PoisonError};

use crate::ledger::sql::postgres::escrow::{Authority, Place};

/// Of one shard.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The latest epoch that was heard of.
    epoch: i64,
    /// The last place that was answered in it.
    answered: Option<Place>,
    /// The last places that were answered in epochs that are over, and were not recorded when that
    /// was heard.
    open: Vec<Place>,
}

impl Known {
    fn hear(&mut self, epoch: i64, position: Option<Place>) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        let is_recorded = |answered: &Place| {
            position.is_some_and(|last| last.epoch == answered.epoch && last >= *answered)
        };
        self.open.extend(self.answered.take().filter(|answered| !is_recorded(answered)));
    }
}

impl Memory {
    fn with<R>(&self, known: impl FnOnce(&mut Known) -> R) -> R {
        known(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what is to be answered now. `false` if its epoch is over, as far as is known: then it
    /// must not be answered before it is recorded.
    pub(super) fn answers(&self, place: Place) -> bool {
        self.with(|known| {
            known.hear(place.epoch, None);
            let is_present = place.epoch == known.epoch;
            if is_present {
                known.answered = known.answered.max(Some(place));
            }
            is_present
        })
    }

    /// Hears who has the shard, and how far it is recorded.
    pub(super) fn hear(&self, present: &Authority) {
        self.with(|known| known.hear(present.epoch, Some(present.position())));
    }

    /// What is not known to be recorded.
    pub(super) fn open(&self) -> Vec<Place> {
        self.with(|known| known.open.clone())
    }

    /// Forgets one of these: Postgres knows of it.
    pub(super) fn close(&self, place: Place) {
        self.with(|known| known.open.retain(|open| *open != place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn place(epoch: i64, seq: i64) -> Place {
        Place { epoch, seq }
    }

    #[test]
    fn what_was_answered_and_is_not_recorded_stays_open_when_its_epoch_is_over() {
        let memory = Memory::default();
        assert!(memory.answers(place(1, 4)));
        // Answers overtake each other.
        assert!(memory.answers(place(1, 3)));
        assert!(memory.open().is_empty());
        assert!(memory.answers(place(2, 1)));
        assert_eq!(memory.open(), [place(1, 4)]);
        memory.with(|known| known.hear(3, Some(place(2, 1))));
        assert_eq!(memory.open(), [place(1, 4)]);
        memory.close(place(1, 4));
        assert!(memory.open().is_empty());
    }

    #[test]
    fn what_a_later_epoch_recorded_says_nothing_of_an_earlier_one() {
        let memory = Memory::default();
        assert!(memory.answers(place(1, 4)));
        memory.with(|known| known.hear(2, Some(place(2, 9))));
        assert_eq!(memory.open(), [place(1, 4)]);
    }

    #[test]
    fn nothing_is_answered_in_an_epoch_that_is_over() {
        let memory = Memory::default();
        assert!(memory.answers(place(1, 4)));
        memory.with(|known| known.hear(2, Some(place(1, 4))));
        assert!(memory.open().is_empty());
        assert!(!memory.answers(place(1, 5)));
        assert!(memory.open().is_empty());
    }
}
