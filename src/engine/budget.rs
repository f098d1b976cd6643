//! How much of a budget is gone.
//!
//! Not here: changing limits (`mandates`).

use jiff::Timestamp;

use super::access::Principal;
use super::{Engine, EngineError, EngineResult};
use crate::domain::decision::BudgetStatus;
use crate::domain::hold::Terms;
use crate::domain::id::{AgentId, MandateId, OrgId};
use crate::domain::ledger::{Charge, Claim, CounterKey, Subject};
use crate::domain::mandate::{Counted, Mandate, MandateStatus};
use crate::domain::money::Minor;
use crate::domain::period::parse_zone;
use crate::store::Snapshot;

/// One cap and how much of it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapStatus {
    /// `vendor_cap` or `category_cap`.
    pub rule_type: &'static str,
    /// The vendor or category.
    pub subject: String,
    /// The cap.
    pub total: Minor,
    /// Spent and held in the period.
    pub spent: Minor,
    /// When the period ends.
    pub resets_at: Option<Timestamp>,
}

/// A mandate, its budget and its caps, now.
#[derive(Clone, Debug)]
pub struct BudgetView {
    /// The mandate.
    pub mandate: Mandate,
    /// Its budget.
    pub budget: BudgetStatus,
    /// Its caps.
    pub caps: Vec<CapStatus>,
}

impl BudgetView {
    /// When the first of its periods ends.
    pub(super) fn turns_at(&self) -> Option<Timestamp> {
        let caps = self.caps.iter().filter_map(|cap| cap.resets_at);
        caps.chain(self.budget.resets_at).min()
    }
}

impl Engine {
    /// The budget of an agent's current mandate, or of one of its mandates.
    ///
    /// # Errors
    /// When there is no such mandate, or it is not the caller's.
    pub async fn budget(
        &self,
        caller: &Principal,
        agent: Option<AgentId>,
        mandate: Option<MandateId>,
    ) -> EngineResult<BudgetView> {
        let mandate = match mandate {
            Some(id) => {
                let mandate = self.mandate(caller, id).await?;
                if agent.is_some_and(|agent| agent != mandate.agent_id) {
                    return Err(EngineError::NotFound("mandate"));
                }
                mandate
            }
            None => self.current_mandate(caller, caller.agent(agent)?).await?,
        };
        self.budget_view(mandate).await
    }

    /// The mandate in force for an agent.
    async fn current_mandate(&self, caller: &Principal, agent: AgentId) -> EngineResult<Mandate> {
        let snapshot = self.current(caller, agent).await?;
        snapshot.mandate.ok_or(EngineError::NotFound("active mandate"))
    }

    /// An agent with its mandate, if one is in force, and its organization, all as of one instant.
    pub(super) async fn current(
        &self,
        caller: &Principal,
        agent: AgentId,
    ) -> EngineResult<Snapshot> {
        let snapshot = self.catalogue.snapshot(caller.org_id, agent, None).await?;
        let mut snapshot = snapshot.ok_or(EngineError::NotFound("agent"))?;
        let now = self.clock.now();
        snapshot.mandate =
            snapshot.mandate.filter(|mandate| mandate.status_at(now) == MandateStatus::Active);
        Ok(snapshot)
    }

    /// A mandate with what is gone of its budget and caps.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn budget_view(&self, mandate: Mandate) -> EngineResult<BudgetView> {
        let zone = parse_zone(&self.require_org(mandate.org_id).await?.timezone)?;
        let now = self.clock.now();
        let lines = mandate.policy.counted();
        let mut charges = Vec::with_capacity(lines.len());
        for line in &lines {
            let window = line.period.window(now, &zone)?;
            let (subject, period) = (line.subject.clone(), line.period);
            let key =
                CounterKey { mandate: mandate.id, subject, period, starts_at: window.starts_at };
            charges.push(Charge { key, limit: line.limit, ends_at: window.ends_at });
        }
        let claim = Claim {
            mandate: mandate.id,
            charges,
            windows: Vec::new(),
            admissible: false,
            hold: false,
            terms: Terms::default(),
            good_until: None,
        };
        let (levels, _) = self.ledger.peek(mandate.org_id, &claim, now).await?;
        let limits = &mandate.policy.budget;
        let level = levels.first().copied().unwrap_or_default();
        let budget = BudgetStatus {
            total: limits.total,
            spent: level.spent,
            held: level.held,
            per_transaction: limits.per_transaction,
            currency: limits.currency,
            resets_at: claim.charges.first().and_then(|charge| charge.ends_at),
        };
        let cap = |((line, charge), level): ((Counted, &Charge), &crate::domain::ledger::Level)| {
            let subject = match line.subject {
                Subject::Budget => String::new(),
                Subject::Vendor(vendor) => vendor.canonical().to_owned(),
                Subject::Category(category) => category,
            };
            let (total, spent) = (line.limit, level.committed());
            CapStatus {
                rule_type: line.rule_type,
                subject,
                total,
                spent,
                resets_at: charge.ends_at,
            }
        };
        let caps = lines.into_iter().zip(&claim.charges).zip(&levels).skip(1).map(cap).collect();
        Ok(BudgetView { mandate, budget, caps })
    }

    pub(super) async fn require_org(
        &self,
        id: OrgId,
    ) -> EngineResult<crate::domain::organization::Organization> {
        self.catalogue.org(id).await?.ok_or(EngineError::Corrupt("an organization that is gone"))
    }
}
