//! `quetra agents …`: who spends.
//!
//! Not here: what they may spend (`mandates`).

use clap::{Args, Subcommand};

use super::args::{PageArgs, pair, word};
use super::client::{Session, collect};
use super::error::CliError;
use super::output::{dash, time};
use crate::forms::Word;
use crate::proto::v1;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// Register an agent; it can spend nothing until it has an active mandate
    Register(RegisterArgs),
    /// List agents by name
    List(ListArgs),
    /// Show one agent and its active mandate
    Get(AgentArg),
    /// Change an agent; only what is given changes
    Update(UpdateArgs),
    /// Stop every approval of an agent
    Suspend(AgentArg),
    /// Let a suspended agent spend again
    Resume(AgentArg),
    /// End an agent for good, with its mandates and keys
    Decommission(AgentArg),
}

/// Which agent.
#[derive(Debug, Args)]
pub(super) struct AgentArg {
    /// Id or name
    agent: String,
}

/// A new agent.
#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    /// Unique in the organization
    name: String,
    #[command(flatten)]
    about: AboutArgs,
    /// The same key and request answer the same for a day
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    idempotency_key: String,
}

/// Which agents.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
    /// Only with this status: active, suspended, decommissioned
    #[arg(long, value_parser = word::<v1::AgentStatus>)]
    status: Option<Word<v1::AgentStatus>>,
}

/// What to change.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// Id or name
    agent: String,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    about: AboutArgs,
}

/// What an agent says about itself.
#[derive(Debug, Args)]
struct AboutArgs {
    /// What it is for; language models choose an agent by it
    #[arg(long)]
    description: Option<String>,
    /// What it is built with, such as langchain, crewai, claude-sdk, custom
    #[arg(long, value_parser = word::<v1::Framework>)]
    framework: Option<Word<v1::Framework>>,
    /// How it runs, such as autonomous or supervised
    #[arg(long, value_name = "WORD")]
    execution_mode: Option<String>,
    /// A label; give it again for more
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// An opaque label; give it again for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

/// Runs one of them.
pub(super) async fn run(command: AgentsCommand, session: &mut Session<'_>) -> Result<u8, CliError> {
    match command {
        AgentsCommand::Register(args) => register(args, session).await,
        AgentsCommand::List(args) => list(args, session).await,
        AgentsCommand::Get(AgentArg { agent }) => {
            let agent_id = find(&agent, session).await?;
            let request = v1::GetAgentRequest { agent_id, include_mandate: true };
            let answer = session.agents().get_agent(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.agent, session)?;
            }
            Ok(0)
        }
        AgentsCommand::Update(args) => update(args, session).await,
        AgentsCommand::Suspend(AgentArg { agent }) => {
            let agent_id = find(&agent, session).await?;
            let request = v1::SuspendAgentRequest { agent_id };
            let answer = session.agents().suspend_agent(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.agent, session)?;
            }
            Ok(0)
        }
        AgentsCommand::Resume(AgentArg { agent }) => {
            let agent_id = find(&agent, session).await?;
            let request = v1::ResumeAgentRequest { agent_id };
            let answer = session.agents().resume_agent(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.agent, session)?;
            }
            Ok(0)
        }
        AgentsCommand::Decommission(AgentArg { agent }) => {
            let agent_id = find(&agent, session).await?;
            let request = v1::DecommissionAgentRequest { agent_id };
            let answer = session.agents().decommission_agent(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.agent, session)?;
            }
            Ok(0)
        }
    }
}

async fn register(args: RegisterArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = v1::RegisterAgentRequest {
        name: args.name,
        description: args.about.description.unwrap_or_default(),
        framework: args.about.framework.unwrap_or_default().number(),
        execution_mode: args.about.execution_mode.unwrap_or_default(),
        tags: args.about.tags,
        metadata: args.about.metadata.into_iter().collect(),
        idempotency_key: args.idempotency_key,
    };
    let answer = session.agents().register_agent(request).await?.into_inner();
    if !session.json(&answer)? {
        show(answer.agent, session)?;
    }
    Ok(0)
}

async fn update(args: UpdateArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let about = args.about;
    let changes = [
        ("name", args.name.is_some()),
        ("description", about.description.is_some()),
        ("framework", about.framework.is_some()),
        ("execution_mode", about.execution_mode.is_some()),
        ("tags", !about.tags.is_empty()),
        ("metadata", !about.metadata.is_empty()),
    ];
    let paths: Vec<String> =
        changes.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()).collect();
    if paths.is_empty() {
        return Err(CliError::Usage("nothing to change; see `quetra agents update --help`".into()));
    }
    let request = v1::UpdateAgentRequest {
        agent_id: find(&args.agent, session).await?,
        update_mask: Some(prost_types::FieldMask { paths }),
        name: args.name.unwrap_or_default(),
        description: about.description.unwrap_or_default(),
        framework: about.framework.unwrap_or_default().number(),
        execution_mode: about.execution_mode.unwrap_or_default(),
        tags: about.tags,
        metadata: about.metadata.into_iter().collect(),
        idempotency_key: String::new(),
    };
    let answer = session.agents().update_agent(request).await?.into_inner();
    if !session.json(&answer)? {
        show(answer.agent, session)?;
    }
    Ok(0)
}

async fn list(args: ListArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.agents();
    let status = args.status.unwrap_or_default().number();
    let found = collect(args.page.count(), async |page| {
        let request = v1::ListAgentsRequest { page: Some(page), include_mandate: true, status };
        let answer = client.list_agents(request).await?.into_inner();
        Ok((answer.agents, answer.next_page_token))
    })
    .await?;
    let answer =
        v1::ListAgentsResponse { agents: found.items, next_page_token: found.next_page_token };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.agents.into_iter().map(|agent| {
        let mandate = agent.mandate.map(|mandate| mandate.id).unwrap_or_default();
        let status = Word::<v1::AgentStatus>::from_number(agent.status).to_string();
        [agent.id, agent.name, status, dash(mandate), dash(agent.description)]
    });
    let columns = ["ID", "NAME", "STATUS", "ACTIVE MANDATE", "DESCRIPTION"];
    session.output.table(columns, rows.collect())?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

fn show(agent: Option<v1::Agent>, session: &mut Session<'_>) -> Result<(), CliError> {
    let agent = agent.unwrap_or_default();
    let metadata: Vec<String> =
        agent.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let framework = Word::<v1::Framework>::specified(agent.framework);
    session.output.pairs(&[
        ("id", agent.id),
        ("name", agent.name),
        ("status", Word::<v1::AgentStatus>::from_number(agent.status).to_string()),
        ("description", agent.description),
        ("framework", framework.map(|word| word.to_string()).unwrap_or_default()),
        ("execution mode", agent.execution_mode),
        ("tags", agent.tags.join(", ")),
        ("metadata", metadata.join(", ")),
        ("active mandate", agent.mandate.map(|mandate| mandate.id).unwrap_or_default()),
        ("created", time(agent.created_at.as_ref())),
        ("updated", time(agent.updated_at.as_ref())),
    ])
}

/// The id of the agent a command is about: the one it names, or else the one of the environment or
/// the credentials file; empty if there is none, which an agent-bound key answers for itself.
pub(super) async fn find_or_own(
    agent: Option<&str>,
    session: &Session<'_>,
) -> Result<String, CliError> {
    match agent.or(session.agent_id.as_deref()) {
        Some(agent) => find(agent, session).await,
        None => Ok(String::new()),
    }
}

/// The id of an agent that a person named by id or by name.
pub(super) async fn find(agent: &str, session: &Session<'_>) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(agent).is_ok() {
        return Ok(agent.to_owned());
    }
    let mut client = session.agents();
    let found = collect(usize::MAX, async |page| {
        let request = v1::ListAgentsRequest { page: Some(page), ..Default::default() };
        let answer = client.list_agents(request).await?.into_inner();
        Ok((answer.agents, answer.next_page_token))
    })
    .await?;
    let named = found.items.into_iter().find(|candidate| candidate.name == agent);
    named.map(|agent| agent.id).ok_or_else(|| {
        CliError::Refused(format!(
            "no agent is named `{}`\nnext: see `quetra agents list`, or give the id",
            agent.chars().take(32).collect::<String>()
        ))
    })
}
