//! What webhooks deliver, and what they cost the decisions: `-- webhooks`, and the same on
//! Postgres: `-- webhooks --postgres`.
//!
//! The receiver is in this process, on a thread of its own. With and without an endpoint are
//! measured in turns on one server, so that the ratio stays true. A backlog is made by a receiver
//! that does not answer for a while, so that nothing but delivering is left when it does. Not here:
//! receivers that misbehave, which the tests have.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::loader::{self, Calls, Keys, Load, Pace};
use crate::machine;
use crate::options::Extent;
use crate::postgres;
use crate::prepare;
use crate::server::Server;
use crate::table::{Figures, Table, ratio};

/// Mandates that the decisions are spread over.
const MANDATES: usize = 100;
/// Decisions a second in the open loop.
const PACE: f64 = 1_000.0;
/// How long the journal may take to have what was decided in a load.
const FOLLOW: Duration = Duration::from_secs(3);
/// Deliveries of a backlog that are timed, and how long they may take.
const BACKLOG: usize = 10_000;
const BACKLOG_TIME_MAX: Duration = Duration::from_secs(60);

/// When each event came, after it happened.
type Arrivals = Arc<Mutex<Vec<Duration>>>;

/// A receiver that accepts everything, once it is open; it serves until this process ends.
struct Receiver {
    address: SocketAddr,
    arrivals: Arrivals,
    open: watch::Sender<bool>,
}

fn receiver() -> anyhow::Result<Receiver> {
    let arrivals = Arrivals::default();
    let (ready, started) = std::sync::mpsc::channel();
    let noted = Arc::clone(&arrivals);
    let (open, is_open) = watch::channel(true);
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            ready.send(listener.local_addr()?)?;
            let accept = move |body: Bytes| {
                if let Some(after) = age(&body) {
                    noted.lock().expect("nobody panics here").push(after);
                }
                let mut is_open = is_open.clone();
                async move {
                    // It fails only when this process ends.
                    drop(is_open.wait_for(|open| *open).await);
                    StatusCode::NO_CONTENT
                }
            };
            axum::serve(listener, axum::Router::new().fallback(accept)).await?;
            anyhow::Ok(())
        })
    })?;
    let address = started.recv().context("the receiver does not start")?;
    Ok(Receiver { address, arrivals, open })
}

/// How long ago an event happened.
fn age(body: &[u8]) -> Option<Duration> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let at: jiff::Timestamp = body["timestamp"].as_str()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let at = Duration::from_micros(u64::try_from(at.as_microsecond()).ok()?);
    Some(now.saturating_sub(at))
}

/// Who administers the endpoint of a server.
struct Admin {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Admin {
    async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> anyhow::Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let answer = request.bearer_auth(&self.key).json(&body).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        ensure!(status.is_success(), "{path}: {status}: {answer}");
        Ok(answer)
    }

    async fn enable(&self, id: &str, enabled: bool) -> anyhow::Result<()> {
        let path = format!("/webhooks/{id}");
        self.call(reqwest::Method::PATCH, &path, json!({"enabled": enabled})).await?;
        // Until the server has noticed, and what was under way has ended.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }
}

fn taken(arrivals: &Arrivals) -> Vec<Duration> {
    std::mem::take(&mut *arrivals.lock().expect("nobody panics here"))
}

/// What is measured: a server with an endpoint, and what it is asked.
struct Bench {
    server: Server,
    admin: Admin,
    endpoint: String,
    receiver: Receiver,
    calls: Calls,
    extent: Extent,
}

/// What it came to, round by round: without an endpoint and with one.
#[derive(Default)]
struct Found {
    paced: [Vec<Figures>; 2],
    full: [Vec<Figures>; 2],
    latencies: Vec<Duration>,
    drained: Vec<Figures>,
}

impl Bench {
    async fn start(folder: &Path, on_postgres: bool, extent: Extent) -> anyhow::Result<Self> {
        let database = if on_postgres {
            postgres::database("webhooks").await?.1
        } else {
            format!("sqlite://{}", folder.join("quetra.db").display())
        };
        let settings = [
            ("QUETRA_EGRESS_ALLOW_HTTP", "true".to_owned()),
            ("QUETRA_EGRESS_ALLOW", "127.0.0.0/8".to_owned()),
        ];
        let server = Server::serve_with(folder, &database, &settings).await?;
        let target = server.target();
        let agents = Arc::<[_]>::from(prepare::agents(&target, 0..MANDATES).await?);
        let calls = Calls::Evaluate(agents, Arc::new(Keys::new()));
        let receiver = receiver()?;
        let base = format!("http://{}/api/v1", target.address);
        let admin = Admin { http: reqwest::Client::new(), base, key: target.key };
        let url = format!("http://{}/hooks", receiver.address);
        let body = json!({"url": url, "enabled": false});
        let made = admin.call(reqwest::Method::POST, "/webhooks", body).await?;
        let endpoint = made["id"].as_str().context("no endpoint was made")?.to_owned();
        Ok(Self { server, admin, endpoint, receiver, calls, extent })
    }

    fn load(&self, pace: Pace) -> anyhow::Result<Figures> {
        let load = Load::new(self.calls.clone(), pace, self.extent);
        Ok(Figures::from(&loader::run(&self.server.target(), &load)?))
    }

    /// One round; each of the two goes first in turn.
    async fn round(&self, round: usize, found: &mut Found) -> anyhow::Result<()> {
        for place in [round % 2, (round + 1) % 2] {
            // One that is enabled again is told of nothing from before: what is left of the last
            // round's backlog.
            self.admin.enable(&self.endpoint, false).await?;
            taken(&self.receiver.arrivals);
            self.admin.enable(&self.endpoint, place == 1).await?;
            found.paced[place].push(self.load(Pace::PerSecond(PACE))?);
            tokio::time::sleep(Duration::from_secs(1)).await;
            found.latencies.extend(taken(&self.receiver.arrivals));
            found.full[place].push(self.load(Pace::InFlight(64))?);
            if place == 1 {
                found.drained.push(self.backlog().await?);
            }
        }
        Ok(())
    }

    /// How fast what has piled up is delivered while nothing else is done.
    async fn backlog(&self) -> anyhow::Result<Figures> {
        self.receiver.open.send_replace(false);
        self.load(Pace::InFlight(64))?;
        tokio::time::sleep(FOLLOW).await;
        taken(&self.receiver.arrivals);
        let began = Instant::now();
        self.receiver.open.send_replace(true);
        let count = || self.receiver.arrivals.lock().expect("nobody panics here").len();
        while count() < BACKLOG {
            ensure!(began.elapsed() < BACKLOG_TIME_MAX, "{} of {BACKLOG} delivered", count());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let rate = taken(&self.receiver.arrivals).len() as f64 / began.elapsed().as_secs_f64();
        Ok(Figures { rate: Some(rate), ..Figures::default() })
    }
}

/// Measures and prints the table.
pub(crate) async fn measure(on_postgres: bool, extent: Extent) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let bench = Bench::start(folder.path(), on_postgres, extent).await?;
    bench.load(Pace::InFlight(64)).context("warm-up")?;
    let mut found = Found::default();
    for round in 0..extent.rounds {
        eprintln!("round {}", round + 1);
        bench.round(round, &mut found).await?;
    }
    found.report()?;
    bench.server.stop()
}

impl Found {
    fn report(mut self) -> anyhow::Result<()> {
        self.latencies.sort_unstable();
        ensure!(!self.latencies.is_empty(), "nothing was delivered");
        let mut table = Table::new();
        table.note("machine", &format!("{} cores, shared by all", machine::cores()));
        let note =
            format!("{} events at 1,000 decisions/s; target p99 < 1 s", self.latencies.len());
        table.add("decision → first attempt", &Figures::of_times(&self.latencies), &note);
        for (what, rounds) in [("1,000 decisions/s", self.paced), ("64 in flight", self.full)] {
            let [without, with] = rounds.map(|rounds| Figures::median(&rounds));
            table.add(format!("{what}, no endpoint"), &without, "");
            let note = format!("{:.3} of without; target ≥ 0.97", ratio(&with, &without));
            table.add(format!("{what}, an endpoint"), &with, &note);
        }
        let note = "a backlog to one endpoint; target ≥ 2,000/s";
        table.add("deliveries alone", &Figures::median(&self.drained), note);
        println!("{table}");
        Ok(())
    }
}
