//! Who spends, and the statuses an agent can be in.
//!
//! Not here: what it may spend (`mandate`) and who may act for it (`engine::access`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{AgentId, MandateId, OrgId};

/// What an agent is built with; a label, no behaviour hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the frameworks' own")]
pub enum Framework {
    Langchain,
    Crewai,
    Autogpt,
    OpenaiAgents,
    ClaudeSdk,
    GoogleAdk,
    SemanticKernel,
    Ag2,
    PydanticAi,
    Bedrock,
    Custom,
}

/// Where an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// May spend within its mandate.
    Active,
    /// May not spend for now.
    Suspended,
    /// Ended for good.
    Decommissioned,
}

impl AgentStatus {
    /// The word for people and for stores.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Decommissioned => "decommissioned",
        }
    }
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// The organization it belongs to.
    pub org_id: OrgId,
    /// For people; unique in the organization.
    pub name: String,
    /// What it is for; language models choose an agent by it.
    pub description: String,
    /// What it is built with.
    pub framework: Option<Framework>,
    /// How it runs, in the operator's own word.
    pub execution_mode: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Opaque labels.
    pub metadata: BTreeMap<String, String>,
    /// Where it stands.
    pub status: AgentStatus,
    /// The mandate last put in force; it may be paused, expired or revoked since.
    pub current_mandate: Option<MandateId>,
    /// Grows with every change.
    pub version: i64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The fields an administrator gives an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentProfile {
    /// See [`Agent::name`].
    pub name: String,
    /// See [`Agent::description`].
    pub description: String,
    /// See [`Agent::framework`].
    pub framework: Option<Framework>,
    /// See [`Agent::execution_mode`].
    pub execution_mode: String,
    /// See [`Agent::tags`].
    pub tags: Vec<String>,
    /// See [`Agent::metadata`].
    pub metadata: BTreeMap<String, String>,
}

/// A step that the agent's status does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {} agent cannot be {wanted}", from.word())]
pub struct AgentTransitionError {
    /// Where it stands.
    pub from: AgentStatus,
    /// What was wanted.
    pub wanted: &'static str,
}

impl AgentStatus {
    /// The status after suspending.
    ///
    /// # Errors
    /// When it is decommissioned.
    pub const fn suspend(self) -> Result<Self, AgentTransitionError> {
        match self {
            Self::Active | Self::Suspended => Ok(Self::Suspended),
            Self::Decommissioned => Err(AgentTransitionError { from: self, wanted: "suspended" }),
        }
    }

    /// The status after resuming.
    ///
    /// # Errors
    /// When it is decommissioned.
    pub const fn resume(self) -> Result<Self, AgentTransitionError> {
        match self {
            Self::Active | Self::Suspended => Ok(Self::Active),
            Self::Decommissioned => Err(AgentTransitionError { from: self, wanted: "resumed" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decommissioned_agent_stays_so_and_the_others_go_back_and_forth() {
        use AgentStatus::{Active, Decommissioned, Suspended};
        for status in [Active, Suspended] {
            assert_eq!(status.suspend(), Ok(Suspended));
            assert_eq!(status.resume(), Ok(Active));
        }
        let told =
            |result: Result<AgentStatus, AgentTransitionError>| result.unwrap_err().to_string();
        let (suspend, resume) = (Decommissioned.suspend(), Decommissioned.resume());
        assert_eq!(told(suspend), "a decommissioned agent cannot be suspended");
        assert_eq!(told(resume), "a decommissioned agent cannot be resumed");
    }

    #[test]
    fn statuses_and_frameworks_are_stored_by_their_words() {
        use AgentStatus::{Active, Decommissioned, Suspended};
        for status in [Active, Suspended, Decommissioned] {
            let stored = serde_json::to_string(&status).unwrap();
            assert_eq!(stored, format!("\"{}\"", status.word()));
            assert_eq!(serde_json::from_str::<AgentStatus>(&stored).unwrap(), status);
        }
        let frameworks = [
            (Framework::Langchain, "langchain"),
            (Framework::Crewai, "crewai"),
            (Framework::Autogpt, "autogpt"),
            (Framework::OpenaiAgents, "openai-agents"),
            (Framework::ClaudeSdk, "claude-sdk"),
            (Framework::GoogleAdk, "google-adk"),
            (Framework::SemanticKernel, "semantic-kernel"),
            (Framework::Ag2, "ag2"),
            (Framework::PydanticAi, "pydantic-ai"),
            (Framework::Bedrock, "bedrock"),
            (Framework::Custom, "custom"),
        ];
        for (framework, word) in frameworks {
            assert_eq!(serde_json::to_value(framework).unwrap(), word);
        }
    }
}
