//! Agents: profiles and patches from messages, agents to messages.

use jiff::Timestamp;

use super::{Violations, defined, mandate, mask, timestamp};
use crate::domain::agent::{Agent, AgentProfile, AgentStatus, Framework};
use crate::domain::mandate::Mandate;
use crate::engine::EngineResult;
use crate::engine::agents::AgentPatch;
use crate::proto::v1;

pub(in crate::grpc) fn profile(request: v1::RegisterAgentRequest) -> EngineResult<AgentProfile> {
    let mut wrong = Violations::default();
    wrong.name("name", &request.name);
    wrong.visible("description", &request.description);
    wrong.finish(Some(AgentProfile {
        framework: framework(request.framework()),
        name: request.name,
        description: request.description,
        execution_mode: request.execution_mode,
        tags: request.tags,
        metadata: request.metadata,
    }))
}

pub(in crate::grpc) fn patch(request: v1::UpdateAgentRequest) -> EngineResult<AgentPatch> {
    const KNOWN: [&str; 6] =
        ["name", "description", "framework", "execution_mode", "tags", "metadata"];
    let mut wrong = Violations::default();
    let paths = mask(request.update_mask.as_ref(), &KNOWN, &mut wrong);
    let named = |path: &str| paths.iter().any(|named| named == path);
    if named("name") {
        wrong.name("name", &request.name);
    }
    if named("description") {
        wrong.visible("description", &request.description);
    }
    let framework = framework(request.framework());
    let patch = AgentPatch {
        name: named("name").then_some(request.name),
        description: named("description").then_some(request.description),
        framework: named("framework").then_some(framework),
        execution_mode: named("execution_mode").then_some(request.execution_mode),
        tags: named("tags").then_some(request.tags),
        metadata: named("metadata").then_some(request.metadata),
    };
    wrong.finish(Some(patch))
}

pub(in crate::grpc) fn agent(agent: Agent, in_force: Option<v1::Mandate>) -> v1::Agent {
    v1::Agent {
        id: agent.id.to_string(),
        name: agent.name,
        description: agent.description,
        framework: agent.framework.map_or(v1::Framework::Unspecified, framework_message).into(),
        execution_mode: agent.execution_mode,
        tags: agent.tags,
        metadata: agent.metadata,
        status: match agent.status {
            AgentStatus::Active => v1::AgentStatus::Active,
            AgentStatus::Suspended => v1::AgentStatus::Suspended,
            AgentStatus::Decommissioned => v1::AgentStatus::Decommissioned,
        }
        .into(),
        created_at: Some(timestamp(agent.created_at)),
        updated_at: Some(timestamp(agent.updated_at)),
        mandate: in_force,
    }
}

/// An agent with the mandate that is in force, without its budget's state.
pub(in crate::grpc) fn agent_with(
    (subject, in_force): (Agent, Option<Mandate>),
    now: Timestamp,
) -> v1::Agent {
    agent(subject, in_force.map(|in_force| mandate::mandate(in_force, None, now)))
}

pub(in crate::grpc) fn status(value: i32) -> Option<AgentStatus> {
    match defined(value, v1::AgentStatus::Unspecified) {
        v1::AgentStatus::Unspecified => None,
        v1::AgentStatus::Active => Some(AgentStatus::Active),
        v1::AgentStatus::Suspended => Some(AgentStatus::Suspended),
        v1::AgentStatus::Decommissioned => Some(AgentStatus::Decommissioned),
    }
}

const fn framework(framework: v1::Framework) -> Option<Framework> {
    match framework {
        v1::Framework::Unspecified => None,
        v1::Framework::Langchain => Some(Framework::Langchain),
        v1::Framework::Crewai => Some(Framework::Crewai),
        v1::Framework::Autogpt => Some(Framework::Autogpt),
        v1::Framework::OpenaiAgents => Some(Framework::OpenaiAgents),
        v1::Framework::ClaudeSdk => Some(Framework::ClaudeSdk),
        v1::Framework::GoogleAdk => Some(Framework::GoogleAdk),
        v1::Framework::SemanticKernel => Some(Framework::SemanticKernel),
        v1::Framework::Ag2 => Some(Framework::Ag2),
        v1::Framework::PydanticAi => Some(Framework::PydanticAi),
        v1::Framework::Bedrock => Some(Framework::Bedrock),
        v1::Framework::Custom => Some(Framework::Custom),
    }
}

const fn framework_message(framework: Framework) -> v1::Framework {
    match framework {
        Framework::Langchain => v1::Framework::Langchain,
        Framework::Crewai => v1::Framework::Crewai,
        Framework::Autogpt => v1::Framework::Autogpt,
        Framework::OpenaiAgents => v1::Framework::OpenaiAgents,
        Framework::ClaudeSdk => v1::Framework::ClaudeSdk,
        Framework::GoogleAdk => v1::Framework::GoogleAdk,
        Framework::SemanticKernel => v1::Framework::SemanticKernel,
        Framework::Ag2 => v1::Framework::Ag2,
        Framework::PydanticAi => v1::Framework::PydanticAi,
        Framework::Bedrock => v1::Framework::Bedrock,
        Framework::Custom => v1::Framework::Custom,
    }
}
