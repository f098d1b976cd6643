//! `AgentsService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{self, id, page};
use super::idempotency;
use super::status::status_of;
use crate::engine::Engine;
use crate::engine::access::Principal;
use crate::engine::agents::AgentStep;
use crate::proto::v1;
use crate::proto::v1::agents_service_server::AgentsService;

/// Serves `AgentsService`.
#[derive(Clone, Debug)]
pub struct AgentsApi {
    engine: Arc<Engine>,
}

impl AgentsApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn step(
        &self,
        caller: &Principal,
        agent_id: &str,
        step: AgentStep,
    ) -> Result<Option<v1::Agent>, Status> {
        let id = id("agent_id", agent_id).map_err(status_of)?;
        let agent = self.engine.step_agent(caller, id, step).await.map_err(status_of)?;
        Ok(Some(convert::agent::agent(agent, None)))
    }
}

#[tonic::async_trait]
impl AgentsService for AgentsApi {
    async fn register_agent(
        &self,
        request: Request<v1::RegisterAgentRequest>,
    ) -> Result<Response<v1::RegisterAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "RegisterAgent", &request);
        let profile = convert::agent::profile(request).map_err(status_of)?;
        let agent = self.engine.register_agent(&caller, profile, &once).await.map_err(status_of)?;
        let agent = Some(convert::agent::agent(agent, None));
        Ok(Response::new(v1::RegisterAgentResponse { agent }))
    }

    async fn get_agent(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Result<Response<v1::GetAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = id("agent_id", &request.agent_id).map_err(status_of)?;
        let found = self.engine.agent(&caller, id, request.include_mandate).await;
        let found = found.map_err(status_of)?;
        let agent = Some(convert::agent::agent_with(found, self.engine.now()));
        Ok(Response::new(v1::GetAgentResponse { agent }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let which = (convert::agent::status(request.status), request.include_mandate);
        let listed = self.engine.agents(&caller, which, &page(request.page)).await;
        let listed = listed.map_err(status_of)?;
        let now = self.engine.now();
        let shown = |found| convert::agent::agent_with(found, now);
        let agents = listed.items.into_iter().map(shown).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents, next_page_token: listed.next }))
    }

    async fn update_agent(
        &self,
        request: Request<v1::UpdateAgentRequest>,
    ) -> Result<Response<v1::UpdateAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "UpdateAgent", &request);
        let id = id("agent_id", &request.agent_id).map_err(status_of)?;
        let patch = convert::agent::patch(request).map_err(status_of)?;
        let agent = self.engine.update_agent(&caller, id, &patch, &once).await;
        let agent = Some(convert::agent::agent(agent.map_err(status_of)?, None));
        Ok(Response::new(v1::UpdateAgentResponse { agent }))
    }

    async fn suspend_agent(
        &self,
        request: Request<v1::SuspendAgentRequest>,
    ) -> Result<Response<v1::SuspendAgentResponse>, Status> {
        let caller = caller(&request)?;
        let id = &request.get_ref().agent_id;
        let agent = self.step(&caller, id, AgentStep::Suspend).await?;
        Ok(Response::new(v1::SuspendAgentResponse { agent }))
    }

    async fn resume_agent(
        &self,
        request: Request<v1::ResumeAgentRequest>,
    ) -> Result<Response<v1::ResumeAgentResponse>, Status> {
        let caller = caller(&request)?;
        let id = &request.get_ref().agent_id;
        let agent = self.step(&caller, id, AgentStep::Resume).await?;
        Ok(Response::new(v1::ResumeAgentResponse { agent }))
    }

    async fn decommission_agent(
        &self,
        request: Request<v1::DecommissionAgentRequest>,
    ) -> Result<Response<v1::DecommissionAgentResponse>, Status> {
        let caller = caller(&request)?;
        let id = id("agent_id", &request.get_ref().agent_id).map_err(status_of)?;
        let agent = self.engine.decommission_agent(&caller, id).await.map_err(status_of)?;
        let agent = Some(convert::agent::agent(agent, None));
        Ok(Response::new(v1::DecommissionAgentResponse { agent }))
    }
}
