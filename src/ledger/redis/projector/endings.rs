//! When what ended epochs had leased at `durable` may be freed: some time after the next epoch is
//! recorded, in which each server that answered says whether something is missing.
//!
//! Not here: what servers remember (`memory`), and what is freed
//! (`ledger::sql::postgres::escrow::endings`).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::sql::postgres::escrow::Authority;

/// How long that time is. Who has not heard of the new epoch in half of it answers nothing any more
/// (`shards::KNOWN_TO_ALL`), and says what it misses as soon as it hears.
const HEARD_TIME: Duration = Duration::from_secs(2);

/// What is known of the present epochs.
#[derive(Debug, Default)]
pub(super) struct Endings(HashMap<i16, Beginning>);

/// Of one shard.
#[derive(Debug)]
struct Beginning {
    epoch: i64,
    /// When it was first seen that it is recorded; none if those before it are done with.
    seen: Option<Instant>,
}

impl Endings {
    /// The shards, with their present epochs, whose ended epochs nobody has looked at in time.
    pub(super) fn due(&mut self, present: &[Authority], now: Instant) -> Vec<(i16, i64)> {
        let is_recorded = |one: &&Authority| one.position().epoch == one.epoch;
        let mut due = Vec::new();
        for one in present.iter().filter(is_recorded) {
            let new = || Beginning { epoch: one.epoch, seen: Some(now) };
            let known = self.0.entry(one.shard).or_insert_with(new);
            if known.epoch != one.epoch {
                *known = new();
            }
            if known.seen.is_some_and(|seen| now.duration_since(seen) >= HEARD_TIME) {
                due.push((one.shard, one.epoch));
            }
        }
        due
    }

    /// Notes that the epochs before this one are done with.
    pub(super) fn done(&mut self, (shard, epoch): (i16, i64)) {
        if let Some(known) = self.0.get_mut(&shard).filter(|known| known.epoch == epoch) {
            known.seen = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sql::postgres::escrow::Place;

    fn present(shard: i16, epoch: i64, position: i64) -> Authority {
        let mut one = Authority::default();
        (one.shard, one.epoch) = (shard, epoch);
        one.moved(Place { epoch: position, seq: 3 })
    }

    #[test]
    fn ended_epochs_are_due_once_some_time_after_the_next_one_is_recorded() {
        let (mut endings, begin) = (Endings::default(), Instant::now());
        let at = |part: u32| begin + HEARD_TIME.checked_mul(part).unwrap() / 4;
        // The log of the epoch before is not recorded yet.
        assert!(endings.due(&[present(7, 2, 1)], at(0)).is_empty());
        assert!(endings.due(&[present(7, 2, 2)], at(1)).is_empty());
        assert!(endings.due(&[present(7, 2, 2), present(8, 1, 1)], at(4)).is_empty());
        assert_eq!(endings.due(&[present(7, 2, 2), present(8, 1, 1)], at(5)), [(7, 2)]);
        // It failed, and is tried again.
        assert_eq!(endings.due(&[present(7, 2, 2)], at(6)), [(7, 2)]);
        endings.done((7, 2));
        assert!(endings.due(&[present(7, 2, 2)], at(7)).is_empty());
        assert_eq!(endings.due(&[present(8, 1, 1)], at(8)), [(8, 1)]);
        assert!(endings.due(&[present(7, 3, 3)], at(8)).is_empty());
        assert_eq!(endings.due(&[present(7, 3, 3)], at(12)), [(7, 3)]);
    }
}
