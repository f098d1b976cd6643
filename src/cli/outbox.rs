//! `quetra outbox …`: what decisions in Redis are not recorded, and how to go on without some.
//!
//! Not here: how the ledger stands as a whole (`ledger`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::Format;
use super::client::runtime;
use super::error::CliError;
use super::ledger::load;
use super::output::Output;
use super::setting_flags::{ForLedger, SettingFlags};
use crate::app::{self, EntrySays, WaitingEntry};
use crate::config::Environment;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum OutboxCommand {
    /// Show what is not recorded, and what stops it
    Show(ShowArgs),
    /// Print everything that is not recorded, one JSON object a line, to keep it
    Export(ExportArgs),
    /// Go on behind a place, without what is missing or cannot be understood up to it
    Resume(ResumeArgs),
}

/// What to show.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// One shard only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(0..64))]
    shard: Option<i16>,
    /// The first entries of each shard
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    most: u32,
    /// A table for people, or JSON for scripts
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    settings: SettingFlags<ForLedger>,
}

/// What to print.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// One shard only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(0..64))]
    shard: Option<i16>,
    #[command(flatten)]
    settings: SettingFlags<ForLedger>,
}

/// Where to go on.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The shard
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(0..64))]
    shard: i16,
    /// The last place that is given up, as `quetra outbox show` names it
    #[arg(long, value_name = "PLACE")]
    behind: String,
    /// Do it: you have exported what is there, and what is given up will never be recorded
    #[arg(long)]
    dangerous_give_up: bool,
    #[command(flatten)]
    settings: SettingFlags<ForLedger>,
}

/// Runs one of them.
pub(super) fn run(
    command: OutboxCommand,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    match command {
        OutboxCommand::Show(args) => {
            let config = load(args.settings, environment)?;
            let most = usize::try_from(args.most).unwrap_or(usize::MAX);
            let found = runtime()?.block_on(app::outbox_waiting(&config, args.shard, most))?;
            match args.output {
                Format::Json => {
                    let found = found.iter().map(described).collect::<Vec<_>>();
                    output.raw(&format!("{:#}\n", json!({ "waiting": found })))?;
                }
                Format::Table => show(&found, output)?,
            }
        }
        OutboxCommand::Export(args) => {
            let config = load(args.settings, environment)?;
            let all = app::outbox_waiting(&config, args.shard, usize::MAX);
            for entry in &runtime()?.block_on(all)? {
                output.raw(&format!("{}\n", described(entry)))?;
            }
        }
        OutboxCommand::Resume(args) => resume(args, environment, output)?,
    }
    Ok(0)
}

fn resume(
    args: ResumeArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<(), CliError> {
    let (shard, place) = (args.shard, args.behind);
    if !args.dangerous_give_up {
        return output.line(
            "Nothing was done. What is given up is never recorded, and counts as spent until its \
             periods end: export it, then add --dangerous-give-up.",
        );
    }
    let config = load(args.settings, environment)?;
    runtime()?.block_on(app::outbox_skip(&config, shard, &place))?;
    output.line(&format!("shard {shard} goes on behind {place}"))
}

fn show(found: &[WaitingEntry], output: &mut Output) -> Result<(), CliError> {
    let row = |one: &WaitingEntry| {
        let (what, amount) = match &one.says {
            EntrySays::Unknown => ("CANNOT BE UNDERSTOOD".to_owned(), String::new()),
            EntrySays::Begin => ("an epoch begins".to_owned(), String::new()),
            EntrySays::Decision(record) => {
                let amount = format!("{} {}", record.spend.amount, record.spend.currency.code());
                (format!("{} {}", record.verdict.word(), record.id), amount)
            }
            EntrySays::Recall(amount) => ("a slice comes back".to_owned(), amount.to_string()),
        };
        let missing = one.missing.as_ref().map(|last| format!("MISSING up to {last}"));
        [one.shard.to_string(), one.place.clone(), missing.unwrap_or_default(), what, amount]
    };
    let columns = ["SHARD", "PLACE", "IN FRONT", "WHAT", "MINOR UNITS"];
    output.table(columns, found.iter().map(row).collect())
}

fn described(one: &WaitingEntry) -> Value {
    let fields = one.fields.iter().map(|field| STANDARD.encode(field)).collect::<Vec<_>>();
    let mut value = json!({
        "shard": one.shard,
        "place": one.place,
        "missingUpTo": one.missing,
        "fields": fields,
    });
    let says = match &one.says {
        EntrySays::Unknown => json!({ "says": "unknown" }),
        EntrySays::Begin => json!({ "says": "begin" }),
        EntrySays::Recall(amount) => json!({ "says": "recall", "amount": amount }),
        EntrySays::Decision(record) => json!({
            "says": "decision",
            "decision": record.verdict.word(),
            "transactionId": record.id.to_string(),
            "organizationId": record.org_id.to_string(),
            "agentId": record.spend.agent_id.to_string(),
            "mandateId": record.mandate().map(|(id, _)| id.to_string()),
            "amount": record.spend.amount,
            "currency": record.spend.currency.code(),
            "vendor": record.spend.vendor.canonical(),
            "decidedAt": record.decided_at.to_string(),
        }),
    };
    if let (Value::Object(value), Value::Object(says)) = (&mut value, says) {
        value.extend(says);
    }
    value
}
