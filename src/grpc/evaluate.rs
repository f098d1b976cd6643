//! `EvaluateService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{decision, id, spend, transaction};
use super::status::status_of;
use crate::engine::Engine;
use crate::proto::v1;
use crate::proto::v1::evaluate_service_server::EvaluateService;

/// Serves `EvaluateService`.
#[derive(Clone, Debug)]
pub struct EvaluateApi {
    engine: Arc<Engine>,
}

impl EvaluateApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl EvaluateService for EvaluateApi {
    async fn evaluate(
        &self,
        request: Request<v1::EvaluateRequest>,
    ) -> Result<Response<v1::EvaluateResponse>, Status> {
        let started = tokio::time::Instant::now();
        let caller = caller(&request)?;
        let address = request.remote_addr().map(|address| address.ip());
        let ask = spend::ask(request.into_inner(), &caller, address).map_err(status_of)?;
        let decided = self.engine.evaluate(&caller, ask).await.map_err(status_of)?;
        let response = decision::evaluate_response(decided, started.elapsed());
        Ok(Response::new(response))
    }

    async fn can_spend(
        &self,
        request: Request<v1::CanSpendRequest>,
    ) -> Result<Response<v1::CanSpendResponse>, Status> {
        let caller = caller(&request)?;
        let address = request.remote_addr().map(|address| address.ip());
        let request = spend::evaluate_request(request.into_inner());
        let ask = spend::ask(request, &caller, address).map_err(status_of)?;
        let preview = self.engine.can_spend(&caller, &ask).await.map_err(status_of)?;
        Ok(Response::new(decision::can_spend_response(preview)))
    }

    async fn lookup_decision(
        &self,
        request: Request<v1::LookupDecisionRequest>,
    ) -> Result<Response<v1::LookupDecisionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let named = Some(request.agent_id.as_str()).filter(|id| !id.is_empty());
        let named = named.map(|text| id("agent_id", text)).transpose().map_err(status_of)?;
        let agent = caller.agent(named).map_err(status_of)?;
        let found = self.engine.lookup_decision(&caller, agent, &request.idempotency_key).await;
        let transaction = Some(transaction::transaction(found.map_err(status_of)?));
        Ok(Response::new(v1::LookupDecisionResponse { transaction }))
    }
}
