//! The command line: what can be asked for, and the exit code of the answer.
//!
//! Server commands build a configuration and hand it to `app`; management commands are gRPC
//! clients like any other and can do nothing that the API cannot.
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage; `evaluate` and `can-spend` exit with 3
//! for a rejection and 4 for a pending approval.
//! Not here: validation of settings (`config`) and any decision.

mod agents;
mod approvals;
mod args;
mod audit;
mod audit_table;
mod banner;
mod budget;
mod client;
mod credentials;
mod error;
mod keys;
mod ledger;
mod mandate_file;
mod mandates;
mod mcp;
mod money;
mod organization;
mod outbox;
mod output;
mod places;
mod server;
mod setting_flags;
mod spend;
mod transactions;
mod webhooks;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::args::ClientArgs;
use self::audit::AuditCommand;
use self::client::{Actor, Session};
use self::error::CliError;
use self::mandates::MandatesCommand;
use self::organization::OrganizationCommand;
use self::output::Output;
use crate::config::Environment;

/// Decides, before any money moves, whether an AI agent may spend it.
#[derive(Debug, Parser)]
#[command(name = "quetra", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server for trying things: everything embedded, loopback only
    Dev(server::DevArgs),
    /// Run a production server
    Serve(server::ServeArgs),
    /// Make the first organization of an empty database and print its admin key, once
    Init(server::InitArgs),
    /// Serve one MCP client on standard input and output, for one agent
    Mcp(mcp::McpArgs),
    /// Bring the database's schema up to date
    Migrate(server::MigrateArgs),
    /// Look at the ledger in Redis and at what Postgres leased to it, and mend it
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Look at what is decided in Redis and not recorded, and go on without some of it
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Ask a server whether it is healthy; exit code 0 if it is
    Health(server::HealthArgs),
    /// Print the effective configuration, secrets masked, with the origin of every value
    Config(server::ConfigArgs),
    /// Look at the organization, change its settings, freeze it
    Organization(Managed<OrganizationCommand>),
    /// Manage agents
    Agents(Managed<agents::AgentsCommand>),
    /// Manage mandates, as YAML files in and out
    Mandates(Managed<MandatesCommand>),
    /// Manage API keys
    Keys(Managed<keys::KeysCommand>),
    /// Look at transactions, settle, void or refund them
    Transactions(Managed<transactions::TransactionsCommand>),
    /// Manage webhook endpoints, look at deliveries, send again
    Webhooks(Managed<webhooks::WebhooksCommand>),
    /// List, export and verify the journal of everything that happened
    Audit(Managed<AuditCommand>),
    /// Look at what waits for a person, approve or deny it
    Approvals(Managed<approvals::ApprovalsCommand>),
    /// Look at budgets
    Budget(Managed<budget::BudgetCommand>),
    /// Ask for a spend: decided, charged and recorded
    Evaluate(spend::EvaluateArgs),
    /// Ask what would be decided, without any effect
    CanSpend(spend::CanSpendArgs),
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// A group of commands that talk to a server.
#[derive(Debug, clap::Args)]
struct Managed<C: Subcommand> {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: C,
}

/// Commands that need no server, of groups whose others do.
const OFFLINE: [(&str, &str); 2] = [("audit", "verify"), ("mandates", "validate")];

/// Parses the arguments and the environment of this process, runs, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let environment = Environment::capture();
    let code = run(
        std::env::args_os(),
        &environment,
        Box::new(std::io::stdout()),
        Box::new(std::io::stderr()),
    );
    ExitCode::from(code)
}

/// Runs one command line with the given environment and streams; returns the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
) -> u8 {
    let mut output = Output::new(out, err);
    let mut arguments = arguments.into_iter().peekable();
    // Not always on the PATH: `cargo run` starts it as target/release/quetra.
    if let Some(program) = arguments.peek().and_then(|program| program.to_str()) {
        output.program = program.to_owned();
    }
    let parsed = definition().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return output.usage(&error),
    };
    match dispatch(cli.command, environment, &mut output) {
        Ok(code) => code,
        Err(error) => error.report(&mut output),
    }
}

/// The command line, without the options of a server where none is asked.
fn definition() -> clap::Command {
    let mut definition = Cli::command();
    definition.build();
    for (group, command) in OFFLINE {
        let group = definition.find_subcommand_mut(group);
        if let Some(command) = group.and_then(|group| group.find_subcommand_mut(command)) {
            let hidden = |argument: clap::Arg| {
                let is_global = argument.is_global_set();
                argument.hide(is_global)
            };
            *command = std::mem::take(command).mut_args(hidden);
        }
    }
    definition
}

fn dispatch(
    command: Command,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    match command {
        Command::Dev(args) => server::dev(args, environment, output),
        Command::Serve(args) => server::serve(args, environment),
        Command::Mcp(args) => mcp::run(args, environment),
        Command::Init(args) => server::init(args, environment, output),
        Command::Migrate(args) => server::migrate(args, environment, output),
        Command::Config(args) => server::config(args, environment, output),
        Command::Ledger(command) => ledger::run(command, environment, output),
        Command::Outbox(command) => outbox::run(command, environment, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quetra", &mut script);
            output.raw(&String::from_utf8_lossy(&script))?;
            Ok(0)
        }
        Command::Health(args) => {
            client::runtime()?.block_on(server::health(args, environment, output))
        }
        // Nobody is asked: the point is to believe nobody.
        Command::Audit(Managed { command: AuditCommand::Verify(args), .. }) => {
            audit::verify(&args, output)
        }
        Command::Audit(group) => ask(group.into(), environment, output, audit::run),
        Command::Organization(group) => ask(group.into(), environment, output, organization::run),
        Command::Agents(group) => ask(group.into(), environment, output, agents::run),
        // The one command of a group that needs no server, and so no key.
        Command::Mandates(Managed { command: MandatesCommand::Validate(file), .. }) => {
            mandates::validate(&file, output)
        }
        Command::Mandates(group) => ask(group.into(), environment, output, mandates::run),
        Command::Keys(group) => ask(group.into(), environment, output, keys::run),
        Command::Transactions(group) => ask(group.into(), environment, output, transactions::run),
        Command::Webhooks(group) => ask(group.into(), environment, output, webhooks::run),
        Command::Approvals(group) => ask(group.into(), environment, output, approvals::run),
        Command::Budget(group) => ask(group.into(), environment, output, budget::run),
        Command::Evaluate(args) => ask(args.into(), environment, output, spend::evaluate),
        Command::CanSpend(args) => ask(args.into(), environment, output, spend::can_spend),
    }
}

/// A command for a server, and as whom it is asked.
struct Ask<C> {
    client: ClientArgs,
    actor: Actor,
    command: C,
}

impl<C: Subcommand> From<Managed<C>> for Ask<C> {
    fn from(group: Managed<C>) -> Self {
        Self { client: group.client, actor: Actor::Operator, command: group.command }
    }
}

fn ask<C>(
    ask: Ask<C>,
    environment: &Environment,
    output: &mut Output,
    run: impl AsyncFnOnce(C, &mut Session<'_>) -> Result<u8, CliError>,
) -> Result<u8, CliError> {
    client::runtime()?.block_on(async {
        let mut session = Session::open(&ask.client, ask.actor, environment, output).await?;
        Box::pin(run(ask.command, &mut session)).await
    })
}

#[cfg(test)]
mod tests;
