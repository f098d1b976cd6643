//! `BudgetService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{Violations, decision, mandate, timestamp};
use super::status::status_of;
use crate::engine::Engine;
use crate::engine::budget::CapStatus;
use crate::proto::v1;
use crate::proto::v1::budget_service_server::BudgetService;

/// Serves `BudgetService`.
#[derive(Clone, Debug)]
pub struct BudgetApi {
    engine: Arc<Engine>,
}

impl BudgetApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

fn cap(cap: CapStatus) -> v1::CapStatus {
    v1::CapStatus {
        rule_type: cap.rule_type.to_owned(),
        subject: cap.subject,
        total: cap.total,
        spent: cap.spent,
        remaining: cap.total.saturating_sub(cap.spent).max(0),
        resets_at: cap.resets_at.map(timestamp),
    }
}

#[tonic::async_trait]
impl BudgetService for BudgetApi {
    async fn get_budget(
        &self,
        request: Request<v1::GetBudgetRequest>,
    ) -> Result<Response<v1::GetBudgetResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut wrong = Violations::default();
        let agent = wrong.parse_optional("agent_id", &request.agent_id);
        let named = wrong.parse_optional("mandate_id", &request.mandate_id);
        wrong.finish(Some(())).map_err(status_of)?;
        let view = self.engine.budget(&caller, agent, named).await.map_err(status_of)?;
        let status = view.mandate.status_at(self.engine.now());
        Ok(Response::new(v1::GetBudgetResponse {
            mandate_id: view.mandate.id.to_string(),
            mandate_name: view.mandate.name,
            status: mandate::status_message(status).into(),
            budget: Some(decision::budget(view.budget)),
            valid_until: view.mandate.policy.valid_until.map(timestamp),
            caps: view.caps.into_iter().map(cap).collect(),
        }))
    }
}
