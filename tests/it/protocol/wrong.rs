//! Protocols that look right: where each is looked at, which promise it breaks, and in how many
//! steps at least.
//!
//! Each is the protocol without one of its rules, so the table says what every rule is for. Not
//! here: what the variants do, which is beside the rule that they lack.

use super::cases::{
    CHANGED, FAILOVER, LOSS_TWICE, MOVED_SPLIT, ONE, PERIODS, QUIET, RESTART, TORN, TWINS, TWO,
};
use super::promise::Broken::{self, *};
use super::setup::Flaw::{self, *};
use super::setup::{Level, Loss, Setup};

/// A variant, its bounds, what breaks, and the length of the shortest way there.
pub(super) type Wrong = (Flaw, Setup, Broken, usize);

const SMALL: Setup = Setup { planned: false, ..LOSS_TWICE };
const AT_DURABLE: Setup = Setup { levels: [Level::Durable; 2], ..SMALL };
/// Nobody remembers what was answered, and a disk that is put back is an old one.
const FORGOTTEN: Setup = Setup { loss: Loss::Behind, forgets: true, ..AT_DURABLE };
const AWAY: Setup = Setup { fallback: true, ..QUIET };
const BESIDE: Setup = Setup { rejections: true, voids: true, ..AWAY };
const AGAIN: Setup =
    Setup { grants: 1, epochs: 1, recalls: false, late_batches: false, recovers: false, ..RESTART };
const PROMOTED: Setup = Setup { forks: 1, crashes: 0, ..AGAIN };
const RETURNED: Setup =
    Setup { epochs: 2, rejections: false, fallback: false, voids: false, ..PROMOTED };
const OLD: Setup = Setup { expiry: true, ..BESIDE };
const THREE: Setup = Setup { asks: &[ONE, ONE, ONE], grants: 3, voids: true, ..QUIET };
const NEXT_DAY: Setup = Setup { periods: true, limits: [1, 1], ..THREE };
const CHANGED_SOON: Setup = Setup { asks: &[ONE, ONE], limits: [1, 0], grants: 2, ..CHANGED };
const CHANGED_LARGE: Setup = Setup { asks: &[TWO, ONE], slices: &[1, 2], ..CHANGED };
const TWINS_ALIVE: Setup =
    Setup { levels: [Level::Fast; 2], loss: Loss::Nothing, forks: 0, ..TWINS };

/// Takeovers, and what becomes of the leases of an epoch that has ended.
const EPOCHS: [Wrong; 15] = [
    (RestartKeepsEpoch, SMALL, Overspent, 7),
    (EpochChosenByRedis, SMALL, Overspent, 13),
    (SupersededReturns, Setup { planned: true, ..RETURNED }, Lost, 11),
    (SupersededReturnsToCluster, MOVED_SPLIT, Lost, 11),
    (SupersededReturnsToRecorded, MOVED_SPLIT, Lost, 11),
    (MovesBeforeTakeover, Setup { levels: [Level::Fast; 2], ..MOVED_SPLIT }, Overspent, 8),
    (SliceSurvivesTakeover, SMALL, Overspent, 9),
    (TakeoverReclaimsLeases, SMALL, Overspent, 11),
    (ReleaseAfterLoss, SMALL, Overspent, 13),
    (ReleaseBeforeDrain, SMALL, Overspent, 12),
    (ReleaseUnheard, AT_DURABLE, Overspent, 14),
    (AnswerAfterRelease, AT_DURABLE, Overspent, 14),
    (EndNotCompared, FORGOTTEN, Overspent, 18),
    (GrantBeforeBegin, Setup { crashes: 2, epochs: 2, ..QUIET }, Stranded, 4),
    (InstallIgnoresEpoch, SMALL, Overspent, 10),
];

/// Leases on their way to Redis and back.
const LEASES: [Wrong; 10] = [
    (GrantChecksThenActs, QUIET, Overspent, 8),
    (InstallRepeats, QUIET, Overspent, 7),
    (SeveralGrantsOnTheWay, Setup { limits: [2, 0], ..QUIET }, Stranded, 3),
    (RecallForgetsInstalls, QUIET, Overspent, 11),
    (RecallIsBlind, QUIET, Overspent, 9),
    (RecallReplyRepeats, Setup { grants: 3, ..QUIET }, Overspent, 13),
    (RecallReplyIsLost, QUIET, Stranded, 3),
    (PeriodIsReset, PERIODS, Overspent, 11),
    (SliceKnowsNoLevel, CHANGED_SOON, Overspent, 13),
    (LeaseGetsStronger, CHANGED_LARGE, Overspent, 14),
];

/// What Postgres decides itself while Redis is away, and gives back.
const POSTGRES: [Wrong; 6] = [
    (FallbackSpendsLeases, AWAY, Overspent, 5),
    (FallbackRejects, AWAY, Changed, 5),
    (VoidRepeats, THREE, Overspent, 14),
    (VoidInRedis, Setup { asks: &[ONE, ONE, ONE], ..SMALL }, Overspent, 12),
    (VoidCreditsThisPeriod, NEXT_DAY, Overspent, 14),
    (DuplicateByKeyAlone, TWINS_ALIVE, Lost, 6),
];

/// The way from the outbox into Postgres.
const PROJECTOR: [Wrong; 7] = [
    (DuplicateSettlesAgain, Setup { limits: [2, 0], ..AWAY }, Books, 5),
    (DuplicateKeepsLease, Setup { limits: [2, 0], ..AWAY }, Stranded, 4),
    (ProjectionIgnoresPosition, Setup { late_batches: true, ..QUIET }, Books, 6),
    (ProjectionIgnoresOrder, FAILOVER, Overspent, 10),
    (ProjectionUnfenced, PROMOTED, Changed, 14),
    (ProjectionCommitsLate, Setup { late_batches: true, ..PROMOTED }, Changed, 16),
    (TrimBeforeCommit, Setup { late_batches: true, ..QUIET }, Lost, 5),
];

/// Keys, and what may be answered about them when.
const KEYS: [Wrong; 10] = [
    (RejectionAnsweredEarly, BESIDE, Changed, 6),
    (RejectionUnproved, Setup { rejections: true, ..QUIET }, FalselyRejected, 5),
    (KeyNotLookedUp, AGAIN, Changed, 13),
    (OldRecordBelieved, Setup { crashes: 1, ..RETURNED }, Lost, 13),
    (OldRecordIgnored, AGAIN, Changed, 14),
    (OldKeyNotLookedUp, OLD, Changed, 10),
    (RecordExpiresUnprojected, OLD, Changed, 11),
    (SyncOfWhoeverIsThere, PROMOTED, Lost, 6),
    (AppendBeforeCharge, TORN, Overspent, 6),
    (AppendBeforeRecordOfRejection, TORN, Changed, 9),
];

/// All of them.
pub(super) fn wrong() -> Vec<Wrong> {
    [&EPOCHS[..], &LEASES, &POSTGRES, &PROJECTOR, &KEYS].concat()
}
