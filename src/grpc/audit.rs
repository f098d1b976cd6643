//! `AuditService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::audit;
use super::status::status_of;
use super::{Replies, replies};
use crate::engine::audit::Export;
use crate::engine::{Engine, EngineResult};
use crate::proto::v1;
use crate::proto::v1::audit_service_server::AuditService;

/// Serves `AuditService`.
#[derive(Clone, Debug)]
pub struct AuditApi {
    engine: Arc<Engine>,
}

impl AuditApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

async fn next(mut export: Export) -> (Export, EngineResult<Option<v1::ExportEventsResponse>>) {
    let part = export.next().await.map(|part| part.map(audit::part));
    (export, part)
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let caller = caller(&request)?;
        let (filter, ask) = audit::list(request.into_inner()).map_err(status_of)?;
        let page = self.engine.entries(&caller, &filter, &ask).await.map_err(status_of)?;
        Ok(Response::new(v1::ListEventsResponse {
            entries: page.items.into_iter().map(audit::entry).collect(),
            next_page_token: page.next,
        }))
    }

    type ExportEventsStream = Replies<v1::ExportEventsResponse>;

    async fn export_events(
        &self,
        request: Request<v1::ExportEventsRequest>,
    ) -> Result<Response<Self::ExportEventsStream>, Status> {
        let caller = caller(&request)?;
        let after = request.get_ref().after_sequence;
        let export = self.engine.export(&caller, after).await.map_err(status_of)?;
        Ok(Response::new(replies(export, next)))
    }

    async fn verify_chain(
        &self,
        request: Request<v1::VerifyChainRequest>,
    ) -> Result<Response<v1::VerifyChainResponse>, Status> {
        let caller = caller(&request)?;
        let after = request.get_ref().after_sequence;
        let found = self.engine.verify_chain(&caller, after).await.map_err(status_of)?;
        Ok(Response::new(v1::VerifyChainResponse {
            is_whole: found.fault.is_none(),
            fault: found.fault.map(|fault| fault.to_string()).unwrap_or_default(),
            verified_through: found.last.0,
            chain: hex::encode(found.last.1),
            is_complete: found.is_complete,
            entries: found.checked.entries,
            checkpoints: found.checked.checkpoints,
        }))
    }
}
