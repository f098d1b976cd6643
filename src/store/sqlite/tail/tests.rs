//! The tail and its indexes together are the record, whatever is written and whenever it restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::samples::config;

/// The record and its indexes, as a database would have them.
#[derive(Default)]
struct Database {
    record: Vec<Entry>,
    ids: BTreeMap<TransactionId, i64>,
    agents: BTreeMap<(AgentId, i64), ()>,
    approvals: BTreeMap<ApprovalKey, Approved>,
    through: i64,
}

impl Database {
    fn write(&mut self, due: &Due) {
        self.ids.extend(due.ids.iter().copied());
        self.agents.extend(due.agents.iter().copied());
        self.approvals.extend(due.approvals.iter().copied());
        self.through = self.through.max(due.through);
    }

    fn tail(&self) -> Tail {
        let rest = self.record.iter().filter(|entry| entry.seq > self.through);
        Tail::of(self.through, rest.copied())
    }

    fn check(&self, tail: &Tail) {
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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tail_and_indexes_together_are_the_record(
        steps in prop::collection::vec(
            (any::<[u8; 16]>(), 0_u8..4, any::<bool>(), 0_u8..40),
            0..400,
        ),
    ) {
        let mut database = Database::default();
        let mut tail = database.tail();
        for ((id, number, is_approved, event), seq) in steps.into_iter().zip(1..) {
            let approved = Approved { before: Tally::default(), amount: seq };
            let entry = Entry {
                seq,
                id: TransactionId::from_bytes(id),
                agent: agent(number),
                at: seq / 3,
                approval: is_approved.then_some((mandate(number), approved)),
            };
            let due = tail.due();
            database.record.push(entry);
            match event {
                // The batch fails: nothing was written and nothing recorded.
                0 => {
                    database.record.pop();
                    break;
                }
                // The process ends after the commit.
                1 => {
                    due.iter().for_each(|due| database.write(due));
                    tail = database.tail();
                }
                _ => {
                    if let Some(due) = &due {
                        database.write(due);
                        tail.written(due);
                    }
                    tail.push(entry);
                }
            }
            database.check(&tail);
        }
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
