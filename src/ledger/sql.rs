//! The batching ledger: one lane, one database transaction for whatever queued up meanwhile.
//!
//! While a batch commits, the next one gathers; one disk write answers all of it, and a hot budget
//! is no queue of row locks. Every command is ruled on by `domain::ledger` on a book that has just
//! what the batch names, and nobody is answered before the commit. Not here: SQL (`sql/sqlite`).

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use self::sqlite::{SqliteHome, SqliteLane};
use super::{Durability, Ledger, LedgerError};
use crate::clock::Clock;
use crate::domain::id::TransactionId;
use crate::domain::ledger::{
    Book, Claim, CounterKey, Decide, Decided, Level, Resolve, ResolveError, Resolved, WindowLevel,
};
use crate::store::{StoreError, StoreErrorKind};

pub mod sqlite;

/// The most commands one database transaction takes.
const BATCH_MAX: usize = 512;

/// The most commands that wait; beyond it the caller is told to come back.
const QUEUE_MAX: usize = 16_384;

/// A command and where its answer goes.
enum Job {
    Decide(Box<Decide>, oneshot::Sender<Result<Decided, LedgerError>>),
    Resolve(Resolve, oneshot::Sender<Result<Result<Resolved, ResolveError>, LedgerError>>),
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
    /// Counters that moved.
    pub(crate) counters: HashSet<CounterKey>,
}

impl Effects {
    fn is_empty(&self) -> bool {
        self.recorded.is_empty() && self.resolved.is_empty()
    }
}

/// The SQL ledger; clones share the lane.
#[derive(Clone, Debug)]
pub struct SqlLedger {
    queue: mpsc::Sender<Job>,
    home: Arc<SqliteHome>,
}

impl SqlLedger {
    /// Makes a ledger and the lane that must run beside it. The lane ends when every clone of the
    /// ledger is gone and all that was queued is answered.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub async fn open(
        home: SqliteHome,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let (lane, head) = home.lane().await?;
        let mut lane = Lane { home: lane, clock, head };
        let checkpoints = lane.home.checkpoints();
        let running = async move {
            // The database's calls block: each has a thread of its own.
            let checkpoints = tokio::task::spawn_blocking(checkpoints);
            let lane = tokio::task::spawn_blocking(move || lane.run(jobs));
            if let Err(error) = lane.await {
                tracing::error!(%error, "the ledger's lane ended early; nothing is approved now");
            }
            match checkpoints.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the log is not moved any more"),
                Err(error) => tracing::error!(%error, "the log is not moved any more"),
            }
        };
        Ok((Self { queue, home: Arc::new(home) }, running))
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(job(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LedgerError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => LedgerError::Stopping,
        })?;
        answer.await.unwrap_or(Err(LedgerError::Stopping))
    }
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
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(Vec<Level>, Vec<WindowLevel>), LedgerError> {
        Ok(self.home.look(claim, now).await?)
    }

    fn durability(&self) -> Durability {
        Durability::Strict
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

struct Lane {
    home: SqliteLane,
    clock: Arc<dyn Clock>,
    head: Head,
}

impl Lane {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            metrics::histogram!("quetra_ledger_batch_size")
                .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
            match self.attempt(&batch) {
                Ok(answers) => answer(batch.drain(..), answers),
                // One command the database refuses must not take its neighbours down with it.
                Err(error) if error.kind == StoreErrorKind::Unavailable || batch.len() == 1 => {
                    refuse(batch.drain(..), error);
                }
                Err(_) => self.one_by_one(batch.drain(..)),
            }
        }
    }

    fn one_by_one(&mut self, jobs: impl Iterator<Item = Job>) {
        for job in jobs {
            let single = [job];
            match self.attempt(&single) {
                Ok(answers) => answer(single.into_iter(), answers),
                Err(error) => refuse(single.into_iter(), error),
            }
        }
    }

    fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Answer>, StoreError> {
        let mut batch = self.home.begin()?;
        let now = self.clock.now().max(self.head.floor);
        let mut page = batch.load(&Needs::of(jobs), now)?;
        let (answers, effects) = rule(&mut page, jobs, now);
        if !effects.is_empty() {
            batch.save(&page.book, &effects, self.head)?;
            batch.commit()?;
            self.head = self.head.after(effects.recorded.len(), now);
        }
        Ok(answers)
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
                    effects.counters.extend(record.charged.iter().cloned());
                    effects.recorded.push(record.id);
                }
                Answer::Decide(decided)
            }
            Job::Resolve(command, _) => {
                let resolved = book.resolve(command, now);
                if let Ok(Resolved { record, changed: true }) = &resolved {
                    // Only what is charged begins to be kept: a counter that an outdated claim
                    // names would not be kept up.
                    let counting = book.counting(record).filter(|key| kept.contains(*key));
                    effects.counters.extend(counting.cloned());
                    effects.resolved.insert(record.id);
                }
                Answer::Resolve(resolved)
            }
        });
    }
    (answers, effects)
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
    /// Decisions, for standings and idempotency.
    pub(crate) decides: Vec<&'a Decide>,
    /// Claims, for counters and windows.
    pub(crate) claims: Vec<&'a Claim>,
    /// Transactions that are resolved.
    pub(crate) resolves: Vec<TransactionId>,
}

impl<'a> Needs<'a> {
    fn of(jobs: &'a [Job]) -> Self {
        let mut needs = Self::default();
        for job in jobs {
            match job {
                Job::Decide(command, _) => {
                    needs.decides.push(command);
                    needs.claims.extend(command.claim.as_ref());
                }
                Job::Resolve(command, _) => needs.resolves.push(command.id),
            }
        }
        needs
    }
}
