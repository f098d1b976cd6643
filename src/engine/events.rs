//! Events: what the journal says, as others are told of it.
//!
//! A decision's event is computed from what the decision recorded, by the functions that decided:
//! it says the same whenever it is told. Not here: the journal's order, and how others are told.

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Engine, EngineError, EngineResult};
use crate::domain::act::{ActKind, ActRecord, MoneyMoved};
use crate::domain::decision::Verdict;
use crate::domain::event::{Event, EventData, EventKind, event_id};
use crate::domain::id::{MandateId, OrgId, TransactionId};
use crate::domain::journal::MarkReached;
use crate::domain::mandate::Mandate;
use crate::domain::transaction::TransactionRecord;
use crate::store::{EventPage, EventStore, Fact, Growth, Happening, StoreError, StoreErrorKind};

const READ: &str = "read events";

/// The document of an act of administration, as far as events need it.
#[derive(serde::Deserialize)]
struct Changed<T> {
    after: T,
}

#[async_trait]
impl EventStore for Engine {
    async fn events(
        &self,
        org: OrgId,
        after_seq: i64,
        limit: u32,
    ) -> Result<EventPage, StoreError> {
        let happenings = self.catalogue.happenings(org, after_seq, limit).await?;
        let through = happenings.last().map_or(after_seq, |last| last.seq);
        let mut events = Vec::with_capacity(happenings.len());
        for happening in happenings {
            events.extend(self.event(org, happening).await.map_err(as_store_error)?);
        }
        Ok(EventPage { events, through })
    }

    async fn last_event(&self, org: OrgId) -> Result<i64, StoreError> {
        Ok(self.catalogue.journal_end(org).await?.map_or(0, |(seq, _)| seq))
    }

    fn growth(&self) -> watch::Receiver<Growth> {
        self.growth.clone()
    }
}

fn as_store_error(error: EngineError) -> StoreError {
    if let EngineError::Store(error) = error {
        return error;
    }
    StoreError::new(StoreErrorKind::Corrupt, READ, error)
}

fn corrupt(error: serde_json::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, READ, error)
}

impl Engine {
    /// The event of an entry; none for one that nobody is told of.
    pub(super) async fn event(
        &self,
        org: OrgId,
        happening: Happening,
    ) -> EngineResult<Option<Event>> {
        let Happening { seq, at, kind, fact } = happening;
        let Some(kind) = EventKind::of(&kind) else { return Ok(None) };
        let data = match fact {
            Fact::Spend(record) => self.about_decision(&record).await?,
            Fact::Act(act) => self.about_act(&act).await?,
            Fact::Derived(body) => about_mark(&body).map_err(corrupt)?,
        };
        let id = event_id(org, seq);
        Ok(Some(Event { org_id: org, seq, id, kind, at, data }))
    }

    async fn about_decision(&self, record: &TransactionRecord) -> EngineResult<EventData> {
        let before = record.evidence.levels.first().map(|level| level.committed());
        let taken = if record.verdict == Verdict::Rejected { 0 } else { record.spend.amount };
        let rejection_reasons = match record.verdict {
            Verdict::Rejected => {
                let reasons = self.decision_of(record).await?.reasons;
                reasons.into_iter().map(|reason| reason.reason).collect()
            }
            Verdict::Approved | Verdict::PendingApproval => Vec::new(),
        };
        Ok(EventData {
            mandate: record.mandate().map(|(id, _)| id),
            agent: Some(record.spend.agent_id),
            transaction: Some(record.id),
            amount: Some(record.spend.amount),
            currency: Some(record.spend.currency),
            budget_spent: before.map(|before| before.saturating_add(taken)),
            budget_total: self.total_of(record.org_id, record.mandate()).await?,
            decision: Some(record.verdict),
            rejection_reasons,
        })
    }

    async fn about_act(&self, act: &ActRecord) -> EngineResult<EventData> {
        let id = act.subject;
        if !act.kind.word().starts_with("transaction.") {
            let changed: Changed<Mandate> = serde_json::from_str(&act.document).map_err(corrupt)?;
            let mandate = changed.after;
            return Ok(EventData {
                mandate: Some(MandateId::from_bytes(id)),
                agent: Some(mandate.agent_id),
                currency: Some(mandate.policy.budget.currency),
                budget_total: Some(mandate.policy.budget.total),
                ..EventData::default()
            });
        }
        let moved: MoneyMoved = serde_json::from_str(&act.document).map_err(corrupt)?;
        let version = moved.mandate.zip(moved.version);
        Ok(EventData {
            mandate: moved.mandate,
            agent: Some(moved.agent),
            transaction: Some(TransactionId::from_bytes(id)),
            amount: moved.after.refunded.or(moved.after.settled).or(Some(moved.amount)),
            currency: Some(moved.currency),
            budget_spent: moved.budget.map(|(spent, held)| spent.saturating_add(held)),
            budget_total: self.total_of(act.org_id, version).await?,
            // A person's yes is the decision that was waited for.
            decision: (act.kind == ActKind::TransactionApproved).then_some(Verdict::Approved),
            ..EventData::default()
        })
    }

    /// The limit of a mandate's version.
    async fn total_of(
        &self,
        org: OrgId,
        version: Option<(MandateId, i64)>,
    ) -> EngineResult<Option<i64>> {
        let Some((id, version)) = version else { return Ok(None) };
        Ok(Some(self.compiled_version(org, id, version).await?.budget.total))
    }
}

fn about_mark(body: &str) -> Result<EventData, serde_json::Error> {
    let mark: MarkReached = serde_json::from_str(body)?;
    Ok(EventData {
        mandate: Some(mark.mandate),
        agent: Some(mark.agent),
        currency: Some(mark.currency),
        budget_spent: Some(mark.spent.saturating_add(mark.held)),
        budget_total: Some(mark.limit),
        ..EventData::default()
    })
}
