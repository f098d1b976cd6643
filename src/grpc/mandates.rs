//! `MandatesService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{self, Violations, id, page, timestamp};
use super::idempotency;
use super::status::status_of;
use crate::domain::mandate::{Mandate, MandateStep};
use crate::engine::MandateFilter;
use crate::engine::access::Principal;
use crate::engine::mandates::MandatePatch;
use crate::engine::{Engine, EngineError, EngineResult};
use crate::proto::v1;
use crate::proto::v1::mandates_service_server::MandatesService;

/// Serves `MandatesService`.
#[derive(Clone, Debug)]
pub struct MandatesApi {
    engine: Arc<Engine>,
}

impl MandatesApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// A mandate with what is gone of its budget.
    async fn shown(&self, mandate: Mandate) -> EngineResult<Option<v1::Mandate>> {
        let view = self.engine.budget_view(mandate).await?;
        Ok(Some(convert::mandate::mandate(view.mandate, Some(view.budget), self.engine.now())))
    }

    async fn step(
        &self,
        caller: &Principal,
        mandate_id: &str,
        (step, reason): (MandateStep, &str),
    ) -> Result<Option<v1::Mandate>, Status> {
        let stepped = async {
            let id = id("mandate_id", mandate_id)?;
            self.shown(self.engine.step_mandate(caller, id, step, reason).await?).await
        };
        stepped.await.map_err(status_of)
    }
}

/// `UpdateBudgetRequest` has the limits themselves, where a mandate has them in its budget.
fn without_budget(error: EngineError) -> EngineError {
    let EngineError::Invalid(mut violations) = error else {
        return error;
    };
    for violation in &mut violations {
        if let Some(field) = violation.field.strip_prefix("budget.") {
            violation.field = field.to_owned();
        }
    }
    EngineError::Invalid(violations)
}

#[tonic::async_trait]
impl MandatesService for MandatesApi {
    async fn create_mandate(
        &self,
        request: Request<v1::CreateMandateRequest>,
    ) -> Result<Response<v1::CreateMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "CreateMandate", &request);
        let draft = convert::mandate::draft(request).map_err(status_of)?;
        let created = self.engine.create_mandate(&caller, draft, &once).await;
        let mandate = self.shown(created.map_err(status_of)?).await.map_err(status_of)?;
        Ok(Response::new(v1::CreateMandateResponse { mandate }))
    }

    async fn get_mandate(
        &self,
        request: Request<v1::GetMandateRequest>,
    ) -> Result<Response<v1::GetMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let found = async {
            let id = id("mandate_id", &request.mandate_id)?;
            if request.version == 0 {
                return self.shown(self.engine.mandate(&caller, id).await?).await;
            }
            let past = self.engine.mandate_version(&caller, id, request.version).await?;
            Ok(Some(convert::mandate::mandate(past, None, self.engine.now())))
        };
        let mandate = found.await.map_err(status_of)?;
        Ok(Response::new(v1::GetMandateResponse { mandate }))
    }

    async fn list_mandates(
        &self,
        request: Request<v1::ListMandatesRequest>,
    ) -> Result<Response<v1::ListMandatesResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let listed = async {
            let mut wrong = Violations::default();
            let agent = wrong.parse_optional("agent_id", &request.agent_id);
            let status = convert::mandate::status(request.status);
            let filter = wrong.finish(Some(MandateFilter { agent, status }))?;
            let listed = self.engine.mandates(&caller, filter, &page(request.page)).await?;
            let mut mandates = Vec::with_capacity(listed.items.len());
            for mandate in listed.items {
                mandates.extend(self.shown(mandate).await?);
            }
            Ok(v1::ListMandatesResponse { mandates, next_page_token: listed.next })
        };
        listed.await.map(Response::new).map_err(status_of)
    }

    async fn update_mandate(
        &self,
        request: Request<v1::UpdateMandateRequest>,
    ) -> Result<Response<v1::UpdateMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "UpdateMandate", &request);
        let updated = async {
            let id = id("mandate_id", &request.mandate_id)?;
            let expected = Some(request.expected_version).filter(|version| *version > 0);
            let patch = convert::mandate::patch(request)?;
            let updated = self.engine.update_mandate(&caller, id, (&patch, expected), &once);
            self.shown(updated.await?).await
        };
        let mandate = updated.await.map_err(status_of)?;
        Ok(Response::new(v1::UpdateMandateResponse { mandate }))
    }

    async fn update_budget(
        &self,
        request: Request<v1::UpdateBudgetRequest>,
    ) -> Result<Response<v1::UpdateBudgetResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "UpdateBudget", &request);
        let updated = async {
            let mut wrong = Violations::default();
            if request.total.is_none() && request.per_transaction.is_none() {
                wrong.refuse("total", "give total, per_transaction, or both");
            }
            let id = wrong.parse("mandate_id", &request.mandate_id);
            let id = wrong.finish(id)?;
            let expected = Some(request.expected_version).filter(|version| *version > 0);
            let (total, per_transaction) = (request.total, request.per_transaction);
            let patch = MandatePatch { total, per_transaction, ..MandatePatch::default() };
            let updated = self.engine.update_mandate(&caller, id, (&patch, expected), &once);
            self.shown(updated.await.map_err(without_budget)?).await
        };
        let mandate = updated.await.map_err(status_of)?;
        Ok(Response::new(v1::UpdateBudgetResponse { mandate }))
    }

    async fn activate_mandate(
        &self,
        request: Request<v1::ActivateMandateRequest>,
    ) -> Result<Response<v1::ActivateMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let step = (MandateStep::Activate, "");
        let mandate = self.step(&caller, &request.mandate_id, step).await?;
        Ok(Response::new(v1::ActivateMandateResponse { mandate }))
    }

    async fn pause_mandate(
        &self,
        request: Request<v1::PauseMandateRequest>,
    ) -> Result<Response<v1::PauseMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let step = (MandateStep::Pause, "");
        let mandate = self.step(&caller, &request.mandate_id, step).await?;
        Ok(Response::new(v1::PauseMandateResponse { mandate }))
    }

    async fn resume_mandate(
        &self,
        request: Request<v1::ResumeMandateRequest>,
    ) -> Result<Response<v1::ResumeMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let step = (MandateStep::Resume, "");
        let mandate = self.step(&caller, &request.mandate_id, step).await?;
        Ok(Response::new(v1::ResumeMandateResponse { mandate }))
    }

    async fn revoke_mandate(
        &self,
        request: Request<v1::RevokeMandateRequest>,
    ) -> Result<Response<v1::RevokeMandateResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let mut wrong = Violations::default();
        wrong.visible("reason", &request.reason);
        wrong.finish(Some(())).map_err(status_of)?;
        let step = (MandateStep::Revoke, request.reason.as_str());
        let mandate = self.step(&caller, &request.mandate_id, step).await?;
        Ok(Response::new(v1::RevokeMandateResponse { mandate }))
    }

    async fn delete_mandate(
        &self,
        request: Request<v1::DeleteMandateRequest>,
    ) -> Result<Response<v1::DeleteMandateResponse>, Status> {
        let caller = caller(&request)?;
        let id = id("mandate_id", &request.get_ref().mandate_id).map_err(status_of)?;
        self.engine.delete_mandate(&caller, id).await.map_err(status_of)?;
        Ok(Response::new(v1::DeleteMandateResponse {}))
    }

    async fn list_mandate_versions(
        &self,
        request: Request<v1::ListMandateVersionsRequest>,
    ) -> Result<Response<v1::ListMandateVersionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = id("mandate_id", &request.mandate_id).map_err(status_of)?;
        let listed = self.engine.mandate_versions(&caller, id, &page(request.page)).await;
        let listed = listed.map_err(status_of)?;
        let now = self.engine.now();
        let version = |mandate| convert::mandate::mandate(mandate, None, now);
        let versions = listed.items.into_iter().map(version).collect();
        let next_page_token = listed.next;
        Ok(Response::new(v1::ListMandateVersionsResponse { versions, next_page_token }))
    }

    async fn get_mandate_token(
        &self,
        request: Request<v1::GetMandateTokenRequest>,
    ) -> Result<Response<v1::GetMandateTokenResponse>, Status> {
        let caller = caller(&request)?;
        let made = async {
            let mut wrong = Violations::default();
            let named = wrong.parse_optional("agent_id", &request.get_ref().agent_id);
            wrong.finish(Some(()))?;
            let made = self.engine.mandate_token(&caller, caller.agent(named)?).await?;
            let expires_at = Some(timestamp(made.expires_at));
            let mandate = self.shown(made.mandate).await?;
            Ok(v1::GetMandateTokenResponse { token: made.token, mandate, expires_at })
        };
        made.await.map(Response::new).map_err(status_of)
    }
}
