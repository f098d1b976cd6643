//! What operators ask of the ledger in Redis, and may tell it: `quetra ledger`.
//!
//! It works beside servers that run, and without any. Not here: how it is printed (`cli`).

use jiff::Timestamp;

use super::keys::Keys;
use super::link::{LinkError, Live};
use super::nodes::Nodes;
use super::shards::last_generated;
use crate::ledger::Durability;
use crate::ledger::sql::postgres::escrow::survey::Left;
use crate::ledger::sql::postgres::escrow::{Authority, Escrow, Place};
use crate::store::postgres::PostgresStore;
use crate::store::{StoreError, StoreErrorKind};

/// As many stranded leases are shown; when these are dealt with the next ones are.
const STRANDED_MAX: i64 = 1_000;

/// How the ledger stands.
#[derive(Clone, Debug)]
pub struct LedgerStatus {
    /// Every shard that is spent from Redis.
    pub shards: Vec<ShardStatus>,
    /// What ended epochs still have: it counts as spent. A thousand of them at most.
    pub stranded: Vec<StrandedLease>,
    /// Why Redis could not be asked, where it could not.
    pub redis_error: Option<String>,
}

/// How one shard stands.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// Its number, 0 to 63.
    pub shard: i16,
    /// The present epoch.
    pub epoch: i64,
    /// Whether the epoch is in Redis' outbox.
    pub begun: bool,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The last place in the outbox that is recorded.
    pub recorded: String,
    /// Slices that have something left.
    pub slices: i64,
    /// Its outbox.
    pub outbox: Outbox,
}

/// An outbox, as Redis has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbox {
    /// Redis was not asked, or did not answer.
    Unknown,
    /// This Redis is another process than the one that the epoch was given to: the next decision
    /// takes the shard over.
    OfAnother,
    /// Everything in it is recorded.
    Recorded,
    /// It goes up to this place, and is recorded up to an earlier one.
    Behind(String),
    /// It ends before what is recorded: Redis has lost entries, or was put back.
    Lost(String),
}

/// A lease of an ended epoch.
#[derive(Clone, Debug)]
pub struct StrandedLease {
    /// The shard.
    pub shard: i16,
    /// The epoch, which has ended.
    pub epoch: i64,
    /// Whose it is.
    pub organization_id: String,
    /// The mandate whose budget it is of.
    pub mandate_id: String,
    /// The counter: `b:none` is the whole budget, `c:` a category's cap, `v:` a vendor's.
    pub counter: String,
    /// When the counter's period began.
    pub starts_at: Timestamp,
    /// The weakest level that was answered from it.
    pub level: String,
    /// Minor units.
    pub amount: i64,
    /// Whether everything that is left of the epoch is recorded; before, nothing can be freed.
    pub is_recorded: bool,
}

/// How everything stands; Redis is asked if it is given.
///
/// # Errors
/// When Postgres fails.
pub async fn status(
    store: &PostgresStore,
    redis: Option<(&str, Durability)>,
) -> Result<LedgerStatus, StoreError> {
    let escrow = Escrow::new(store.clone());
    let authorities = escrow.authorities().await?;
    let slices = escrow.slices().await?;
    let lives = match redis {
        None => Vec::new(),
        Some((url, level)) => match Nodes::open(url, level).await {
            Ok(nodes) => nodes.lives().await,
            Err(error) => vec![Err(error)],
        },
    };
    let mut shards = Vec::with_capacity(authorities.len());
    for one in authorities {
        let counted = slices.iter().find(|(shard, _)| *shard == one.shard);
        let live = usize::try_from(one.shard).ok().and_then(|shard| lives.get(shard));
        let outbox = match live {
            Some(Ok(live)) => outbox(live, &one).await,
            Some(Err(_)) | None => Outbox::Unknown,
        };
        shards.push(ShardStatus {
            shard: one.shard,
            epoch: one.epoch,
            begun: one.begun,
            taken_at: time(one.taken_at)?,
            recorded: text(one.position()),
            slices: counted.map_or(0, |(_, count)| *count),
            outbox,
        });
    }
    shards.sort_by_key(|one| one.shard);
    let redis_error = lives.iter().find_map(|live| live.as_ref().err()).map(LinkError::to_string);
    let stranded = escrow.stranded(STRANDED_MAX).await?;
    let stranded = stranded.into_iter().map(shown).collect::<Result<_, _>>()?;
    Ok(LedgerStatus { shards, stranded, redis_error })
}

/// Frees what an ended epoch of a shard still has: it can be leased and spent again. How many
/// leases that were; `None`, and nothing is freed, while not everything of it is recorded.
///
/// Whoever calls it promises that no approval of that epoch was answered and is missing from the
/// record: else that money is spent twice.
///
/// # Errors
/// When Postgres fails.
pub async fn free(
    store: &PostgresStore,
    shard: i16,
    epoch: i64,
) -> Result<Option<u64>, StoreError> {
    Escrow::new(store.clone()).free(shard, epoch).await
}

async fn outbox(live: &Live, authority: &Authority) -> Outbox {
    if authority.replication_id != *live.identity {
        return Outbox::OfAnother;
    }
    let ask = redis::cmd("XINFO").arg("STREAM").arg(Keys(authority.shard).outbox()).to_owned();
    let last = match live.say(&ask).await {
        Ok(said) => last_generated(said),
        // Without a stream there is nothing in it.
        Err(LinkError::Driver(error)) if error.code() == Some("ERR") => Some(Place::default()),
        Err(_) => None,
    };
    match last {
        None => Outbox::Unknown,
        Some(last) if last == authority.position() => Outbox::Recorded,
        Some(last) if last > authority.position() => Outbox::Behind(text(last)),
        Some(last) => Outbox::Lost(text(last)),
    }
}

fn text(place: Place) -> String {
    format!("{}-{}", place.epoch, place.seq)
}

fn time(micros: i64) -> Result<Timestamp, StoreError> {
    let wrong =
        |error| StoreError::new(StoreErrorKind::Corrupt, "read how the ledger stands", error);
    Timestamp::from_microsecond(micros).map_err(wrong)
}

fn shown(left: Left) -> Result<StrandedLease, StoreError> {
    let Left { slice, level, amount, is_drained } = left;
    Ok(StrandedLease {
        shard: slice.shard,
        epoch: slice.epoch,
        organization_id: slice.org.to_string(),
        mandate_id: slice.mandate.to_string(),
        counter: slice.subject,
        starts_at: time(slice.starts_at)?,
        level,
        amount,
        is_recorded: is_drained,
    })
}
