//! A server on Postgres alone, spread and on one hot mandate, beside the naive design on the same
//! Postgres: `-- postgres`.
//!
//! All loads run once in every round, so that the ratios stay true. The naive design locks the
//! mandate's row, tests, charges and inserts, in one transaction for each decision, without gRPC
//! or rules: the ratio flatters it. Not here: the table of a server on SQLite (`scenarios`).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};

use crate::loader::{self, AMOUNT, Calls, Keys, Load, Pace};
use crate::machine;
use crate::naive::timed;
use crate::options::{Extent, PostgresOptions};
use crate::prepare;
use crate::server::Server;
use crate::table::{Figures, Table, ratio};

/// Mandates that spread loads are spread over.
const MANDATES: usize = 1_000;
/// Connections, and so transactions at once, of the naive design: more would be slower.
const NAIVE_CONNECTIONS: u32 = 64;
/// How long a caller may wait for one of them.
const WAIT_MAX: Duration = Duration::from_secs(60);

const LOADS: [&str; 4] = ["spread", "hot", "naive, spread", "naive, hot"];

/// The role that the server works as, bound by row-level security; nothing but loopback reaches it.
const ROLE: &str = "quetra_application";

/// A migrated database of its own in the Postgres of the tests, or in the one that is named: for
/// its owner, and for the server.
pub(crate) async fn database(what: &str) -> anyhow::Result<(String, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services");
    let output = Command::new(script).arg("start").output()?;
    ensure!(output.status.success(), "no Postgres: {}", String::from_utf8_lossy(&output.stderr));
    let url = String::from_utf8(output.stdout)?;
    let (server, name) = (url.trim(), format!("bench_{what}_{}", std::process::id()));
    let mut connection = PgConnection::connect(server).await?;
    for statement in ["DROP DATABASE IF EXISTS", "CREATE DATABASE"] {
        let statement = AssertSqlSafe(format!("{statement} {name}"));
        sqlx::query(statement).execute(&mut connection).await?;
    }
    let make = format!(
        "DO $$ BEGIN CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}';
        EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut connection).await?;
    connection.close().await?;
    let (base, _) = server.rsplit_once('/').context("the URL names no database")?;
    let (_, host) = base.rsplit_once('@').context("the URL names no role")?;
    let (owner, url) =
        (format!("{base}/{name}"), format!("postgres://{ROLE}:{ROLE}@{host}/{name}"));
    let migrated = Command::new(env!("CARGO_BIN_EXE_quetra"))
        .args(["migrate", "--database-url", &owner, "--application-role", ROLE])
        .output()?;
    ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    Ok((owner, url))
}

/// Measures and prints the table.
pub(crate) async fn measure(options: &PostgresOptions, extent: Extent) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (owner, url) = database("alone").await?;
    let server = Server::serve(folder.path(), &url).await?;
    let agents = prepare::agents(&server.target(), 0..MANDATES).await?;
    let (all, keys) = (Arc::<[_]>::from(agents.clone()), Arc::new(Keys::new()));
    let naive = Naive::open(&owner).await?;
    let count = options.in_flight.get();
    let mut rounds = vec![Vec::new(); LOADS.len()];
    let mut disk = Vec::new();
    for round in 0..extent.rounds {
        disk.extend(machine::disk_writes(folder.path())?);
        for (place, what) in LOADS.into_iter().enumerate() {
            eprintln!("round {}: {what}", round + 1);
            let is_hot = what.ends_with("hot");
            rounds[place].push(if what.starts_with("naive") {
                naive.run(count, is_hot, extent.measured).await?
            } else {
                let hot = Arc::from([agents[round % agents.len()]]);
                let agents = if is_hot { hot } else { Arc::clone(&all) };
                let calls = Calls::Evaluate(agents, Arc::clone(&keys));
                let load = Load::new(calls, Pace::InFlight(count), extent);
                Figures::from(&loader::run(&server.target(), &load).context(what)?)
            });
        }
    }
    disk.sort_unstable();
    report(&rounds, &disk, count);
    server.stop()
}

fn report(rounds: &[Vec<Figures>], disk: &[Duration], in_flight: usize) {
    let mut table = Table::new();
    table.note("machine", &format!("{} cores, shared by all", machine::cores()));
    let append = "disk: append 4 KiB + fdatasync";
    table.add(append, &Figures::of_times(disk), "a durable decision waits for at least one");
    let figures = rounds.iter().map(|round| Figures::median(round)).collect::<Vec<_>>();
    let [spread, hot, naive_spread, naive_hot] = figures.as_slice() else { return };
    let times = |one, other| format!("{:.1} × naive", ratio(one, other));
    let name = |what: &str| format!("Postgres, {what}, {in_flight} in flight");
    let note = format!("{}; target ≥ 15,000", times(spread, naive_spread));
    table.add(name("evaluate"), spread, &note);
    let note = format!("{}; targets ≥ 12,000 and ≥ 5 × naive", times(hot, naive_hot));
    table.add(name("one hot mandate"), hot, &note);
    let note = "one transaction each, no gRPC, no rules";
    table.add(name("naive"), naive_spread, note);
    table.add(name("naive, one hot mandate"), naive_hot, note);
    println!("{table}");
}

/// The naive design.
pub(crate) struct Naive {
    pool: PgPool,
    next: Arc<AtomicI64>,
}

impl Naive {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(NAIVE_CONNECTIONS);
        let pool = pool.acquire_timeout(WAIT_MAX).connect(url).await?;
        let make = format!(
            "CREATE SCHEMA naive;
            CREATE TABLE naive.mandate (id BIGINT PRIMARY KEY, total BIGINT, spent BIGINT)
                WITH (fillfactor = 50);
            CREATE TABLE naive.decision (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                mandate BIGINT, amount BIGINT, key TEXT UNIQUE);
            INSERT INTO naive.mandate
                SELECT number, 90000000000000, 0 FROM generate_series(0, {MANDATES} - 1) number;"
        );
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&pool).await?;
        Ok(Self { pool, next: Arc::default() })
    }

    /// Decides for some callers at once.
    pub(crate) async fn run(
        &self,
        callers: usize,
        is_hot: bool,
        measured: Duration,
    ) -> anyhow::Result<Figures> {
        let (pool, next) = (self.pool.clone(), Arc::clone(&self.next));
        let one = move || {
            let (pool, number) = (pool.clone(), next.fetch_add(1, Ordering::Relaxed));
            let mandate = if is_hot { 0 } else { number % MANDATES as i64 };
            async move { decide(&pool, number, mandate).await }
        };
        timed(callers, measured, one).await
    }
}

async fn decide(pool: &PgPool, number: i64, mandate: i64) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    let (total, spent): (i64, i64) =
        sqlx::query_as("SELECT total, spent FROM naive.mandate WHERE id = $1 FOR UPDATE")
            .bind(mandate)
            .fetch_optional(&mut *transaction)
            .await?
            .context("the mandate is gone")?;
    ensure!(spent + AMOUNT <= total, "the naive budget is used up");
    sqlx::query("UPDATE naive.mandate SET spent = spent + $1 WHERE id = $2")
        .bind(AMOUNT)
        .bind(mandate)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO naive.decision (mandate, amount, key) VALUES ($1, $2, $3)")
        .bind(mandate)
        .bind(AMOUNT)
        .bind(format!("naive-{number:016x}"))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// A master key, as the server wants it.
pub(crate) fn master_key(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("master.key");
    std::fs::write(&path, "0f1e2d3c4b5a6978".repeat(4))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(path)
}
