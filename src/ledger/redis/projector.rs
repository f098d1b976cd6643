//! The projector: what is in the outboxes becomes the record, in order, exactly once.
//!
//! Any number of servers may run one; a lock in Postgres lets one of them work, so that the others
//! do not try in vain, and the fenced transaction is what makes it right. Not here: that
//! transaction (`ledger::sql::postgres::project`), and how outboxes are read (`outbox`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::endings::Endings;
use self::outbox::Found;
use self::pace::Pace;
use super::link::{Link, LinkError, Live};
use super::shards::{Shards, Trouble};
use crate::ledger::sql::postgres::escrow::{Authority, Place};
use crate::ledger::sql::postgres::project::{Batch, CHANNEL, Entry, project};
use crate::store::postgres::classify;
use crate::store::{StoreError, StoreErrorKind};

mod endings;
pub(super) mod outbox;
mod pace;

/// How long a look into the outboxes waits for something to come.
const WAIT: Duration = Duration::from_millis(40);

/// How long one pauses whose process was superseded, before it looks for its successor.
const SUPERSEDED: Duration = Duration::from_millis(250);

/// How long it is believed who is spent from: another one would be found out by the commit.
const AUTHORITIES_TIME: Duration = Duration::from_millis(200);

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

/// The lock that whoever works has, one for each process of Redis: whoever is connected to one that
/// was superseded must not keep others from recording its successor.
const LOCK: &str = "SELECT pg_try_advisory_lock(7402, $1)";

/// Works until it is stopped, and then until nothing is left: one for each Redis that has shards.
pub(super) async fn run(shards: Arc<Shards>, stop: CancellationToken) {
    shards.nodes.beside_each(&stop, |link| Box::pin(run_at(&shards, link, &stop))).await;
}

async fn run_at(shards: &Shards, link: Arc<Link>, stop: &CancellationToken) {
    let stop = stop.child_token();
    // It ends as well when no shard is there any more.
    let until_gone = async {
        link.gone.cancelled().await;
        stop.cancel();
    };
    let working = record_at(shards, Arc::clone(&link), &stop);
    tokio::pin!(working);
    tokio::select! {
        () = &mut working => return,
        () = until_gone => {}
    }
    working.await;
}

async fn record_at(shards: &Shards, link: Arc<Link>, stop: &CancellationToken) {
    let mut worker = Worker::new(shards, link);
    let mut is_first = true;
    while !stop.is_cancelled() {
        let Err(trouble) = work(&mut worker, stop).await else { continue };
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
    let last = tokio::time::timeout(LAST_TIME, last).await;
    worker.count_stopped(0);
    match last {
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
                tracing::warn!(%error, "positions are not heard now; the watch looks for them");
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
    /// Where the outboxes are.
    link: Arc<Link>,
    /// With the lock, as long as it lives.
    postgres: Option<PgConnection>,
    /// Its own: a look that waits would keep the calls of others waiting.
    redis: Option<Arc<Live>>,
    /// For this process of Redis.
    has_lock: Option<Arc<str>>,
    /// Whether it did anything since it failed last.
    has_worked: bool,
    /// Shards whose outbox cannot be recorded, and when that was seen.
    stopped: HashMap<i16, Instant>,
    /// How many of them the gauge has.
    counted: usize,
    /// Who is spent from, when that was read; positions move with what is recorded here.
    authorities: Vec<Authority>,
    read_at: Option<Instant>,
    /// What was found behind these positions while they were being recorded.
    ahead: Option<Vec<Found>>,
    pace: Pace,
    endings: Endings,
}

impl<'a> Worker<'a> {
    fn new(shards: &'a Shards, link: Arc<Link>) -> Self {
        Self {
            shards,
            link,
            postgres: None,
            redis: None,
            has_lock: None,
            has_worked: false,
            stopped: HashMap::new(),
            counted: 0,
            authorities: Vec::new(),
            read_at: None,
            ahead: None,
            pace: Pace::new(shards.awaited.subscribe()),
            endings: Endings::default(),
        }
    }

    /// Reads again who is spent from and how far that is recorded, before anything else is done.
    fn look_again(&mut self) {
        self.read_at = None;
        self.ahead = None;
    }

    /// Drops the connection that failed.
    fn give_up(&mut self, trouble: &Trouble) {
        self.look_again();
        match trouble {
            Trouble::Away(_) => self.redis = None,
            Trouble::Store(_) => self.drop_postgres(),
        }
    }

    /// Drops the connection to Postgres, and the lock with it.
    fn drop_postgres(&mut self) {
        self.postgres = None;
        self.has_lock = None;
        self.link.set_records(false);
    }

    async fn take_postgres(&mut self) -> Result<PgConnection, Trouble> {
        match self.postgres.take() {
            Some(connection) => Ok(connection),
            None => Ok(tokio::time::timeout(CONNECT_TIME, self.shards.escrow.options().connect())
                .await
                .map_err(|elapsed| StoreError::new(StoreErrorKind::Timeout, CONNECT, elapsed))?
                .map_err(|error| classify(CONNECT, error))?),
        }
    }

    async fn redis(&mut self) -> Result<Arc<Live>, Trouble> {
        // Decisions are made on another process now: this connection has outlived that.
        if let (Some(mine), Some(present)) = (&self.redis, self.link.present())
            && mine.identity != present.identity
        {
            self.redis = None;
            self.look_again();
        }
        let live = match &self.redis {
            Some(live) => Arc::clone(live),
            None => Arc::new(self.link.connect().await?),
        };
        self.redis = Some(Arc::clone(&live));
        Ok(live)
    }

    /// Whether it is this one's turn to work; it stays so as long as the connection lives. Who has
    /// the turn and does nothing with it keeps nobody from working.
    async fn is_alone(&mut self) -> Result<bool, Trouble> {
        let identity = Arc::clone(&self.redis().await?.identity);
        if self.has_lock.as_ref().is_some_and(|had| *had != identity) {
            self.drop_postgres();
        }
        if self.has_lock.is_none() {
            let mut postgres = self.take_postgres().await?;
            let lock = sqlx::query_scalar(LOCK).bind(lock_of(&identity));
            let lock = lock.fetch_one(&mut postgres).await;
            self.postgres = Some(postgres);
            let is_alone: bool =
                lock.map_err(|error| classify("take the projector's turn", error))?;
            self.has_lock = is_alone.then_some(identity);
            self.link.set_records(is_alone);
        }
        Ok(self.has_lock.is_some() || self.shards.is_stuck(&self.link))
    }

    /// The shards that are spent from on this process and can be recorded.
    async fn ours(&mut self, redis: &Live) -> Result<Vec<Authority>, Trouble> {
        if self.read_at.is_none_or(|at| at.elapsed() > AUTHORITIES_TIME) {
            self.look_again();
            self.authorities = self.shards.escrow.authorities().await?;
            self.read_at = Some(Instant::now());
        }
        self.stopped.retain(|_, since| since.elapsed() < STOP_TIME);
        let ours = self.authorities.iter();
        // INVARIANT: only the log of the present authority is read; who was it when it was read
        // and is not any more cannot commit.
        let ours = ours.filter(|one| one.begun && one.replication_id == *redis.identity);
        let ours = ours.filter(|one| !self.stopped.contains_key(&one.shard));
        Ok(ours.cloned().collect())
    }

    /// Records what is there now, or comes soon; how many entries. Meanwhile it may read on.
    async fn step(&mut self, waits: bool) -> Result<usize, Trouble> {
        let redis = self.redis().await?;
        let ours = self.ours(&redis).await?;
        if ours.is_empty() {
            // Nothing else would tell that this process is gone, and another has its shards.
            outbox::ping(&redis).await?;
            let is_elsewhere = |one: &Authority| {
                one.replication_id != *redis.identity
                    && self.shards.nodes.is_on(one.shard, &self.link)
            };
            let is_superseded = self.authorities.iter().any(is_elsewhere);
            if is_superseded {
                self.redis = None;
            }
            if waits {
                let pause = if is_superseded { SUPERSEDED } else { WAIT };
                tokio::time::sleep(pause).await;
            }
            return Ok(0);
        }
        self.free_ended(&ours).await?;
        let found = match self.ahead.take() {
            Some(found) if !found.is_empty() => found,
            _ => {
                if waits {
                    self.pace.gather().await;
                }
                outbox::read(&redis, &ours, waits.then_some(WAIT)).await?
            }
        };
        self.pace.begin(&found, Instant::now());
        let behind = |one: &Authority| {
            let last = found.iter().find(|found| found.shard == one.shard).and_then(Found::last);
            last.map_or_else(|| one.clone(), |last| one.moved(last))
        };
        let next = ours.iter().map(behind).collect::<Vec<_>>();
        let mut postgres = self.take_postgres().await?;
        let reads_on = self.pace.reads_on();
        let ahead = async {
            if reads_on { outbox::read(&redis, &next, None).await.map(Some) } else { Ok(None) }
        };
        let recording = self.record_all(&mut postgres, &redis, found);
        let (recorded, ahead) = tokio::join!(recording, ahead);
        self.pace.end(Instant::now());
        self.postgres = Some(postgres);
        let recorded = recorded?;
        if recorded.is_complete {
            for authority in &mut self.authorities {
                let moved = next.iter().find(|next| next.shard == authority.shard);
                if let Some(moved) = moved {
                    *authority = moved.clone();
                }
            }
            self.ahead = ahead?;
        } else {
            self.look_again();
        }
        Ok(recorded.entries)
    }

    /// Frees what ended epochs had, where it is time for that.
    async fn free_ended(&mut self, ours: &[Authority]) -> Result<(), Trouble> {
        for (shard, epoch) in self.endings.due(ours, Instant::now()) {
            let leases = self.shards.escrow.free_sound(shard, epoch).await?;
            if leases > 0 {
                tracing::info!(shard, epoch, leases, "freed what earlier epochs had at durable");
            }
            self.endings.done((shard, epoch));
        }
        Ok(())
    }

    /// Records what was found, a shard at a time.
    async fn record_all(
        &mut self,
        postgres: &mut PgConnection,
        redis: &Live,
        found: Vec<Found>,
    ) -> Result<Recorded, Trouble> {
        let mut recorded = Recorded { entries: 0, is_complete: true };
        for one in found {
            let shard = one.shard;
            let entries = match one.batch {
                Ok(batch) => self.record(postgres, redis, batch).await,
                Err(error) => Err(error.into()),
            };
            match entries {
                Ok(Some(entries)) => recorded.entries = recorded.entries.saturating_add(entries),
                Ok(None) => recorded.is_complete = false,
                // It stops this shard and no other; somebody has to look at it.
                Err(Trouble::Store(error)) if error.kind == StoreErrorKind::Corrupt => {
                    tracing::error!(shard, %error, "an outbox cannot be recorded");
                    self.stopped.insert(shard, Instant::now());
                    recorded.is_complete = false;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        self.count_stopped(self.stopped.len());
        Ok(recorded)
    }

    /// Tells how many shards are stopped, here and at the other nodes.
    fn count_stopped(&mut self, now: usize) {
        let before = std::mem::replace(&mut self.counted, now);
        let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        metrics::gauge!("quetra_projector_stopped").increment(number(now) - number(before));
    }

    /// Records one batch; of how many entries, or `None` if it was another's turn.
    async fn record(
        &self,
        postgres: &mut PgConnection,
        redis: &Live,
        batch: Batch,
    ) -> Result<Option<usize>, Trouble> {
        let (shard, entries) = (batch.shard, batch.entries.len());
        let Some((last, _)) = batch.entries.last() else { return Ok(Some(0)) };
        let last = *last;
        let decided = |(_, entry): &(Place, Entry)| match entry {
            Entry::Decision(record) => Some(record.decided_at),
            Entry::Begin(_) | Entry::Recall(..) => None,
        };
        let oldest = batch.entries.iter().find_map(decided);
        if !project(postgres, batch).await? {
            return Ok(None);
        }
        metrics::counter!("quetra_projected_total")
            .increment(u64::try_from(entries).unwrap_or(u64::MAX));
        if let Some(oldest) = oldest {
            let waited = self.shards.clock.now().duration_since(oldest).as_secs_f64();
            metrics::histogram!("quetra_projector_lag_seconds").record(waited.max(0.0));
        }
        self.shards.recorded(shard, last);
        match outbox::trim(redis, shard, last).await {
            // It is trimmed where it has gone to, when more of it is recorded.
            Ok(()) | Err(LinkError::Moved(_)) => Ok(Some(entries)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The lock of a process of Redis. Two may have the same one: then one of them waits.
fn lock_of(identity: &str) -> i32 {
    let digits = identity.get(..7).and_then(|digits| i32::from_str_radix(digits, 16).ok());
    digits.unwrap_or_default()
}

/// What came of what was found.
struct Recorded {
    entries: usize,
    /// Whether all of it is recorded now, by this one.
    is_complete: bool,
}
