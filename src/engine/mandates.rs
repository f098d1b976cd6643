//! The life of a mandate: draft, activate, change, pause, resume, revoke; every step a new version.
//!
//! Every write compares the version it was based on; a lost race is tried again, or told to a
//! caller that named the version. Not here: which step is allowed when (`domain::mandate`).

use jiff::{SignedDuration, Timestamp};

use super::access::Principal;
use super::pages::{PageAsk, Paged};
use super::receipts::Idempotency;
use super::{ATTEMPTS, Engine, EngineError, EngineResult, FieldViolation};
use crate::crypto::{random_id, time_ordered_id};
use crate::domain::agent::{Agent, AgentStatus, AgentTransitionError};
use crate::domain::durability::Durability;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::mandate::{Budget, Mandate, MandateStatus, MandateStep, Policy};
use crate::domain::money::Minor;
use crate::domain::rule::RuleSpec;
use crate::store::{Change, MandateFilter, Page, Stand};

/// How long a mandate token is good for.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// A mandate to draft.
#[derive(Clone, Debug)]
pub struct MandateDraft {
    /// For whom.
    pub agent_id: AgentId,
    /// For people.
    pub name: String,
    /// For people and language models.
    pub description: String,
    /// Its limits.
    pub budget: Budget,
    /// Its rules.
    pub rules: Vec<RuleSpec>,
    /// From when; `None` means from now.
    pub valid_from: Option<Timestamp>,
    /// Until when; `None` means without end.
    pub valid_until: Option<Timestamp>,
    /// What its decisions must survive; `None` leaves that to the server.
    pub durability: Option<Durability>,
}

/// What to change of a mandate; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct MandatePatch {
    /// See [`Mandate::name`].
    pub name: Option<String>,
    /// See [`Mandate::description`].
    pub description: Option<String>,
    /// The limits, all of them.
    pub budget: Option<Budget>,
    /// The limit of a period alone.
    pub total: Option<Minor>,
    /// The ceiling of a transaction alone.
    pub per_transaction: Option<Minor>,
    /// The rules.
    pub rules: Option<Vec<RuleSpec>>,
    /// The start.
    pub valid_from: Option<Timestamp>,
    /// The end; `Some(None)` removes it.
    pub valid_until: Option<Option<Timestamp>>,
    /// What its decisions must survive; `Some(None)` leaves that to the server.
    pub durability: Option<Option<Durability>>,
}

impl MandatePatch {
    fn apply(&self, mandate: &mut Mandate) -> EngineResult<()> {
        if let Some(name) = &self.name {
            mandate.name.clone_from(name);
        }
        if let Some(description) = &self.description {
            mandate.description.clone_from(description);
        }
        let policy = &mut mandate.policy;
        if let Some(budget) = &self.budget {
            if budget.currency != policy.budget.currency {
                let why = "cannot change; make a new mandate in the other currency";
                return Err(EngineError::invalid("budget.currency", why));
            }
            policy.budget.clone_from(budget);
        }
        policy.budget.total = self.total.unwrap_or(policy.budget.total);
        let ceiling = self.per_transaction.unwrap_or(policy.budget.per_transaction);
        policy.budget.per_transaction = ceiling;
        if let Some(rules) = &self.rules {
            policy.rules.clone_from(rules);
        }
        policy.valid_from = self.valid_from.unwrap_or(policy.valid_from);
        policy.valid_until = self.valid_until.unwrap_or(policy.valid_until);
        policy.durability = self.durability.unwrap_or(policy.durability);
        Ok(())
    }
}

/// A signed token of a mandate.
#[derive(Clone, Debug)]
pub struct MandateToken {
    /// JWS in compact form.
    pub token: String,
    /// The mandate.
    pub mandate: Mandate,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// Where a list of mandates goes on.
fn position(mandate: &Mandate) -> String {
    hex::encode(mandate.id.as_bytes())
}

fn checked(policy: &Policy, now: Timestamp) -> EngineResult<()> {
    let mut faults = policy.compile().err().unwrap_or_default();
    if faults.is_empty() {
        faults.extend(policy.unknown_countries());
    }
    let is_judged = faults.iter().any(|fault| fault.field == "valid_until");
    if !is_judged && policy.valid_until.is_some_and(|end| end <= now) {
        let (field, why) = ("valid_until".to_owned(), "must be in the future".to_owned());
        faults.push(FieldViolation { field, why });
    }
    if faults.is_empty() { Ok(()) } else { Err(EngineError::Invalid(faults)) }
}

impl Engine {
    /// Drafts a mandate.
    ///
    /// # Errors
    /// When the agent is unknown or the policy is wrong; every violation at once.
    pub async fn create_mandate(
        &self,
        caller: &Principal,
        draft: MandateDraft,
        idempotency: &Idempotency,
    ) -> EngineResult<Mandate> {
        if let Some(mandate) = self.replay::<Mandate>(caller.org_id, idempotency).await? {
            self.catalogue.confirm(Stand::Mandate(mandate.clone())).await?;
            return Ok(mandate);
        }
        let agent = self.require_agent(caller.org_id, draft.agent_id).await?;
        usable(&agent, "given a mandate")?;
        let now = self.clock.now();
        let mut mandate = Mandate {
            id: MandateId::from_bytes(time_ordered_id()),
            org_id: caller.org_id,
            agent_id: draft.agent_id,
            name: draft.name,
            description: draft.description,
            version: 1,
            status: MandateStatus::Draft,
            policy: Policy {
                budget: draft.budget,
                rules: draft.rules,
                valid_from: draft.valid_from.unwrap_or(now),
                valid_until: draft.valid_until,
                durability: draft.durability,
            },
            policy_hash: String::new(),
            signature: String::new(),
            signing_key_id: String::new(),
            created_at: now,
            updated_at: now,
            revocation_reason: String::new(),
        };
        checked(&mandate.policy, now)?;
        self.approvers_can_approve(caller.org_id, &mandate.policy).await?;
        self.sign(&mut mandate).await?;
        let changes = vec![Change::CreateMandate(mandate.clone())];
        match self.commit(caller, changes, idempotency, &mandate).await {
            // Lost a race against this same call repeated, or the agent is gone.
            Err(error) if error.is_conflict() => {
                self.replay(caller.org_id, idempotency).await?.ok_or(error)
            }
            result => result.map(|()| mandate),
        }
    }

    /// One mandate.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub async fn mandate(&self, caller: &Principal, id: MandateId) -> EngineResult<Mandate> {
        let mandate = self.catalogue.mandate(caller.org_id, id).await?;
        let seen = mandate.filter(|mandate| caller.sees(mandate.agent_id));
        seen.ok_or(EngineError::NotFound("mandate"))
    }

    /// One version of a mandate.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub async fn mandate_version(
        &self,
        caller: &Principal,
        id: MandateId,
        version: i64,
    ) -> EngineResult<Mandate> {
        let mandate = self.catalogue.mandate_version(caller.org_id, id, version).await?;
        let seen = mandate.filter(|mandate| caller.sees(mandate.agent_id));
        seen.ok_or(EngineError::NotFound("mandate version"))
    }

    /// A page of mandates, newest first.
    ///
    /// # Errors
    /// When the agent is unknown or the token is not of this list.
    pub async fn mandates(
        &self,
        caller: &Principal,
        mut filter: MandateFilter,
        ask: &PageAsk,
    ) -> EngineResult<Paged<Mandate>> {
        if filter.agent.is_some() || caller.agent_id.is_some() {
            let agent = caller.agent(filter.agent)?;
            self.require_agent(caller.org_id, agent).await?;
            filter.agent = Some(agent);
        }
        let query = format!("mandates {filter:?}");
        let page = self.pages.open(caller.org_id, &query, ask)?;
        let rows = self.mandates_now(caller.org_id, filter, page).await?;
        Ok(self.pages.close(caller.org_id, &query, ask, (rows, position)))
    }

    /// Mandates with the status they have now. The store does not know that a mandate is over until
    /// another one takes its place.
    async fn mandates_now(
        &self,
        org: OrgId,
        filter: MandateFilter,
        page: Page,
    ) -> EngineResult<Vec<Mandate>> {
        let Some(wanted) = filter.status else {
            return Ok(self.catalogue.mandates(org, filter, page).await?);
        };
        let stored = Some(wanted).filter(|status| *status != MandateStatus::Expired);
        let filter = MandateFilter { status: stored, ..filter };
        let enough = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let now = self.clock.now();
        let mut found = Vec::new();
        let mut part = Page { limit: page.limit.max(super::pages::PAGE_SIZE_MAX), ..page };
        loop {
            let rows = self.catalogue.mandates(org, filter, part.clone()).await?;
            let Some(last) = rows.last() else {
                return Ok(found);
            };
            part.after = Some(position(last));
            found.extend(rows.into_iter().filter(|mandate| mandate.status_at(now) == wanted));
            if found.len() >= enough {
                found.truncate(enough);
                return Ok(found);
            }
        }
    }

    /// A page of a mandate's versions, newest first.
    ///
    /// # Errors
    /// When there is no such mandate or the token is not of this list.
    pub async fn mandate_versions(
        &self,
        caller: &Principal,
        id: MandateId,
        ask: &PageAsk,
    ) -> EngineResult<Paged<Mandate>> {
        self.mandate(caller, id).await?;
        let query = format!("versions {id}");
        let page = self.pages.open(caller.org_id, &query, ask)?;
        let rows = self.catalogue.mandate_versions(caller.org_id, id, page).await?;
        let position = |mandate: &Mandate| mandate.version.to_string();
        Ok(self.pages.close(caller.org_id, &query, ask, (rows, position)))
    }

    /// Changes a mandate, live.
    ///
    /// # Errors
    /// When it has ended, the new policy is wrong, it is not at the expected version, or it is in
    /// force and what it asks for cannot be kept.
    pub async fn update_mandate(
        &self,
        caller: &Principal,
        id: MandateId,
        (patch, expected): (&MandatePatch, Option<i64>),
        idempotency: &Idempotency,
    ) -> EngineResult<Mandate> {
        if let Some(mandate) = self.replay::<Mandate>(caller.org_id, idempotency).await? {
            self.catalogue.confirm(Stand::Mandate(mandate.clone())).await?;
            return Ok(mandate);
        }
        for _ in 0..ATTEMPTS {
            let before = self.mandate(caller, id).await?;
            if expected.is_some_and(|expected| expected != before.version) {
                // This same call, repeated, may be what has changed it.
                let replayed = self.replay(caller.org_id, idempotency).await?;
                return replayed.ok_or(EngineError::VersionConflict(before.version));
            }
            let now = self.clock.now();
            before.editable(now)?;
            let mut after = self.next_version(&before, now);
            patch.apply(&mut after)?;
            checked(&after.policy, now)?;
            if after.policy.rules != before.policy.rules {
                self.approvers_can_approve(caller.org_id, &after.policy).await?;
            }
            if patch.durability.is_some() && after.status != MandateStatus::Draft {
                self.refuse_unkept(after.policy.durability).await?;
            }
            self.sign(&mut after).await?;
            let changes = vec![Change::ReplaceMandate(after.clone(), before.version)];
            match self.commit(caller, changes, idempotency, &after).await {
                Ok(()) => return Ok(after),
                Err(error) if error.is_conflict() => {
                    // Lost a race: against another change, or against this same call repeated.
                    if let Some(mandate) =
                        self.replay::<Mandate>(caller.org_id, idempotency).await?
                    {
                        self.catalogue.confirm(Stand::Mandate(mandate.clone())).await?;
                        return Ok(mandate);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// Takes a mandate one step through its life.
    ///
    /// # Errors
    /// When its status does not allow the step, another mandate of the agent is in force, or what
    /// it asks for cannot be kept.
    pub async fn step_mandate(
        &self,
        caller: &Principal,
        id: MandateId,
        step: MandateStep,
        reason: &str,
    ) -> EngineResult<Mandate> {
        for _ in 0..ATTEMPTS {
            let before = self.mandate(caller, id).await?;
            let now = self.clock.now();
            let Some(status) = before.step(step, now)? else {
                self.catalogue.confirm(Stand::Mandate(before.clone())).await?;
                return Ok(before);
            };
            let mut after = self.next_version(&before, now);
            after.status = status;
            reason.clone_into(&mut after.revocation_reason);
            let mut changes = Vec::new();
            if status == MandateStatus::Active {
                self.refuse_unkept(after.policy.durability).await?;
                changes = self.make_room(&after, now).await?;
            }
            changes.push(Change::ReplaceMandate(after.clone(), before.version));
            match self.catalogue.commit(changes, None, self.author(caller)).await {
                Ok(()) => return Ok(after),
                Err(error) if EngineError::from_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// What must change beside a mandate that comes in force: the agent points to it, and one
    /// whose validity is over is written down as expired.
    async fn make_room(&self, mandate: &Mandate, now: Timestamp) -> EngineResult<Vec<Change>> {
        let mut agent = self.require_agent(mandate.org_id, mandate.agent_id).await?;
        usable(&agent, "given an active mandate")?;
        let mut changes = Vec::new();
        let current = agent.current_mandate.filter(|current| *current != mandate.id);
        if let Some(current) = current
            && let Some(before) = self.catalogue.mandate(mandate.org_id, current).await?
            && before.status == MandateStatus::Active
        {
            if before.status_at(now) == MandateStatus::Active {
                return Err(EngineError::ActiveMandateExists(current));
            }
            let mut expired = self.next_version(&before, now);
            expired.status = MandateStatus::Expired;
            changes.push(Change::ReplaceMandate(expired, before.version));
        }
        let seen = agent.version;
        agent.version = seen.saturating_add(1);
        agent.current_mandate = Some(mandate.id);
        agent.updated_at = now;
        changes.push(Change::ReplaceAgent(agent, seen));
        Ok(changes)
    }

    /// Deletes a draft.
    ///
    /// # Errors
    /// When it is not a draft.
    pub async fn delete_mandate(&self, caller: &Principal, id: MandateId) -> EngineResult<()> {
        let mandate = self.mandate(caller, id).await?;
        if mandate.status != MandateStatus::Draft {
            let from = mandate.status_at(self.clock.now());
            let wanted = "deleted; revoke it";
            return Err(crate::domain::mandate::MandateTransitionError { from, wanted }.into());
        }
        let changes = vec![Change::DeleteDraft(caller.org_id, id, mandate.version)];
        match self.catalogue.commit(changes, None, self.author(caller)).await {
            Err(error) if EngineError::from_conflict(&error) => Err(EngineError::ConcurrentChange),
            result => Ok(result?),
        }
    }

    /// A token of the mandate in force for an agent, to be verified with the public key alone.
    ///
    /// # Errors
    /// When there is no mandate in force, or nothing could be spent under it: the agent is
    /// suspended or the organization frozen.
    pub async fn mandate_token(
        &self,
        caller: &Principal,
        agent: AgentId,
    ) -> EngineResult<MandateToken> {
        let snapshot = self.current(caller, agent).await?;
        if snapshot.org.frozen {
            return Err(EngineError::OrganizationFrozen);
        }
        let from = snapshot.agent.status;
        if from != AgentStatus::Active {
            return Err(AgentTransitionError { from, wanted: "given a mandate token" }.into());
        }
        let mandate = snapshot.mandate.ok_or(EngineError::NotFound("active mandate"))?;
        let issued_at = self.clock.now();
        let expires_at = issued_at.checked_add(TOKEN_LIFE).unwrap_or(issued_at);
        let expires_at = mandate.policy.valid_until.map_or(expires_at, |end| end.min(expires_at));
        // Before its mandate is valid a token promises nothing; a begun second is not begun yet.
        let valid_from = mandate.policy.valid_from;
        let not_before = if valid_from > issued_at {
            let begun = i64::from(valid_from.subsec_nanosecond() > 0);
            valid_from.as_second().saturating_add(begun)
        } else {
            issued_at.as_second()
        };
        let policy: serde_json::Value = serde_json::from_str(&mandate.canonical_policy())
            .map_err(|_| EngineError::Corrupt("a policy"))?;
        let claims = serde_json::json!({
            "iss": mandate.org_id,
            "sub": mandate.agent_id,
            "jti": uuid::Uuid::from_bytes(random_id()),
            "iat": issued_at.as_second(),
            "nbf": not_before,
            "exp": expires_at.as_second(),
            "mandate_id": mandate.id,
            "mandate_version": mandate.version,
            "policy": policy,
            "policy_hash": mandate.policy_hash,
            "policy_signature": mandate.signature,
        });
        let key = self.signing_key(mandate.org_id).await?;
        let token = key.1.token(&key.0, &claims)?;
        Ok(MandateToken { token, mandate, expires_at })
    }

    pub(super) fn next_version(&self, before: &Mandate, now: Timestamp) -> Mandate {
        Mandate { version: before.version.saturating_add(1), updated_at: now, ..before.clone() }
    }

    /// Every mandate of an agent that has not ended yet, as revoked.
    pub(super) async fn revoke_all(
        &self,
        org: OrgId,
        agent: AgentId,
        now: Timestamp,
    ) -> EngineResult<Vec<Change>> {
        let mut changes = Vec::new();
        let mut after = None;
        loop {
            let filter = MandateFilter { agent: Some(agent), status: None };
            let page = Page { after, limit: super::pages::PAGE_SIZE_MAX };
            let mandates = self.catalogue.mandates(org, filter, page).await?;
            let Some(last) = mandates.last() else {
                return Ok(changes);
            };
            after = Some(position(last));
            for before in mandates {
                if let Ok(Some(status)) = before.step(MandateStep::Revoke, now) {
                    let mut revoked = self.next_version(&before, now);
                    revoked.status = status;
                    "the agent was decommissioned".clone_into(&mut revoked.revocation_reason);
                    changes.push(Change::ReplaceMandate(revoked, before.version));
                }
            }
        }
    }
}

pub(super) fn usable(agent: &Agent, wanted: &'static str) -> EngineResult<()> {
    match agent.status {
        AgentStatus::Active | AgentStatus::Suspended => Ok(()),
        from @ AgentStatus::Decommissioned => Err(AgentTransitionError { from, wanted }.into()),
    }
}
