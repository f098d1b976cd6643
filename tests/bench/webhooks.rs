//! What webhooks deliver, and what they cost the decisions: `-- webhooks`.
//!
//! The receiver is in this process, on a thread of its own. With and without an endpoint are
//! measured in turns on one server, so that the ratio stays true. Not here: receivers that
//! misbehave, which the tests have.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::loader::{self, Calls, Keys, Load, Pace};
use crate::machine;
use crate::options::Extent;
use crate::prepare;
use crate::server::Server;
use crate::table::{Figures, Table, ratio};

/// Mandates that the decisions are spread over.
const MANDATES: usize = 100;
/// Decisions a second in the open loop.
const PACE: f64 = 1_000.0;
/// How long deliveries are counted while nothing else is done.
const DRAIN: Duration = Duration::from_secs(3);

/// When each event came, after it happened.
type Arrivals = Arc<Mutex<Vec<Duration>>>;

/// Starts a receiver that accepts everything; it serves until this process ends.
fn receiver() -> anyhow::Result<(SocketAddr, Arrivals)> {
    let arrivals = Arrivals::default();
    let (ready, started) = std::sync::mpsc::channel();
    let noted = Arc::clone(&arrivals);
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            ready.send(listener.local_addr()?)?;
            let accept = move |body: Bytes| {
                if let Some(after) = age(&body) {
                    noted.lock().expect("nobody panics here").push(after);
                }
                std::future::ready(StatusCode::NO_CONTENT)
            };
            axum::serve(listener, axum::Router::new().fallback(accept)).await?;
            anyhow::Ok(())
        })
    })?;
    Ok((started.recv().context("the receiver does not start")?, arrivals))
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

/// Measures and prints the table.
pub(crate) async fn measure(extent: Extent) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let database = format!("sqlite://{}", folder.path().join("quetra.db").display());
    let settings = [
        ("QUETRA_EGRESS_ALLOW_HTTP", "true".to_owned()),
        ("QUETRA_EGRESS_ALLOW", "127.0.0.0/8".to_owned()),
    ];
    let server = Server::serve_with(folder.path(), &database, &settings).await?;
    let target = server.target();
    let agents = Arc::<[_]>::from(prepare::agents(&target, 0..MANDATES).await?);
    let calls = Calls::Evaluate(agents, Arc::new(Keys::new()));
    let (address, arrivals) = receiver()?;
    let base = format!("http://{}/api/v1", target.address);
    let admin = Admin { http: reqwest::Client::new(), base, key: target.key.clone() };
    let body = json!({"url": format!("http://{address}/hooks"), "enabled": false});
    let made = admin.call(reqwest::Method::POST, "/webhooks", body).await?;
    let id = made["id"].as_str().context("no endpoint was made")?.to_owned();

    let load = |pace| Load::new(calls.clone(), pace, extent);
    let (mut paced, mut latencies) = ([Vec::new(), Vec::new()], Vec::new());
    let (mut full, mut drained) = ([Vec::new(), Vec::new()], Vec::new());
    loader::run(&target, &load(Pace::InFlight(64))).context("warm-up")?;
    for round in 0..extent.rounds {
        eprintln!("round {}", round + 1);
        // Each of the two goes first in turn.
        for place in [round % 2, (round + 1) % 2] {
            admin.enable(&id, place == 1).await?;
            paced[place].push(Figures::from(&loader::run(&target, &load(Pace::PerSecond(PACE)))?));
            tokio::time::sleep(Duration::from_secs(1)).await;
            latencies.extend(taken(&arrivals));
            full[place].push(Figures::from(&loader::run(&target, &load(Pace::InFlight(64)))?));
            if place == 1 {
                taken(&arrivals);
                let began = Instant::now();
                tokio::time::sleep(DRAIN).await;
                let rate = taken(&arrivals).len() as f64 / began.elapsed().as_secs_f64();
                drained.push(Figures { rate: Some(rate), ..Figures::default() });
            }
        }
    }
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "nothing was delivered");
    let mut table = Table::new();
    table.note("machine", &format!("{} cores, shared by all", machine::cores()));
    let [without, with] = paced.map(|rounds| Figures::median(&rounds));
    let note = format!("{} events at 1,000 decisions/s; target p99 < 1 s", latencies.len());
    table.add("decision → first attempt", &Figures::of_times(&latencies), &note);
    table.add("1,000 decisions/s, no endpoint", &without, "");
    let note = format!("{:.3} of without; target ≥ 0.97", ratio(&with, &without));
    table.add("1,000 decisions/s, an endpoint", &with, &note);
    let [without, with] = full.map(|rounds| Figures::median(&rounds));
    table.add("64 in flight, no endpoint", &without, "");
    let note = format!("{:.3} of without; delivering takes the same cores", ratio(&with, &without));
    table.add("64 in flight, an endpoint", &with, &note);
    table.add("deliveries alone", &Figures::median(&drained), "of a backlog; target ≥ 2,000/s");
    println!("{table}");
    server.stop()
}
