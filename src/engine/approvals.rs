//! What waits for a person, and what persons say.
//!
//! A person is a credential that is no agent's. The mandate says which ones may answer; the ledger
//! compares that, and counts each once. Not here: what becomes of the money (`holds`).

use super::access::Principal;
use super::evaluate::Decisive;
use super::pages::{PageAsk, Paged};
use super::{Engine, EngineError, EngineResult, FieldViolation, GrantRefusal};
use crate::domain::agent::Agent;
use crate::domain::decision::{BudgetStatus, Verdict};
use crate::domain::hold::Person;
use crate::domain::id::{AgentId, KeyId, MandateId, OrgId, TransactionId};
use crate::domain::ledger::Act;
use crate::domain::mandate::Policy;
use crate::domain::money::Minor;
use crate::domain::rule::RuleSpec;
use crate::domain::transaction::{TransactionRecord, TransactionState};
use crate::store::{Role, TransactionFilter, TransactionPage};

/// Which requests.
#[derive(Clone, Debug, Default)]
pub struct ListApprovals {
    /// Only this agent's.
    pub agent: Option<AgentId>,
    /// Only under this mandate.
    pub mandate: Option<MandateId>,
    /// Only in this state.
    pub state: Option<TransactionState>,
    /// How many, and where to go on.
    pub page: PageAsk,
}

/// What a person says to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub comment: String,
    /// Which request the person saw; none if that was not said.
    pub request_hash: Option<[u8; 16]>,
}

/// A request with what a person needs to judge it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was asked, decided, and came of it.
    pub decisive: Decisive,
    /// Who asked.
    pub agent: Agent,
    /// Under which mandate.
    pub mandate_name: String,
    /// Amounts above it need a person.
    pub threshold: Minor,
    /// The budget of its own period as it would be after the approval; none if nothing waits.
    pub budget_after: Option<BudgetStatus>,
    /// Whether the reader may answer.
    pub may_answer: bool,
}

/// The two parts of a list: what waits, and the rest.
const WAITING: char = 'w';
const ANSWERED: char = 'a';

/// The person behind a credential; an agent's is none.
fn person(caller: &Principal) -> EngineResult<Person> {
    let role = match caller.role {
        Role::Admin => "admin",
        Role::Reader => "reader",
        Role::Agent => return Err(EngineError::RoleNotAllowed(Role::Agent)),
    };
    Ok(Person { key: caller.key_id, role })
}

impl Engine {
    /// A page of requests: what waits first, then the rest; the newest of each first.
    ///
    /// # Errors
    /// When the filter names what is not the caller's, or the token is not of this list.
    pub async fn approvals(
        &self,
        caller: &Principal,
        ask: &ListApprovals,
    ) -> EngineResult<Paged<Asked>> {
        let person = person(caller)?;
        let mut agent = ask.agent;
        if let Some(mandate) = ask.mandate {
            let mandate = self.mandate(caller, mandate).await?;
            if agent.is_some_and(|agent| agent != mandate.agent_id) {
                return Err(EngineError::NotFound("mandate"));
            }
            agent = Some(mandate.agent_id);
        }
        if agent.is_some() || caller.agent_id.is_some() {
            let named = caller.agent(agent)?;
            self.require_agent(caller.org_id, named).await?;
            agent = Some(named);
        }
        let query = format!("approvals {agent:?} {:?} {:?}", ask.mandate, ask.state);
        let page = self.pages.open(caller.org_id, &query, &ask.page)?;
        let (part, before) = place(page.after.as_deref())?;
        let filter = TransactionFilter {
            agent,
            mandate: ask.mandate,
            verdict: Some(Verdict::PendingApproval),
            ..TransactionFilter::default()
        };
        let waiting = TransactionState::PendingApproval;
        let limit = page.limit;
        let mut rows = Vec::new();
        if part == WAITING && ask.state.is_none_or(|state| state == waiting) {
            let filter = TransactionFilter { state: Some(waiting), ..filter };
            let part = TransactionPage { before, skip: 0, limit };
            let found = self.catalogue.transactions(caller.org_id, filter, part).await?;
            rows.extend(found.into_iter().map(|row| (WAITING, row)));
        }
        let left = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(limit));
        if left > 0 && ask.state != Some(waiting) {
            let filter = TransactionFilter { state: ask.state, answered: true, ..filter };
            let before = before.filter(|_| part == ANSWERED);
            let part = TransactionPage { before, skip: 0, limit: left };
            let found = self.catalogue.transactions(caller.org_id, filter, part).await?;
            rows.extend(found.into_iter().map(|row| (ANSWERED, row)));
        }
        let position = |(part, (seq, _)): &(char, (i64, _))| format!("{part}{seq}");
        let paged = self.pages.close(caller.org_id, &query, &ask.page, (rows, position));
        let mut items = Vec::with_capacity(paged.items.len());
        for (_, (_, record)) in paged.items {
            items.push(self.asked(&person, record.into()).await?);
        }
        Ok(Paged { items, next: paged.next })
    }

    /// That every credential which a policy names as an approver could approve now.
    ///
    /// # Errors
    /// When one could not: with it alone, requests would wait for nobody.
    pub(super) async fn approvers_can_approve(
        &self,
        org: OrgId,
        policy: &Policy,
    ) -> EngineResult<()> {
        let now = self.clock.now();
        let mut faults = Vec::new();
        for (number, rule) in policy.rules.iter().enumerate() {
            let RuleSpec::Approval { approver_roles, .. } = rule else { continue };
            for (place, approver) in approver_roles.iter().enumerate() {
                let Ok(id) = approver.parse::<KeyId>() else { continue };
                let key = self.catalogue.key(id).await?.filter(|key| key.org_id == org);
                let is_good = key.is_some_and(|key| {
                    let has_ended = key.expires_at.is_some_and(|end| end <= now);
                    key.role == Role::Admin && key.revoked_at.is_none() && !has_ended
                });
                if !is_good {
                    let field = format!("rules[{number}].approval.approver_roles[{place}]");
                    let why = "must be `admin` or the id of an admin's API key that works";
                    faults.push(FieldViolation { field, why: why.to_owned() });
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(EngineError::Invalid(faults)) }
    }

    /// One request.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub async fn approval(&self, caller: &Principal, id: TransactionId) -> EngineResult<Asked> {
        let person = person(caller)?;
        let record = self.requested(caller, id).await?;
        self.asked(&person, record.into()).await
    }

    /// Approves or denies a request.
    ///
    /// # Errors
    /// When the caller may not, the request does not wait any more or is another one, or the money
    /// cannot be granted as things stand.
    pub async fn answer(
        &self,
        caller: &Principal,
        id: TransactionId,
        answer: Answer,
    ) -> EngineResult<Asked> {
        let person = person(caller)?;
        let record = self.requested(caller, id).await?;
        // What was asked under an id never changes, so one look is enough.
        if answer.request_hash.is_some_and(|seen| seen != record.request_hash) {
            return Err(GrantRefusal::RequestMismatch.into());
        }
        let act = match answer.approve {
            true => Act::Approve(person, answer.comment),
            false => Act::Deny(person, answer.comment),
        };
        let resolved = self.carry_out(caller, id, act).await?;
        self.asked(&person, resolved.record).await
    }

    /// A transaction that waited for a person at first.
    async fn requested(
        &self,
        caller: &Principal,
        id: TransactionId,
    ) -> EngineResult<TransactionRecord> {
        let record = self.catalogue.transaction(caller.org_id, id).await?;
        let record = record
            .filter(|record| caller.sees(record.spend.agent_id))
            .ok_or(EngineError::NotFound("transaction"))?;
        if record.verdict != Verdict::PendingApproval {
            let wanted = "answered by a person";
            return Err(EngineError::TransactionState { from: record.state, wanted });
        }
        Ok(record)
    }

    async fn asked(
        &self,
        person: &Person,
        record: std::sync::Arc<TransactionRecord>,
    ) -> EngineResult<Asked> {
        let gone = EngineError::Corrupt("a request without its mandate or agent");
        let (org, (mandate, version)) = match record.mandate() {
            Some(mandate) => (record.org_id, mandate),
            None => return Err(gone),
        };
        let stored = self.catalogue.mandate_version(org, mandate, version).await?;
        let agent = self.catalogue.agent(org, record.spend.agent_id).await?;
        let (Some(stored), Some(agent)) = (stored, agent) else { return Err(gone) };
        let threshold = stored.policy.rules.iter().find_map(|rule| {
            let RuleSpec::Approval { threshold, .. } = rule else { return None };
            Some(*threshold)
        });
        let is_open = record.state == TransactionState::PendingApproval;
        let budget_after = if is_open { self.budget_after(&record).await? } else { None };
        let terms = record.terms.approval.as_ref();
        let may_answer = is_open
            && terms.is_some_and(|terms| terms.names(person) && terms.asked_by != Some(person.key));
        let decision = self.decision_of(&record).await?;
        Ok(Asked {
            decisive: Decisive { record, decision, replayed: false },
            agent,
            mandate_name: stored.name,
            threshold: threshold.unwrap_or_default(),
            budget_after,
            may_answer,
        })
    }

    /// The budget of a request's own period, with the limits of today, if it were approved.
    async fn budget_after(&self, record: &TransactionRecord) -> EngineResult<Option<BudgetStatus>> {
        let ground = self.ground(record, &Act::Expire).await?;
        let Some((mandate, _)) = record.mandate() else { return Ok(None) };
        let today = self.catalogue.mandate(record.org_id, mandate).await?;
        let (levels, _) = self.ledger.peek(record.org_id, &ground.claim, self.clock.now()).await?;
        let (Some(today), Some(level)) = (today, levels.first()) else { return Ok(None) };
        let (limits, amount) = (today.policy.budget, record.spend.amount);
        Ok(Some(BudgetStatus {
            total: limits.total,
            spent: level.spent.saturating_add(amount),
            held: level.held.saturating_sub(amount).max(0),
            per_transaction: limits.per_transaction,
            currency: limits.currency,
            resets_at: ground.claim.charges.first().and_then(|charge| charge.ends_at),
        }))
    }
}

/// Where a list goes on.
fn place(after: Option<&str>) -> EngineResult<(char, Option<i64>)> {
    let Some(after) = after else { return Ok((WAITING, None)) };
    let (part, seq) = match (after.strip_prefix(WAITING), after.strip_prefix(ANSWERED)) {
        (Some(seq), _) => (WAITING, seq),
        (None, Some(seq)) => (ANSWERED, seq),
        (None, None) => return Err(EngineError::PageToken),
    };
    Ok((part, Some(seq.parse().map_err(|_| EngineError::PageToken)?)))
}
