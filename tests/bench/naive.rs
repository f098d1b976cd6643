//! The naive design, for the ratio: one SQLite transaction, and so one disk write, per decision.
//!
//! It selects the mandate, updates the budget if it suffices, and inserts the decision. It has
//! neither gRPC nor rules, and one connection, which spares it the polling for SQLite's write
//! lock: the ratio flatters it. Same disk, journal mode and safety as the product.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::task::JoinSet;

use crate::loader::AMOUNT;
use crate::table::Figures;

/// Mandates to choose from.
const MANDATES: i64 = 1_000;
/// A limit that no run reaches.
const TOTAL: i64 = 90_000_000_000_000;
/// How long a caller may wait for the one connection.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The naive database.
#[derive(Debug)]
pub(crate) struct Naive {
    pool: SqlitePool,
    next: Arc<AtomicI64>,
}

impl Naive {
    /// Makes it in a folder.
    pub(crate) async fn open(folder: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("naive.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX);
        let pool = pool.connect_with(options).await?;
        for statement in [
            "CREATE TABLE mandate (id INTEGER PRIMARY KEY, total INTEGER, spent INTEGER)",
            "CREATE TABLE decision (id INTEGER PRIMARY KEY, mandate INTEGER, amount INTEGER, \
             key TEXT UNIQUE)",
        ] {
            sqlx::query(statement).execute(&pool).await?;
        }
        let mut transaction = pool.begin().await?;
        for id in 0..MANDATES {
            sqlx::query("INSERT INTO mandate VALUES (?, ?, 0)")
                .bind(id)
                .bind(TOTAL)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(Self { pool, next: Arc::default() })
    }

    /// Decides for some callers at once.
    pub(crate) async fn run(&self, callers: usize, measured: Duration) -> anyhow::Result<Figures> {
        let (pool, next) = (self.pool.clone(), Arc::clone(&self.next));
        let one = move || {
            let (pool, number) = (pool.clone(), next.fetch_add(1, Ordering::Relaxed));
            async move { decide(&pool, number).await }
        };
        timed(callers, measured, one).await
    }
}

/// Lets some callers decide, each as soon as it has its answer, for this long.
pub(crate) async fn timed<F>(
    callers: usize,
    measured: Duration,
    decide: impl Fn() -> F + Clone + Send + 'static,
) -> anyhow::Result<Figures>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let begin = Instant::now();
    let until = begin + measured;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let decide = decide.clone();
        tasks.spawn(async move {
            let mut latency = Histogram::<u64>::new(3)?;
            loop {
                let started = Instant::now();
                if started >= until {
                    return anyhow::Ok(latency);
                }
                decide().await?;
                latency.record(u64::try_from(started.elapsed().as_nanos())?)?;
            }
        });
    }
    let mut latency = Histogram::<u64>::new(3)?;
    while let Some(ended) = tasks.join_next().await {
        latency.add(ended??)?;
    }
    let at = |share| Some(Duration::from_nanos(latency.value_at_quantile(share)));
    let rate = Some(latency.len() as f64 / begin.elapsed().as_secs_f64());
    Ok(Figures { rate, p50: at(0.5), p99: at(0.99), ..Figures::default() })
}

async fn decide(pool: &SqlitePool, number: i64) -> anyhow::Result<()> {
    let mandate = number % MANDATES;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let (total, spent): (i64, i64) =
        sqlx::query_as("SELECT total, spent FROM mandate WHERE id = ?")
            .bind(mandate)
            .fetch_optional(&mut *transaction)
            .await?
            .context("the mandate is gone")?;
    ensure!(spent + AMOUNT <= total, "the naive budget is used up");
    let charged =
        sqlx::query("UPDATE mandate SET spent = spent + ?1 WHERE id = ?2 AND spent + ?1 <= total")
            .bind(AMOUNT)
            .bind(mandate)
            .execute(&mut *transaction)
            .await?;
    ensure!(charged.rows_affected() == 1, "the naive budget was not charged");
    sqlx::query("INSERT INTO decision (mandate, amount, key) VALUES (?, ?, ?)")
        .bind(mandate)
        .bind(AMOUNT)
        .bind(format!("naive-{number:016x}"))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}
