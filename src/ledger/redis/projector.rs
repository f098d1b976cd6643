//! The projector: what is in the outboxes becomes the record, in order, exactly once.
//!
//! Any number of servers may run one; a lock in Postgres lets one of them work, so that the others
//! do not try in vain, and the fenced transaction is what makes it right. Not here: that
//! transaction (`ledger::sql::postgres::project`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use tokio::time::Instant;
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

/// How long one look and what it finds may take, on connections that may have fallen silent.
const STEP_TIME: Duration = Duration::from_secs(20);

/// How long a shard that cannot be recorded is left alone before it is looked at again.
const STOP_TIME: Duration = Duration::from_secs(1);

const CONNECT: &str = "connect the projector";

/// The lock that whoever works has.
const LOCK: &str = "SELECT pg_try_advisory_lock(7402, 0)";

/// Works until it is stopped, and then until nothing is left.
pub(super) async fn run(shards: Arc<Shards>, stop: CancellationToken) {
    let mut worker = Worker::new(&shards);
    let mut is_first = true;
    while !stop.is_cancelled() {
        let Err(trouble) = work(&mut worker, &stop).await else { continue };
        metrics::counter!("quetra_projector_failures_total").increment(1);
        tracing::warn!(%trouble, "the outbox is not recorded now");
        // Whoever loses a connection tries again at once: rows are waited for. Who then fails again
        // before anything was done has to wait.
        is_first |= std::mem::take(&mut worker.has_worked);
        if !std::mem::take(&mut is_first) {
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
    let last = async {
        while worker.is_alone().await? && worker.step(false).await? > 0 {}
        Ok::<(), Trouble>(())
    };
    match tokio::time::timeout(LAST_TIME, last).await {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => tracing::info!(%trouble, "the outbox is left to others"),
        Err(elapsed) => tracing::info!(%elapsed, "the outbox is left to others"),
    }
}

async fn work(worker: &mut Worker<'_>, stop: &CancellationToken) -> Result<(), Trouble> {
    while !stop.is_cancelled() {
        let worked = async {
            if worker.is_alone().await? {
                worker.step(true).await?;
                worker.has_worked = true;
            } else {
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
            Ok(())
        };
        let late = |elapsed| StoreError::new(StoreErrorKind::Timeout, "record the outbox", elapsed);
        let worked = tokio::time::timeout(STEP_TIME, worked).await;
        if let Err(trouble) = worked.unwrap_or_else(|elapsed| Err(late(elapsed).into())) {
            worker.give_up(&trouble);
            return Err(trouble);
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
    /// With the lock, as long as it lives.
    postgres: Option<PgConnection>,
    /// Its own: a look that waits would keep the calls of others waiting.
    redis: Option<Arc<Live>>,
    has_lock: bool,
    /// Whether it did anything since it failed last.
    has_worked: bool,
    /// Shards whose outbox cannot be recorded, and when that was seen.
    stopped: HashMap<i16, Instant>,
}

impl<'a> Worker<'a> {
    fn new(shards: &'a Shards) -> Self {
        Self {
            shards,
            postgres: None,
            redis: None,
            has_lock: false,
            has_worked: false,
            stopped: HashMap::new(),
        }
    }

    /// Drops the connection that failed.
    fn give_up(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Away(_) => self.redis = None,
            Trouble::Store(_) => {
                self.postgres = None;
                self.has_lock = false;
                self.shards.set_records(false);
            }
        }
    }

    async fn postgres(&mut self) -> Result<&mut PgConnection, Trouble> {
        let connection = match self.postgres.take() {
            Some(connection) => connection,
            None => tokio::time::timeout(CONNECT_TIME, self.shards.escrow.options().connect())
                .await
                .map_err(|elapsed| StoreError::new(StoreErrorKind::Timeout, CONNECT, elapsed))?
                .map_err(|error| classify(CONNECT, error))?,
        };
        Ok(self.postgres.insert(connection))
    }

    async fn redis(&mut self) -> Result<Arc<Live>, Trouble> {
        let live = match &self.redis {
            Some(live) => Arc::clone(live),
            None => Arc::new(self.shards.link.connect().await?),
        };
        self.redis = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Whether it is this one's turn to work; it stays so as long as the connection lives.
    async fn is_alone(&mut self) -> Result<bool, Trouble> {
        if !self.has_lock {
            let lock = sqlx::query_scalar(LOCK).fetch_one(self.postgres().await?).await;
            self.has_lock = lock.map_err(|error| classify("take the projector's turn", error))?;
            self.shards.set_records(self.has_lock);
        }
        Ok(self.has_lock)
    }

    /// Records what is there now, or comes soon; how many entries.
    async fn step(&mut self, waits: bool) -> Result<usize, Trouble> {
        let redis = self.redis().await?;
        let authorities = self.shards.escrow.authorities().await?;
        self.stopped.retain(|_, since| since.elapsed() < STOP_TIME);
        let ours = authorities
            .into_iter()
            // INVARIANT: only the log of the present authority is read.
            .filter(|one| one.begun && one.replication_id == *redis.identity)
            .filter(|one| !self.stopped.contains_key(&one.shard))
            .collect::<Vec<_>>();
        if ours.is_empty() {
            // Nothing else would tell that this process is gone, and another has its shards.
            say(&redis, &redis::cmd("PING")).await?;
            if waits {
                tokio::time::sleep(Duration::from_millis(WAIT_MS)).await;
            }
            return Ok(0);
        }
        let mut recorded = 0_usize;
        let found = read(&redis, &ours, waits).await?;
        for authority in ours {
            let entries = found.get(&authority.shard);
            let Some(entries) = entries.filter(|entries| !entries.is_empty()) else { continue };
            match self.record(&redis, &authority, entries).await {
                Ok(()) => recorded = recorded.saturating_add(entries.len()),
                // It stops this shard and no other; somebody has to look at it.
                Err(Trouble::Store(error)) if error.kind == StoreErrorKind::Corrupt => {
                    let shard = authority.shard;
                    tracing::error!(shard, %error, "an outbox cannot be recorded");
                    self.stopped.insert(shard, Instant::now());
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let stopped = u32::try_from(self.stopped.len()).unwrap_or(u32::MAX);
        metrics::gauge!("quetra_projector_stopped").set(stopped);
        Ok(recorded)
    }

    async fn record(
        &mut self,
        redis: &Live,
        authority: &Authority,
        entries: &[Value],
    ) -> Result<(), Trouble> {
        let (mut last, mut oldest) = (authority.position(), None);
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
                let hole = format!("shard {} has a hole after {last:?}", authority.shard);
                return Err(corrupt(hole).into());
            }
            if let (None, Entry::Decision(record)) = (oldest, &entry) {
                oldest = Some(record.decided_at);
            }
            last = place;
            batch.entries.push((place, entry));
        }
        if project(self.postgres().await?, &batch).await? {
            metrics::counter!("quetra_projected_total")
                .increment(u64::try_from(batch.entries.len()).unwrap_or(u64::MAX));
            if let Some(oldest) = oldest {
                let waited = self.shards.clock.now().duration_since(oldest).as_secs_f64();
                metrics::histogram!("quetra_projector_lag_seconds").record(waited.max(0.0));
            }
            self.shards.recorded(authority.shard, last);
            trim(redis, authority.shard, last).await?;
        }
        Ok(())
    }
}

/// Drops what is recorded, and only that.
async fn trim(redis: &Live, shard: i16, last: Place) -> Result<(), Trouble> {
    let mut trim = redis::cmd("XTRIM");
    let first_kept = format!("{}-{}", last.epoch, last.seq.saturating_add(1));
    trim.arg(Keys(shard).outbox()).arg("MINID").arg(first_kept);
    say(redis, &trim).await?;
    Ok(())
}

async fn say(redis: &Live, command: &Cmd) -> Result<Value, LinkError> {
    let said = redis.connection.clone().send_packed_command(command).await;
    said.and_then(Value::extract_error).map_err(LinkError::Driver)
}

/// The entries after the position of each shard.
async fn read(
    redis: &Live,
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
    let mut found = HashMap::new();
    for stream in list(say(redis, &ask).await?) {
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
