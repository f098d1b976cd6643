//! What can fail, and for how long: one value for each fault, made from dice.
//!
//! Not here: how it is done to processes and wires (`scene`).

use std::time::Duration;

use super::scene::SERVERS;
use crate::dice::Dice;
use crate::proxy::Way;

/// How wrong a clock may be: two servers are apart by no more than may be believed of each other.
const SHIFT_MS: i64 = 25_000;

/// The most pieces that arrive before a server is killed behind one.
const PIECES: usize = 60;

/// Which wire of a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    /// Between clients and the server.
    Front,
    /// Between the server and Postgres.
    Back,
    /// Between the server and Redis.
    Redis,
}

/// A fault, on which server, for how long.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Killed at no particular point.
    Kill(usize),
    /// Killed while a client has a decision in its hands and nobody has anything else.
    KillOnDecision(usize),
    /// Killed when so many pieces more of what it sends to a store have arrived there: what the
    /// last one asked for is done, and nobody is told.
    KillBehind(usize, Wire, usize),
    /// All killed at once.
    KillAll,
    /// Stopped, and let go on with what it believed before.
    Freeze(usize, Duration),
    FreezePostgres(Duration),
    /// Ended without a word to any session, and started again.
    StopPostgres(Duration),
    /// One direction is cut.
    Cut(usize, Wire, Way, Duration),
    /// One direction is slow.
    Slow(usize, Wire, Way, Duration),
    /// Every connection of a wire ends.
    End(usize, Wire),
    /// From now on its clock is so many milliseconds ahead, or behind.
    Clock(usize, i64),
    Redis(RedisFault),
}

/// What Redis does.
#[derive(Clone, Copy, Debug)]
pub(super) enum RedisFault {
    /// It is killed, and starts again on what its disk has.
    Kill,
    Freeze(Duration),
    /// A replica of it is promoted and this server led to it; for so long the others still reach
    /// the old master, which serves on.
    Promote(usize, Duration),
    /// Its machine loses power: it starts again on what its disk has, and what it had written
    /// without a sync may not be there. The number says how much of that is.
    Power(u64),
    /// Everything in it is deleted while it runs.
    Flush,
    /// It is killed, and starts again with nothing.
    Empty,
    /// It is killed, and starts again on what it had a while before.
    Old,
    /// The slot that is spent from moves to another node of its cluster, key by key.
    MoveSlot(Duration),
}

impl Fault {
    /// Those of servers and Postgres.
    pub(super) const KINDS: usize = 14;

    /// Those with a Redis too, that keeps what its disk has.
    pub(super) const KINDS_WITH_REDIS: usize = 22;

    /// All of them.
    pub(super) const KINDS_WITH_LOSS: usize = 25;

    /// A shard that moves to another node of its cluster before each fault of servers and Postgres:
    /// a server that is killed with a decision, and so many more.
    pub(super) fn in_cluster(more: u64, dice: &mut Dice) -> Vec<Self> {
        let mut faults = Vec::new();
        for round in 0..=more {
            let time = Duration::from_millis(u64::try_from(dice.between(100, 600)).unwrap());
            faults.push(Self::Redis(RedisFault::MoveSlot(time)));
            let kind = if round == 0 { 1 } else { dice.below(Self::KINDS) };
            faults.push(Self::new(kind, 1_000, dice));
        }
        faults
    }

    /// A fault of this kind, that lasts as long as this at most.
    pub(super) fn new(kind: usize, longest: i64, dice: &mut Dice) -> Self {
        let server = dice.below(SERVERS);
        let way = if dice.chance(50) { Way::Up } else { Way::Down };
        let ms = u64::try_from(dice.between(longest / 3, longest)).unwrap();
        let time = Duration::from_millis(ms);
        let pieces = 1 + dice.below(PIECES);
        match kind {
            0 => Self::Kill(server),
            1 => Self::KillOnDecision(server),
            2 => Self::KillAll,
            3 => Self::Freeze(server, time),
            4 => Self::FreezePostgres(time),
            5 => Self::StopPostgres(time),
            6 => Self::Cut(server, Wire::Front, way, time),
            7 => Self::Cut(server, Wire::Back, Way::Up, time),
            8 => Self::Cut(server, Wire::Back, Way::Down, time),
            9 => Self::Slow(
                server,
                if dice.chance(50) { Wire::Front } else { Wire::Back },
                way,
                time,
            ),
            10 => Self::End(server, Wire::Front),
            11 => Self::End(server, Wire::Back),
            12 => Self::Clock(server, dice.between(-SHIFT_MS, SHIFT_MS)),
            13 => Self::KillBehind(server, Wire::Back, pieces),
            14 => Self::KillBehind(server, Wire::Redis, pieces),
            15 => Self::Redis(RedisFault::Kill),
            16 => Self::Redis(RedisFault::Freeze(time)),
            17 => Self::Cut(server, Wire::Redis, way, time),
            18 => Self::Slow(server, Wire::Redis, way, time),
            19 => Self::Redis(RedisFault::Promote(server, time)),
            20 => Self::Redis(RedisFault::Power(dice.next())),
            21 => Self::End(server, Wire::Redis),
            22 => Self::Redis(RedisFault::Flush),
            23 => Self::Redis(RedisFault::Empty),
            _ => Self::Redis(RedisFault::Old),
        }
    }
}
