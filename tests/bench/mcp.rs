//! What MCP adds to a decision: the same Evaluate by gRPC and as a tool call over HTTP, one call of
//! each in turn on one server; many calls at once; how long `quetra mcp` takes to its first answer.
//!
//! Clients of every day make the calls, so that both kinds pay for their own. Not here: throughput,
//! for which a loader must cost less than the server.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use quetra::proto::v1;
use quetra::proto::v1::evaluate_service_client::EvaluateServiceClient;
use quetra::proto::v1::organization_service_client::OrganizationServiceClient;
use serde_json::{Value, json};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::loader::{AMOUNT, Target};
use crate::table::{Figures, Table};

/// Calls of each kind before any is measured, and then of each that count.
const WARM_UP: usize = 100;
const CALLS: usize = 1_000;
/// Calls that are in flight at the same time, and how often that is done.
const AT_ONCE: usize = 1_000;
const WAVES: usize = 3;
/// Starts of the local program, of which the median counts.
const STARTS: usize = 11;

/// Measures and adds the rows.
///
/// # Errors
/// The first call that fails, or that is not approved.
pub(crate) async fn measure(
    target: &Target,
    agent_id: &str,
    table: &mut Table,
) -> anyhow::Result<()> {
    let address = format!("http://{}", target.address);
    let channel = Endpoint::from_shared(address.clone())?.connect().await?;
    let key = agent_key(channel.clone(), &target.key, agent_id).await?;
    let bearer: MetadataValue<Ascii> = format!("Bearer {key}").parse()?;
    let mut grpc = EvaluateServiceClient::new(channel);
    let http = reqwest::Client::builder().tcp_nodelay(true).build()?;
    let (mut by_grpc, mut by_mcp) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + CALLS {
        let started = Instant::now();
        let mut request = tonic::Request::new(spend(number));
        request.metadata_mut().insert("authorization", bearer.clone());
        let made = grpc.evaluate(request).await?.into_inner();
        let grpc_time = started.elapsed();
        ensure!(made.decision() == v1::Decision::Approved, "{}", made.explanation);

        let mcp_time = spend_by_tool(&http, &address, &key, number).await?;
        if number >= WARM_UP {
            by_grpc.push(grpc_time);
            by_mcp.push(mcp_time);
        }
    }
    by_grpc.sort_unstable();
    by_mcp.sort_unstable();
    let (grpc, mcp) = (Figures::of_times(&by_grpc), Figures::of_times(&by_mcp));
    let more = mcp.p50.unwrap_or_default().saturating_sub(grpc.p50.unwrap_or_default());
    table.add("Evaluate by gRPC, one in flight", &grpc, "HTTP/2, one connection");
    let note = format!("{} µs more than gRPC; target < 1000 µs", more.as_micros());
    table.add("Evaluate by MCP over HTTP", &mcp, &note);

    at_once(&http, &address, &key, table).await?;

    let mut starts = (0..STARTS).map(|_| start(&address, &key)).collect::<Result<Vec<_>, _>>()?;
    starts.sort_unstable();
    let note = "from before the process exists; target < 150 ms";
    table.add("quetra mcp to its first answer", &Figures::of_times(&starts), note);
    Ok(())
}

/// One purchase by a tool call, and how long it took; anything but an approval is an error.
async fn spend_by_tool(
    http: &reqwest::Client,
    address: &str,
    key: &str,
    number: usize,
) -> anyhow::Result<Duration> {
    let message = tool_call(number).to_string();
    let started = Instant::now();
    let answer = http
        .post(format!("{address}/mcp"))
        .bearer_auth(key)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(message)
        .send()
        .await?
        .bytes()
        .await?;
    let time = started.elapsed();
    let answer: Value = serde_json::from_slice(&answer)?;
    ensure!(answer["result"]["structuredContent"]["approved"] == true, "{answer}");
    Ok(time)
}

/// Waves of calls that all start together, each on a connection of its own. The first error ends
/// the measurement.
async fn at_once(
    http: &reqwest::Client,
    address: &str,
    key: &str,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let started = Instant::now();
    for wave in 1..=WAVES {
        let first = (WARM_UP + CALLS) * 2 + wave * AT_ONCE;
        let calls = (first..first + AT_ONCE).map(|call| spend_by_tool(http, address, key, call));
        times.extend(futures::future::try_join_all(calls).await?);
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let figures = Figures { rate: Some(rate), ..Figures::of_times(&times) };
    let note = format!("{WAVES} waves, no error; target: none; the client shares the cores");
    table.add(format!("{AT_ONCE} MCP calls at once"), &figures, &note);
    Ok(())
}

/// A key of the agent.
async fn agent_key(channel: Channel, admin: &str, agent_id: &str) -> anyhow::Result<String> {
    let mut request = tonic::Request::new(v1::CreateApiKeyRequest {
        name: "benchmark".to_owned(),
        role: v1::Role::Agent.into(),
        agent_id: agent_id.to_owned(),
        ..v1::CreateApiKeyRequest::default()
    });
    request.metadata_mut().insert("authorization", format!("Bearer {admin}").parse()?);
    let made = OrganizationServiceClient::new(channel).create_api_key(request).await?;
    Ok(made.into_inner().key)
}

fn spend(number: usize) -> v1::EvaluateRequest {
    v1::EvaluateRequest {
        amount: Some(AMOUNT),
        currency: "USD".to_owned(),
        vendor: "firecrawl.dev".to_owned(),
        category: "research".to_owned(),
        idempotency_key: format!("grpc-{number:08}"),
        ..v1::EvaluateRequest::default()
    }
}

fn tool_call(number: usize) -> Value {
    json!({
        "jsonrpc": "2.0", "id": number, "method": "tools/call",
        "params": {"name": "quetra_evaluate", "arguments": {
            "amount": AMOUNT, "currency": "USD", "vendor": "firecrawl.dev",
            "category": "research", "intentKey": format!("mcp-{number:08}"),
        }},
    })
}

/// Starts the local program and opens a conversation with it.
fn start(address: &str, key: &str) -> anyhow::Result<Duration> {
    let open = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        },
    });
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quetra"))
        .arg("mcp")
        .env("QUETRA_GATEWAY_URL", address)
        .env("QUETRA_API_KEY", key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no standard input")?;
    writeln!(input, "{open}")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    let time = started.elapsed();
    drop(input);
    child.kill()?;
    child.wait()?;
    let answer: Value = serde_json::from_str(&line)?;
    ensure!(answer["result"]["serverInfo"]["name"] == "quetra", "{answer}");
    Ok(time)
}
