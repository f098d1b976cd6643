//! What operators see of an outbox that is not recorded, and how its shard goes on behind what
//! cannot be: `quetra outbox`.
//!
//! What is skipped is lost as a record and stays leased, so it counts as spent. Not here: how it is
//! printed (`cli`).

use redis::Value;

use super::keys::Keys;
use super::link::{LinkError, Live};
use super::nodes::Nodes;
use super::projector::outbox::{follows, list, parse};
use super::scripts::{Answer, parse_place};
use super::shards::last_generated;
use crate::domain::transaction::TransactionRecord;
use crate::ledger::Durability;
use crate::ledger::sql::postgres::escrow::{Authority, Escrow, Place};
use crate::ledger::sql::postgres::project::Entry;
use crate::store::postgres::PostgresStore;
use crate::store::{StoreError, StoreErrorKind};

/// Entries that are read at once.
const PAGE: usize = 256;

/// An entry of an outbox that is not recorded.
#[derive(Clone, Debug)]
pub struct WaitingEntry {
    /// Its shard, 0 to 63.
    pub shard: i16,
    /// Its place: epoch and number.
    pub place: String,
    /// What it says.
    pub says: EntrySays,
    /// The last place that is missing in front of it, if one is.
    pub missing: Option<String>,
    /// Its fields, name and value after each other, as they are.
    pub fields: Vec<Vec<u8>>,
}

/// What an entry says.
#[derive(Clone, Debug)]
pub enum EntrySays {
    /// Nothing that this version understands.
    Unknown,
    /// An epoch begins.
    Begin,
    /// A decision.
    Decision(Box<TransactionRecord>),
    /// A slice sends this many minor units back.
    Recall(i64),
}

/// Why nothing was skipped.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Redis cannot be used.
    #[error("redis cannot be asked: {0}")]
    Redis(String),
    /// Nothing of this shard is spent from this Redis.
    #[error("shard {0} is not spent from this Redis; see `quetra ledger status`")]
    NotHere(i16),
    /// It is no place behind the record and within the outbox.
    #[error("{0} is not behind what is recorded and within the outbox; see `quetra outbox show`")]
    NoSuchPlace(String),
    /// Something was recorded meanwhile.
    #[error("the shard was recorded further, or taken over, meanwhile; look at it again")]
    Moved,
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LinkError> for RepairError {
    fn from(error: LinkError) -> Self {
        Self::Redis(error.to_string())
    }
}

/// The entries of a shard, or of all, that are not recorded; so many of each at most.
///
/// # Errors
/// When Redis or Postgres cannot be asked.
pub async fn waiting(
    store: &PostgresStore,
    redis: (&str, Durability),
    shard: Option<i16>,
    most: usize,
) -> Result<Vec<WaitingEntry>, RepairError> {
    let nodes = Nodes::open(redis.0, redis.1).await?;
    let mut authorities = Escrow::new(store.clone()).authorities().await?;
    authorities.retain(|one| shard.is_none_or(|shard| shard == one.shard));
    authorities.sort_by_key(|one| one.shard);
    let mut waiting = Vec::new();
    for authority in &authorities {
        let live = nodes.live(authority.shard).await?;
        if is_here(authority, &live) {
            waiting.extend(read(&live, authority, most).await?);
        }
    }
    Ok(waiting)
}

/// Goes on recording a shard behind this place, without what is missing or cannot be understood up
/// to it. Whatever was spent there stays leased: it counts as spent, as if it were recorded.
///
/// # Errors
/// When it is no such place, or Redis or Postgres cannot be asked.
pub async fn skip(
    store: &PostgresStore,
    redis: (&str, Durability),
    shard: i16,
    place: &str,
) -> Result<(), RepairError> {
    let live = Nodes::open(redis.0, redis.1).await?.live(shard).await?;
    let escrow = Escrow::new(store.clone());
    let authority = escrow.authority(shard).await?.filter(|one| is_here(one, &live));
    let authority = authority.ok_or(RepairError::NotHere(shard))?;
    let ask = redis::cmd("XINFO").arg("STREAM").arg(Keys(shard).outbox()).to_owned();
    let end = last_generated(live.say(&ask).await?).unwrap_or_default();
    let to = parse_place(place.as_bytes())
        .filter(|to| *to > authority.position() && *to <= end)
        .ok_or_else(|| RepairError::NoSuchPlace(place.to_owned()))?;
    if !escrow.skip(&authority, to).await? {
        return Err(RepairError::Moved);
    }
    Ok(())
}

fn is_here(authority: &Authority, live: &Live) -> bool {
    authority.begun && authority.replication_id == *live.identity
}

async fn read(
    live: &Live,
    authority: &Authority,
    most: usize,
) -> Result<Vec<WaitingEntry>, RepairError> {
    let (mut found, mut last) = (Vec::new(), authority.position());
    while found.len() < most {
        let mut ask = redis::cmd("XRANGE");
        ask.arg(Keys(authority.shard).outbox());
        ask.arg(format!("({}-{}", last.epoch, last.seq)).arg("+");
        ask.arg("COUNT").arg(PAGE.min(most.saturating_sub(found.len())));
        let page = list(live.say(&ask).await?);
        if page.is_empty() {
            break;
        }
        for entry in page {
            let (place, entry) = shown(authority.shard, last, entry)?;
            last = place;
            found.push(entry);
        }
    }
    Ok(found)
}

fn shown(shard: i16, last: Place, entry: Value) -> Result<(Place, WaitingEntry), StoreError> {
    let parts = Answer(list(entry.clone()));
    let unreadable = || StoreError::new(StoreErrorKind::Corrupt, "read the outbox", "no place");
    let place = parts.bytes(0).and_then(parse_place).ok_or_else(unreadable)?;
    let fields = parts.0.into_iter().nth(1).map(list).unwrap_or_default();
    let bytes = |field| {
        if let Value::BulkString(bytes) = field { bytes } else { format!("{field:?}").into_bytes() }
    };
    let fields = fields.into_iter().map(bytes);
    let entry = parse(entry).ok().map(|(_, entry)| entry);
    // In front of an epoch's first entry nothing can be missing but what is of an earlier epoch,
    // which nobody can tell.
    let is_next =
        follows(last, place, entry.as_ref().is_none_or(|it| matches!(it, Entry::Begin(_))));
    let before = place.seq.checked_sub(1).map(|seq| Place { seq, ..place });
    let missing = if is_next { None } else { before };
    let says = match entry {
        None => EntrySays::Unknown,
        Some(Entry::Begin(_)) => EntrySays::Begin,
        Some(Entry::Decision(record)) => EntrySays::Decision(record),
        Some(Entry::Recall(.., amount)) => EntrySays::Recall(amount),
    };
    let missing = missing.map(text);
    Ok((place, WaitingEntry { shard, place: text(place), says, missing, fields: fields.collect() }))
}

fn text(place: Place) -> String {
    format!("{}-{}", place.epoch, place.seq)
}
