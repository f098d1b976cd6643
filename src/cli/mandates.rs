//! `quetra mandates …`: what an agent may spend, as YAML files in and out.
//!
//! Not here: reading and writing the files (`mandate_file`).

mod authoring;
mod show;

use clap::{Args, Subcommand};

use super::agents::{find, find_or_own};
use super::args::{AGENT_HELP, PageArgs, word};
use super::client::{Session, collect};
use super::error::CliError;
use super::mandate_file::FileArg;
use super::money;
use super::output::Output;
use crate::forms::Word;
use crate::proto::v1;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum MandatesCommand {
    /// Create a draft from a YAML file
    Create(CreateArgs),
    /// List mandates, newest first
    List(ListArgs),
    /// Show a mandate
    Get(GetArgs),
    /// Change a mandate to what a YAML file says; a file without an agent changes only the fields
    /// it mentions
    Update(UpdateArgs),
    /// Change the limits, live
    SetBudget(SetBudgetArgs),
    /// Put a draft in force
    Activate(MandateArg),
    /// Stop approvals until it is resumed
    Pause(MandateArg),
    /// Put a paused mandate in force again
    Resume(MandateArg),
    /// End a mandate for good
    Revoke {
        /// `mdt_…`
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Delete a draft
    Delete(MandateArg),
    /// List the versions of a mandate, newest first
    Versions {
        /// `mdt_…`
        id: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Check a YAML file without a server: its shape, not the bounds that the server checks
    Validate(FileArg),
    /// Print the signed token of an agent's active mandate
    Token {
        #[arg(help = AGENT_HELP)]
        agent: Option<String>,
    },
}

/// Which mandate.
#[derive(Debug, Args)]
pub(super) struct MandateArg {
    /// `mdt_…`
    id: String,
}

/// A new mandate.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    file: FileArg,
    /// Put it in force at once
    #[arg(long)]
    activate: bool,
    /// The agent, id or name, instead of the one in the file
    #[arg(long)]
    agent: Option<String>,
    /// The same key and file answer the same for a day
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    idempotency_key: String,
}

/// Which mandates.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
    /// Only this agent's, by id or name
    #[arg(long)]
    agent: Option<String>,
    /// Only with this status: draft, active, paused, expired, revoked
    #[arg(long, value_parser = word::<v1::MandateStatus>)]
    status: Option<Word<v1::MandateStatus>>,
}

/// Which mandate, in which shape.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// `mdt_…`
    id: String,
    /// A past version
    #[arg(long, value_name = "N", value_parser = version())]
    version: Option<i64>,
    /// Print the file that `create` and `update` accept
    #[arg(long, conflicts_with = "output")]
    yaml: bool,
}

/// What to change.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// `mdt_…`
    id: String,
    #[command(flatten)]
    file: FileArg,
    /// Refuse if the mandate is not at this version any more
    #[arg(long, value_name = "N", value_parser = version())]
    expected_version: Option<i64>,
}

/// New limits.
#[derive(Debug, Args)]
pub(super) struct SetBudgetArgs {
    /// `mdt_…`
    id: String,
    /// The limit of one period, in minor units
    #[arg(long, value_parser = money::parse, required_unless_present = "per_transaction")]
    total: Option<i64>,
    /// The ceiling of one transaction, in minor units
    #[arg(long, value_parser = money::parse)]
    per_transaction: Option<i64>,
    /// Refuse if the mandate is not at this version any more
    #[arg(long, value_name = "N", value_parser = version())]
    expected_version: Option<i64>,
}

/// Versions begin with 1; the API takes 0 for the present one, which here is said by saying none.
fn version() -> clap::builder::RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(1..)
}

/// Runs one of them.
pub(super) async fn run(
    command: MandatesCommand,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    match command {
        MandatesCommand::Create(args) => authoring::create(args, session).await?,
        MandatesCommand::Update(args) => authoring::update(args, session).await?,
        MandatesCommand::Get(args) => authoring::get(args, session).await?,
        MandatesCommand::Validate(file) => authoring::validate(&file, session.output)?,
        MandatesCommand::List(args) => list(args, session).await?,
        MandatesCommand::Versions { id, page } => versions(id, &page, session).await?,
        MandatesCommand::Token { agent } => token(agent, session).await?,
        MandatesCommand::SetBudget(args) => set_budget(args, session).await?,
        MandatesCommand::Delete(MandateArg { id }) => {
            let request = v1::DeleteMandateRequest { mandate_id: id };
            let answer = session.mandates().delete_mandate(request).await?.into_inner();
            if !session.json(&answer)? {
                session.output.line("deleted")?;
            }
        }
        MandatesCommand::Activate(MandateArg { id }) => {
            let request = v1::ActivateMandateRequest { mandate_id: id };
            let answer = session.mandates().activate_mandate(request).await?.into_inner();
            show::answered(&answer, answer.mandate.as_ref(), session)?;
        }
        MandatesCommand::Pause(MandateArg { id }) => {
            let request = v1::PauseMandateRequest { mandate_id: id };
            let answer = session.mandates().pause_mandate(request).await?.into_inner();
            show::answered(&answer, answer.mandate.as_ref(), session)?;
        }
        MandatesCommand::Resume(MandateArg { id }) => {
            let request = v1::ResumeMandateRequest { mandate_id: id };
            let answer = session.mandates().resume_mandate(request).await?.into_inner();
            show::answered(&answer, answer.mandate.as_ref(), session)?;
        }
        MandatesCommand::Revoke { id, reason } => {
            let request = v1::RevokeMandateRequest { mandate_id: id, reason };
            let answer = session.mandates().revoke_mandate(request).await?.into_inner();
            show::answered(&answer, answer.mandate.as_ref(), session)?;
        }
    }
    Ok(0)
}

/// Checks a file without a server.
pub(super) fn validate(file: &FileArg, output: &mut Output) -> Result<u8, CliError> {
    authoring::validate(file, output)?;
    Ok(0)
}

async fn set_budget(args: SetBudgetArgs, session: &mut Session<'_>) -> Result<(), CliError> {
    let request = v1::UpdateBudgetRequest {
        mandate_id: args.id,
        total: args.total,
        per_transaction: args.per_transaction,
        expected_version: args.expected_version.unwrap_or_default(),
        idempotency_key: String::new(),
    };
    let answer = session.mandates().update_budget(request).await?.into_inner();
    show::answered(&answer, answer.mandate.as_ref(), session)
}

async fn list(args: ListArgs, session: &mut Session<'_>) -> Result<(), CliError> {
    let agent_id = match &args.agent {
        Some(agent) => find(agent, session).await?,
        None => String::new(),
    };
    let status = args.status.unwrap_or_default().number();
    let mut client = session.mandates();
    let found = collect(args.page.count(), async |page| {
        let agent_id = agent_id.clone();
        let request = v1::ListMandatesRequest { page: Some(page), agent_id, status };
        let answer = client.list_mandates(request).await?.into_inner();
        Ok((answer.mandates, answer.next_page_token))
    })
    .await?;
    let answer =
        v1::ListMandatesResponse { mandates: found.items, next_page_token: found.next_page_token };
    if !session.json(&answer)? {
        show::many(&answer.mandates, session.output)?;
        session.output.more(&answer.next_page_token)?;
    }
    Ok(())
}

async fn versions(
    mandate_id: String,
    page: &PageArgs,
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    let mut client = session.mandates();
    let found = collect(page.count(), async |page| {
        let mandate_id = mandate_id.clone();
        let request = v1::ListMandateVersionsRequest { page: Some(page), mandate_id };
        let answer = client.list_mandate_versions(request).await?.into_inner();
        Ok((answer.versions, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListMandateVersionsResponse {
        versions: found.items,
        next_page_token: found.next_page_token,
    };
    if !session.json(&answer)? {
        show::versions(&answer.versions, session.output)?;
        session.output.more(&answer.next_page_token)?;
    }
    Ok(())
}

async fn token(agent: Option<String>, session: &mut Session<'_>) -> Result<(), CliError> {
    let agent_id = find_or_own(agent.as_deref(), session).await?;
    let request = v1::GetMandateTokenRequest { agent_id };
    let answer = session.mandates().get_mandate_token(request).await?.into_inner();
    if !session.json(&answer)? {
        session.output.line(&answer.token)?;
    }
    Ok(())
}
