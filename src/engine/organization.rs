//! The organization: its settings, its kill switch, its keys.
//!
//! Not here: checking keys (`access`).

use jiff::Timestamp;

use super::access::{KeyText, Principal};
use super::mandates::usable;
use super::pages::{PageAsk, Paged};
use super::receipts::Idempotency;
use super::{ATTEMPTS, Engine, EngineError, EngineResult};
use crate::crypto::time_ordered_id;
use crate::domain::actor::Actor;
use crate::domain::durability::Durability;
use crate::domain::id::{AgentId, KeyId, OrgId};
use crate::domain::money::Currency;
use crate::domain::organization::{Organization, slug};
use crate::domain::period::parse_zone;
use crate::store::{ApiKey, Author, Change, Role, Stand};

/// Characters of a key that are kept to recognise it: `sk_agent_` and a part of its id.
const PREFIX_LENGTH: usize = 20;

/// What to change of an organization; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct OrganizationPatch {
    /// See [`Organization::name`].
    pub name: Option<String>,
    /// See [`Organization::default_currency`].
    pub default_currency: Option<Currency>,
    /// See [`Organization::timezone`].
    pub timezone: Option<String>,
    /// See [`Organization::frozen`].
    pub frozen: Option<bool>,
    /// See [`Organization::durability_floor`]; `Some(None)` removes it.
    pub durability_floor: Option<Option<Durability>>,
    /// Where its events are sent; empty sends them nowhere.
    pub webhook_url: Option<String>,
}

/// A key to make.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For people.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The only agent it may act for.
    pub agent_id: Option<AgentId>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl Engine {
    /// The caller's organization.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn organization(&self, caller: &Principal) -> EngineResult<Organization> {
        self.require_org(caller.org_id).await
    }

    /// Makes an organization with its signing key and a first admin key.
    ///
    /// # Errors
    /// When its address is taken or a store fails.
    pub async fn create_organization(
        &self,
        name: &str,
        timezone: &str,
    ) -> EngineResult<(Organization, KeyText)> {
        parse_zone(timezone)?;
        let now = self.clock.now();
        let org = Organization {
            id: OrgId::from_bytes(time_ordered_id()),
            name: name.to_owned(),
            slug: slug(name),
            default_currency: Currency::Iso(iso_currency::Currency::USD),
            timezone: timezone.to_owned(),
            frozen: false,
            durability_floor: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let signing_key = self.signing.generate(org.id)?;
        let wanted = NewKey {
            name: "first admin key".to_owned(),
            role: Role::Admin,
            agent_id: None,
            expires_at: None,
        };
        let (key, text) = self.mint(org.id, wanted)?;
        let changes = vec![Change::CreateOrg(org.clone(), signing_key), Change::CreateKey(key)];
        let author = Author { actor: Actor::System, at: now };
        self.catalogue.commit(changes, None, author).await?;
        Ok((org, text))
    }

    /// Changes the organization's settings, or its kill switch.
    ///
    /// # Errors
    /// When a value is wrong, or what the floor asks for cannot be kept.
    pub async fn update_organization(
        &self,
        caller: &Principal,
        patch: &OrganizationPatch,
        idempotency: &Idempotency,
    ) -> EngineResult<Organization> {
        if let Some(org) = self.replay::<Organization>(caller.org_id, idempotency).await? {
            self.catalogue.confirm(Stand::Org(org.clone())).await?;
            return Ok(org);
        }
        for _ in 0..ATTEMPTS {
            let before = self.require_org(caller.org_id).await?;
            let mut after = before.clone();
            if let Some(name) = &patch.name {
                if name.trim().is_empty() {
                    return Err(EngineError::invalid("name", "must not be empty"));
                }
                after.name.clone_from(name);
            }
            if let Some(timezone) = &patch.timezone {
                let why = "must be an IANA time zone such as Europe/Zagreb";
                parse_zone(timezone).map_err(|_| EngineError::invalid("timezone", why))?;
                after.timezone.clone_from(timezone);
            }
            after.default_currency = patch.default_currency.unwrap_or(after.default_currency);
            after.frozen = patch.frozen.unwrap_or(after.frozen);
            if let Some(floor) = patch.durability_floor {
                self.refuse_unkept(floor).await?;
                after.durability_floor = floor;
            }
            let webhook = match &patch.webhook_url {
                Some(url) => self.default_webhook_change(caller.org_id, url).await?,
                None => None,
            };
            if after == before && webhook.is_none() && idempotency.key.is_none() {
                self.catalogue.confirm(Stand::Org(before.clone())).await?;
                return Ok(before);
            }
            after.version = before.version.saturating_add(1);
            after.updated_at = self.clock.now();
            let mut changes = vec![Change::ReplaceOrg(after.clone(), before.version)];
            changes.extend(webhook);
            match self.commit(caller, changes, idempotency, &after).await {
                Ok(()) => {
                    self.deliveries.notify_one();
                    return Ok(after);
                }
                Err(error) if error.is_conflict() => {
                    if let Some(org) =
                        self.replay::<Organization>(caller.org_id, idempotency).await?
                    {
                        self.catalogue.confirm(Stand::Org(org.clone())).await?;
                        return Ok(org);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// Makes a key; its text is returned this once, and not again when the call is repeated.
    ///
    /// # Errors
    /// When its limits contradict each other or the agent is unknown.
    pub async fn create_key(
        &self,
        caller: &Principal,
        wanted: NewKey,
        idempotency: &Idempotency,
    ) -> EngineResult<(ApiKey, Option<KeyText>)> {
        if let Some(key) = self.replay(caller.org_id, idempotency).await? {
            return Ok((key, None));
        }
        if wanted.name.trim().is_empty() {
            return Err(EngineError::invalid("name", "must not be empty"));
        }
        if let Some(agent) = wanted.agent_id {
            if wanted.role != Role::Agent {
                let why = "is only for keys with the agent role";
                return Err(EngineError::invalid("agent_id", why));
            }
            usable(&self.require_agent(caller.org_id, agent).await?, "given a key")?;
        }
        if wanted.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(EngineError::invalid("expires_at", "must be in the future"));
        }
        let (key, text) = self.mint(caller.org_id, wanted)?;
        let changes = vec![Change::CreateKey(key.clone())];
        match self.commit(caller, changes, idempotency, &key).await {
            Err(error) if error.is_conflict() => {
                let replayed = self.replay(caller.org_id, idempotency).await?;
                replayed.map(|key| (key, None)).ok_or(error)
            }
            result => result.map(|()| (key, Some(text))),
        }
    }

    fn mint(&self, org: OrgId, wanted: NewKey) -> EngineResult<(ApiKey, KeyText)> {
        let (text, id, digest) = self.access.generate(wanted.role)?;
        let key = ApiKey {
            id,
            org_id: org,
            name: wanted.name,
            prefix: text.reveal().chars().take(PREFIX_LENGTH).collect(),
            digest,
            role: wanted.role,
            agent_id: wanted.agent_id,
            expires_at: wanted.expires_at,
            last_used_at: None,
            url_used_at: None,
            created_at: self.clock.now(),
            revoked_at: None,
        };
        Ok((key, text))
    }

    /// A page of keys, newest first.
    ///
    /// # Errors
    /// When the token is not of this list.
    pub async fn keys(&self, caller: &Principal, ask: &PageAsk) -> EngineResult<Paged<ApiKey>> {
        let page = self.pages.open(caller.org_id, "keys", ask)?;
        let rows = self.catalogue.keys(caller.org_id, page).await?;
        let position = |key: &ApiKey| hex::encode(key.id.as_bytes());
        Ok(self.pages.close(caller.org_id, "keys", ask, (rows, position)))
    }

    /// Revokes a key, at once and for good.
    ///
    /// # Errors
    /// When there is none, or it is the last working admin key.
    pub async fn revoke_key(&self, caller: &Principal, id: KeyId) -> EngineResult<ApiKey> {
        let mut key = self.require_key(caller.org_id, id).await?;
        if key.revoked_at.is_some() {
            // The call that stored it may have been given up before it forgot the key.
            self.access.forget();
            return Ok(key);
        }
        let now = self.clock.now();
        let changes = vec![Change::RevokeKey(caller.org_id, id, now)];
        let result = self.catalogue.commit(changes, None, self.author(caller)).await;
        // Even after an error: the revocation may have been stored.
        self.access.forget();
        match result {
            Ok(()) => {
                key.revoked_at = Some(now);
                Ok(key)
            }
            Err(error) if EngineError::from_conflict(&error) => {
                let key = self.require_key(caller.org_id, id).await?;
                if key.revoked_at.is_some() { Ok(key) } else { Err(EngineError::LastAdminKey) }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn require_key(&self, org: OrgId, id: KeyId) -> EngineResult<ApiKey> {
        let key = self.catalogue.key(id).await?.filter(|key| key.org_id == org);
        key.ok_or(EngineError::NotFound("api key"))
    }
}
