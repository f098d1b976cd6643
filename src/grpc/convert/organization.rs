//! The organization and its keys.

use super::{Violations, decision, defined, mask, timestamp};
use crate::domain::organization::Organization;
use crate::domain::period::parse_zone;
use crate::domain::webhook::WebhookEndpoint;
use crate::engine::EngineResult;
use crate::engine::organization::{NewKey, OrganizationPatch};
use crate::engine::signing::PublicKey;
use crate::engine::{ApiKey, Role};
use crate::proto::v1;

pub(in crate::grpc) fn organization(
    org: Organization,
    keys: Vec<PublicKey>,
    webhook: Option<WebhookEndpoint>,
) -> v1::Organization {
    let (webhook_url, webhook_endpoint_id) =
        webhook.map(|webhook| (webhook.url, webhook.id.to_string())).unwrap_or_default();
    let signing_key = |key: PublicKey| v1::SigningKey {
        key_id: key.key_id,
        algorithm: "EdDSA".to_owned(),
        public_key: key.public_key,
    };
    v1::Organization {
        id: org.id.to_string(),
        name: org.name,
        slug: org.slug,
        default_currency: org.default_currency.code().to_owned(),
        timezone: org.timezone,
        frozen: org.frozen,
        created_at: Some(timestamp(org.created_at)),
        updated_at: Some(timestamp(org.updated_at)),
        signing_keys: keys.into_iter().map(signing_key).collect(),
        webhook_url,
        webhook_endpoint_id,
        durability_floor: org
            .durability_floor
            .map(decision::durability_message)
            .unwrap_or_default()
            .into(),
    }
}

pub(in crate::grpc) fn patch(
    request: v1::UpdateOrganizationRequest,
) -> EngineResult<OrganizationPatch> {
    const KNOWN: [&str; 5] =
        ["name", "default_currency", "timezone", "webhook_url", "durability_floor"];
    let mut wrong = Violations::default();
    let paths = mask(request.update_mask.as_ref(), &KNOWN, &mut wrong);
    let named = |path: &str| paths.iter().any(|named| named == path);
    let mut patch = OrganizationPatch::default();
    if named("name") {
        wrong.name("name", &request.name);
        patch.name = Some(request.name);
    }
    if named("default_currency") {
        patch.default_currency = wrong.currency("default_currency", &request.default_currency);
    }
    if named("timezone") {
        if parse_zone(&request.timezone).is_err() {
            wrong.refuse("timezone", "must be an IANA time zone such as Europe/Zagreb");
        }
        patch.timezone = Some(request.timezone);
    }
    if named("durability_floor") {
        patch.durability_floor = Some(decision::durability_asked(request.durability_floor));
    }
    patch.webhook_url = named("webhook_url").then_some(request.webhook_url);
    wrong.finish(Some(patch))
}

pub(in crate::grpc) fn new_key(request: v1::CreateApiKeyRequest) -> EngineResult<NewKey> {
    let mut wrong = Violations::default();
    wrong.name("name", &request.name);
    let agent_id = wrong.parse_optional("agent_id", &request.agent_id);
    let expires_at = wrong.time("expires_at", request.expires_at);
    let role = match defined(request.role, v1::Role::Unspecified) {
        v1::Role::Unspecified => None,
        v1::Role::Admin => Some(Role::Admin),
        v1::Role::Agent => Some(Role::Agent),
        v1::Role::Reader => Some(Role::Reader),
    };
    let name = request.name;
    wrong.finish(role.map(|role| NewKey { name, role, agent_id, expires_at }))
}

pub(in crate::grpc) const fn role_message(role: Role) -> v1::Role {
    match role {
        Role::Admin => v1::Role::Admin,
        Role::Agent => v1::Role::Agent,
        Role::Reader => v1::Role::Reader,
    }
}

pub(in crate::grpc) fn api_key(key: ApiKey) -> v1::ApiKey {
    v1::ApiKey {
        id: key.id.to_string(),
        name: key.name,
        prefix: key.prefix,
        role: role_message(key.role).into(),
        agent_id: key.agent_id.map_or_else(String::new, |id| id.to_string()),
        expires_at: key.expires_at.map(timestamp),
        last_used_at: key.last_used_at.map(timestamp),
        url_used_at: key.url_used_at.map(timestamp),
        created_at: Some(timestamp(key.created_at)),
        revoked_at: key.revoked_at.map(timestamp),
    }
}
