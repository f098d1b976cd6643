//! An agent as a person writes it, changes it, and as the server shows it.
//!
//! Not here: its mandates (`mandate`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::patch::{Patch, given, masked};
use super::scalar::Time;
use super::words::Word;
use super::{FormError, MandateView};
use crate::proto::v1;

/// A new agent: the body of `POST /agents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentForm {
    /// For people; unique in the organization.
    pub name: String,
    /// What the agent is for. Language models choose an agent by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is built with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework: Option<Word<v1::Framework>>,
    /// How it runs, in the operator's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_mode: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Opaque labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl AgentForm {
    /// The request that registers it.
    #[must_use]
    pub fn into_register(self, idempotency_key: String) -> v1::RegisterAgentRequest {
        v1::RegisterAgentRequest {
            name: self.name,
            description: self.description.unwrap_or_default(),
            framework: self.framework.unwrap_or_default().number(),
            execution_mode: self.execution_mode.unwrap_or_default(),
            tags: self.tags,
            metadata: self.metadata,
            idempotency_key,
        }
    }
}

/// Changes to an agent: the body of `PATCH /agents/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentPatch {
    /// For people; unique in the organization.
    #[serde(deserialize_with = "given")]
    pub name: Option<String>,
    /// What the agent is for; null clears it.
    pub description: Patch<String>,
    /// What it is built with; null clears it.
    pub framework: Patch<Word<v1::Framework>>,
    /// How it runs; null clears it.
    pub execution_mode: Patch<String>,
    /// Labels, as a whole.
    #[serde(deserialize_with = "given")]
    pub tags: Option<Vec<String>>,
    /// Opaque labels, as a whole.
    #[serde(deserialize_with = "given")]
    pub metadata: Option<BTreeMap<String, String>>,
}

impl AgentPatch {
    /// The request that makes the changes, with the mask of what is mentioned.
    #[must_use]
    pub fn into_update(self, agent_id: String, idempotency_key: String) -> v1::UpdateAgentRequest {
        let mut mask = prost_types::FieldMask::default();
        let framework = self.framework.masked("framework", &mut mask);
        let mode = self.execution_mode.masked("execution_mode", &mut mask);
        v1::UpdateAgentRequest {
            agent_id,
            name: masked(self.name, "name", &mut mask).unwrap_or_default(),
            description: self.description.masked("description", &mut mask).unwrap_or_default(),
            framework: framework.unwrap_or_default().number(),
            execution_mode: mode.unwrap_or_default(),
            tags: masked(self.tags, "tags", &mut mask).unwrap_or_default(),
            metadata: masked(self.metadata, "metadata", &mut mask).unwrap_or_default(),
            idempotency_key,
            update_mask: Some(mask),
        }
    }
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    /// UUID.
    pub id: String,
    /// For people; unique in the organization.
    pub name: String,
    /// What the agent is for.
    pub description: String,
    /// What it is built with; null if not stated.
    pub framework: Option<Word<v1::Framework>>,
    /// How it runs; null if not stated.
    pub execution_mode: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Opaque labels.
    pub metadata: BTreeMap<String, String>,
    /// Where it stands.
    pub status: Word<v1::AgentStatus>,
    /// When it was registered.
    pub created_at: Option<Time>,
    /// When it last changed.
    pub updated_at: Option<Time>,
    /// Its active mandate, if it was asked for and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateView>,
}

impl TryFrom<v1::Agent> for AgentView {
    type Error = FormError;

    fn try_from(agent: v1::Agent) -> Result<Self, FormError> {
        Ok(Self {
            id: agent.id,
            name: agent.name,
            description: agent.description,
            framework: Word::specified(agent.framework),
            execution_mode: super::decision::present(agent.execution_mode),
            tags: agent.tags,
            metadata: agent.metadata,
            status: Word::from_number(agent.status),
            created_at: Time::from_proto(agent.created_at.as_ref()),
            updated_at: Time::from_proto(agent.updated_at.as_ref()),
            mandate: agent.mandate.map(MandateView::try_from).transpose()?,
        })
    }
}
