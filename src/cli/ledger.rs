//! `quetra ledger …`: how the ledger in Redis stands, and what an operator may decide about it.
//!
//! These commands work on the database itself, beside servers that run or without any. Not here:
//! budgets and transactions, which every client can ask for (`budget`, `transactions`).

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::Format;
use super::client::runtime;
use super::error::CliError;
use super::output::Output;
use super::setting_flags::{ForLedger, SettingFlags};
use crate::app::{self, AheadShard, LedgerStatus, Outbox, ShardStatus, StrandedLease};
use crate::config::{Environment, Purpose, ServerConfig};
use crate::telemetry;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Show every shard that is spent from Redis, and what ended epochs still have
    Status(StatusArgs),
    /// Show what ended epochs still have, or free what one of them has
    Reconcile(ReconcileArgs),
    /// Show of which shards Postgres has lost what it had, or go on with them in a new epoch
    Rebase(RebaseArgs),
}

/// What becomes of a Postgres that was put back.
#[derive(Debug, Args)]
pub(super) struct RebaseArgs {
    /// Go on: what these shards have in their outboxes is given up, and never recorded
    #[arg(long)]
    dangerous_give_up: bool,
    /// A table for people, or JSON for scripts
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    settings: SettingFlags<ForLedger>,
}

/// How everything stands.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// A table for people, or JSON for scripts
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    settings: SettingFlags<ForLedger>,
}

/// What to free.
#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    /// The shard
    #[arg(long, value_name = "N", requires = "epoch")]
    #[arg(value_parser = clap::value_parser!(i16).range(0..64))]
    shard: Option<i16>,
    /// The epoch, which has ended
    #[arg(long, value_name = "N", requires = "shard")]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    epoch: Option<i64>,
    /// Free it: you know that no answered approval of this epoch is missing from the record
    #[arg(long, requires = "epoch")]
    dangerous_nothing_was_lost: bool,
    /// A table for people, or JSON for scripts
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    settings: SettingFlags<ForLedger>,
}

/// Runs one of them.
pub(super) fn run(
    command: LedgerCommand,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    match command {
        LedgerCommand::Status(args) => {
            let config = load(args.settings, environment)?;
            let status = runtime()?.block_on(app::ledger_status(&config))?;
            match args.output {
                Format::Json => output.raw(&format!("{:#}\n", described(&status)))?,
                Format::Table => show(&status, output)?,
            }
            Ok(0)
        }
        LedgerCommand::Reconcile(args) => reconcile(args, environment, output),
        LedgerCommand::Rebase(args) => rebase(args, environment, output),
    }
}

pub(super) fn load(
    settings: SettingFlags<ForLedger>,
    environment: &Environment,
) -> Result<ServerConfig, CliError> {
    let config = ServerConfig::load(Purpose::Migrate, settings.layer, environment)?;
    telemetry::init(&config.log, config.log_format)?;
    Ok(config)
}

fn reconcile(
    args: ReconcileArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let config = load(args.settings, environment)?;
    let of_one = args.shard.zip(args.epoch);
    let asked = runtime()?.block_on(async {
        let status = app::ledger_status(&config).await?;
        let freed = match of_one {
            Some((shard, epoch)) if args.dangerous_nothing_was_lost => {
                Some(app::ledger_free(&config, shard, epoch).await?)
            }
            Some(_) | None => None,
        };
        Ok::<_, anyhow::Error>((status, freed))
    });
    let (mut status, freed) = asked?;
    status.stranded.retain(|one| of_one.is_none_or(|asked| asked == (one.shard, one.epoch)));
    if args.output == Format::Json {
        let value = json!({ "stranded": stranded(&status), "freed": freed });
        output.raw(&format!("{value:#}\n"))?;
        return Ok(0);
    }
    show_stranded(&status.stranded, output)?;
    output.line("")?;
    match freed {
        Some(freed) => output.line(&format!("freed {freed}; it can be spent again"))?,
        None => output.line(
            "Nothing was freed. These count as spent until their periods end. If you know that \
             Redis lost nothing that was answered, name a shard and an epoch and add \
             --dangerous-nothing-was-lost.",
        )?,
    }
    Ok(0)
}

fn rebase(
    args: RebaseArgs,
    environment: &Environment,
    output: &mut Output,
) -> Result<u8, CliError> {
    let config = load(args.settings, environment)?;
    let ahead = runtime()?.block_on(app::ledger_rebase(&config, args.dangerous_give_up))?;
    if args.output == Format::Json {
        let one = |one: &AheadShard| {
            json!({
                "shard": one.shard,
                "postgresEpoch": one.postgres_epoch,
                "postgresRecorded": one.postgres_recorded,
                "redisEpoch": one.redis_epoch,
                "redisRecorded": one.redis_recorded,
                "rebasedTo": one.rebased_to,
            })
        };
        let value = json!({ "shards": ahead.iter().map(one).collect::<Vec<_>>() });
        output.raw(&format!("{value:#}\n"))?;
        return Ok(0);
    }
    if ahead.is_empty() {
        output.line("Postgres has everything that Redis knows that it had.")?;
        return Ok(0);
    }
    let number = |epoch: Option<i64>| epoch.map_or_else(|| "none".to_owned(), |it| it.to_string());
    let row = |one: &AheadShard| {
        [
            one.shard.to_string(),
            number(one.postgres_epoch),
            one.postgres_recorded.clone(),
            one.redis_epoch.to_string(),
            one.redis_recorded.clone(),
            number(one.rebased_to),
        ]
    };
    let columns = ["SHARD", "POSTGRES", "RECORDED", "REDIS", "WAS RECORDED", "REBASED TO"];
    output.table(columns, ahead.iter().map(row).collect())?;
    if !args.dangerous_give_up {
        output.line("")?;
        output.line(
            "Nothing was changed. Keep what is not recorded with `quetra outbox export`, then add \
             --dangerous-give-up.",
        )?;
    }
    Ok(0)
}

fn show(status: &LedgerStatus, output: &mut Output) -> Result<(), CliError> {
    if let Some(error) = &status.redis_error {
        output.line(&format!("redis cannot be asked: {error}"))?;
    }
    let row = |one: &ShardStatus| {
        [
            one.shard.to_string(),
            if one.begun { one.epoch.to_string() } else { format!("{} (begins)", one.epoch) },
            one.taken_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            one.recorded.clone(),
            outbox(&one.outbox),
            one.slices.to_string(),
        ]
    };
    let columns = ["SHARD", "EPOCH", "SINCE", "RECORDED", "OUTBOX", "SLICES"];
    output.table(columns, status.shards.iter().map(row).collect())?;
    if !status.stranded.is_empty() {
        output.line("")?;
        output.line("Ended epochs still have, and it counts as spent:")?;
        show_stranded(&status.stranded, output)?;
    }
    Ok(())
}

fn show_stranded(stranded: &[StrandedLease], output: &mut Output) -> Result<(), CliError> {
    let row = |one: &StrandedLease| {
        [
            one.mandate_id.clone(),
            one.counter.clone(),
            one.starts_at.strftime("%Y-%m-%d").to_string(),
            one.amount.to_string(),
            one.level.clone(),
            format!("{} / {}", one.shard, one.epoch),
            if one.is_recorded { "yes" } else { "not yet" }.to_owned(),
        ]
    };
    let columns =
        ["MANDATE", "COUNTER", "SINCE", "MINOR UNITS", "LEVEL", "SHARD / EPOCH", "RECORDED"];
    output.table(columns, stranded.iter().map(row).collect())
}

fn outbox(outbox: &Outbox) -> String {
    match outbox {
        Outbox::Unknown => "unknown".to_owned(),
        Outbox::OfAnother => "of another process".to_owned(),
        Outbox::Recorded => "recorded".to_owned(),
        Outbox::Behind(last) => format!("goes on to {last}"),
        Outbox::Lost(last) => format!("ENDS AT {last}: entries are lost"),
    }
}

fn stranded(status: &LedgerStatus) -> Vec<Value> {
    let one = |one: &StrandedLease| {
        json!({
            "shard": one.shard,
            "epoch": one.epoch,
            "organizationId": one.organization_id,
            "mandateId": one.mandate_id,
            "counter": one.counter,
            "startsAt": one.starts_at.to_string(),
            "level": one.level,
            "amount": one.amount,
            "recorded": one.is_recorded,
        })
    };
    status.stranded.iter().map(one).collect()
}

fn described(status: &LedgerStatus) -> Value {
    let shard = |one: &ShardStatus| {
        let (state, last) = match &one.outbox {
            Outbox::Unknown => ("unknown", None),
            Outbox::OfAnother => ("of_another", None),
            Outbox::Recorded => ("recorded", None),
            Outbox::Behind(last) => ("behind", Some(last)),
            Outbox::Lost(last) => ("lost", Some(last)),
        };
        json!({
            "shard": one.shard,
            "epoch": one.epoch,
            "begun": one.begun,
            "takenAt": one.taken_at.to_string(),
            "recorded": one.recorded,
            "slices": one.slices,
            "outbox": state,
            "outboxEndsAt": last,
        })
    };
    json!({
        "shards": status.shards.iter().map(shard).collect::<Vec<_>>(),
        "stranded": stranded(status),
        "redisError": status.redis_error,
    })
}
