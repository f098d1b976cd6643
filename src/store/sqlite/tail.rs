//! The end of the record that its indexes do not have yet.
//!
//! Ids are spread evenly, so an index over them is written at another page for every entry, and a
//! commit that had to write them all would be slow. An entry is therefore recorded alone; until the
//! indexes have it too, it is found here. Neighbours in the order of an index are written together,
//! and as the record alone is the truth, a restart reads its end again. Not here: SQL (`spends`,
//! `ledger::sql`).

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::domain::id::{AgentId, MandateId, TransactionId};
use crate::domain::ledger::Tally;
use crate::domain::money::Minor;

/// The most entries that wait for an index, or little more. Of more, more would share a page, but a
/// restart has to read up to twice as many again. Debug builds keep few, so that the tests go
/// through the indexes.
const WAITING: usize = if cfg!(debug_assertions) { 48 } else { 32_768 };

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
    /// Every index has every entry up to this one already.
    pub(crate) through: i64,
}

/// What one index does not have yet. It is written in rounds, each once through the keys, and of
/// just the entries that there were when it began: of later ones there might be no end.
#[derive(Debug)]
struct Waiting<K, V> {
    entries: BTreeMap<K, V>,
    /// The place of an entry in the record.
    place: fn(&K, &V) -> i64,
    /// The last key that this round has written.
    reached: Option<K>,
    /// The end of the record when this round began; `None` between rounds.
    began: Option<i64>,
    /// The index has every entry up to this one.
    through: i64,
}

impl<K: Ord + Copy, V: Copy> Waiting<K, V> {
    const fn new(through: i64, place: fn(&K, &V) -> i64) -> Self {
        Self { entries: BTreeMap::new(), place, reached: None, began: None, through }
    }

    /// What this round has still to write, in order.
    fn rest(&self) -> impl Iterator<Item = (&K, &V)> {
        let after = self.reached.map_or(Bound::Unbounded, Bound::Excluded);
        let is_old = |(key, value): &(&K, &V)| {
            self.began.is_none_or(|began| (self.place)(key, value) <= began)
        };
        self.entries.range((after, Bound::Unbounded)).filter(is_old)
    }

    /// The next to write: as many of those that wait as there are new ones in [`WAITING`].
    fn due(&self, recorded: usize) -> Entries<K, V> {
        let share = self.entries.len().saturating_mul(recorded).div_ceil(WAITING);
        self.rest().take(share).map(|(key, value)| (*key, *value)).collect()
    }

    fn written(&mut self, due: &[(K, V)], head: i64) {
        let began = *self.began.get_or_insert(head);
        for (key, _) in due {
            self.entries.remove(key);
        }
        self.reached = due.last().map(|(key, _)| *key).or(self.reached);
        if self.rest().next().is_none() {
            self.through = began;
            (self.reached, self.began) = (None, None);
        }
    }
}

/// The end of the record that its indexes do not have yet.
#[derive(Debug)]
pub(crate) struct Tail {
    ids: Waiting<TransactionId, i64>,
    agents: Waiting<(AgentId, i64), ()>,
    approvals: Waiting<ApprovalKey, Approved>,
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
            ids: Waiting::new(through, |_, seq| *seq),
            agents: Waiting::new(through, |(_, seq), ()| *seq),
            approvals: Waiting::new(through, |(_, _, seq), _| *seq),
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
        tail
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
        (self.recorded >= LUMP).then(|| Due {
            ids: self.ids.due(self.recorded),
            agents: self.agents.due(self.recorded),
            approvals: self.approvals.due(self.recorded),
            through: self.ids.through.min(self.agents.through).min(self.approvals.through),
        })
    }

    /// Forgets what the indexes have.
    pub(crate) fn written(&mut self, due: &Due) {
        self.ids.written(&due.ids, self.head);
        self.agents.written(&due.agents, self.head);
        self.approvals.written(&due.approvals, self.head);
        self.recorded = 0;
    }

    /// A copy with just the approvals of one mandate.
    pub(crate) fn only(&self, mandate: MandateId) -> Self {
        let mut part = Self::default();
        let mine = self.of_mandate(mandate, i64::MIN).map(|(key, approved)| (*key, *approved));
        part.approvals.entries.extend(mine);
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
