//! The batching ledger: lanes, each with one database transaction for whatever queued up meanwhile.
//!
//! While a batch commits, the next one gathers; one disk write answers all of it, and a hot budget
//! is no queue of row locks. Every command is ruled on by `domain::ledger` on a book that has just
//! what the batch names, and nobody is answered before the commit. Not here: SQL (`sql/sqlite` and
//! `sql/postgres`), and how a home keeps others from writing meanwhile.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use tokio::sync::{mpsc, oneshot};

use self::postgres::PostgresHome;
use self::sqlite::SqliteHome;
use super::{AskedDurability, Durability, Ledger, LedgerError, NotKept};
use crate::clock::Clock;
use crate::domain::act::ActRecord;
use crate::domain::id::{AgentId, OrgId, TransactionId};
use crate::domain::ledger::{
    Book, Claim, CounterKey, Decide, Decided, Level, Resolve, ResolveError, Resolved, Standing,
    WindowLevel,
};
use crate::store::{StoreError, StoreErrorKind};

pub mod postgres;
pub mod sqlite;
mod subjects;

/// The most commands one database transaction takes.
const BATCH_MAX: usize = 512;

/// The most commands that wait; beyond it the caller is told to come back.
const QUEUE_MAX: usize = 16_384;

/// A command and where its answer goes.
enum Job {
    Decide(Box<Decide>, oneshot::Sender<Result<Decided, LedgerError>>),
    Resolve(Resolve, oneshot::Sender<Result<Result<Resolved, ResolveError>, LedgerError>>),
}

impl Job {
    const fn org(&self) -> OrgId {
        match self {
            Self::Decide(command, _) => command.org_id,
            Self::Resolve(command, _) => command.org_id,
        }
    }

    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Decide(_, reply) => reply.is_closed(),
            Self::Resolve(_, reply) => reply.is_closed(),
        }
    }
}

/// What a command came to; sent only after the commit.
enum Answer {
    Decide(Decided),
    Resolve(Result<Resolved, ResolveError>),
}

/// What a batch changed, as names of what the book now says.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// New records, in order.
    pub(crate) recorded: Vec<TransactionId>,
    /// Records whose state changed.
    pub(crate) resolved: HashSet<TransactionId>,
    /// What was done to them, in order; each after so many of the new records.
    pub(crate) acts: Vec<(ActRecord, usize)>,
    /// Counters that new records were charged to, or that begin to be kept with them.
    pub(crate) charged: HashSet<CounterKey>,
    /// Counters that money returned to.
    pub(crate) released: HashSet<CounterKey>,
}

impl Effects {
    fn is_empty(&self) -> bool {
        self.recorded.is_empty() && self.resolved.is_empty()
    }
}

/// Where the ledger's tables are.
#[async_trait]
pub(crate) trait Home: fmt::Debug + Send + Sync + 'static {
    /// What writes there.
    type Writer: Writer;

    /// Its writers; an organization has always the same one.
    async fn writers(&self) -> Result<Vec<Self::Writer>, StoreError>;

    /// The counters and windows of a claim of this organization, without any effect on them.
    async fn look(
        &self,
        org: OrgId,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), StoreError>;
}

/// Rules on a page at a time of the clock, and says what moved.
pub(crate) type Rule<'a> = dyn FnMut(&mut Page, Timestamp) -> Effects + 'a;

/// Housekeeping that must run beside a writer, on its own thread, and ends after it.
pub(crate) type Beside = Box<dyn FnOnce() -> Result<(), StoreError> + Send>;

/// One writer of the ledger's tables. Its calls block.
pub(crate) trait Writer: Send + 'static {
    /// Whether a transaction is about one organization; else it is about whatever is queued.
    const BY_ORG: bool;

    /// Loads what is needed, lets it be ruled on, writes what moved and commits, in one transaction
    /// that nothing else gets between. After an error, nothing was written, unless it is a timeout.
    /// The rule is asked again when the transaction had to be repeated; the last answer counts.
    fn transact(
        &mut self,
        needs: &Needs<'_>,
        clock: &dyn Clock,
        rule: &mut Rule<'_>,
    ) -> Result<(), StoreError>;

    /// Its housekeeping, if it has any.
    fn beside(&mut self) -> Option<Beside> {
        None
    }
}

/// The SQL ledger; clones share the lanes.
#[derive(Clone, Debug)]
pub struct SqlLedger {
    queues: Vec<mpsc::Sender<Job>>,
    looks: Looks,
}

/// Where a ledger only looks.
#[derive(Clone, Debug)]
enum Looks {
    Sqlite(Arc<SqliteHome>),
    Postgres(Arc<PostgresHome>),
}

impl SqlLedger {
    /// Makes a ledger in SQLite and the lane that must run beside it, which ends when every clone
    /// of the ledger is gone and all that was queued is answered.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub async fn open(
        home: SqliteHome,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StoreError> {
        let (queues, running) = start(&home, clock).await?;
        Ok((Self { queues, looks: Looks::Sqlite(Arc::new(home)) }, running))
    }

    /// [`Self::open`], in a Postgres database that other servers use too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_shared(
        home: PostgresHome,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StoreError> {
        let (queues, running) = start(&home, clock).await?;
        Ok((Self { queues, looks: Looks::Postgres(Arc::new(home)) }, running))
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        let queue = queue_of(&self.queues, job.org()).ok_or(LedgerError::Stopping)?;
        queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LedgerError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => LedgerError::Stopping,
        })?;
        answer.await.unwrap_or(Err(LedgerError::Stopping))
    }
}

/// The lane of an organization.
fn queue_of<T>(queues: &[T], org: OrgId) -> Option<&T> {
    let mut hasher = DefaultHasher::new();
    org.hash(&mut hasher);
    let lanes = u64::try_from(queues.len()).ok()?;
    let lane = hasher.finish().checked_rem(lanes)?;
    queues.get(usize::try_from(lane).ok()?)
}

/// Makes a lane for each writer of a home; what is returned runs them.
async fn start<H: Home>(
    home: &H,
    clock: Arc<dyn Clock>,
) -> Result<(Vec<mpsc::Sender<Job>>, impl Future<Output = ()> + Send + use<H>), StoreError> {
    let (mut queues, mut lanes) = (Vec::new(), Vec::new());
    for mut writer in home.writers().await? {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let beside = writer.beside();
        queues.push(queue);
        lanes.push((Lane { writer, clock: Arc::clone(&clock) }, jobs, beside));
    }
    let running = async move {
        let mut running = Vec::new();
        // The database's calls block: each has a thread of its own.
        for (lane, jobs, beside) in lanes {
            let beside = beside.map(tokio::task::spawn_blocking);
            running.push((tokio::task::spawn_blocking(move || lane.run(jobs)), beside));
        }
        for (lane, beside) in running {
            if let Err(error) = lane.await {
                tracing::error!(%error, "the ledger's lane ended early; nothing is approved now");
            }
            let Some(beside) = beside else { continue };
            match beside.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the log is not moved any more"),
                Err(error) => tracing::error!(%error, "the log is not moved any more"),
            }
        }
    };
    Ok((queues, running))
}

#[async_trait]
impl Ledger for SqlLedger {
    async fn decide(&self, command: Decide) -> Result<Decided, LedgerError> {
        self.ask(|reply| Job::Decide(Box::new(command), reply)).await
    }

    async fn resolve(
        &self,
        command: Resolve,
    ) -> Result<Result<Resolved, ResolveError>, LedgerError> {
        self.ask(|reply| Job::Resolve(command, reply)).await
    }

    async fn peek(
        &self,
        org: OrgId,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), LedgerError> {
        Ok(match &self.looks {
            Looks::Sqlite(home) => home.look(org, claim, now).await?,
            Looks::Postgres(home) => home.look(org, claim, now).await?,
        })
    }

    // Nothing is answered before its commit, so whatever is asked for is kept.
    fn durability(&self, _: AskedDurability) -> Durability {
        Durability::Strict
    }

    async fn keeps(&self, _: Durability) -> Result<Result<(), NotKept>, LedgerError> {
        Ok(Ok(()))
    }
}

/// The end of the record: what the next entry continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The sequence number of the last entry.
    pub(crate) seq: i64,
    /// No later entry may be earlier than this: time never runs backwards in the record.
    pub(crate) floor: Timestamp,
}

impl Head {
    /// The end after some more entries.
    fn after(self, recorded: usize, now: Timestamp) -> Self {
        let recorded = i64::try_from(recorded).unwrap_or(i64::MAX);
        Self { seq: self.seq.saturating_add(recorded), floor: now }
    }
}

struct Lane<W> {
    writer: W,
    clock: Arc<dyn Clock>,
}

impl<W: Writer> Lane<W> {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut queued = Vec::with_capacity(BATCH_MAX);
        while jobs.blocking_recv_many(&mut queued, BATCH_MAX) > 0 {
            // While the database hung, callers were told to repeat their calls: deciding those of
            // the past as well would keep the repeated ones waiting.
            queued.retain(|job| !job.is_given_up());
            while let Some(first) = queued.first().map(Job::org) {
                if W::BY_ORG {
                    // In the order of arrival: an organization's own order is kept.
                    self.settle(queued.extract_if(.., |job| job.org() == first).collect());
                } else {
                    self.settle(std::mem::take(&mut queued));
                }
            }
        }
    }

    fn settle(&mut self, batch: Vec<Job>) {
        metrics::histogram!("quetra_ledger_batch_size")
            .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        match self.attempt(&batch) {
            Ok(answers) => answer(batch.into_iter(), answers),
            Err(error) => match error.kind {
                StoreErrorKind::Unavailable => refuse(batch.into_iter(), error),
                // It may have been committed. If so, the record has the answers; and if even that
                // cannot be had, nobody may be told that nothing happened.
                StoreErrorKind::Timeout => match self.attempt(&batch) {
                    Ok(answers) => answer(batch.into_iter(), answers),
                    Err(_) => refuse(batch.into_iter(), error),
                },
                // One command the database refuses must not take its neighbours down with it.
                StoreErrorKind::Conflict | StoreErrorKind::Corrupt if batch.len() > 1 => {
                    self.one_by_one(batch.into_iter());
                }
                StoreErrorKind::Conflict | StoreErrorKind::Corrupt => {
                    refuse(batch.into_iter(), error);
                }
            },
        }
    }

    fn one_by_one(&mut self, jobs: impl Iterator<Item = Job>) {
        let mut jobs = jobs.fuse();
        while let Some(job) = jobs.next() {
            let single = [job];
            match self.attempt(&single) {
                Ok(answers) => answer(single.into_iter(), answers),
                // Each of the others would wait as long for the same answer.
                Err(error) if error.kind == StoreErrorKind::Unavailable => {
                    refuse(single.into_iter().chain(jobs.by_ref()), error);
                }
                Err(error) => refuse(single.into_iter(), error),
            }
        }
    }

    fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Answer>, StoreError> {
        let began = tracing::enabled!(tracing::Level::DEBUG).then(|| self.clock.now());
        let (mut answers, mut recorded) = (Vec::new(), 0);
        let done = self.writer.transact(&Needs::of(jobs), self.clock.as_ref(), &mut |page, now| {
            let (ruled, effects) = rule(page, jobs, now);
            (answers, recorded) = (ruled, effects.recorded.len());
            effects
        });
        if let Some(began) = began {
            let micros = self.clock.now().duration_since(began).as_micros();
            let error = done.as_ref().err().map(tracing::field::display);
            tracing::debug!(commands = jobs.len(), recorded, micros, error, "a turn of the ledger");
        }
        done.map(|()| answers)
    }
}

/// A part of the books.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Everything that a batch names.
    pub(crate) book: Book,
    /// Its counters that have a row; the others were summed up.
    pub(crate) kept: HashSet<CounterKey>,
}

/// Rules on every command in arrival order, and gathers what moved.
fn rule(page: &mut Page, jobs: &[Job], now: Timestamp) -> (Vec<Answer>, Effects) {
    let Page { book, kept } = page;
    let mut effects = Effects::default();
    let mut answers = Vec::with_capacity(jobs.len());
    for job in jobs {
        answers.push(match job {
            Job::Decide(command, _) => {
                let decided = book.decide(command, now);
                if let Decided::Ruled(record) = &decided {
                    effects.charged.extend(record.charged.iter().cloned());
                    // A counter that was summed up for a refusal is kept too: it need not be summed
                    // up for the next one. The claim is the present policy's, as it was ruled on.
                    let named = command.claim.iter().flat_map(|claim| &claim.charges);
                    let new = named.map(|charge| &charge.key).filter(|key| !kept.contains(*key));
                    effects.charged.extend(new.cloned());
                    effects.recorded.push(record.id);
                }
                Answer::Decide(decided)
            }
            Job::Resolve(command, _) => {
                let resolved = book.resolve(command, now);
                if let Ok(Resolved { record, act: Some(act), .. }) = &resolved {
                    effects.acts.push((act.as_ref().clone(), effects.recorded.len()));
                    // Only what is charged begins to be kept: a counter that an outdated claim
                    // names would not be kept up.
                    let counting = book.counting(record).filter(|key| kept.contains(*key));
                    effects.released.extend(counting.cloned());
                    effects.resolved.insert(record.id);
                }
                Answer::Resolve(resolved)
            }
        });
    }
    (answers, effects)
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "load a batch", error)
}

/// The end of a window as it is stored: the largest integer for one that never ends.
fn end_micros(ends_at: Option<Timestamp>) -> i64 {
    ends_at.map_or(i64::MAX, Timestamp::as_microsecond)
}

/// Reads a word that serde knows as an enum.
fn word<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T, StoreError> {
    T::deserialize(StrDeserializer::<WordError>::new(word)).map_err(corrupt)
}

fn answer(jobs: impl Iterator<Item = Job>, answers: Vec<Answer>) {
    for (job, answer) in jobs.zip(answers) {
        // A caller that has gone away finds its decision by its idempotency key.
        match (job, answer) {
            (Job::Decide(_, reply), Answer::Decide(decided)) => drop(reply.send(Ok(decided))),
            (Job::Resolve(_, reply), Answer::Resolve(resolved)) => drop(reply.send(Ok(resolved))),
            (Job::Decide(_, reply), Answer::Resolve(_)) => {
                drop(reply.send(Err(LedgerError::Stopping)));
            }
            (Job::Resolve(_, reply), Answer::Decide(_)) => {
                drop(reply.send(Err(LedgerError::Stopping)));
            }
        }
    }
}

fn refuse(jobs: impl Iterator<Item = Job>, error: StoreError) {
    let error = Arc::new(error);
    for job in jobs {
        let shared = StoreError::new(error.kind, error.operation, Arc::clone(&error));
        match job {
            Job::Decide(_, reply) => drop(reply.send(Err(shared.into()))),
            Job::Resolve(_, reply) => drop(reply.send(Err(shared.into()))),
        }
    }
}

/// What a batch names, and so what its book must have.
#[derive(Debug, Default)]
pub(crate) struct Needs<'a> {
    /// Whose, where a transaction is about one organization.
    pub(crate) org: Option<OrgId>,
    /// Decisions, for idempotency.
    pub(crate) decides: Vec<&'a Decide>,
    /// Whose standing is compared, and as it stood.
    pub(crate) standings: Vec<(OrgId, AgentId, &'a Standing)>,
    /// Claims, for counters and windows.
    pub(crate) claims: Vec<&'a Claim>,
    /// Transactions that are resolved.
    pub(crate) resolves: Vec<TransactionId>,
}

impl<'a> Needs<'a> {
    fn of(jobs: &'a [Job]) -> Self {
        let mut needs = Self { org: jobs.first().map(Job::org), ..Self::default() };
        for job in jobs {
            match job {
                Job::Decide(command, _) => {
                    needs.decides.push(command);
                    let (agent, standing) = (command.spend.agent_id, &command.evidence.standing);
                    needs.standings.push((command.org_id, agent, standing));
                    needs.claims.extend(command.claim.as_ref());
                }
                Job::Resolve(command, _) => {
                    needs.resolves.push(command.id);
                    let Some(ground) = &command.ground else { continue };
                    needs.standings.push((ground.org_id, ground.agent, &ground.standing));
                    needs.claims.push(&ground.claim);
                }
            }
        }
        needs
    }
}
