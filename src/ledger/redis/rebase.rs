//! A Postgres that has lost what it once committed, and how its shards go on.
//!
//! Redis shows it: an outbox is trimmed up to what Postgres has, and epochs come from Postgres. Not
//! here: what becomes of leases (`ledger::sql::postgres::escrow`), and how it is printed (`cli`).

use redis::Value;

use super::keys::{Keys, SHARDS, packed};
use super::link::{LinkError, Live};
use super::nodes::Nodes;
use super::repair::RepairError;
use super::scripts::{Answer, Script};
use super::shards::stream_ends;
use crate::ledger::Durability;
use crate::ledger::sql::postgres::escrow::{Authority, Escrow, Place};
use crate::store::postgres::PostgresStore;

/// A shard of which Redis has more than Postgres.
#[derive(Clone, Debug)]
pub struct AheadShard {
    /// Its number, 0 to 63.
    pub shard: i16,
    /// The epoch that Postgres has; none if it knows nothing of the shard.
    pub postgres_epoch: Option<i64>,
    /// Up to which place Postgres has recorded it.
    pub postgres_recorded: String,
    /// The epoch that Redis has.
    pub redis_epoch: i64,
    /// Up to which place Postgres had recorded it once, at least.
    pub redis_recorded: String,
    /// The epoch that it was given, if it was rebased.
    pub rebased_to: Option<i64>,
}

/// What a Redis says of a shard.
pub(super) struct Held {
    /// Its epoch; 0 for none.
    pub(super) epoch: i64,
    /// What is not in the outbox any more, so it was recorded.
    pub(super) recorded: Place,
}

impl Held {
    /// Reads it; whoever compares it with Postgres asks that one afterwards.
    pub(super) async fn of(live: &Live, shard: i16) -> Result<Self, LinkError> {
        let keys = Keys(shard);
        let auth = live.say(redis::cmd("GET").arg(keys.authority())).await?;
        let epoch = Answer(vec![auth]);
        let epoch = epoch.bytes(0).and_then(|bytes| bytes.get(..8)?.try_into().ok());
        let epoch = epoch.map_or(0, i64::from_be_bytes);
        let recorded = match live.say(redis::cmd("XINFO").arg("STREAM").arg(keys.outbox())).await {
            Ok(said) => recorded(said),
            // Without an outbox it says nothing.
            Err(LinkError::Driver(error)) if error.code() == Some("ERR") => Place::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { epoch, recorded })
    }

    /// Whether Postgres has lost commits.
    pub(super) fn is_ahead_of(&self, seen: Option<&Authority>) -> bool {
        let position = seen.map_or_else(Place::default, Authority::position);
        self.epoch > seen.map_or(0, |seen| seen.epoch) || self.recorded > position
    }
}

/// What was in front of an outbox that begins here.
fn recorded(said: Value) -> Place {
    let (first, last) = stream_ends(said);
    let Some(first) = first else { return last.unwrap_or_default() };
    // An epoch's first entry does not say how many were in the one before it.
    let before = first.seq.checked_sub(1).filter(|seq| *seq >= 0);
    before.map_or_else(Place::default, |seq| Place { seq, ..first })
}

/// The shards of which Redis has more than Postgres, which was put back; at a time, in
/// microseconds, each is given a new epoch. What is in its outbox is given up then.
///
/// # Errors
/// When Redis or Postgres cannot be asked, or a server takes a shard over meanwhile.
pub async fn rebase(
    store: &PostgresStore,
    (url, level): (&str, Durability),
    now: Option<i64>,
) -> Result<Vec<AheadShard>, RepairError> {
    let nodes = Nodes::open(url, level).await?;
    let escrow = Escrow::new(store.clone());
    let mut ahead = Vec::new();
    for shard in 0..i16::from(SHARDS) {
        let live = nodes.live(shard).await?;
        let held = Held::of(&live, shard).await?;
        let seen = escrow.authority(shard).await?;
        if !held.is_ahead_of(seen.as_ref()) {
            continue;
        }
        let known = seen.as_ref().map(|seen| seen.epoch);
        let next = known.unwrap_or_default().max(held.epoch).max(held.recorded.epoch);
        let next = next.saturating_add(1);
        if let Some(now) = now {
            if !escrow.rebase((shard, &live.identity), known, (next, now)).await? {
                return Err(RepairError::Moved);
            }
            let floor = seen.as_ref().map_or(0, |seen| seen.floor);
            let keys = [Keys(shard).outbox(), Keys(shard).authority()];
            let arguments = [&packed(&[next, floor]), live.identity.as_bytes()];
            let answer = live.run(Script::Begin, &keys, &arguments).await?;
            if answer.word() != "BEGUN" {
                return Err(RepairError::Moved);
            }
            escrow.begun(shard, next).await?;
        }
        let position = seen.as_ref().map_or_else(Place::default, Authority::position);
        ahead.push(AheadShard {
            shard,
            postgres_epoch: known,
            postgres_recorded: text(position),
            redis_epoch: held.epoch,
            redis_recorded: text(held.recorded),
            rebased_to: now.map(|_| next),
        });
    }
    Ok(ahead)
}

fn text(place: Place) -> String {
    format!("{}-{}", place.epoch, place.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(first: Option<&str>, last: &str) -> Value {
        let word = |text: &str| Value::BulkString(text.into());
        let entry = |id| Value::Array(vec![word(id), Value::Array(Vec::new())]);
        Value::Array(vec![
            word("length"),
            Value::Int(1),
            word("last-generated-id"),
            word(last),
            word("first-entry"),
            first.map_or(Value::Nil, entry),
        ])
    }

    #[test]
    fn what_is_not_in_an_outbox_any_more_was_recorded() {
        let place = |epoch, seq| Place { epoch, seq };
        assert_eq!(recorded(info(Some("3-8"), "3-9")), place(3, 7));
        assert_eq!(recorded(info(None, "3-9")), place(3, 9));
        assert_eq!(recorded(info(Some("3-0"), "3-9")), Place::default());
        assert_eq!(recorded(Value::Nil), Place::default());
    }
}
