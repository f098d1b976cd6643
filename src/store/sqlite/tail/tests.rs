//! The tail and its indexes together are the record, whatever is written and whenever it restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::samples::histories;

/// The record and its indexes, as a database would have them.
#[derive(Default)]
struct Database {
    record: Vec<Entry>,
    ids: BTreeMap<TransactionId, i64>,
    agents: BTreeMap<(AgentId, i64), ()>,
    approvals: BTreeMap<ApprovalKey, Approved>,
    through: i64,
    /// Each counter's row, and the last entry in it.
    counters: BTreeMap<CounterKey, (Level, i64)>,
}

impl Database {
    fn write(&mut self, due: &Due) {
        let rows = due.counters.iter().map(|(key, level, _)| (key.clone(), (*level, due.head)));
        self.counters.extend(rows);
        self.ids.extend(due.ids.iter().copied());
        self.agents.extend(due.agents.iter().copied());
        self.approvals.extend(due.approvals.iter().copied());
        self.through = self.through.max(due.through);
    }

    fn tail(&self) -> Tail {
        let rest = self.record.iter().filter(|entry| entry.seq > self.through);
        Tail::of(self.through, rest.copied())
    }

    /// What was spent under a mandate after an entry.
    fn spent(&self, number: u8, after: i64) -> i64 {
        let mine = |entry: &&Entry| entry.seq > after;
        let approved = self.record.iter().filter(mine).filter_map(|entry| entry.approval);
        approved.filter(|(of, _)| *of == mandate(number)).map(|(_, approved)| approved.amount).sum()
    }

    /// How the ledger finds out where a counter stands, and whether its row is all it needs.
    fn level(&self, tail: &Tail, number: u8) -> (Level, bool) {
        if let Some(moved) = tail.moved(&counter(number)) {
            return (moved.level, true);
        }
        match self.counters.get(&counter(number)) {
            Some((level, through)) if tail.has_all(*through) => (*level, true),
            row => {
                let (level, through) = row.copied().unwrap_or_default();
                let spent = level.spent + self.spent(number, through);
                (Level { spent, held: 0 }, false)
            }
        }
    }

    /// Records an approval's charge as the ledger does.
    fn charge(&mut self, tail: &mut Tail, number: u8, amount: i64) {
        let (level, is_whole) = self.level(tail, number);
        let level = Level { spent: level.spent + amount, held: 0 };
        if is_whole {
            tail.charge(counter(number), level, None);
        } else {
            let seq = i64::try_from(self.record.len()).unwrap() + 1;
            self.counters.insert(counter(number), (level, seq));
            tail.counted(&counter(number));
        }
    }

    fn check(&self, tail: &Tail) {
        for number in 0..4 {
            let level = Level { spent: self.spent(number, 0), held: 0 };
            assert_eq!(self.level(tail, number).0, level);
            assert_eq!(self.level(&tail.only(mandate(number)), number).0, level);
            if let Some((level, through)) = self.counters.get(&counter(number)) {
                let later = self.spent(number, *through);
                assert_eq!(level.spent, self.spent(number, 0) - later);
            }
        }
        for entry in &self.record {
            let waiting = tail.find(entry.id);
            let indexed = self.ids.get(&entry.id).copied();
            assert_eq!(waiting.or(indexed), Some(entry.seq));
            if entry.seq <= self.through {
                assert_eq!(indexed, Some(entry.seq));
                assert!(self.agents.contains_key(&(entry.agent, entry.seq)));
            }
        }
        for number in 0..4 {
            let (agent, mandate) = (agent(number), mandate(number));
            let mine = |entry: &&Entry| entry.agent == agent;
            let all = self.record.iter().filter(mine).map(|entry| entry.seq).collect::<Vec<_>>();
            let waiting = tail.of_agent(agent);
            let indexed = self.agents.range((agent, i64::MIN)..=(agent, i64::MAX));
            let indexed = indexed.map(|((_, seq), ())| *seq).collect::<Vec<_>>();
            // Both ends overlap at most by what a restart read again.
            assert!(all.starts_with(&indexed), "{all:?} {indexed:?}");
            assert!(all.ends_with(&waiting), "{all:?} {waiting:?}");
            assert!(all.len() <= indexed.len().saturating_add(waiting.len()));

            let part = tail.only(mandate);
            assert!(part.of_mandate(mandate, 0).eq(tail.of_mandate(mandate, 0)));

            let after = 5;
            let all = self.record.iter().filter_map(|entry| {
                let (of, _) = entry.approval.filter(|(of, _)| *of == mandate)?;
                (entry.at > after).then_some((of, entry.at, entry.seq))
            });
            let all = all.collect::<Vec<_>>();
            let waiting = tail.of_mandate(mandate, after).map(|(key, _)| *key).collect::<Vec<_>>();
            assert!(all.ends_with(&waiting), "{all:?} {waiting:?}");
            let first = (mandate, 6, i64::MIN)..=(mandate, i64::MAX, i64::MAX);
            let indexed = self.approvals.range(first).map(|(key, _)| *key).collect::<Vec<_>>();
            // How the ledger looks for the first and the last one.
            assert_eq!(indexed.first().or_else(|| waiting.first()), all.first());
            assert_eq!(waiting.last().or_else(|| indexed.last()), all.last());
        }
    }
}

fn agent(number: u8) -> AgentId {
    AgentId::from_bytes([number; 16])
}

fn mandate(number: u8) -> MandateId {
    MandateId::from_bytes([number; 16])
}

fn counter(number: u8) -> CounterKey {
    CounterKey {
        mandate: mandate(number),
        subject: Subject::Budget,
        period: Period::Monthly,
        starts_at: Timestamp::UNIX_EPOCH,
    }
}

proptest! {
    #![proptest_config(histories())]

    #[test]
    fn tail_and_indexes_together_are_the_record(
        steps in prop::collection::vec(
            (any::<[u8; 16]>(), 0_u8..4, any::<bool>(), 0_u8..40),
            0..160,
        ),
    ) {
        let mut database = Database::default();
        let mut tail = database.tail();
        for ((id, number, is_approved, event), seq) in steps.into_iter().zip(1_i64..) {
            let approved = Approved { before: Tally::default(), amount: seq };
            let entry = Entry {
                seq,
                id: TransactionId::from_bytes(id),
                agent: agent(number),
                at: seq / 3,
                approval: is_approved.then_some((mandate(number), approved)),
            };
            let due = tail.due();
            // The batch fails: nothing was written and nothing recorded.
            if event == 0 {
                break;
            }
            if let Some(due) = &due {
                database.write(due);
                tail.written(due);
            }
            if is_approved {
                database.charge(&mut tail, number, seq);
            }
            database.record.push(entry);
            tail.push(entry);
            match event {
                // The process ends after the commit.
                1 => tail = database.tail(),
                // A counter is deleted, as its policy has changed.
                2 => {
                    database.counters.remove(&counter(number));
                    tail.forget_counters();
                }
                _ => {}
            }
            // Every look costs as much as the record is long.
            if seq % 16 == 0 {
                database.check(&tail);
            }
        }
        database.check(&tail);
    }
}

/// An id that follows no order.
fn scattered(seq: i64) -> TransactionId {
    let half = seq.wrapping_mul(0x1e37_79b9_7f4a_7c15).to_le_bytes();
    TransactionId::from_bytes([half, half].concat().try_into().unwrap())
}

#[test]
fn every_entry_is_indexed_in_the_end_and_little_is_read_again() {
    // One agent or many, approvals that are all or rare: no index falls behind for that.
    for (agents, approvals) in [(1, 1), (1, 100), (250, 1), (250, 100)] {
        let mut database = Database::default();
        let mut tail = database.tail();
        for seq in 1..=i64::try_from(WAITING * 40).unwrap() {
            let approved = Approved { before: Tally::default(), amount: seq };
            let agent = agent((seq % agents).try_into().unwrap());
            let approval = (seq % approvals == 0).then_some((mandate(1), approved));
            let entry = Entry { seq, id: scattered(seq), agent, at: seq, approval };
            if let Some(due) = tail.due() {
                assert!(due.ids.len() <= LUMP, "{} at once", due.ids.len());
                database.write(&due);
                tail.written(&due);
            }
            tail.push(entry);
            let behind = usize::try_from(seq - database.through).unwrap();
            assert!(behind <= WAITING * 2, "{agents} {approvals}: {behind} behind at {seq}");
            assert!(tail.of_agent(agent).len() <= WAITING);
        }
    }
}
