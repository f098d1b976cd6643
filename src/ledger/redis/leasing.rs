//! Getting a lease into its slice: one caller of a server asks Postgres, the others wait for it.
//!
//! Not here: how much is leased, and what proves that there is nothing (`ledger::sql`).

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use super::keys::{Keys, packed};
use super::link::{LinkError, Live};
use super::scripts::Script;
use super::shards::{Epoch, Shards, Trouble, unavailable};
use crate::domain::ledger::{Charge, Level};
use crate::ledger::sql::postgres::escrow::survey::SliceName;
use crate::ledger::sql::postgres::escrow::{Lease, Place};

/// Who asks for which slice now.
#[derive(Default)]
pub(super) struct Leasing {
    turns: std::sync::Mutex<HashMap<String, Arc<Turn>>>,
}

/// The turn to fill one slice, and what came of the last one.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) gate: Mutex<Option<Outcome>>,
    /// How often Postgres was asked.
    pub(super) asked: AtomicU64,
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
    /// These charges stood at that, so that one of them cannot be charged this much.
    Proved(Vec<Charge>, Vec<Level>),
    /// Nothing, or something else.
    Other,
}

impl Outcome {
    /// The levels that prove that a claim of these charges cannot be approved either.
    pub(super) fn proof(&self, charges: &[Charge], amount: i64) -> Option<Vec<Level>> {
        let Said::Proved(proved, levels) = &self.said else { return None };
        let exceeds = |(charge, level): (&Charge, &Level)| {
            level.committed().saturating_add(amount) > charge.limit
        };
        let holds = proved == charges && charges.iter().zip(levels).any(exceeds);
        holds.then(|| levels.clone())
    }
}

/// More slices than are asked for at once; those nobody waits for are forgotten then.
const TURNS: usize = 4_096;

impl Leasing {
    /// Whose turn it is to fill a slice.
    pub(super) fn turn(&self, slice: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= TURNS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(slice.to_owned()).or_default())
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
        let head = packed(&[
            epoch.number,
            lease.number,
            lease.amount,
            lease.total,
            lease.held,
            lease.limit,
            lives_ms(charge, self.clock.now().as_millisecond()),
        ]);
        match self.link.run(live, Script::Install, &keys, &[&head]).await?.word() {
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
        let answer = self.link.run(live, Script::Recall, &keys, &[&head, &named]).await?;
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
