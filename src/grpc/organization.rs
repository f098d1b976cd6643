//! `OrganizationService`: translation only.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::organization::{api_key, new_key, organization, patch, role_message};
use super::convert::{id, page};
use super::idempotency;
use super::status::status_of;
use crate::domain::organization::Organization;
use crate::engine::access::Principal;
use crate::engine::organization::OrganizationPatch;
use crate::engine::receipts::Idempotency;
use crate::engine::{Engine, EngineResult};
use crate::proto::v1;
use crate::proto::v1::organization_service_server::OrganizationService;

/// Serves `OrganizationService`.
#[derive(Clone, Debug)]
pub struct OrganizationApi {
    engine: Arc<Engine>,
}

impl OrganizationApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn shown(&self, org: Organization) -> EngineResult<Option<v1::Organization>> {
        let keys = self.engine.public_keys(org.id).await?;
        let webhook = self.engine.default_webhook_endpoint(org.id).await?;
        Ok(Some(organization(org, keys, webhook)))
    }

    async fn switch(
        &self,
        caller: &Principal,
        frozen: bool,
    ) -> Result<Option<v1::Organization>, Status> {
        let patch = OrganizationPatch { frozen: Some(frozen), ..OrganizationPatch::default() };
        let switched = async {
            let once = Idempotency::default();
            self.shown(self.engine.update_organization(caller, &patch, &once).await?).await
        };
        switched.await.map_err(status_of)
    }
}

#[tonic::async_trait]
impl OrganizationService for OrganizationApi {
    async fn get_organization(
        &self,
        request: Request<v1::GetOrganizationRequest>,
    ) -> Result<Response<v1::GetOrganizationResponse>, Status> {
        let caller = caller(&request)?;
        let org = self.engine.organization(&caller).await.map_err(status_of)?;
        let organization = self.shown(org).await.map_err(status_of)?;
        Ok(Response::new(v1::GetOrganizationResponse { organization }))
    }

    async fn get_caller(
        &self,
        request: Request<v1::GetCallerRequest>,
    ) -> Result<Response<v1::GetCallerResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(v1::GetCallerResponse {
            organization_id: caller.org_id.to_string(),
            api_key_id: caller.key_id.to_string(),
            role: role_message(caller.role).into(),
            agent_id: caller.agent_id.map_or_else(String::new, |id| id.to_string()),
        }))
    }

    async fn update_organization(
        &self,
        request: Request<v1::UpdateOrganizationRequest>,
    ) -> Result<Response<v1::UpdateOrganizationResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "UpdateOrganization", &request);
        let patch = patch(request).map_err(status_of)?;
        let org = self.engine.update_organization(&caller, &patch, &once).await;
        let organization = self.shown(org.map_err(status_of)?).await.map_err(status_of)?;
        Ok(Response::new(v1::UpdateOrganizationResponse { organization }))
    }

    async fn freeze_organization(
        &self,
        request: Request<v1::FreezeOrganizationRequest>,
    ) -> Result<Response<v1::FreezeOrganizationResponse>, Status> {
        let organization = self.switch(&caller(&request)?, true).await?;
        Ok(Response::new(v1::FreezeOrganizationResponse { organization }))
    }

    async fn unfreeze_organization(
        &self,
        request: Request<v1::UnfreezeOrganizationRequest>,
    ) -> Result<Response<v1::UnfreezeOrganizationResponse>, Status> {
        let organization = self.switch(&caller(&request)?, false).await?;
        Ok(Response::new(v1::UnfreezeOrganizationResponse { organization }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let once = idempotency(&request.idempotency_key, "CreateApiKey", &request);
        let wanted = new_key(request).map_err(status_of)?;
        let (record, text) =
            self.engine.create_key(&caller, wanted, &once).await.map_err(status_of)?;
        Ok(Response::new(v1::CreateApiKeyResponse {
            api_key: Some(api_key(record)),
            key: text.map_or_else(String::new, |text| text.reveal().to_owned()),
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let caller = caller(&request)?;
        let ask = page(request.into_inner().page);
        let listed = self.engine.keys(&caller, &ask).await.map_err(status_of)?;
        Ok(Response::new(v1::ListApiKeysResponse {
            api_keys: listed.items.into_iter().map(api_key).collect(),
            next_page_token: listed.next,
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        let caller = caller(&request)?;
        let id = id("api_key_id", &request.get_ref().api_key_id).map_err(status_of)?;
        let revoked = self.engine.revoke_key(&caller, id).await.map_err(status_of)?;
        Ok(Response::new(v1::RevokeApiKeyResponse { api_key: Some(api_key(revoked)) }))
    }
}
