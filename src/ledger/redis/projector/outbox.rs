//! Reading the outboxes: what follows a position, in order, as the projector records it.
//!
//! Not here: who reads, and what becomes of it (`projector`).

use std::time::Duration;

use futures::future::try_join_all;
use redis::Value;

use super::super::facts::Facts;
use super::super::keys::Keys;
use super::super::link::{LinkError, Live};
use super::super::scripts::{Answer, parse_place};
use super::super::shards::Trouble;
use crate::domain::id::{MandateId, OrgId};
use crate::ledger::sql::postgres::escrow::{Authority, Place};
use crate::ledger::sql::postgres::project::{Batch, Entry};
use crate::store::sql::spends::entry;
use crate::store::{StoreError, StoreErrorKind};

/// The most entries of a shard that one transaction takes: the more there are, the fewer times each
/// counter is written.
const BATCH_MAX: usize = 2_048;

/// How long a look pauses that found nothing and cannot wait for something.
const POLL: Duration = Duration::from_millis(10);

/// Entries that are decoded before others have a turn.
const DECODED_AT_ONCE: usize = 32;

/// What was found in an outbox behind a position.
pub(super) struct Found {
    pub(super) shard: i16,
    /// Whether an answer waits for a row of it.
    pub(super) is_awaited: bool,
    /// Or why it cannot be recorded.
    pub(super) batch: Result<Batch, StoreError>,
}

impl Found {
    /// The last place of it.
    pub(super) fn last(&self) -> Option<Place> {
        self.batch.as_ref().ok()?.entries.last().map(|(place, _)| *place)
    }
}

/// Drops what is recorded, and only that.
pub(super) async fn trim(redis: &Live, shard: i16, last: Place) -> Result<(), LinkError> {
    let mut trim = redis::cmd("XTRIM");
    let first_kept = format!("{}-{}", last.epoch, last.seq.saturating_add(1));
    trim.arg(Keys(shard).outbox()).arg("MINID").arg(first_kept);
    redis.say(&trim).await?;
    Ok(())
}

/// Finds out whether the process is there.
pub(super) async fn ping(redis: &Live) -> Result<(), Trouble> {
    redis.say(&redis::cmd("PING")).await?;
    Ok(())
}

/// The entries after the position of each shard that has some; waits for them if it may.
pub(super) async fn read(
    redis: &Live,
    authorities: &[Authority],
    wait: Option<Duration>,
) -> Result<Vec<Found>, Trouble> {
    if redis.is_in_cluster {
        return read_each(redis, authorities, wait).await;
    }
    read_together(redis, authorities, wait).await
}

/// The same of a node of a cluster: no command reads streams of two slots, so none can wait either.
async fn read_each(
    redis: &Live,
    authorities: &[Authority],
    wait: Option<Duration>,
) -> Result<Vec<Found>, Trouble> {
    let each = authorities.iter().map(|one| async {
        match read_together(redis, std::slice::from_ref(one), None).await {
            // Who has it now is asked by others.
            Err(Trouble::Away(LinkError::Moved(_))) => Ok(Vec::new()),
            read => read,
        }
    });
    let found = try_join_all(each).await?.into_iter().flatten().collect::<Vec<_>>();
    if let Some(wait) = wait.filter(|_| found.is_empty()) {
        tokio::time::sleep(wait.min(POLL)).await;
    }
    Ok(found)
}

async fn read_together(
    redis: &Live,
    authorities: &[Authority],
    wait: Option<Duration>,
) -> Result<Vec<Found>, Trouble> {
    let mut ask = redis::cmd("XREAD");
    ask.arg("COUNT").arg(BATCH_MAX);
    if let Some(wait) = wait {
        ask.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    ask.arg("STREAMS");
    let names = authorities.iter().map(|one| Keys(one.shard).outbox()).collect::<Vec<_>>();
    ask.arg(&names);
    for one in authorities {
        let place = one.position();
        ask.arg(format!("{}-{}", place.epoch, place.seq));
    }
    let mut found = Vec::new();
    for stream in list(redis.say(&ask).await?) {
        let mut parts = Answer(list(stream));
        let named = authorities.iter().zip(&names);
        let mut named = named.filter(|(_, name)| parts.bytes(0) == Some(name.as_bytes()));
        let authority = named.next().map(|(authority, _)| authority);
        if let (Some(authority), Some(entries)) = (authority, parts.0.pop()) {
            let entries = list(entries);
            let is_awaited = entries.iter().any(says_awaited);
            let batch = decode(authority, entries).await;
            found.push(Found { shard: authority.shard, is_awaited, batch });
        }
    }
    Ok(found)
}

/// Whether a script says of an entry that its answer waits for the row.
fn says_awaited(entry: &Value) -> bool {
    let Value::Array(parts) = entry else { return false };
    let Some(Value::Array(fields)) = parts.get(1) else { return false };
    matches!(fields.get(4), Some(Value::BulkString(name)) if name == b"w")
}

/// Entries that follow the position of their shard without a hole.
async fn decode(authority: &Authority, entries: Vec<Value>) -> Result<Batch, StoreError> {
    let mut last = authority.position();
    let mut batch = Batch {
        shard: authority.shard,
        epoch: authority.epoch,
        after: last,
        entries: Vec::with_capacity(entries.len()),
    };
    for (number, found) in entries.into_iter().enumerate() {
        if number.checked_rem(DECODED_AT_ONCE) == Some(0) {
            tokio::task::yield_now().await;
        }
        let (place, entry) = parse(found)?;
        if !follows(last, place, matches!(entry, Entry::Begin(_))) {
            let hole = format!("shard {} has a hole after {last:?}", authority.shard);
            return Err(corrupt(hole));
        }
        last = place;
        batch.entries.push((place, entry));
    }
    Ok(batch)
}

/// Whether an entry is the next one, or a later epoch's first.
pub(in crate::ledger::redis) fn follows(last: Place, place: Place, begins: bool) -> bool {
    let is_next = place.epoch == last.epoch && place.seq == last.seq.saturating_add(1);
    is_next || begins && place.epoch > last.epoch && place.seq == 0
}

fn corrupt(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "read the outbox", why)
}

/// The items of a list; a map is one of pairs.
pub(in crate::ledger::redis) fn list(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value {
        items
    } else if let Value::Map(pairs) = value {
        pairs.into_iter().map(|(key, value)| Value::Array(vec![key, value])).collect()
    } else {
        Vec::new()
    }
}

/// One entry: its place, and its fields.
pub(in crate::ledger::redis) fn parse(value: Value) -> Result<(Place, Entry), StoreError> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let [Value::BulkString(place), Value::Array(fields)] =
            <[Value; 2]>::try_from(parts).ok()?
        else {
            return None;
        };
        let (place, fields) = (parse_place(&place)?, Answer(fields));
        let entry = match fields.bytes(0)? {
            b"b" => Entry::Begin(fields.bytes(1).and_then(parse_place)),
            b"d" => {
                let mut record = entry::decode(fields.bytes(1)?).ok()?;
                Facts::parse(fields.bytes(3)?)?.conclude(&mut record);
                Entry::Decision(Box::new(record))
            }
            b"r" => {
                let amount = i64::from_be_bytes(fields.bytes(3)?.try_into().ok()?);
                let (org, rest) = fields.bytes(1)?.split_at_checked(16)?;
                let (mandate, rest) = rest.split_at_checked(16)?;
                let (starts_at, subject) = rest.split_at_checked(8)?;
                let org = OrgId::from_bytes(org.try_into().ok()?);
                let mandate = MandateId::from_bytes(mandate.try_into().ok()?);
                let starts_at = i64::from_be_bytes(starts_at.try_into().ok()?);
                let subject = String::from_utf8(subject.to_vec()).ok()?;
                Entry::Recall(org, (mandate, subject, starts_at), amount)
            }
            _ => return None,
        };
        Some((place, entry))
    };
    read().ok_or_else(|| corrupt("an entry cannot be understood"))
}
