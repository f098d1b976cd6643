//! The end of the record that its indexes and counters do not have yet.
//!
//! Ids are spread evenly, so an index over them is written at another page for every entry, and a
//! commit that had to write them all would be slow. An entry is therefore recorded alone; until the
//! indexes have it too, it is found here. Neighbours in the order of an index are written together,
//! and as the record alone is the truth, a restart reads its end again. Not here: SQL (`spends`,
//! `ledger::sql`).

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;

use crate::domain::id::{AgentId, MandateId, TransactionId};
use crate::domain::ledger::{CounterKey, Level, Subject, Tally};
use crate::domain::money::Minor;
use crate::domain::period::Period;

/// The most entries that wait for an index, or little more. Of more, more would share a page, but a
/// restart has to read up to twice as many again. Debug builds keep few, so that the tests go
/// through the indexes.
const WAITING: usize = if cfg!(debug_assertions) { 48 } else { 32_768 };

/// Recorded entries in which every counter that moved is written once. With more, a busy counter
/// would have more to sum up after a restart, before its first decision.
const COUNTING: usize = if cfg!(debug_assertions) { 16 } else { 8_192 };

/// Recorded entries after which indexes are written: each page of an index is then written for
/// some entries at once, and no batch is held up for long.
const LUMP: usize = if cfg!(debug_assertions) { 6 } else { 64 };

/// An entry of the record as the indexes see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its place in the record.
    pub(crate) seq: i64,
    /// What it is called.
    pub(crate) id: TransactionId,
    /// Who asked.
    pub(crate) agent: AgentId,
    /// When it was decided, in microseconds since 1970.
    pub(crate) at: i64,
    /// What it adds to the history of a mandate, if it is an approval.
    pub(crate) approval: Option<(MandateId, Approved)>,
}

/// An approval in the history of its mandate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Approved {
    /// The tally before it.
    pub(crate) before: Tally,
    /// How much.
    pub(crate) amount: Minor,
}

/// A counter that moved and whose row was not written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Where it stands.
    pub(crate) level: Level,
    /// When its window ends, if it does.
    pub(crate) ends_at: Option<Timestamp>,
    /// The first entry that its row does not have.
    since: i64,
}

/// Where an approval stands: mandate, time in microseconds since 1970, sequence number.
type ApprovalKey = (MandateId, i64, i64);

/// Entries in the order of an index.
type Entries<K, V> = Vec<(K, V)>;

/// What the indexes get next.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// The place of each id.
    pub(crate) ids: Entries<TransactionId, i64>,
    /// The places of each agent's entries.
    pub(crate) agents: Entries<(AgentId, i64), ()>,
    /// The approvals of each mandate, with their places.
    pub(crate) approvals: Entries<ApprovalKey, Approved>,
    /// The rows of counters, which have every entry up to `head` then.
    pub(crate) counters: Vec<(CounterKey, Level, Option<Timestamp>)>,
    /// Every index has every entry up to this one already.
    pub(crate) through: i64,
    /// The end of the record.
    pub(crate) head: i64,
}

/// What one table does not have yet. It is written in rounds, each once through the keys, and of
/// just the entries that there were when it began: of later ones there might be no end.
#[derive(Debug)]
struct Waiting<K, V> {
    entries: BTreeMap<K, V>,
    /// Recorded entries that one round takes.
    round: usize,
    /// The place of an entry in the record.
    place: fn(&K, &V) -> i64,
    /// The last key that this round has written.
    reached: Option<K>,
    /// The end of the record when this round began; `None` between rounds.
    began: Option<i64>,
    /// The index has every entry up to this one.
    through: i64,
}

impl<K: Ord + Clone, V: Copy> Waiting<K, V> {
    const fn new(round: usize, through: i64, place: fn(&K, &V) -> i64) -> Self {
        Self { entries: BTreeMap::new(), round, place, reached: None, began: None, through }
    }

    /// What this round has still to write, in order.
    fn rest(&self) -> impl Iterator<Item = (&K, &V)> {
        let after = self.reached.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let is_old = |(key, value): &(&K, &V)| {
            self.began.is_none_or(|began| (self.place)(key, value) <= began)
        };
        self.entries.range::<K, _>((after, Bound::Unbounded)).filter(is_old)
    }

    /// The next to write: as many of those that wait as there are new ones in a round.
    fn due(&self, recorded: usize) -> Entries<K, V> {
        let share = self.entries.len().saturating_mul(recorded).div_ceil(self.round);
        self.rest().take(share).map(|(key, value)| (key.clone(), *value)).collect()
    }

    fn written<'a>(&mut self, due: impl Iterator<Item = &'a K>, head: i64)
    where
        K: 'a,
    {
        let began = *self.began.get_or_insert(head);
        let mut last = None;
        for key in due {
            self.entries.remove(key);
            last = Some(key);
        }
        if let Some(key) = last {
            self.reached = Some(key.clone());
        }
        if self.rest().next().is_none() {
            self.through = began;
            self.reached = None;
            self.began = None;
        }
    }
}

/// The end of the record that its indexes do not have yet.
#[derive(Debug)]
pub(crate) struct Tail {
    ids: Waiting<TransactionId, i64>,
    agents: Waiting<(AgentId, i64), ()>,
    approvals: Waiting<ApprovalKey, Approved>,
    counters: Waiting<CounterKey, Moved>,
    /// Every counter that an entry after this one was charged to is in `counters`, or its row has
    /// that entry.
    counted: i64,
    /// The end of the record.
    head: i64,
    /// Entries recorded since indexes were written.
    recorded: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Tail {
    const fn new(through: i64) -> Self {
        Self {
            ids: Waiting::new(WAITING, through, |_, seq| *seq),
            agents: Waiting::new(WAITING, through, |(_, seq), ()| *seq),
            approvals: Waiting::new(WAITING, through, |(_, _, seq), _| *seq),
            counters: Self::no_counters(through),
            counted: through,
            head: through,
            recorded: 0,
        }
    }

    /// The end of a record whose indexes have every entry up to this one, and perhaps some of
    /// these.
    pub(crate) fn of(through: i64, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut tail = Self::new(through);
        entries.into_iter().for_each(|entry| tail.push(entry));
        // They are written along with new ones, not all at once before the first of those.
        tail.recorded = 0;
        tail.counted = tail.head;
        tail
    }

    const fn no_counters(through: i64) -> Waiting<CounterKey, Moved> {
        Waiting::new(COUNTING, through, |_, moved| moved.since)
    }

    /// Adds an entry that was recorded.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.ids.entries.insert(entry.id, entry.seq);
        self.agents.entries.insert((entry.agent, entry.seq), ());
        if let Some((mandate, approval)) = entry.approval {
            self.approvals.entries.insert((mandate, entry.at, entry.seq), approval);
        }
        self.head = entry.seq;
        self.recorded = self.recorded.saturating_add(1);
    }

    /// What to write into the indexes now, if it is time.
    pub(crate) fn due(&self) -> Option<Due> {
        if self.recorded < LUMP {
            return None;
        }
        let counters = self.counters.due(self.recorded).into_iter();
        Some(Due {
            ids: self.ids.due(self.recorded),
            agents: self.agents.due(self.recorded),
            approvals: self.approvals.due(self.recorded),
            counters: counters.map(|(key, moved)| (key, moved.level, moved.ends_at)).collect(),
            head: self.head,
            through: self.ids.through.min(self.agents.through).min(self.approvals.through),
        })
    }

    /// Forgets what the indexes have.
    pub(crate) fn written(&mut self, due: &Due) {
        self.ids.written(due.ids.iter().map(|(id, _)| id), self.head);
        self.agents.written(due.agents.iter().map(|(key, ())| key), self.head);
        self.approvals.written(due.approvals.iter().map(|(key, _)| key), self.head);
        self.counters.written(due.counters.iter().map(|(key, ..)| key), self.head);
        self.recorded = 0;
    }

    /// Notes where a counter stands that the next entries were charged to. Its row has every entry
    /// before them, or it waited already.
    pub(crate) fn charge(&mut self, key: CounterKey, level: Level, ends_at: Option<Timestamp>) {
        let since = self.head.saturating_add(1);
        let entry = self.counters.entries.entry(key);
        let wait = || Moved { level, ends_at, since };
        entry.and_modify(|moved| moved.level = level).or_insert_with(wait);
    }

    /// Forgets a counter whose row has the whole record now.
    pub(crate) fn counted(&mut self, key: &CounterKey) {
        self.counters.entries.remove(key);
    }

    /// Forgets all counters: some have no row any more.
    pub(crate) fn forget_counters(&mut self) {
        self.counters = Self::no_counters(self.head);
        self.counted = self.head;
    }

    /// A counter that moved since its row was written.
    pub(crate) fn moved(&self, key: &CounterKey) -> Option<Moved> {
        self.counters.entries.get(key).copied()
    }

    /// Whether the row of a counter that does not wait has the whole record.
    pub(crate) const fn has_all(&self, through: i64) -> bool {
        through >= self.counted
    }

    /// A copy with just the approvals and counters of one mandate.
    pub(crate) fn only(&self, mandate: MandateId) -> Self {
        let mut part = Self { counted: self.counted, ..Self::default() };
        let mine = self.of_mandate(mandate, i64::MIN).map(|(key, approved)| (*key, *approved));
        part.approvals.entries.extend(mine);
        let subject = Subject::Budget;
        let first =
            CounterKey { mandate, subject, period: Period::None, starts_at: Timestamp::MIN };
        let counters = self.counters.entries.range(first..);
        let mine = counters.take_while(|(key, _)| key.mandate == mandate);
        part.counters.entries.extend(mine.map(|(key, moved)| (key.clone(), *moved)));
        part
    }

    /// The place of an entry that waits.
    pub(crate) fn find(&self, id: TransactionId) -> Option<i64> {
        self.ids.entries.get(&id).copied()
    }

    /// The places of the entries of an agent that wait, oldest first. No older one waits: what the
    /// index has is in front of all of them.
    pub(crate) fn of_agent(&self, agent: AgentId) -> Vec<i64> {
        let all = (agent, i64::MIN)..=(agent, i64::MAX);
        self.agents.entries.range(all).map(|((_, seq), ())| *seq).collect()
    }

    /// The approvals of a mandate after a time that wait, oldest first; as with agents.
    pub(crate) fn of_mandate(
        &self,
        mandate: MandateId,
        after: i64,
    ) -> impl DoubleEndedIterator<Item = (&ApprovalKey, &Approved)> {
        let first = (mandate, after.saturating_add(1), i64::MIN);
        self.approvals.entries.range(first..=(mandate, i64::MAX, i64::MAX))
    }
}

#[cfg(test)]
mod tests;
