//! `quetra keys …`: the API keys of the organization.
//!
//! Not here: the first key, which `quetra init` or `quetra dev` makes.

use clap::{Args, Subcommand};

use super::agents::find;
use super::args::{Format, PageArgs, time as parse_time, word};
use super::client::{Session, collect};
use super::error::CliError;
use super::output::{dash, time};
use crate::forms::{Time, Word};
use crate::proto::v1;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Create a key and show it, this once
    Create(CreateArgs),
    /// List keys, newest first, without their secrets
    List(PageArgs),
    /// Revoke a key; no call with it is served afterwards
    Revoke {
        /// `key_…`, as the list shows it
        id: String,
    },
}

/// A new key.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// For people
    name: String,
    /// What it may do: admin, agent or reader
    #[arg(long, value_parser = word::<v1::Role>)]
    role: Word<v1::Role>,
    /// The only agent it may act for, id or name; only with --role agent
    #[arg(long)]
    agent: Option<String>,
    /// When it ends, such as 2027-01-31T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires_at: Option<Time>,
}

/// Runs one of them.
pub(super) async fn run(command: KeysCommand, session: &mut Session<'_>) -> Result<u8, CliError> {
    match command {
        KeysCommand::Create(args) => create(args, session).await,
        KeysCommand::List(page) => list(&page, session).await,
        KeysCommand::Revoke { id } => {
            let request = v1::RevokeApiKeyRequest { api_key_id: id };
            let answer = session.organization().revoke_api_key(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.api_key, session)?;
            }
            Ok(0)
        }
    }
}

async fn create(args: CreateArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let agent_id = match &args.agent {
        Some(agent) => find(agent, session).await?,
        None => String::new(),
    };
    let request = v1::CreateApiKeyRequest {
        name: args.name,
        role: args.role.number(),
        agent_id,
        expires_at: args.expires_at.map(Time::to_proto),
        idempotency_key: String::new(),
    };
    let answer = session.organization().create_api_key(request).await?.into_inner();
    if session.output.format == Format::Json {
        session.output.message(&answer)?;
        return Ok(0);
    }
    show(answer.api_key, session)?;
    session.output.line("")?;
    session.output.line(&answer.key)?;
    session.output.line("")?;
    session.output.line("Store it now: it cannot be shown again.")?;
    Ok(0)
}

async fn list(page: &PageArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.organization();
    let found = collect(page.count(), async |page| {
        let request = v1::ListApiKeysRequest { page: Some(page) };
        let answer = client.list_api_keys(request).await?.into_inner();
        Ok((answer.api_keys, answer.next_page_token))
    })
    .await?;
    let answer =
        v1::ListApiKeysResponse { api_keys: found.items, next_page_token: found.next_page_token };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.api_keys.into_iter().map(|key| {
        let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
        [
            key.id,
            key.prefix,
            Word::<v1::Role>::from_number(key.role).to_string(),
            state.to_owned(),
            dash(key.agent_id),
            time(key.last_used_at.as_ref()),
            time(key.url_used_at.as_ref()),
            time(key.expires_at.as_ref()),
            key.name,
        ]
    });
    let columns =
        ["ID", "PREFIX", "ROLE", "STATE", "AGENT", "LAST USED", "USED IN URL", "EXPIRES", "NAME"];
    session.output.table(columns, rows.collect())?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

fn show(key: Option<v1::ApiKey>, session: &mut Session<'_>) -> Result<(), CliError> {
    let key = key.unwrap_or_default();
    let when = |moment: Option<prost_types::Timestamp>| {
        moment.map(|moment| time(Some(&moment))).unwrap_or_default()
    };
    session.output.pairs(&[
        ("id", key.id),
        ("name", key.name),
        ("prefix", key.prefix),
        ("role", Word::<v1::Role>::from_number(key.role).to_string()),
        ("agent", key.agent_id),
        ("created", when(key.created_at)),
        ("expires", when(key.expires_at)),
        ("revoked", when(key.revoked_at)),
    ])
}
