//! Agents: registering, describing, stopping them.
//!
//! Not here: what they may spend (`mandates`).

use super::access::Principal;
use super::pages::{PageAsk, Paged};
use super::receipts::Idempotency;
use super::{ATTEMPTS, Engine, EngineError, EngineResult};
use crate::crypto::random_id;
use crate::domain::agent::{Agent, AgentProfile, AgentStatus};
use crate::domain::id::{AgentId, OrgId};
use crate::domain::mandate::{Mandate, MandateStatus};
use crate::store::{Change, Stand};

/// What to change of an agent; `None` leaves it.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields of AgentProfile")]
pub struct AgentPatch {
    pub name: Option<String>,
    pub description: Option<String>,
    pub framework: Option<Option<crate::domain::agent::Framework>>,
    pub execution_mode: Option<String>,
    pub tags: Option<Vec<String>>,
    pub metadata: Option<std::collections::BTreeMap<String, String>>,
}

impl AgentPatch {
    fn apply(&self, agent: &mut Agent) {
        let Self { name, description, framework, execution_mode, tags, metadata } = self.clone();
        agent.name = name.unwrap_or_else(|| std::mem::take(&mut agent.name));
        agent.description = description.unwrap_or_else(|| std::mem::take(&mut agent.description));
        agent.framework = framework.unwrap_or(agent.framework);
        agent.execution_mode =
            execution_mode.unwrap_or_else(|| std::mem::take(&mut agent.execution_mode));
        agent.tags = tags.unwrap_or_else(|| std::mem::take(&mut agent.tags));
        agent.metadata = metadata.unwrap_or_else(|| std::mem::take(&mut agent.metadata));
    }
}

/// Which way an agent's status goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentStep {
    /// Stops it for now.
    Suspend,
    /// Lets it spend again.
    Resume,
}

/// A name for people: something visible, and nothing that hides or reorders text.
fn checked_name(name: &str) -> EngineResult<()> {
    if name.trim().is_empty() {
        return Err(EngineError::invalid("name", "must not be empty"));
    }
    if name.chars().any(is_hidden) {
        let why = "must not have control characters or characters that hide or reorder text";
        return Err(EngineError::invalid("name", why));
    }
    Ok(())
}

/// Control characters, and the format characters that reorder or hide text (Unicode bidi controls,
/// zero-width characters, the byte order mark).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}'
            | '\u{061C}' | '\u{FEFF}')
}

impl Engine {
    /// Registers an agent.
    ///
    /// # Errors
    /// When its name is taken.
    pub async fn register_agent(
        &self,
        caller: &Principal,
        profile: AgentProfile,
        idempotency: &Idempotency,
    ) -> EngineResult<Agent> {
        if let Some(agent) = self.replay::<Agent>(caller.org_id, idempotency).await? {
            self.catalogue.confirm(Stand::Agent(agent.clone())).await?;
            return Ok(agent);
        }
        checked_name(&profile.name)?;
        let now = self.clock.now();
        let agent = Agent {
            id: AgentId::from_bytes(random_id()),
            org_id: caller.org_id,
            name: profile.name,
            description: profile.description,
            framework: profile.framework,
            execution_mode: profile.execution_mode,
            tags: profile.tags,
            metadata: profile.metadata,
            status: AgentStatus::Active,
            current_mandate: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let changes = vec![Change::CreateAgent(agent.clone())];
        match self.commit(caller, changes, idempotency, &agent).await {
            Err(error) if error.is_conflict() => {
                let replayed = self.replay(caller.org_id, idempotency).await?;
                replayed.ok_or(EngineError::NameTaken)
            }
            result => result.map(|()| agent),
        }
    }

    /// One agent, with its mandate in force if that is asked.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub async fn agent(
        &self,
        caller: &Principal,
        id: AgentId,
        with_mandate: bool,
    ) -> EngineResult<(Agent, Option<Mandate>)> {
        let agent = self.require_agent(caller.org_id, caller.agent(Some(id))?).await?;
        let mandate = if with_mandate { self.mandate_in_force(&agent).await? } else { None };
        Ok((agent, mandate))
    }

    /// A page of agents by name, with their mandates in force if that is asked.
    ///
    /// # Errors
    /// When the token is not of this list.
    pub async fn agents(
        &self,
        caller: &Principal,
        (status, with_mandate): (Option<AgentStatus>, bool),
        ask: &PageAsk,
    ) -> EngineResult<Paged<(Agent, Option<Mandate>)>> {
        let query = format!("agents {status:?}");
        let page = self.pages.open(caller.org_id, &query, ask)?;
        let paged = if let Some(own) = caller.agent_id {
            let agent = self.require_agent(caller.org_id, own).await?;
            let fits = status.is_none_or(|status| status == agent.status);
            Paged { items: fits.then_some(agent).into_iter().collect(), next: String::new() }
        } else {
            let rows = self.catalogue.agents(caller.org_id, status, page).await?;
            self.pages.close(caller.org_id, &query, ask, (rows, |agent: &Agent| agent.name.clone()))
        };
        let mut items = Vec::with_capacity(paged.items.len());
        for agent in paged.items {
            let mandate = if with_mandate { self.mandate_in_force(&agent).await? } else { None };
            items.push((agent, mandate));
        }
        Ok(Paged { items, next: paged.next })
    }

    async fn mandate_in_force(&self, agent: &Agent) -> EngineResult<Option<Mandate>> {
        let Some(current) = agent.current_mandate else {
            return Ok(None);
        };
        let mandate = self.catalogue.mandate(agent.org_id, current).await?;
        let now = self.clock.now();
        Ok(mandate.filter(|mandate| mandate.status_at(now) == MandateStatus::Active))
    }

    /// Changes what is said of an agent.
    ///
    /// # Errors
    /// When it is decommissioned or the new name is taken.
    pub async fn update_agent(
        &self,
        caller: &Principal,
        id: AgentId,
        patch: &AgentPatch,
        idempotency: &Idempotency,
    ) -> EngineResult<Agent> {
        if let Some(agent) = self.replay::<Agent>(caller.org_id, idempotency).await? {
            self.catalogue.confirm(Stand::Agent(agent.clone())).await?;
            return Ok(agent);
        }
        for _ in 0..ATTEMPTS {
            let before = self.require_agent(caller.org_id, id).await?;
            super::mandates::usable(&before, "changed")?;
            let mut after = before.clone();
            patch.apply(&mut after);
            checked_name(&after.name)?;
            after.version = before.version.saturating_add(1);
            after.updated_at = self.clock.now();
            let changes = vec![Change::ReplaceAgent(after.clone(), before.version)];
            match self.commit(caller, changes, idempotency, &after).await {
                Ok(()) => return Ok(after),
                Err(error) if error.is_conflict() => {
                    if let Some(agent) = self.replay::<Agent>(caller.org_id, idempotency).await? {
                        self.catalogue.confirm(Stand::Agent(agent.clone())).await?;
                        return Ok(agent);
                    }
                    let now = self.require_agent(caller.org_id, id).await?;
                    if now.version == before.version {
                        return Err(EngineError::NameTaken);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// Suspends or resumes an agent.
    ///
    /// # Errors
    /// When it is decommissioned.
    pub async fn step_agent(
        &self,
        caller: &Principal,
        id: AgentId,
        step: AgentStep,
    ) -> EngineResult<Agent> {
        for _ in 0..ATTEMPTS {
            let before = self.require_agent(caller.org_id, id).await?;
            let status = match step {
                AgentStep::Suspend => before.status.suspend()?,
                AgentStep::Resume => before.status.resume()?,
            };
            if status == before.status {
                self.catalogue.confirm(Stand::Agent(before.clone())).await?;
                return Ok(before);
            }
            let mut after = before.clone();
            after.status = status;
            after.version = before.version.saturating_add(1);
            after.updated_at = self.clock.now();
            let changes = vec![Change::ReplaceAgent(after.clone(), before.version)];
            match self.catalogue.commit(changes, None, self.author(caller)).await {
                Ok(()) => return Ok(after),
                Err(error) if EngineError::from_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// Ends an agent for good, its mandates and its keys with it.
    ///
    /// # Errors
    /// When money is still held for a pending approval.
    pub async fn decommission_agent(&self, caller: &Principal, id: AgentId) -> EngineResult<Agent> {
        for _ in 0..ATTEMPTS {
            let before = self.require_agent(caller.org_id, id).await?;
            if before.status == AgentStatus::Decommissioned {
                // The call that stored it may have been given up before it forgot the keys.
                self.access.forget();
                self.catalogue.confirm(Stand::Agent(before.clone())).await?;
                return Ok(before);
            }
            // For the caller's sake: a hold that comes after this is a conflict of the commit.
            if self.catalogue.has_open_holds(caller.org_id, id).await? {
                return Err(EngineError::OpenHolds);
            }
            let now = self.clock.now();
            let mut after = before.clone();
            after.status = AgentStatus::Decommissioned;
            after.version = before.version.saturating_add(1);
            after.updated_at = now;
            let mut changes = self.revoke_all(caller.org_id, id, now).await?;
            changes.push(Change::ReplaceAgent(after.clone(), before.version));
            changes.push(Change::RevokeKeysOf(caller.org_id, id, now));
            let result = self.catalogue.commit(changes, None, self.author(caller)).await;
            self.access.forget();
            match result {
                Ok(()) => return Ok(after),
                Err(error) if EngineError::from_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    pub(super) async fn require_agent(&self, org: OrgId, id: AgentId) -> EngineResult<Agent> {
        self.catalogue.agent(org, id).await?.ok_or(EngineError::NotFound("agent"))
    }
}
