//! The projector: what is in the outboxes becomes the record, in order, exactly once.
//!
//! Any number of servers may run one; a lock in Postgres lets one of them work, so that the others
//! do not try in vain, and the fenced transaction is what makes it right. Not here: that
//! transaction (`ledger::sql::postgres::project`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use super::facts::Facts;
use super::keys::Keys;
use super::link::{LinkError, Live};
use super::scripts::{Answer, parse_place};
use super::shards::{Shards, Trouble};
use crate::domain::id::{MandateId, OrgId};
use crate::ledger::sql::postgres::escrow::{Authority, Place};
use crate::ledger::sql::postgres::project::{Batch, CHANNEL, Entry, project};
use crate::store::postgres::classify;
use crate::store::sql::spends::entry;
use crate::store::{StoreError, StoreErrorKind};

/// The most entries of a shard that one transaction takes.
const BATCH_MAX: usize = 512;

/// How long a look into the outboxes waits for something to come.
const WAIT_MS: u64 = 40;

/// How long one pauses who cannot work now.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the last entries may take when the server stops.
const LAST_TIME: Duration = Duration::from_secs(5);

/// How long a connection that hears may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The lock that whoever works has.
const LOCK: &str = "SELECT pg_try_advisory_lock(7402, 0)";

/// Works until it is stopped, and then until nothing is left.
pub(super) async fn run(shards: Arc<Shards>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(trouble) = work(&shards, &stop).await {
            metrics::counter!("quetra_projector_failures_total").increment(1);
            tracing::warn!(%trouble, "the outbox is not recorded now");
        }
        stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
    }
    let last = async {
        let mut worker = Worker::new(&shards).await?;
        while worker.is_alone().await? && worker.step(false).await? > 0 {}
        Ok::<(), Trouble>(())
    };
    match tokio::time::timeout(LAST_TIME, last).await {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => tracing::info!(%trouble, "the outbox is left to others"),
        Err(elapsed) => tracing::info!(%elapsed, "the outbox is left to others"),
    }
}

async fn work(shards: &Shards, stop: &CancellationToken) -> Result<(), Trouble> {
    let mut worker = Worker::new(shards).await?;
    while !stop.is_cancelled() {
        if worker.is_alone().await? {
            worker.step(true).await?;
        } else {
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
    Ok(())
}

/// Hears how far shards are recorded, whoever records them.
pub(super) async fn listen(shards: Arc<Shards>, stop: CancellationToken) {
    let hear_on = async {
        loop {
            if let Err(error) = hear(&shards).await {
                tracing::warn!(%error, "positions are not heard now; answers look for themselves");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let ended: Option<()> = stop.run_until_cancelled(hear_on).await;
    debug_assert!(ended.is_none(), "it only ends when it is stopped");
}

async fn hear(shards: &Shards) -> Result<(), sqlx::Error> {
    let one = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIME);
    let one = one.connect_lazy_with(shards.escrow.options().clone());
    let mut listener = PgListener::connect_with(&one).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let told = listener.recv().await?;
        let mut numbers = told.payload().split(' ').map(str::parse::<i64>);
        let mut next = || numbers.next()?.ok();
        if let (Some(shard), Some(epoch), Some(seq)) = (next(), next(), next())
            && let Ok(shard) = i16::try_from(shard)
        {
            shards.recorded(shard, Place { epoch, seq });
        }
    }
}

/// Who works now.
struct Worker<'a> {
    shards: &'a Shards,
    postgres: PgConnection,
    redis: Arc<Live>,
    has_lock: bool,
}

impl<'a> Worker<'a> {
    async fn new(shards: &'a Shards) -> Result<Self, Trouble> {
        let postgres = shards.escrow.options().connect().await;
        let postgres = postgres.map_err(|error| classify("connect the projector", error))?;
        // Its own: a look that waits would keep the calls of others waiting.
        let redis = Arc::new(shards.link.connect().await?);
        Ok(Self { shards, postgres, redis, has_lock: false })
    }

    /// Whether it is this one's turn to work; it stays so as long as the connection lives.
    async fn is_alone(&mut self) -> Result<bool, Trouble> {
        if !self.has_lock {
            let lock = sqlx::query_scalar(LOCK).fetch_one(&mut self.postgres).await;
            self.has_lock = lock.map_err(|error| classify("take the projector's turn", error))?;
        }
        Ok(self.has_lock)
    }

    /// Records what is there now, or comes soon; how many entries.
    async fn step(&mut self, waits: bool) -> Result<usize, Trouble> {
        let authorities = self.shards.escrow.authorities().await?;
        let ours = authorities
            .into_iter()
            // INVARIANT: only the log of the present authority is read.
            .filter(|one| one.begun && one.replication_id == *self.redis.identity)
            .collect::<Vec<_>>();
        if ours.is_empty() {
            if waits {
                tokio::time::sleep(Duration::from_millis(WAIT_MS)).await;
            }
            return Ok(0);
        }
        let mut recorded = 0_usize;
        let found = self.read(&ours, waits).await?;
        for authority in ours {
            let entries = found.get(&authority.shard);
            if let Some(entries) = entries.filter(|entries| !entries.is_empty()) {
                self.record(&authority, entries).await?;
                recorded = recorded.saturating_add(entries.len());
            }
        }
        Ok(recorded)
    }

    /// The entries after the position of each shard.
    async fn read(
        &mut self,
        authorities: &[Authority],
        waits: bool,
    ) -> Result<HashMap<i16, Vec<Value>>, Trouble> {
        let mut ask = redis::cmd("XREAD");
        ask.arg("COUNT").arg(BATCH_MAX);
        if waits {
            ask.arg("BLOCK").arg(WAIT_MS);
        }
        ask.arg("STREAMS");
        let names = authorities.iter().map(|one| Keys(one.shard).outbox()).collect::<Vec<_>>();
        ask.arg(&names);
        for one in authorities {
            let place = one.position();
            ask.arg(format!("{}-{}", place.epoch, place.seq));
        }
        let said = self.redis.connection.clone().send_packed_command(&ask).await;
        let said = said.and_then(Value::extract_error).map_err(LinkError::Driver)?;
        let mut found = HashMap::new();
        for stream in list(said) {
            let mut parts = Answer(list(stream));
            let shard = authorities
                .iter()
                .zip(&names)
                .find(|(_, name)| parts.bytes(0) == Some(name.as_bytes()))
                .map(|(one, _)| one.shard);
            if let (Some(shard), Some(entries)) = (shard, parts.0.pop()) {
                found.insert(shard, list(entries));
            }
        }
        Ok(found)
    }

    async fn record(&mut self, authority: &Authority, entries: &[Value]) -> Result<(), Trouble> {
        let mut last = authority.position();
        let mut batch = Batch {
            shard: authority.shard,
            epoch: authority.epoch,
            after: last,
            entries: Vec::with_capacity(entries.len()),
        };
        for found in entries {
            let (place, entry) = parse(found)?;
            let is_next = place.epoch == last.epoch && place.seq == last.seq.saturating_add(1);
            let begins = place.epoch > last.epoch && place.seq == 0;
            if !(is_next || begins && matches!(entry, Entry::Begin)) {
                metrics::gauge!("quetra_projector_stopped").set(1.0);
                let hole = format!("shard {} has a hole after {last:?}", authority.shard);
                return Err(corrupt(hole).into());
            }
            last = place;
            batch.entries.push((place, entry));
        }
        if project(&mut self.postgres, &batch).await? {
            metrics::counter!("quetra_projected_total")
                .increment(u64::try_from(batch.entries.len()).unwrap_or(u64::MAX));
            self.shards.recorded(authority.shard, last);
            self.trim(authority.shard, last).await?;
        }
        Ok(())
    }

    /// Drops what is recorded, and only that.
    async fn trim(&mut self, shard: i16, last: Place) -> Result<(), Trouble> {
        let mut trim = redis::cmd("XTRIM");
        let first_kept = format!("{}-{}", last.epoch, last.seq.saturating_add(1));
        trim.arg(Keys(shard).outbox()).arg("MINID").arg(first_kept);
        let trimmed = self.redis.connection.clone().send_packed_command(&trim).await;
        trimmed.map(drop).map_err(|error| LinkError::Driver(error).into())
    }
}

fn corrupt(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "read the outbox", why)
}

/// The items of a list; a map is one of pairs.
fn list(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value {
        items
    } else if let Value::Map(pairs) = value {
        pairs.into_iter().map(|(key, value)| Value::Array(vec![key, value])).collect()
    } else {
        Vec::new()
    }
}

/// One entry: its place, and its fields.
fn parse(value: &Value) -> Result<(Place, Entry), StoreError> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let Some(Value::BulkString(place)) = parts.first() else { return None };
        let Some(Value::Array(fields)) = parts.get(1) else { return None };
        let fields = Answer(fields.clone());
        let place = parse_place(place)?;
        let entry = match fields.bytes(0)? {
            b"b" => Entry::Begin,
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
