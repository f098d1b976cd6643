//! `/organization` and `/api-keys`: the tenant, its kill switch and its keys.
//!
//! Not here: endpoints of webhooks beside the organization's own (`webhooks`).

use serde::Serialize;

use super::answer::Answer;
use super::call::Call;
use super::failure::Failure;
use super::page::{LIMIT_MAX, Window, walk};
use super::query::Query;
use super::routes::Outcome;
use super::webhooks;
use crate::forms::{
    ApiKeyCreatedView, ApiKeyForm, ApiKeyView, FormError, OrganizationPatch, OrganizationView,
};
use crate::proto::v1;

/// A page of keys.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiKeys {
    api_keys: Vec<ApiKeyView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_page_token: String,
}

pub(super) async fn get(call: Call) -> Outcome {
    Answer::ok(&view(Some(current(&call).await?))?)
}

pub(super) async fn update(call: Call) -> Outcome {
    let patch: OrganizationPatch =
        call.json_for(|form: OrganizationPatch| form.into_update(String::new()))?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(patch.into_update(key));
    let response = call.message(call.organization().update_organization(request).await)?;
    Answer::ok(&view(response.organization)?)
}

pub(super) async fn freeze(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::FreezeOrganizationRequest {});
    let response = call.message(call.organization().freeze_organization(request).await)?;
    Answer::ok(&view(response.organization)?)
}

pub(super) async fn unfreeze(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::UnfreezeOrganizationRequest {});
    let response = call.message(call.organization().unfreeze_organization(request).await)?;
    Answer::ok(&view(response.organization)?)
}

/// Rotates the secret of the endpoint that the organization's webhook URL manages.
pub(super) async fn rotate_webhook_secret(call: Call) -> Outcome {
    let endpoint = current(&call).await?.webhook_endpoint_id;
    if endpoint.is_empty() {
        // As any failure of ours it is told only to whoever may make the call: rotate the secret.
        return Err(Failure::no_webhook());
    }
    webhooks::rotate_of(&call, endpoint).await
}

pub(super) async fn create_key(call: Call) -> Outcome {
    let form: ApiKeyForm = call.json_for(|form: ApiKeyForm| form.into_create(String::new()))?;
    let key = call.idempotency_key()?.unwrap_or_default();
    let request = call.request(form.into_create(key));
    let response = call.message(call.organization().create_api_key(request).await)?;
    let api_key = response.api_key.ok_or(FormError::Incomplete("key"))?;
    Answer::created(&ApiKeyCreatedView {
        api_key: api_key.into(),
        key: Some(response.key).filter(|key| !key.is_empty()),
    })
}

pub(super) async fn list_keys(call: Call) -> Outcome {
    let mut query = Query::read(call.uri(), &["limit", "offset", "pageToken"]);
    let window = Window::read(&mut query, LIMIT_MAX);
    query.finish()?;

    let (api_keys, next_page_token) = walk(window, |page| {
        let message = v1::ListApiKeysRequest { page: Some(page) };
        let (mut client, request) = (call.organization(), call.request(message));
        let call = &call;
        async move {
            let response = call.message(client.list_api_keys(request).await)?;
            Ok((response.api_keys, response.next_page_token))
        }
    })
    .await?;
    Answer::ok(&ApiKeys {
        api_keys: api_keys.into_iter().map(Into::into).collect(),
        next_page_token,
    })
}

pub(super) async fn revoke_key(call: Call) -> Outcome {
    call.no_fields()?;
    let request = call.request(v1::RevokeApiKeyRequest { api_key_id: call.id() });
    let response = call.message(call.organization().revoke_api_key(request).await)?;
    let api_key = response.api_key.ok_or(FormError::Incomplete("key"))?;
    Answer::ok(&ApiKeyView::from(api_key))
}

/// The currency of whoever names none.
pub(super) async fn default_currency(call: &Call) -> Result<String, Failure> {
    Ok(current(call).await?.default_currency)
}

async fn current(call: &Call) -> Result<v1::Organization, Failure> {
    let request = call.request(v1::GetOrganizationRequest {});
    let response = call.message(call.organization().get_organization(request).await)?;
    Ok(response.organization.ok_or(FormError::Incomplete("organization"))?)
}

fn view(organization: Option<v1::Organization>) -> Result<OrganizationView, FormError> {
    let organization = organization.ok_or(FormError::Incomplete("organization"))?;
    Ok(organization.into())
}
