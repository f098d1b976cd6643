//! Getting leases into slices: one caller of a server asks for a slice, the others wait for it, and
//! whoever asks for one organization at the same time asks Postgres in one transaction.
//!
//! A slice that runs low is filled ahead of need, so that decisions do not wait. Not here: how much
//! is leased, and what proves that there is nothing (`ledger::sql`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use futures::StreamExt;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::gather::{Answers, Gather};
use super::keys::{Keys, level_byte, packed};
use super::link::{LinkError, Live};
use super::scripts::Script;
use super::shards::{Epoch, Shards, Trouble, unavailable};
use crate::domain::ledger::{Charge, Level};
use crate::ledger::sql::postgres::escrow::survey::SliceName;
use crate::ledger::sql::postgres::escrow::{Ask, Escrow, Granted, Holder, Lease, Place, Proof};
use crate::store::StoreError;

/// Slices that are filled ahead of need at once, and those that wait for it.
const AHEAD_AT_ONCE: usize = 64;
const AHEAD_MAX: usize = 1_024;

/// More slices than are asked for at once; those nobody waits for are forgotten then.
const TURNS: usize = 65_536;

/// Who asks for which slice now.
pub(super) struct Leasing {
    turns: std::sync::Mutex<HashMap<String, Arc<Turn>>>,
    asking: Gather<Holder, Ask, Granted>,
    ahead: mpsc::Sender<Refill>,
}

/// A lease is about what is spent in this time: so much is stranded where an epoch ends without a
/// proof, and each half of it Postgres is asked for more.
const PACE_MS: u128 = 60_000;

/// The turn to fill one slice, and what came of the last one.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) gate: Mutex<Gate>,
    /// How often Postgres was asked.
    pub(super) asked: AtomicU64,
    /// When less than this is left, it is filled ahead of need; 0: it is not.
    low: AtomicI64,
}

/// What those who fill a slice tell each other.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) last: Option<Outcome>,
    filled: Option<Filled>,
}

/// A slice as this server has filled it last.
struct Filled {
    epoch: i64,
    /// The number of the lease.
    number: i64,
    /// What was in the slice then.
    stock: i64,
    since: Instant,
}

impl Gate {
    /// How much all servers spend of the slice in [`PACE_MS`], as its last lease lasted. It is not
    /// known where another server has filled it since.
    pub(super) fn pace(&self, epoch: i64, (number, rest): (i64, i64)) -> Option<i64> {
        let filled = self.filled.as_ref()?;
        if (filled.epoch, filled.number) != (epoch, number) {
            return None;
        }
        let lasted_ms = filled.since.elapsed().as_millis().max(1);
        let gone = u128::try_from(filled.stock.saturating_sub(rest)).unwrap_or_default();
        let gone = gone.saturating_mul(PACE_MS).checked_div(lasted_ms);
        Some(gone.and_then(|pace| i64::try_from(pace).ok()).unwrap_or(i64::MAX))
    }
}

/// What Postgres said to the last who asked.
pub(super) struct Outcome {
    /// Which asking it was. It counts for whoever has waited since before it.
    pub(super) number: u64,
    /// In which epoch.
    pub(super) epoch: i64,
    pub(super) said: Said,
}

/// What Postgres said.
pub(super) enum Said {
    /// A lease is in the slice now.
    Filled,
    /// That one of these charges cannot be charged this much.
    Proved(Vec<Charge>, Proof),
    /// Nothing, or something else.
    Other,
}

impl Outcome {
    /// The proof, if it says as well that a claim of these charges cannot be approved.
    pub(super) fn proof(&self, charges: &[Charge], amount: i64) -> Option<&Proof> {
        let Said::Proved(proved, proof) = &self.said else { return None };
        let exceeds = |(charge, level): (&Charge, &Level)| {
            level.committed().saturating_add(amount) > charge.limit
        };
        let holds = proved == charges && charges.iter().zip(&proof.levels).any(exceeds);
        holds.then_some(proof)
    }
}

/// A slice that is to be filled ahead of need.
struct Refill {
    turn: Arc<Turn>,
    holder: Holder,
    ask: Ask,
}

/// The slices that are to be filled ahead of need.
pub(super) struct Ahead(mpsc::Receiver<Refill>);

impl Leasing {
    pub(super) fn new() -> (Self, Ahead) {
        let (ahead, refills) = mpsc::channel(AHEAD_MAX);
        let turns = std::sync::Mutex::default();
        (Self { turns, asking: Gather::default(), ahead }, Ahead(refills))
    }

    /// Whose turn it is to fill a slice.
    pub(super) fn turn(&self, slice: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(slice) {
            return Arc::clone(turn);
        }
        if turns.len() >= TURNS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(slice.to_owned()).or_default())
    }

    /// Asks Postgres for a lease, together with whoever else does.
    pub(super) async fn ask(
        &self,
        shards: &Shards,
        holder: Holder,
        ask: Ask,
    ) -> Result<Granted, StoreError> {
        self.asking.ask(&holder, ask, &shards.escrow).await
    }

    /// Notes that a slice has so much left; one that runs low is filled while others go on.
    pub(super) fn left(&self, slice: &str, rest: i64, ask: impl FnOnce() -> (Holder, Ask)) {
        let turn = {
            let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(turn) = turns.get(slice) else { return };
            if rest >= turn.low.load(Ordering::Relaxed) {
                return;
            }
            Arc::clone(turn)
        };
        // One lease ahead at a time: the next low mark comes with it.
        if turn.low.swap(0, Ordering::Relaxed) > rest {
            let (holder, ask) = ask();
            // Without a place it is asked for when it is needed.
            drop(self.ahead.try_send(Refill { turn, holder, ask }));
        }
    }

    async fn refill(&self, shards: &Shards, refill: Refill) -> Result<(), Trouble> {
        let Refill { turn, holder, ask } = refill;
        // Somebody who needs it is filling it already.
        let Ok(mut gate) = turn.gate.try_lock() else { return Ok(()) };
        let live = shards.nodes.live(holder.shard).await?;
        let epoch = shards.epoch(holder.shard, &live).await?;
        if epoch.number != holder.epoch {
            return Ok(());
        }
        let charge = ask.claim.0.charges.get(ask.index).cloned();
        let charge = charge.ok_or(LinkError::Answer("no such slice"))?;
        let slice = ask.slice;
        let ask = Ask { pace: gate.pace(epoch.number, slice), ..ask };
        if let Granted::Lease(lease) = self.ask(shards, holder, ask).await? {
            shards.install((holder.shard, &live, &epoch), &charge, &lease).await?;
            turn.filled(&mut gate, (epoch.number, slice.1), &lease);
        }
        Ok(())
    }
}

/// Fills slices ahead of need until it is stopped.
pub(super) async fn run(
    shards: Arc<Shards>,
    leasing: Arc<Leasing>,
    ahead: Ahead,
    stop: CancellationToken,
) {
    let refills = ReceiverStream::new(ahead.0);
    let filling = refills.for_each_concurrent(AHEAD_AT_ONCE, |refill| {
        let (shards, leasing) = (Arc::clone(&shards), Arc::clone(&leasing));
        async move {
            if let Err(trouble) = leasing.refill(&shards, refill).await {
                // Whoever needs it says so louder.
                tracing::debug!(%trouble, "a slice could not be filled ahead of need");
            }
        }
    });
    let ended: Option<()> = stop.run_until_cancelled(filling).await;
    debug_assert!(ended.is_none(), "the ledger has the other end as long as it runs");
}

impl Turn {
    /// Notes what was filled in, on top of what was left: half of it later the next is asked for.
    pub(super) fn filled(&self, gate: &mut Gate, (epoch, rest): (i64, i64), lease: &Lease) {
        let stock = rest.saturating_add(lease.amount);
        gate.filled = Some(Filled { epoch, number: lease.number, stock, since: Instant::now() });
        self.low.store(lease.amount.checked_div(2).unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Answers<Holder, Ask, Granted> for Escrow {
    async fn answer(&self, about: &Holder, asks: &[&Ask]) -> Result<Vec<Granted>, StoreError> {
        self.grant(*about, asks).await
    }
}

/// How long a slice is kept: as long as its period and a day more, in milliseconds; 0 for ever.
fn lives_ms(charge: &Charge, now: i64) -> i64 {
    const DAY: i64 = 86_400_000;
    charge
        .ends_at
        .map_or(0, |end| end.as_millisecond().saturating_sub(now).max(0).saturating_add(DAY))
}

impl Shards {
    /// Puts a lease into its slice.
    pub(super) async fn install(
        &self,
        (shard, live, epoch): (i16, &Arc<Live>, &Epoch),
        charge: &Charge,
        lease: &Lease,
    ) -> Result<(), Trouble> {
        let keys = [Keys(shard).authority(), Keys(shard).slice(charge)];
        let mut head = packed(&[
            epoch.number,
            lease.number,
            lease.amount,
            lease.total,
            lease.held,
            lease.limit,
            lives_ms(charge, self.clock.now().as_millisecond()),
            lease.floor,
        ]);
        head.push(level_byte(lease.level));
        match live.run(Script::Install, &keys, &[&head]).await?.word() {
            "INSTALLED" => {
                metrics::counter!("quetra_redis_leases_total").increment(1);
                Ok(())
            }
            "HAD" => Ok(()),
            "EPOCH" => self.doubt(shard, epoch),
            "GAP" => {
                tracing::error!(shard, "a slice has lost leases that were installed in it");
                Err(unavailable("a slice has lost leases, until the next epoch"))
            }
            _ => Err(LinkError::Answer("no word of install").into()),
        }
    }

    /// Sends what is left in a slice back (rule 10); the entry that says so, if anything was left.
    pub(super) async fn recall(
        &self,
        (live, epoch): (&Arc<Live>, &Epoch),
        slice: &SliceName,
    ) -> Result<Option<Place>, Trouble> {
        let keys = Keys(slice.shard);
        let name = keys.slice_named(slice.mandate, &slice.subject, slice.starts_at);
        let keys = [keys.outbox(), keys.authority(), name];
        let mut named = slice.org.as_bytes().to_vec();
        named.extend_from_slice(slice.mandate.as_bytes());
        named.extend(packed(&[slice.starts_at]));
        named.extend_from_slice(slice.subject.as_bytes());
        let head = packed(&[epoch.number]);
        let answer = live.run(Script::Recall, &keys, &[&head, &named]).await?;
        match answer.word() {
            "NOTHING" => Ok(None),
            "RECALLED" => {
                metrics::counter!("quetra_redis_recalls_total").increment(1);
                Ok(Some(answer.place(1)?))
            }
            "EPOCH" => self.doubt(slice.shard, epoch).map(|()| None),
            _ => Err(LinkError::Answer("no word of recall").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Durability;

    fn filled(ago: u64) -> Gate {
        let since = Instant::now().checked_sub(std::time::Duration::from_secs(ago)).unwrap();
        Gate { last: None, filled: Some(Filled { epoch: 3, number: 7, stock: 1_000, since }) }
    }

    #[test]
    fn the_pace_is_that_of_the_last_lease_in_the_same_epoch() {
        // Of 1,000 a half went in 15 s; all of it in a minute; nothing, and more than there was.
        let near = |pace: Option<i64>, wanted: i64| {
            pace.is_some_and(|pace| (wanted * 99 / 100..=wanted).contains(&pace))
        };
        assert!(near(filled(15).pace(3, (7, 500)), 2_000));
        assert!(near(filled(60).pace(3, (7, 0)), 1_000));
        assert_eq!(filled(60).pace(3, (7, 1_000)), Some(0));
        assert_eq!(filled(60).pace(3, (7, 2_000)), Some(0));
        assert!(filled(0).pace(3, (7, 0)).unwrap() > 1_000_000);
        // Nothing is known at first, in another epoch, and where somebody else has filled it.
        assert_eq!(Gate::default().pace(3, (0, 0)), None);
        assert_eq!(filled(60).pace(4, (7, 0)), None);
        assert_eq!(filled(60).pace(3, (8, 0)), None);
    }

    #[test]
    fn what_was_left_when_a_lease_came_counts_as_spent_too() {
        let (turn, mut gate) = (Turn::default(), Gate::default());
        let (number, amount, level) = (7, 1_000, Durability::Fast);
        let lease = Lease { number, amount, total: 0, held: 0, limit: 9_000, floor: 0, level };
        turn.filled(&mut gate, (3, 500), &lease);
        let filled = gate.filled.as_mut().unwrap();
        filled.since = Instant::now().checked_sub(std::time::Duration::from_secs(60)).unwrap();
        // At half of the next one again: as much as a lease has gone.
        let pace = gate.pace(3, (7, 500)).unwrap();
        assert!((990..=1_000).contains(&pace), "{pace}");
        assert_eq!(turn.low.load(Ordering::Relaxed), 500);
    }
}
