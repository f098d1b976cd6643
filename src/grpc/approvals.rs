//! `ApprovalsService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{approval, id};
use super::status::status_of;
use crate::engine::Engine;
use crate::engine::access::Principal;
use crate::engine::approvals::Answer;
use crate::proto::v1;
use crate::proto::v1::approvals_service_server::ApprovalsService;

/// Serves `ApprovalsService`.
#[derive(Clone, Debug)]
pub struct ApprovalsApi {
    engine: Arc<Engine>,
}

impl ApprovalsApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn answer(
        &self,
        caller: &Principal,
        transaction_id: &str,
        answer: Answer,
    ) -> Result<Option<v1::Approval>, Status> {
        let id = id("transaction_id", transaction_id).map_err(status_of)?;
        let asked = self.engine.answer(caller, id, answer).await.map_err(status_of)?;
        Ok(Some(approval::approval(asked)))
    }
}

#[tonic::async_trait]
impl ApprovalsService for ApprovalsApi {
    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let caller = caller(&request)?;
        let ask = approval::list(request.into_inner()).map_err(status_of)?;
        let page = self.engine.approvals(&caller, &ask).await.map_err(status_of)?;
        Ok(Response::new(v1::ListApprovalsResponse {
            approvals: page.items.into_iter().map(approval::approval).collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Result<Response<v1::GetApprovalResponse>, Status> {
        let caller = caller(&request)?;
        let id = id("transaction_id", &request.get_ref().transaction_id).map_err(status_of)?;
        let asked = self.engine.approval(&caller, id).await.map_err(status_of)?;
        let approval = Some(approval::approval(asked));
        Ok(Response::new(v1::GetApprovalResponse { approval }))
    }

    async fn approve_transaction(
        &self,
        request: Request<v1::ApproveTransactionRequest>,
    ) -> Result<Response<v1::ApproveTransactionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let answer = approval::yes(&request).map_err(status_of)?;
        let approval = self.answer(&caller, &request.transaction_id, answer).await?;
        Ok(Response::new(v1::ApproveTransactionResponse { approval }))
    }

    async fn deny_transaction(
        &self,
        request: Request<v1::DenyTransactionRequest>,
    ) -> Result<Response<v1::DenyTransactionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let answer = approval::no(&request).map_err(status_of)?;
        let approval = self.answer(&caller, &request.transaction_id, answer).await?;
        Ok(Response::new(v1::DenyTransactionResponse { approval }))
    }
}
