//! The bounds within which the protocol is looked at: the usual ones, which CI has time for, and
//! wide ones.
//!
//! Not here: what is found in them.

use super::setup::{Ask, Level, Loss, Setup};

pub(super) const ONE: Ask = Ask { amount: 1, budgets: 1 };
pub(super) const TWO: Ask = Ask { amount: 2, budgets: 1 };
pub(super) const OTHER: Ask = Ask { amount: 1, budgets: 2 };
pub(super) const BOTH: Ask = Ask { amount: 1, budgets: 3 };

/// Nothing fails; the cases say what differs.
pub(super) const QUIET: Setup = Setup {
    levels: [Level::Fast; 2],
    changes_to: None,
    loss: Loss::Nothing,
    asks: &[ONE, ONE],
    limits: [1, 0],
    periods: false,
    epochs: 0,
    grants: 2,
    slices: &[1],
    crashes: 0,
    forks: 0,
    moves: 0,
    tears: 0,
    planned: false,
    expiry: false,
    twins: false,
    late_batches: false,
    rejections: false,
    rules: false,
    fallback: false,
    voids: false,
    recalls: true,
    forgets: false,
    recovers: true,
    flaw: None,
};

/// Everything that clients and the server do, in one period of one budget.
const BUSY: Setup = Setup { epochs: 1, rejections: true, fallback: true, voids: true, ..QUIET };

/// Any tail of a log is lost, the old master goes on, replies leave at once.
pub(super) const LOSS: Setup = Setup {
    loss: Loss::AnyTail,
    asks: &[ONE, ONE, ONE],
    limits: [2, 0],
    epochs: 1,
    grants: 3,
    crashes: 1,
    forks: 1,
    recovers: false,
    ..QUIET
};

/// The same through two takeovers.
pub(super) const LOSS_TWICE: Setup =
    Setup { asks: &[ONE, ONE], limits: [1, 0], epochs: 2, grants: 2, planned: true, ..LOSS };

/// The same with everything that clients and the server do.
pub(super) const SPLIT: Setup =
    Setup { loss: Loss::AnyTail, grants: 1, crashes: 1, forks: 1, recovers: false, ..BUSY };

/// Replies wait for every disk; a copy is promoted while the old master goes on.
pub(super) const FAILOVER: Setup = Setup {
    levels: [Level::Durable; 2],
    loss: Loss::Unsynced,
    forks: 1,
    late_batches: true,
    ..BUSY
};

/// Replies wait for the disk; Redis dies, and comes back with what was on it.
pub(super) const RESTART: Setup =
    Setup { forks: 0, epochs: 2, crashes: 1, late_batches: true, ..FAILOVER };

/// Both.
pub(super) const DURABLE: Setup = Setup { crashes: 1, grants: 1, late_batches: false, ..FAILOVER };

/// Replies wait for every disk, and the disks are emptied or put back.
pub(super) const WIPED: Setup =
    Setup { loss: Loss::AnyTail, grants: 2, voids: false, recovers: false, ..DURABLE };

/// Replies wait for Postgres; Redis may lose anything.
pub(super) const STRICT: Setup = Setup {
    levels: [Level::Strict; 2],
    loss: Loss::AnyTail,
    epochs: 2,
    crashes: 1,
    forks: 1,
    voids: false,
    grants: 1,
    ..BUSY
};

/// Replies leave at once; processes die, and nothing is lost.
pub(super) const FAST: Setup = Setup { epochs: 2, crashes: 2, late_batches: true, ..BUSY };

/// A mandate at `durable` and one at `strict` on one shard.
pub(super) const MIXED: Setup = Setup {
    levels: [Level::Durable, Level::Strict],
    asks: &[ONE, OTHER],
    limits: [1, 1],
    grants: 2,
    recalls: false,
    rejections: false,
    voids: false,
    ..DURABLE
};

/// The level of a mandate changes, either way, and Redis may lose anything.
pub(super) const CHANGED: Setup = Setup {
    levels: [Level::Strict; 2],
    changes_to: Some(Level::Fast),
    asks: &[ONE, ONE, ONE],
    limits: [2, 0],
    epochs: 1,
    grants: 3,
    crashes: 1,
    forks: 0,
    recalls: true,
    rejections: false,
    fallback: false,
    ..STRICT
};

/// Records of keys expire.
pub(super) const EXPIRY: Setup = Setup { expiry: true, forks: 0, ..DURABLE };

/// A rule may reject what another home, or a later try, approves.
pub(super) const RULES: Setup =
    Setup { rules: true, rejections: false, recalls: false, voids: false, ..DURABLE };

/// Two requests with one key.
pub(super) const TWINS: Setup = Setup {
    asks: &[ONE, TWO],
    limits: [3, 0],
    slices: &[2],
    twins: true,
    crashes: 0,
    grants: 2,
    ..DURABLE
};

/// Two periods, amounts of one and two, voids and refunds.
pub(super) const PERIODS: Setup = Setup {
    periods: true,
    asks: &[TWO, ONE, ONE],
    limits: [2, 2],
    slices: &[2],
    epochs: 1,
    crashes: 1,
    voids: true,
    ..QUIET
};

/// Two budgets on one shard, and a spend that is charged to both.
pub(super) const BUDGETS: Setup = Setup {
    asks: &[BOTH, ONE, OTHER],
    limits: [1, 1],
    grants: 3,
    crashes: 1,
    voids: false,
    recalls: false,
    ..BUSY
};

/// Scripts stop between two writes.
pub(super) const TORN: Setup = Setup { tears: 1, crashes: 1, planned: true, ..BUSY };

/// A cluster moves the shard from one node to another, and back.
pub(super) const MOVED: Setup = Setup {
    epochs: 3,
    moves: 2,
    crashes: 0,
    forks: 0,
    grants: 2,
    late_batches: false,
    recalls: false,
    voids: false,
    ..FAILOVER
};

/// And a copy is promoted while the old master goes on.
pub(super) const MOVED_SPLIT: Setup = Setup { moves: 1, forks: 1, epochs: 2, ..MOVED };

/// Each case with its wide bounds.
pub(super) const CASES: [(&str, Setup, Setup); 19] = [
    ("loss", LOSS, Setup { epochs: 2, ..LOSS }),
    ("loss twice", LOSS_TWICE, Setup { crashes: 2, grants: 3, ..LOSS_TWICE }),
    ("split", SPLIT, Setup { epochs: 2, grants: 2, ..SPLIT }),
    ("failover", FAILOVER, Setup { epochs: 2, crashes: 1, ..FAILOVER }),
    ("restart", RESTART, Setup { crashes: 2, planned: true, tears: 1, ..RESTART }),
    ("durable", DURABLE, Setup { epochs: 2, grants: 2, planned: true, ..DURABLE }),
    ("wiped", WIPED, Setup { epochs: 2, voids: true, ..WIPED }),
    ("strict", STRICT, Setup { grants: 2, voids: true, planned: true, ..STRICT }),
    ("fast", FAST, Setup { planned: true, asks: &[ONE, ONE, ONE], ..FAST }),
    (
        "changed",
        CHANGED,
        Setup {
            levels: [Level::Durable; 2],
            forks: 1,
            rejections: true,
            fallback: true,
            ..CHANGED
        },
    ),
    ("expiry", EXPIRY, Setup { grants: 2, planned: true, late_batches: true, ..EXPIRY }),
    (
        "mixed",
        MIXED,
        Setup { levels: [Level::Fast, Level::Durable], recalls: true, rejections: true, ..MIXED },
    ),
    ("rules", RULES, Setup { rejections: true, recalls: true, voids: true, ..RULES }),
    ("twins", TWINS, Setup { crashes: 1, epochs: 2, planned: true, ..TWINS }),
    ("periods", PERIODS, Setup { slices: &[1, 2], grants: 3, ..PERIODS }),
    ("budgets", BUDGETS, Setup { recalls: true, voids: true, ..BUDGETS }),
    ("moved", MOVED, Setup { moves: 3, crashes: 1, ..MOVED }),
    ("moved split", MOVED_SPLIT, Setup { moves: 2, epochs: 3, grants: 3, ..MOVED_SPLIT }),
    ("torn", TORN, Setup { asks: &[ONE, ONE, ONE], limits: [2, 0], slices: &[2], ..TORN }),
];
