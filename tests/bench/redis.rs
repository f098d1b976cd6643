//! A server that decides in Redis, beside the bare script on the same Redis and the naive design on
//! the same Postgres: `-- redis`.
//!
//! All loads of a level run once in every round, so that the ratios stay true. The bare script is
//! the product's own, without server, leases or projector: once with the least that a decision is,
//! and once with mandates like those of the server, which ratios are of.
//! Not here: the naive design itself (`postgres`).

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use redis::aio::MultiplexedConnection;
use redis::{Client, Value};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::loader::{self, AMOUNT, AgentId, Calls, Keys, Load, Pace, Report};
use crate::machine;
use crate::naive::timed;
use crate::options::Extent;
use crate::postgres::{Naive, database};
use crate::prepare;
use crate::server::Server;
use crate::table::{Figures, Table, ratio, thousands};

const DECIDE: &str = include_str!("../../src/ledger/redis/scripts/decide.lua");

/// Mandates that spread loads are spread over.
const MANDATES: usize = 1_000;
/// Until then keys are looked up in Postgres: an epoch that is younger than the clocks of two
/// servers may be apart does not know which keys are new.
const EPOCH_SETTLES: Duration = Duration::from_secs(125);
/// Calls for each mandate after which all of them have been spent from.
const TOUCHES: u64 = 12;
/// How long a Redis may take to start, and the projector to catch up.
const PATIENCE: Duration = Duration::from_secs(300);
/// As long as the payload of a decision of the benchmark, in bytes.
const ENTRY: usize = 600;

/// What decisions are made beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Projector {
    /// It works, and the load is over when it has caught up.
    Runs,
    /// It waits for Postgres, and catches up afterwards.
    Held,
}

/// What is measured in each round: how many in flight, whether on one hot mandate, beside what.
const LOADS: [(usize, bool, Projector); 7] = [
    (1, false, Projector::Held),
    (1, false, Projector::Runs),
    (64, false, Projector::Held),
    (256, false, Projector::Held),
    (64, true, Projector::Held),
    (64, false, Projector::Runs),
    (64, true, Projector::Runs),
];

/// A Redis of one's own; it is killed when the handle goes.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    async fn start(folder: &Path, fsync: &str) -> anyhow::Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services");
        let found = Command::new(script).arg("redis").output()?;
        ensure!(found.status.success(), "no Redis: {}", String::from_utf8_lossy(&found.stderr));
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(String::from_utf8(found.stdout)?.trim())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", fsync, "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server does not start")?;
        let redis = Self { child, port };
        let started = Instant::now();
        while redis.connect(0).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "redis does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(redis)
    }

    fn url(&self, database: u8) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }

    async fn connect(&self, database: u8) -> redis::RedisResult<MultiplexedConnection> {
        Client::open(self.url(database))?.get_multiplexed_async_connection().await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It fails only if the process is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Measures and prints the table.
pub(crate) async fn measure(extent: Extent) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.note("machine", &format!("{} cores, shared by all", machine::cores()));
    for (level, fsync) in [("fast", "everysec"), ("durable", "always")] {
        measure_at(level, fsync, extent, &mut table).await?;
    }
    println!("{table}");
    Ok(())
}

async fn measure_at(
    level: &str,
    fsync: &str,
    extent: Extent,
    table: &mut Table,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let of_redis = folder.path().join("redis");
    std::fs::create_dir(&of_redis)?;
    let redis = Redis::start(&of_redis, fsync).await?;
    let (owner, url) = database(level).await?;
    let settings = [("QUETRA_REDIS_URL", redis.url(0)), ("QUETRA_DURABILITY", level.to_owned())];
    let server = Server::serve_with(folder.path(), &url, &settings).await?;
    let agents = Arc::<[_]>::from(prepare::agents(&server.target(), 0..MANDATES).await?);
    let naive = Naive::open(&owner).await?;
    let keys = Arc::new(Keys::new());
    warm_up(&server, (&agents, &keys), extent, 1)?;
    eprintln!("{level}: {} s until keys are known to be new", EPOCH_SETTLES.as_secs());
    tokio::time::sleep(EPOCH_SETTLES).await;
    // What nobody has spent from meanwhile has gone back.
    warm_up(&server, (&agents, &keys), extent, TOUCHES)?;

    let mut rounds = vec![Vec::new(); LOADS.len() + 4];
    let (mut disk, mut caught_up) = (Vec::new(), Vec::new());
    let mut postgres = PgConnection::connect(&owner).await?;
    for round in 0..extent.rounds {
        eprintln!("{level}: round {}", round + 1);
        disk.extend(machine::disk_writes(folder.path())?);
        for (place, (count, is_hot, projector)) in LOADS.into_iter().enumerate() {
            let hot = Arc::from([agents[round % agents.len()]]);
            let agents = if is_hot { hot } else { Arc::clone(&agents) };
            let calls = Calls::Evaluate(agents, Arc::clone(&keys));
            let load = Load::new(calls, Pace::InFlight(count), extent);
            let run = || loader::run(&server.target(), &load);
            let figures = match projector {
                Projector::Runs => sustained(&mut postgres, &redis, run).await?,
                Projector::Held => {
                    let (figures, rows) = held(&mut postgres, &redis, run).await?;
                    // One caller leaves too little to catch up with.
                    if count > 1 {
                        caught_up.push(rows);
                    }
                    figures
                }
            };
            rounds[place].push(figures);
        }
        let echo = Load::new(Calls::Echo, Pace::InFlight(1), extent);
        rounds[LOADS.len()].push(Figures::from(&loader::run(&server.target(), &echo)?));
        for (place, what) in [(1, Bare::LEAST), (2, Bare::ALIKE)] {
            rounds[LOADS.len() + place].push(bare(&redis, what, 64, extent.measured).await?);
        }
        rounds[LOADS.len() + 3].push(naive.run(64, true, extent.measured).await?);
    }
    disk.sort_unstable();
    report(level, &rounds, (&disk, &caught_up), table);
    server.stop()
}

/// Spends from every mandate, until as many calls as that many for each are made.
fn warm_up(
    server: &Server,
    (agents, keys): (&Arc<[AgentId]>, &Arc<Keys>),
    extent: Extent,
    touches: u64,
) -> anyhow::Result<()> {
    let calls = Calls::Evaluate(Arc::clone(agents), Arc::clone(keys));
    let load = Load::new(calls, Pace::InFlight(64), extent);
    let (mut made, wanted) = (0, touches * MANDATES as u64);
    while made < wanted {
        made += loader::run(&server.target(), &load).context("warm-up")?.calls;
    }
    Ok(())
}

/// How many entries wait for their rows.
async fn waiting(redis: &Redis) -> anyhow::Result<u64> {
    let mut connection = redis.connect(0).await?;
    let names: Vec<String> =
        redis::cmd("KEYS").arg("v1:{s??}:out").query_async(&mut connection).await?;
    let mut sum = 0;
    for name in names {
        let length: u64 = redis::cmd("XLEN").arg(name).query_async(&mut connection).await?;
        sum += length;
    }
    Ok(sum)
}

async fn drained(redis: &Redis) -> anyhow::Result<()> {
    let since = Instant::now();
    while waiting(redis).await? > 0 {
        ensure!(since.elapsed() < PATIENCE, "the projector does not catch up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Rows that Postgres has.
async fn rows(postgres: &mut PgConnection) -> anyhow::Result<i64> {
    let sum = "SELECT sum(seq)::bigint FROM ledger_head";
    Ok(sqlx::query_scalar(sum).fetch_one(postgres).await?)
}

/// Runs a load; its rate is that of the rows, until the last of them is there.
async fn sustained(
    postgres: &mut PgConnection,
    redis: &Redis,
    run: impl Fn() -> anyhow::Result<Report>,
) -> anyhow::Result<Figures> {
    let (before, since) = (rows(postgres).await?, Instant::now());
    let report = run()?;
    drained(redis).await?;
    let elapsed = since.elapsed();
    let made = (rows(postgres).await? - before) as f64;
    Ok(Figures { rate: Some(made / elapsed.as_secs_f64()), ..Figures::from(&report) })
}

/// Lets the outbox grow while nothing can be recorded; how fast it is recorded then, alone, and how
/// many entries that are.
async fn held(
    postgres: &mut PgConnection,
    redis: &Redis,
    run: impl Fn() -> anyhow::Result<Report>,
) -> anyhow::Result<(Figures, (f64, u64))> {
    let mut turn = postgres.begin().await?;
    turn.execute("SELECT seq FROM ledger_head FOR UPDATE").await?;
    let report = run()?;
    let entries = waiting(redis).await?;
    let since = Instant::now();
    turn.rollback().await?;
    drained(redis).await?;
    Ok((Figures::from(&report), (entries as f64 / since.elapsed().as_secs_f64(), entries)))
}

/// What the bare script decides about.
#[derive(Clone, Copy)]
struct Bare {
    mandates: usize,
    slices: usize,
    /// How organization, agent and mandate stand; empty: that is not compared.
    standing: &'static str,
    has_window: bool,
}

impl Bare {
    /// The least that a decision is.
    const LEAST: Self = Self { mandates: 1, slices: 1, standing: "", has_window: false };
    /// As many mandates as the server has, of the same rules.
    const ALIKE: Self = Self {
        mandates: MANDATES,
        slices: 2,
        standing: "0123456789abcdef active",
        has_window: true,
    };

    /// Epoch and version, then the length, the kind and the bound of a window.
    fn windows(self) -> Vec<u8> {
        let one = || [pack(&[1, 1, 3_600_000_000]), vec![0], pack(&[1_000_000])].concat();
        if self.has_window { one() } else { Vec::new() }
    }
}

fn pack(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Runs the script alone, many callers at once.
async fn bare(
    redis: &Redis,
    what: Bare,
    callers: usize,
    measured: Duration,
) -> anyhow::Result<Figures> {
    let mut connection = redis.connect(1).await?;
    redis::cmd("FLUSHDB").query_async::<()>(&mut connection).await?;
    let auth = [pack(&[1, 0]), b"bench".to_vec()].concat();
    // Its last byte, and the last but one of the head: at `fast`.
    let slice = [pack(&[1, 1, 90_000_000_000_000, 0, 0, 90_000_000_000_001]), vec![0]].concat();
    let stands = [pack(&[1, 1]), what.standing.into()].concat();
    let mut values = vec![("v1:{s00}:auth".to_owned(), auth)];
    for mandate in 0..what.mandates {
        let windows = pack(&[1, 1, 0, 0, 0, 0]);
        let kinds = [("o", &stands), ("a", &stands), ("m", &stands), ("w", &windows)];
        let kinds = kinds.into_iter().chain([("b0", &slice), ("b1", &slice)]);
        values.extend(kinds.map(|(kind, value)| (key(kind, mandate), value.clone())));
    }
    for (name, value) in values {
        redis::cmd("SET").arg(name).arg(value).query_async::<()>(&mut connection).await?;
    }
    let load = redis::cmd("SCRIPT").arg("LOAD").arg(DECIDE).to_owned();
    let digest: String = load.query_async(&mut connection).await?;
    let bounds = pack(&[0, 90_000_000_000_000]).repeat(what.slices);
    let next = Arc::new(AtomicU64::new(0));
    let one = move || {
        let mut connection = connection.clone();
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mandate = usize::try_from(number).unwrap_or_default() % what.mandates;
        // Windows compare times; a microsecond each is as good as any.
        let now = i64::try_from(number).unwrap_or_default() + 1;
        let head = [pack(&[1, AMOUNT, now, 0, 0]), vec![0, 2, 0, 0, 0]].concat();
        let mut call = redis::cmd("EVALSHA");
        call.arg(&digest).arg(7 + what.slices).arg("v1:{s00}:out").arg(key("w", mandate));
        call.arg("v1:{s00}:auth").arg(format!("v1:{{s00}}:i:{number:032x}"));
        for kind in ["o", "a", "m", "b0", "b1"].iter().take(3 + what.slices) {
            call.arg(key(kind, mandate));
        }
        call.arg(&head).arg([7_u8; 16].as_slice());
        call.arg(what.standing).arg(what.standing).arg(what.standing);
        call.arg(&bounds).arg(what.windows()).arg("").arg([b'x'; ENTRY].as_slice());
        async move {
            let said: Vec<Value> = call.query_async(&mut connection).await?;
            let word = said.first().context("the script says nothing")?;
            ensure!(*word == Value::BulkString(b"APPROVED".to_vec()), "{word:?}");
            Ok(())
        }
    };
    timed(callers, measured, one).await
}

/// A name as long as those of the product.
fn key(kind: &str, mandate: usize) -> String {
    format!("v1:{{s00}}:{kind}:{mandate:032x}")
}

fn report(
    level: &str,
    rounds: &[Vec<Figures>],
    (disk, caught_up): (&[Duration], &[(f64, u64)]),
    table: &mut Table,
) {
    let append = "disk: append 4 KiB + fdatasync";
    table.add(append, &Figures::of_times(disk), "what `durable` waits for at least");
    let figures = rounds.iter().map(|round| Figures::median(round)).collect::<Vec<_>>();
    let [one, one_kept_up, some, many, hot, kept_up, hot_kept_up, echo, least, bare, naive] =
        figures.as_slice()
    else {
        return;
    };
    for (what, figures) in [("one mandate, one slice", least), ("mandates like the server's", bare)]
    {
        let cost = figures.cost().map_or(0.0, |cost| cost.as_secs_f64() * 1e6);
        let name = format!("{level}: the bare script, 64 in flight, {what}");
        table.add(name, figures, &format!("{cost:.1} µs each"));
    }
    let of_bare = |figures| format!("{:.2} of the bare script", ratio(figures, bare));
    let (spread_target, hot_target) = match level {
        "fast" => ("targets ≥ 50,000 and ≥ 0.5", "targets ≥ 30,000 and ≥ 12 × naive"),
        _ => ("targets ≥ 25,000 or ≥ 0.6", ""),
    };
    table.add("echo on the same server, 1 in flight", echo, "");
    let times = |figures: &Figures| figures.p50.map_or(0.0, |time| time.as_secs_f64());
    let note = format!("{:.2} × echo; target ≤ 2.5 at `fast`", times(one) / times(echo));
    table.add(format!("{level}: evaluate, 1 in flight"), one, &note);
    let note = format!("{:.2} × echo", times(one_kept_up) / times(echo));
    table.add(format!("{level}: evaluate, 1 in flight, recorded beside"), one_kept_up, &note);
    let note = format!("{}; {spread_target}", of_bare(some));
    table.add(format!("{level}: evaluate, 64 in flight"), some, &note);
    table.add(format!("{level}: evaluate, 256 in flight"), many, &of_bare(many));
    let note = format!("{:.1} × naive; {hot_target}", ratio(hot, naive));
    table.add(format!("{level}: one hot mandate, 64 in flight"), hot, &note);
    let note = format!("{}; target ≥ 25,000 at `fast`", of_bare(kept_up));
    table.add(format!("{level}: 64 in flight, until all is recorded"), kept_up, &note);
    let note = format!("{:.1} × naive", ratio(hot_kept_up, naive));
    table.add(format!("{level}: the same on one hot mandate"), hot_kept_up, &note);
    table.add("naive on Postgres, one hot mandate", naive, "64 in flight, one transaction each");
    for (rate, entries) in caught_up {
        let figures = Figures { rate: Some(*rate), ..Figures::default() };
        let note = format!("{} entries; target ≥ 20,000", thousands(*entries));
        table.add(format!("{level}: projector alone, catching up"), &figures, &note);
    }
}
