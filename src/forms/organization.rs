//! The organization and its keys, as they are written and shown.
//!
//! Not here: endpoints of webhooks beside the organization's own (`webhook`).

use serde::{Deserialize, Serialize};

use super::decision::present;
use super::patch::{Patch, given, masked};
use super::scalar::Time;
use super::words::Word;
use crate::proto::v1;

/// Changes to the organization: the body of `PATCH /organization`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrganizationPatch {
    /// For people.
    #[serde(deserialize_with = "given")]
    pub name: Option<String>,
    /// ISO 4217 code, or USDC.
    #[serde(deserialize_with = "given")]
    pub default_currency: Option<String>,
    /// An IANA time zone name.
    #[serde(deserialize_with = "given")]
    pub timezone: Option<String>,
    /// Where its events are sent; null sends them nowhere.
    pub webhook_url: Patch<String>,
    /// No decision survives less than this; null asks for nothing.
    pub durability_floor: Patch<Word<v1::Durability>>,
}

impl OrganizationPatch {
    /// The request that makes the changes, with the mask of what is mentioned.
    #[must_use]
    pub fn into_update(self, idempotency_key: String) -> v1::UpdateOrganizationRequest {
        let mut mask = prost_types::FieldMask::default();
        let currency = masked(self.default_currency, "default_currency", &mut mask);
        let floor = self.durability_floor.masked("durability_floor", &mut mask);
        v1::UpdateOrganizationRequest {
            name: masked(self.name, "name", &mut mask).unwrap_or_default(),
            default_currency: currency.unwrap_or_default(),
            timezone: masked(self.timezone, "timezone", &mut mask).unwrap_or_default(),
            webhook_url: self.webhook_url.masked("webhook_url", &mut mask).unwrap_or_default(),
            durability_floor: floor.unwrap_or_default().number(),
            idempotency_key,
            update_mask: Some(mask),
        }
    }
}

/// The organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationView {
    /// `org_…`.
    pub id: String,
    /// For people.
    pub name: String,
    /// For addresses; never changes.
    pub slug: String,
    /// The currency of a new mandate that names none.
    pub default_currency: String,
    /// IANA name; calendar periods follow it.
    pub timezone: String,
    /// Nothing is approved.
    pub frozen: bool,
    /// Where its events are sent; null if nowhere.
    pub webhook_url: Option<String>,
    /// The endpoint of that URL, `whe_…`; null if there is none.
    pub webhook_endpoint_id: Option<String>,
    /// No decision survives less than this; null asks for nothing.
    pub durability_floor: Option<Word<v1::Durability>>,
    /// The public keys its mandates are signed with.
    pub signing_keys: Vec<SigningKeyView>,
    /// When it was made.
    pub created_at: Option<Time>,
    /// When it last changed.
    pub updated_at: Option<Time>,
}

impl From<v1::Organization> for OrganizationView {
    fn from(organization: v1::Organization) -> Self {
        Self {
            id: organization.id,
            name: organization.name,
            slug: organization.slug,
            default_currency: organization.default_currency,
            timezone: organization.timezone,
            frozen: organization.frozen,
            webhook_url: present(organization.webhook_url),
            webhook_endpoint_id: present(organization.webhook_endpoint_id),
            durability_floor: Word::specified(organization.durability_floor),
            signing_keys: organization.signing_keys.into_iter().map(Into::into).collect(),
            created_at: Time::from_proto(organization.created_at.as_ref()),
            updated_at: Time::from_proto(organization.updated_at.as_ref()),
        }
    }
}

/// A public key of the organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyView {
    /// What the `kid` header of a token says.
    pub key_id: String,
    /// Always `EdDSA`.
    pub algorithm: String,
    /// The public key, base64url without padding.
    pub public_key: String,
}

impl From<v1::SigningKey> for SigningKeyView {
    fn from(key: v1::SigningKey) -> Self {
        Self { key_id: key.key_id, algorithm: key.algorithm, public_key: key.public_key }
    }
}

/// A new key: the body of `POST /api-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeyForm {
    /// For people.
    pub name: String,
    /// What it may do.
    pub role: Word<v1::Role>,
    /// The only agent it may act for; only with the role `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// When it ends; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

impl ApiKeyForm {
    /// The request that creates it.
    #[must_use]
    pub fn into_create(self, idempotency_key: String) -> v1::CreateApiKeyRequest {
        v1::CreateApiKeyRequest {
            name: self.name,
            role: self.role.number(),
            agent_id: self.agent_id.unwrap_or_default(),
            expires_at: self.expires_at.map(Time::to_proto),
            idempotency_key,
        }
    }
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyView {
    /// `key_…`.
    pub id: String,
    /// For people.
    pub name: String,
    /// The first characters of the key.
    pub prefix: String,
    /// What it may do.
    pub role: Word<v1::Role>,
    /// The only agent it may act for; null means every agent.
    pub agent_id: Option<String>,
    /// When it ends; null if never.
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute; null if never.
    pub last_used_at: Option<Time>,
    /// When it last came in the path of a URL; null if never.
    pub url_used_at: Option<Time>,
    /// When it was made.
    pub created_at: Option<Time>,
    /// When it was revoked; null if it was not.
    pub revoked_at: Option<Time>,
}

impl From<v1::ApiKey> for ApiKeyView {
    fn from(key: v1::ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            role: Word::from_number(key.role),
            agent_id: present(key.agent_id),
            expires_at: Time::from_proto(key.expires_at.as_ref()),
            last_used_at: Time::from_proto(key.last_used_at.as_ref()),
            url_used_at: Time::from_proto(key.url_used_at.as_ref()),
            created_at: Time::from_proto(key.created_at.as_ref()),
            revoked_at: Time::from_proto(key.revoked_at.as_ref()),
        }
    }
}

/// A key that was just created, with its secret this once.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyCreatedView {
    /// The key's record.
    #[serde(flatten)]
    pub api_key: ApiKeyView,
    /// The key itself; null when a call is repeated, because it cannot be shown again.
    pub key: Option<String>,
}

/// Without the secret.
impl std::fmt::Debug for ApiKeyCreatedView {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("ApiKeyCreatedView");
        shown.field("api_key", &self.api_key).finish_non_exhaustive()
    }
}
