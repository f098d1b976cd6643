//! The load generator: few HTTP/2 connections, prebuilt messages, one thread of its own.
//!
//! A closed loop keeps a number of calls in flight; an open loop starts calls at fixed times and
//! counts latency from the intended start, so that a stalled server cannot hide its queue.
//! Not here: what one call is (`call`), and which loads are run (`scenarios`). A generated client
//! is not used, because it costs as much per call as the server does.

mod call;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

pub(crate) use call::{AMOUNT, AgentId, Calls, Keys, WrongDecision};

use call::Template;

use crate::machine;
use crate::options::Extent;

/// The latest a call may end after its load has: then the server hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// The open loop wakes up this often at most, so that pacing does not eat the processor.
const TICK: Duration = Duration::from_micros(200);
/// Calls of an open loop that are with the server at once. The others wait here, and their wait
/// counts: a server without a limit of its own may read for ever and answer nobody.
const OPEN_LOOP_IN_FLIGHT_MAX: usize = 256;
/// The highest latency that is told apart, in nanoseconds: one minute.
const LATENCY_MAX: u64 = 60_000_000_000;
/// More than any reply: flow control of the client must not slow the server.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 24;

/// Where calls go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address of the server.
    pub(crate) address: SocketAddr,
    /// API key, or nothing.
    pub(crate) key: String,
    /// Process of the server, whose processor time is measured; none if it is this process.
    pub(crate) process: Option<u32>,
}

/// How calls are started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as one ends the next begins, so that this many are in flight.
    InFlight(usize),
    /// This many a second, whatever the server does.
    PerSecond(f64),
}

/// One load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What is called.
    pub(crate) calls: Calls,
    /// How calls are started.
    pub(crate) pace: Pace,
    /// How many connections share them.
    pub(crate) connections: usize,
    /// How long calls are made before they are measured.
    pub(crate) warm_up: Duration,
    /// How long they are measured.
    pub(crate) measured: Duration,
}

impl Load {
    /// A load over as few connections as carry it without becoming the bottleneck.
    pub(crate) fn new(calls: Calls, pace: Pace, extent: Extent) -> Self {
        let connections = match pace {
            Pace::InFlight(0..=8) => 1,
            Pace::InFlight(9..=64) | Pace::PerSecond(_) => 2,
            Pace::InFlight(_) => 4,
        };
        Self { calls, pace, connections, warm_up: extent.warm_up, measured: extent.measured }
    }
}

/// What a load measured.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Calls made, those of the warm-up included.
    pub(crate) calls: u64,
    /// Calls ended a second.
    pub(crate) rate: f64,
    /// Latency, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Processor time of the loader for a call, where the system tells it.
    pub(crate) loader_cpu: Option<Duration>,
    /// Processor time of the server for a call, where the system tells it.
    pub(crate) server_cpu: Option<Duration>,
}

/// Runs a load on a thread of its own and waits for it.
///
/// # Errors
/// The first call that fails or is answered wrongly ends the load.
pub(crate) fn run(target: &Target, load: &Load) -> anyhow::Result<Report> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let limit = load.warm_up + load.measured + PATIENCE;
            runtime.block_on(async {
                let done = tokio::time::timeout(limit, run_here(target, load)).await;
                done.context("calls are still unanswered long after the load ended")?
            })
        });
        thread.join().expect("the loader does not panic")
    })
}

/// Makes one call on a new connection.
///
/// # Errors
/// The server is not there, or its answer is wrong.
pub(crate) async fn call_once(target: &Target, calls: &Calls) -> anyhow::Result<()> {
    let template = Template::new(calls, &target.address.to_string(), &target.key)?;
    let mut tasks = JoinSet::new();
    let mut client = connect(target.address, &mut tasks).await?;
    template.call(&mut client).await
}

/// What all calls of a load share.
struct Shared {
    template: Template,
    /// Measuring begins; a call counts by when it ends.
    from: Instant,
    /// No call begins after it.
    until: Instant,
    tally: Mutex<Tally>,
}

struct Tally {
    calls: u64,
    measured: u64,
    latency: Histogram<u64>,
}

impl Shared {
    fn record(&self, started: Instant) {
        let now = Instant::now();
        let mut tally = self.tally.lock().expect("no holder panics");
        tally.calls += 1;
        if now >= self.from && now < self.until {
            tally.measured += 1;
        }
        if started >= self.from {
            let nanos = now.saturating_duration_since(started).as_nanos();
            tally.latency.saturating_record(u64::try_from(nanos).unwrap_or(LATENCY_MAX));
        }
    }
}

async fn run_here(target: &Target, load: &Load) -> anyhow::Result<Report> {
    let mut tasks = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        clients.push(connect(target.address, &mut tasks).await?);
    }
    let begin = Instant::now();
    let shared = Arc::new(Shared {
        template: Template::new(&load.calls, &target.address.to_string(), &target.key)?,
        from: begin + load.warm_up,
        until: begin + load.warm_up + load.measured,
        tally: Mutex::new(Tally {
            calls: 0,
            measured: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_MAX, 3)?,
        }),
    });

    let mut workers = JoinSet::new();
    match load.pace {
        Pace::InFlight(count) => {
            for number in 0..count {
                let client = clients[number % clients.len()].clone();
                workers.spawn(closed_loop(Arc::clone(&shared), client));
            }
        }
        Pace::PerSecond(rate) => {
            workers.spawn(open_loop(Arc::clone(&shared), clients.clone(), rate));
        }
    }
    let watched = tokio::spawn(watch(target.process, shared.from, shared.until));
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    let (loader_cpu, server_cpu) = watched.await?;
    drop(tasks);

    let tally = shared.tally.lock().expect("no holder panics");
    if tally.measured == 0 {
        bail!("no call ended while the load was measured");
    }
    let per_call = |spent: Option<Duration>| spent.map(|all| all.div_f64(tally.measured as f64));
    Ok(Report {
        calls: tally.calls,
        rate: tally.measured as f64 / load.measured.as_secs_f64(),
        latency: tally.latency.clone(),
        loader_cpu: per_call(loader_cpu),
        server_cpu: per_call(server_cpu),
    })
}

async fn connect(
    address: SocketAddr,
    tasks: &mut JoinSet<Result<(), h2::Error>>,
) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await?;
    tasks.spawn(connection);
    Ok(client)
}

async fn closed_loop(shared: Arc<Shared>, mut client: SendRequest<Bytes>) -> anyhow::Result<()> {
    loop {
        let started = Instant::now();
        if started >= shared.until {
            return Ok(());
        }
        shared.template.call(&mut client).await?;
        shared.record(started);
    }
}

async fn open_loop(
    shared: Arc<Shared>,
    clients: Vec<SendRequest<Bytes>>,
    rate: f64,
) -> anyhow::Result<()> {
    let (due, mut calls_due) = mpsc::unbounded_channel();
    let (begin, until) = (Instant::now(), shared.until);
    // The timer of the runtime knows only milliseconds; a sleeping thread is finer.
    let pacer = std::thread::spawn(move || pace(begin, until, rate, &due));

    let places = Arc::new(Semaphore::new(OPEN_LOOP_IN_FLIGHT_MAX));
    let mut running = JoinSet::new();
    let mut number = 0;
    while let Some(intended) = calls_due.recv().await {
        let mut client = clients[number % clients.len()].clone();
        number += 1;
        let (shared, places) = (Arc::clone(&shared), Arc::clone(&places));
        running.spawn(async move {
            let _place = places.acquire().await?;
            shared.template.call(&mut client).await?;
            shared.record(intended);
            anyhow::Ok(())
        });
        while let Some(ended) = running.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    pacer.join().expect("the pacer does not panic");
    Ok(())
}

/// Hands out the intended start of every call once it is due. At most a tick and a wake-up late,
/// which counts as latency.
fn pace(begin: Instant, until: Instant, rate: f64, due: &mpsc::UnboundedSender<Instant>) {
    let mut number = 0_u32;
    loop {
        let intended = begin + Duration::from_secs_f64(f64::from(number) / rate);
        if intended >= until {
            return;
        }
        let wait = intended.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait.max(TICK));
        }
        if due.send(intended).is_err() {
            return;
        }
        number += 1;
    }
}

/// Processor times of the loader and the server while the load is measured.
async fn watch(
    process: Option<u32>,
    from: Instant,
    until: Instant,
) -> (Option<Duration>, Option<Duration>) {
    let server = || process.and_then(machine::process_cpu);
    tokio::time::sleep_until(from.into()).await;
    let (loader_before, server_before) = (machine::thread_cpu(), server());
    tokio::time::sleep_until(until.into()).await;
    let spent = |before: Option<Duration>, after: Option<Duration>| Some(after? - before?);
    (spent(loader_before, machine::thread_cpu()), spent(server_before, server()))
}
