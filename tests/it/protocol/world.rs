//! The state of everything: what Postgres holds, what up to two Redis nodes have in their logs,
//! what was answered, and what is on its way.
//!
//! A node is its log, so that any tail of it can be lost.
//! Not here: what scripts see of it (`view`), and what happens next (`redis`, `postgres`,
//! `failure`).

use super::setup::{Flaw, Level, Setup};

pub(super) const BUDGETS: usize = 2;
pub(super) const KEYS: usize = 4;
pub(super) const NODES: usize = 2;
/// With room for the takeovers that a recovery needs beyond the bounds.
pub(super) const EPOCHS: usize = 6;
pub(super) const GRANTS: usize = 6;
pub(super) const LOG: usize = 16;

/// The place of an entry in the outbox: the epoch, then its number in it. A takeover is number 0.
pub(super) type Place = u8;

pub(super) const fn epoch_of(place: Place) -> u8 {
    place >> 4
}

/// What a script wrote, read from one byte of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// `begin`: a new epoch; in the outbox.
    Begin(u8),
    /// `install`: a lease became spendable; not in the outbox.
    Install(u8),
    /// `decide`: charged, in the outbox, and the key recorded.
    Approve { key: u8, budgets: u8 },
    /// … that stopped after charging.
    ApproveCharged { key: u8, budgets: u8 },
    /// … that stopped before recording the key.
    ApproveUnrecorded { key: u8, budgets: u8 },
    /// … that was appended and stopped before charging.
    ApproveUncharged { key: u8, budgets: u8 },
    /// `decide`: in the outbox, and the key recorded.
    Reject { key: u8 },
    /// … that recorded the key and stopped.
    RejectRecorded { key: u8 },
    /// … that was appended and stopped before recording the key.
    RejectUnrecorded { key: u8 },
    /// `recall`: the slice was emptied; in the outbox.
    Recall { budget: u8, amount: i8 },
    /// … but not in the outbox: its reply tells.
    RecallUnlogged { budget: u8 },
    /// A void that gives back to the slice; in the outbox.
    Void { key: u8, budgets: u8 },
    /// The record of a key expired; not in the outbox.
    Expire { key: u8 },
}

impl Entry {
    fn pack(self) -> u8 {
        let spend = |kind: u8, key: u8, budgets: u8| kind << 4 | key << 2 | budgets;
        match self {
            Self::Begin(epoch) => epoch,
            Self::Install(grant) => 1 << 4 | grant,
            Self::Approve { key, budgets } => spend(2, key, budgets),
            Self::ApproveCharged { key, budgets } => spend(3, key, budgets),
            Self::ApproveUnrecorded { key, budgets } => spend(4, key, budgets),
            Self::ApproveUncharged { key, budgets } => spend(5, key, budgets),
            Self::Reject { key } => spend(6, key, 0),
            Self::RejectRecorded { key } => spend(7, key, 0),
            Self::RejectUnrecorded { key } => spend(8, key, 0),
            Self::Recall { budget, amount } => 9 << 4 | budget << 3 | amount.cast_unsigned(),
            Self::RecallUnlogged { budget } => 10 << 4 | budget,
            Self::Void { key, budgets } => spend(11, key, budgets),
            Self::Expire { key } => spend(12, key, 0),
        }
    }

    fn unpack(byte: u8) -> Self {
        let (kind, low) = (byte >> 4, byte & 15);
        let (key, budgets) = (low >> 2, low & 3);
        match kind {
            0 => Self::Begin(low),
            1 => Self::Install(low),
            2 => Self::Approve { key, budgets },
            3 => Self::ApproveCharged { key, budgets },
            4 => Self::ApproveUnrecorded { key, budgets },
            5 => Self::ApproveUncharged { key, budgets },
            6 => Self::Reject { key },
            7 => Self::RejectRecorded { key },
            8 => Self::RejectUnrecorded { key },
            9 => Self::Recall { budget: low >> 3, amount: (low & 7).cast_signed() },
            10 => Self::RecallUnlogged { budget: low },
            11 => Self::Void { key, budgets },
            _ => Self::Expire { key },
        }
    }

    /// Whether the projector sees it.
    pub(super) const fn in_outbox(self) -> bool {
        !matches!(
            self,
            Self::Install(_)
                | Self::ApproveCharged { .. }
                | Self::RejectRecorded { .. }
                | Self::RecallUnlogged { .. }
                | Self::Expire { .. }
        )
    }

    /// The key and the budgets, if it approves and will be projected.
    pub(super) const fn approval(self) -> Option<(u8, u8)> {
        if let Self::Approve { key, budgets }
        | Self::ApproveUnrecorded { key, budgets }
        | Self::ApproveUncharged { key, budgets } = self
        {
            Some((key, budgets))
        } else {
            None
        }
    }
}

/// A lease that Postgres granted; its message may arrive late, and more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) budget: u8,
    pub(super) epoch: u8,
    pub(super) amount: i8,
    /// Its number among the leases of the budget in the epoch, from 1.
    pub(super) number: u8,
    /// The weakest level of all of them.
    pub(super) level: Level,
}

/// A Redis process and its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// Gateways may use it: it has begun the epoch it was given.
    pub(super) serving: bool,
    /// The epoch in its data.
    pub(super) epoch: u8,
    /// The epoch that Postgres gave to this process, if any.
    pub(super) given: u8,
    /// In a cluster: a bit for each epoch that Postgres ever gave to it, and whether the shard is
    /// on the other node.
    pub(super) holds: u8,
    pub(super) away: bool,
    /// Nothing that a script did is missing from the log.
    pub(super) whole: bool,
    /// Entries on the disk of every configured node.
    pub(super) synced: u8,
    /// Entries up to here were trimmed from the outbox.
    pub(super) trimmed: Place,
    length: u8,
    log: [u8; LOG],
}

impl Node {
    /// Its keys, in the process of another node.
    pub(super) const fn known_as(self, process: &Self) -> Self {
        Self { given: process.given, holds: process.holds, ..self }
    }

    pub(super) fn length(&self) -> usize {
        usize::from(self.length)
    }

    pub(super) fn append(&mut self, entry: Entry) {
        self.log[self.length()] = entry.pack();
        self.length += 1;
    }

    /// Keeps the first entries. The epoch is data, so it goes back too.
    pub(super) fn truncate(&mut self, kept: usize) {
        self.log[kept..].fill(0);
        self.length = u8::try_from(kept).unwrap();
        self.synced = self.synced.min(self.length);
        self.epoch = self.entries().map(|(_, place, _)| epoch_of(place)).last().unwrap_or(0);
    }

    /// Index, place and content of each entry. One outside the outbox has the place before it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, Place, Entry)> + '_ {
        let mut place = 0;
        self.log[..self.length()].iter().enumerate().map(move |(index, byte)| {
            let entry = Entry::unpack(*byte);
            if let Entry::Begin(epoch) = entry {
                place = epoch << 4;
            } else if entry.in_outbox() {
                place += 1;
            }
            (index, place, entry)
        })
    }

    /// The last place in front of one.
    pub(super) fn before(&self, place: Place) -> Place {
        let earlier = self.entries().map(|(_, at, _)| at).take_while(|at| *at < place);
        earlier.last().unwrap_or_default()
    }

    /// The first entry of the outbox after a place.
    pub(super) fn after(&self, place: Place) -> Option<(Place, Entry)> {
        let place = place.max(self.trimmed);
        let mut entries = self.entries().filter(|(_, _, entry)| entry.in_outbox());
        entries.find(|(_, at, _)| *at > place).map(|(_, at, entry)| (at, entry))
    }
}

/// What Postgres knows about a key: nothing, a rejection, or an approval and its budgets.
pub(super) const UNKNOWN: u8 = 0;
pub(super) const REJECTED: u8 = 4;

/// A batch that a projector has read and not yet committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    /// The position and the epoch when it was read.
    pub(super) position: Place,
    pub(super) epoch: u8,
    pub(super) place: Place,
    pub(super) entry: u8,
    /// The last place in front of it in its log, if it begins an epoch.
    pub(super) behind: Place,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    // Postgres.
    pub(super) epoch: u8,
    /// The node to which Postgres gave the epoch, and whether it is known to have begun it.
    pub(super) authority: u8,
    pub(super) begun: bool,
    /// A bit for each epoch whose log is not proved complete.
    pub(super) lost: u8,
    /// A bit for each epoch whose log, when it was recorded, did not have all that is recorded.
    pub(super) unsound: u8,
    pub(super) settled: [i8; BUDGETS],
    pub(super) leased: [[i8; EPOCHS]; BUDGETS],
    pub(super) granted: u8,
    pub(super) grants: [Grant; GRANTS],
    pub(super) rows: [u8; KEYS],
    pub(super) returned: [i8; KEYS],
    pub(super) position: Place,
    // On its way.
    pub(super) batch: Option<Batch>,
    /// The epoch, plus one, in which Postgres did not know the key.
    pub(super) looked_up: [u8; KEYS],
    /// The epoch, plus one, in which Postgres proved that the budget is used up.
    pub(super) proved: [u8; KEYS],
    /// What a recall said, before Postgres heard it.
    pub(super) recalled: [i8; BUDGETS],
    // The world.
    pub(super) period: u8,
    /// What clients were told: a bit for each budget of an approval, and `REJECTED`.
    pub(super) answered: [u8; KEYS],
    /// The epoch, plus one, in which a gateway said so at `durable` before Postgres had it.
    pub(super) told_in: [u8; KEYS],
    /// A bit for each epoch of which nothing is answered at `durable` any more but rows.
    pub(super) heard: u8,
    /// Keys that were used, and the latest epoch that had begun when each was used first.
    pub(super) asked: u8,
    pub(super) asked_in: [u8; KEYS],
    /// The latest epoch that any node has begun.
    pub(super) latest: u8,
    /// Keys so old that their records may have expired.
    pub(super) old: u8,
    /// Keys whose proof was not true.
    pub(super) misproved: u8,
    pub(super) crashes: u8,
    pub(super) forks: u8,
    pub(super) moves: u8,
    pub(super) tears: u8,
    pub(super) alive: u8,
    pub(super) nodes: [Node; NODES],
}

impl World {
    pub(super) fn new() -> Self {
        let first = Node { serving: true, holds: 1, whole: true, ..Node::default() };
        Self {
            epoch: 0,
            authority: 0,
            begun: true,
            lost: 0,
            unsound: 0,
            settled: [0; BUDGETS],
            leased: [[0; EPOCHS]; BUDGETS],
            granted: 0,
            grants: [Grant::default(); GRANTS],
            rows: [UNKNOWN; KEYS],
            returned: [0; KEYS],
            position: 0,
            batch: None,
            looked_up: [0; KEYS],
            proved: [0; KEYS],
            recalled: [0; BUDGETS],
            period: 0,
            answered: [0; KEYS],
            told_in: [0; KEYS],
            heard: 0,
            asked: 0,
            asked_in: [0; KEYS],
            latest: 0,
            old: 0,
            misproved: 0,
            crashes: 0,
            forks: 0,
            moves: 0,
            tears: 0,
            alive: 1,
            nodes: [first, Node::default()],
        }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes[..usize::from(self.alive)]
    }

    /// Whether Postgres gave the shard to a node once, and to the other one since.
    pub(super) fn is_superseded(&self, index: usize) -> bool {
        self.nodes[index].holds != 0 && usize::from(self.authority) != index
    }

    /// Somebody uses a key.
    pub(super) fn ask(&mut self, key: usize) {
        if self.asked >> key & 1 == 0 {
            self.asked |= 1 << key;
            self.asked_in[key] = self.latest;
        }
    }

    /// Whether a key was first used after an epoch had begun: then no earlier epoch knows it.
    pub(super) fn is_young(&self, key: usize, epoch: u8) -> bool {
        self.asked >> key & 1 == 0 || self.asked_in[key] >= epoch
    }

    /// Whether Postgres has the key, with this request or another.
    pub(super) fn knows(&self, setup: &Setup, key: usize) -> bool {
        let has = |key: usize| self.rows[key] != UNKNOWN;
        has(key) || setup.twin(key).is_some_and(has)
    }

    /// Whether what was answered from a budget in an epoch may be missing from the log of it. What
    /// was answered at `strict` is a row; what is missing then nobody will project any more.
    pub(super) fn is_doubtful(&self, setup: &Setup, budget: usize, epoch: usize) -> bool {
        let level = self.lease_level(budget, epoch).unwrap_or(setup.levels[budget]);
        let doubtful = match level {
            Level::Fast => self.lost,
            Level::Durable => self.unsound | self.denied(setup),
            Level::Strict => 0,
        };
        doubtful >> epoch & 1 == 1
    }

    /// A bit for each epoch of which a gateway has answered what is not recorded.
    fn denied(&self, setup: &Setup) -> u8 {
        let told = self.told_in.iter().zip(self.rows).filter(|(_, row)| *row == UNKNOWN);
        let told = told.filter_map(|(told, _)| told.checked_sub(1));
        if setup.has(Flaw::ReleaseUnheard) { 0 } else { told.fold(0, |all, it| all | 1 << it) }
    }

    /// The weakest level that may have been answered from a budget in an epoch, as Postgres has it.
    pub(super) fn lease_level(&self, budget: usize, epoch: usize) -> Option<Level> {
        let of = |grant: &&Grant| {
            usize::from(grant.budget) == budget && usize::from(grant.epoch) == epoch
        };
        self.grants().iter().filter(of).map(|grant| grant.level).next_back()
    }

    pub(super) fn leased(&self, budget: usize) -> i8 {
        self.leased[budget].iter().sum()
    }

    /// What no lease and no record holds.
    pub(super) fn free(&self, setup: &Setup, budget: usize) -> i8 {
        setup.limits[budget] - self.settled[budget] - self.leased(budget)
    }

    pub(super) fn grants(&self) -> &[Grant] {
        &self.grants[..usize::from(self.granted)]
    }

    /// Leases of a budget in an epoch so far.
    pub(super) fn leases(&self, budget: usize, epoch: u8) -> usize {
        let same = |grant: &&Grant| usize::from(grant.budget) == budget && grant.epoch == epoch;
        self.grants().iter().filter(same).count()
    }
}

/// An entry as it travels in a batch.
pub(super) fn packed(entry: Entry) -> u8 {
    entry.pack()
}

/// And back.
pub(super) fn unpacked(byte: u8) -> Entry {
    Entry::unpack(byte)
}
