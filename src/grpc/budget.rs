//! `BudgetService`: translation only.

use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{Violations, decision, mandate, timestamp};
use super::status::status_of;
use super::{Replies, replies};
use crate::domain::mandate::MandateStatus;
use crate::engine::Engine;
use crate::engine::budget::{BudgetView, CapStatus};
use crate::engine::watch::{BudgetWatch, Told};
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

/// A budget as it is told.
fn budget(view: BudgetView, status: MandateStatus) -> v1::GetBudgetResponse {
    v1::GetBudgetResponse {
        mandate_id: view.mandate.id.to_string(),
        mandate_name: view.mandate.name,
        status: mandate::status_message(status).into(),
        budget: Some(decision::budget(view.budget)),
        valid_until: view.mandate.policy.valid_until.map(timestamp),
        caps: view.caps.into_iter().map(cap).collect(),
    }
}

fn told(told: Told<BudgetView>, now: Timestamp) -> v1::WatchBudgetResponse {
    let Told { news, seq, token } = told;
    let view = news.map(|view| (view.mandate.status_at(now), view));
    v1::WatchBudgetResponse {
        budget: view.map(|(status, view)| budget(view, status)),
        sequence: seq,
        resume_token: token,
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
        Ok(Response::new(budget(view, status)))
    }

    type WatchBudgetStream = Replies<v1::WatchBudgetResponse>;

    async fn watch_budget(
        &self,
        request: Request<v1::WatchBudgetRequest>,
    ) -> Result<Response<Self::WatchBudgetStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut wrong = Violations::default();
        let agent = wrong.parse_optional("agent_id", &request.agent_id);
        let named = wrong.parse_optional("mandate_id", &request.mandate_id);
        wrong.finish(Some(())).map_err(status_of)?;
        let watch = self.engine.watch_budget(&caller, (agent, named), &request.resume_token);
        let watch = watch.await.map_err(status_of)?;
        let engine = Arc::clone(&self.engine);
        Ok(Response::new(replies(watch, move |mut watch: BudgetWatch| {
            let engine = Arc::clone(&engine);
            async move {
                let next = watch.next().await.map(|next| Some(told(next, engine.now())));
                (watch, next)
            }
        })))
    }
}
