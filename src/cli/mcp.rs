//! `quetra mcp`: an MCP server on standard input and output, for one agent.
//!
//! Settings come from the environment, as clients that start it give them, or from the file of a
//! development server. The key is never an argument: arguments are seen by everyone on the machine.
//! Not here: the tools (`crate::mcp`). Standard output belongs to the protocol alone.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::args::{ClientArgs, Format, URL_HELP};
use super::client::{Actor, Target, connect, runtime};
use super::error::CliError;
use crate::config::{Environment, LogFormat};
use crate::mcp::{Gateway, Local, stdio};
use crate::telemetry;

/// What is logged to standard error if nobody says.
const LOG_DEFAULT: &str = "warn";

/// An MCP server for one client.
#[derive(Debug, Args)]
pub(super) struct McpArgs {
    #[arg(long, value_name = "URL", help = URL_HELP)]
    url: Option<String>,
    /// Written by `quetra dev`; used when `QUETRA_API_KEY` is not set
    #[arg(long, value_name = "FILE", default_value = ".quetra/credentials.toml")]
    credentials: PathBuf,
    /// Longest time of one call, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=600_000)
    )]
    timeout_ms: u64,
}

/// Serves until the client closes its end.
pub(super) fn run(args: McpArgs, environment: &Environment) -> Result<u8, CliError> {
    telemetry::init(environment.get("QUETRA_LOG").unwrap_or(LOG_DEFAULT), LogFormat::Text)?;
    let client = ClientArgs {
        url: args.url,
        api_key: None,
        credentials: args.credentials,
        timeout_ms: args.timeout_ms,
        output: Format::Table,
    };
    let target = Target::find(&client, Actor::Agent, environment)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let channel = connect(&target.url, Duration::from_millis(args.timeout_ms)).await?;
        let api_key = target.key.expose().to_owned();
        let local = Local { api_key, agent_id: target.agent_id };
        let served = stdio(Gateway::new(channel), local).await;
        served.map_err(|error| CliError::Refused(error.to_string()))
    });
    // A read of standard input that nobody waits for any more would hold up the exit.
    runtime.shutdown_background();
    served.map(|()| 0)
}
