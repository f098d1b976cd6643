//! What one search is about: the spends, the limits, what may fail and how often, and which wrong
//! variant of the protocol is looked at, if any.
//!
//! Not here: the bounds that are chosen (`cases`).

use super::world::{BUDGETS, World};

/// When a reply leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Level {
    /// When the script has run.
    Fast,
    /// When the entry is on the disk of every configured node.
    Durable,
    /// When Postgres has it.
    #[default]
    Strict,
}

/// What a node may lose when it dies, or lack when it is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Processes die, and their disks keep everything.
    Nothing,
    /// Everything after the entries that were synchronized.
    Unsynced,
    /// The same, or so much that what is left is behind the record.
    Behind,
    /// Any tail of the log, and all of it: no fsync, an old dump, `FLUSHALL`.
    AnyTail,
}

/// A spend that a client asks for, with one idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) amount: i8,
    /// A bit for each budget it charges; with periods, those of the first period.
    pub(super) budgets: u8,
}

/// A protocol that looks right and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    RestartKeepsEpoch,
    EpochChosenByRedis,
    SupersededReturns,
    SupersededReturnsToCluster,
    SupersededReturnsToRecorded,
    MovesBeforeTakeover,
    SliceSurvivesTakeover,
    TakeoverReclaimsLeases,
    ReleaseAfterLoss,
    ReleaseBeforeDrain,
    ReleaseUnheard,
    AnswerAfterRelease,
    EndNotCompared,
    GrantBeforeBegin,
    GrantChecksThenActs,
    InstallRepeats,
    InstallIgnoresEpoch,
    SeveralGrantsOnTheWay,
    RecallForgetsInstalls,
    RecallIsBlind,
    RecallReplyRepeats,
    RecallReplyIsLost,
    FallbackSpendsLeases,
    FallbackRejects,
    DuplicateSettlesAgain,
    DuplicateKeepsLease,
    ProjectionIgnoresPosition,
    ProjectionIgnoresOrder,
    ProjectionUnfenced,
    ProjectionCommitsLate,
    TrimBeforeCommit,
    RejectionAnsweredEarly,
    RejectionUnproved,
    KeyNotLookedUp,
    OldRecordBelieved,
    OldRecordIgnored,
    OldKeyNotLookedUp,
    RecordExpiresUnprojected,
    DuplicateByKeyAlone,
    AppendBeforeCharge,
    AppendBeforeRecordOfRejection,
    SyncOfWhoeverIsThere,
    VoidInRedis,
    VoidCreditsThisPeriod,
    VoidRepeats,
    PeriodIsReset,
    SliceKnowsNoLevel,
    LeaseGetsStronger,
}

/// One search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Of each budget: a mandate has a level, and mandates share a shard.
    pub(super) levels: [Level; BUDGETS],
    /// The level of every key but the first, if a mandate's level changes.
    pub(super) changes_to: Option<Level>,
    pub(super) loss: Loss,
    pub(super) asks: &'static [Ask],
    pub(super) limits: [i8; BUDGETS],
    /// The two budgets are two periods of one.
    pub(super) periods: bool,
    /// Epochs after the first.
    pub(super) epochs: u8,
    pub(super) grants: usize,
    /// Sizes of a slice.
    pub(super) slices: &'static [i8],
    pub(super) crashes: u8,
    pub(super) forks: u8,
    /// How often a cluster moves the shard to its other node.
    pub(super) moves: u8,
    /// Scripts that stop between two writes.
    pub(super) tears: u8,
    /// Postgres may give a new epoch to a process that serves.
    pub(super) planned: bool,
    /// Records of keys expire.
    pub(super) expiry: bool,
    /// The first two asks are different requests with one key.
    pub(super) twins: bool,
    /// Batches of the projector that commit late.
    pub(super) late_batches: bool,
    pub(super) rejections: bool,
    /// Any request may also be rejected by a rule, or by no rule any more when it is repeated.
    pub(super) rules: bool,
    pub(super) fallback: bool,
    pub(super) voids: bool,
    pub(super) recalls: bool,
    /// Gateways die before they are asked what they have answered.
    pub(super) forgets: bool,
    /// Also ask of each state that everything comes back once all is healthy.
    pub(super) recovers: bool,
    pub(super) flaw: Option<Flaw>,
}

impl Setup {
    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The budgets that a key charges now.
    pub(super) fn budgets(&self, world: &World, key: usize) -> u8 {
        self.asks[key].budgets << world.period
    }

    /// The level at which a key is answered.
    pub(super) fn level(&self, key: usize) -> Level {
        let own = self.levels[usize::from(self.asks[key].budgets == 2)];
        self.changes_to.filter(|_| key > 0).unwrap_or(own)
    }

    /// The levels that a budget is ever spent from at.
    pub(super) fn levels_of(&self, budget: usize) -> impl Iterator<Item = Level> {
        [self.levels[budget]].into_iter().chain(self.changes_to)
    }

    /// Whether anybody waits for all disks, so that nodes have followers.
    pub(super) fn synchronizes(&self) -> bool {
        (0..BUDGETS).flat_map(|budget| self.levels_of(budget)).any(|it| it == Level::Durable)
    }

    /// The other request with the same idempotency key, if there is one.
    pub(super) fn twin(&self, key: usize) -> Option<usize> {
        (self.twins && key < 2).then(|| 1 - key)
    }

    /// The slice that a budget is spent from.
    pub(super) fn slice(&self, budget: usize) -> usize {
        if self.has(Flaw::PeriodIsReset) { 0 } else { budget }
    }
}

/// The budgets of a set.
pub(super) fn each(budgets: u8) -> impl Iterator<Item = usize> {
    (0..BUDGETS).filter(move |budget| budgets >> budget & 1 == 1)
}
