//! The record: reading it, and what becomes of a decision (settle, void, refund).
//!
//! Not here: making decisions (`evaluate`), and what people say to them (`approvals`).

use std::sync::Arc;

use super::access::Principal;
use super::evaluate::Decisive;
use super::pages::{PageAsk, Paged};
use super::{Engine, EngineError, EngineResult};
use crate::domain::decision::BudgetStatus;
use crate::domain::id::TransactionId;
use crate::domain::ledger::Act;
use crate::domain::transaction::TransactionRecord;
use crate::store::{TransactionFilter, TransactionPage};

/// Which transactions, and how many.
#[derive(Clone, Debug, Default)]
pub struct ListTransactions {
    /// Which.
    pub filter: TransactionFilter,
    /// How many, and where to go on.
    pub page: PageAsk,
    /// Leave out this many first.
    pub skip: u32,
    /// Also count all that match.
    pub count: bool,
}

impl Engine {
    /// One transaction with its decision.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub async fn transaction(
        &self,
        caller: &Principal,
        id: TransactionId,
    ) -> EngineResult<Decisive> {
        let record = self.catalogue.transaction(caller.org_id, id).await?;
        self.seen(caller, record).await
    }

    /// A transaction with its decision, if it is the caller's to see.
    pub(super) async fn seen(
        &self,
        caller: &Principal,
        record: Option<TransactionRecord>,
    ) -> EngineResult<Decisive> {
        let record = record
            .filter(|record| caller.sees(record.spend.agent_id))
            .ok_or(EngineError::NotFound("transaction"))?;
        let decision = self.decision_of(&record).await?;
        Ok(Decisive { record: Arc::new(record), decision, replayed: false })
    }

    /// A page of transactions, newest first, and how many there are if that was asked.
    ///
    /// # Errors
    /// When the filter names what is not the caller's, or the token is not of this list.
    pub async fn transactions(
        &self,
        caller: &Principal,
        ask: &ListTransactions,
    ) -> EngineResult<(Paged<Decisive>, Option<i64>)> {
        let mut filter = ask.filter;
        if let Some(mandate) = filter.mandate {
            // The mandate tells the agent, and lists by agent have an index.
            let mandate = self.mandate(caller, mandate).await?;
            if filter.agent.is_some_and(|agent| agent != mandate.agent_id) {
                return Err(EngineError::NotFound("mandate"));
            }
            filter.agent = Some(mandate.agent_id);
        }
        if filter.agent.is_some() || caller.agent_id.is_some() {
            let agent = caller.agent(filter.agent)?;
            self.require_agent(caller.org_id, agent).await?;
            filter.agent = Some(agent);
        }
        let query = format!("transactions {filter:?} {}", ask.skip);
        let page = self.pages.open(caller.org_id, &query, &ask.page)?;
        let before = match page.after {
            None => None,
            Some(seq) => Some(seq.parse().map_err(|_| EngineError::PageToken)?),
        };
        // What was left out lies before the first page; later pages start behind it anyway.
        let skip = if before.is_none() { ask.skip } else { 0 };
        let part = TransactionPage { before, skip, limit: page.limit };
        let rows = self.catalogue.transactions(caller.org_id, filter, part).await?;
        let position = |(seq, _): &(i64, _)| seq.to_string();
        let paged = self.pages.close(caller.org_id, &query, &ask.page, (rows, position));
        let mut items = Vec::with_capacity(paged.items.len());
        for (_, record) in paged.items {
            let decision = self.decision_of(&record).await?;
            items.push(Decisive { record: Arc::new(record), decision, replayed: false });
        }
        let total = match ask.count {
            true => Some(self.catalogue.count_transactions(caller.org_id, filter).await?),
            false => None,
        };
        Ok((Paged { items, next: paged.next }, total))
    }

    /// Settles, voids or refunds a transaction.
    ///
    /// # Errors
    /// When it is not the caller's, or its state or amount does not allow it.
    pub async fn resolve(
        &self,
        caller: &Principal,
        id: TransactionId,
        act: Act,
    ) -> EngineResult<(Decisive, Option<BudgetStatus>)> {
        let resolved = self.carry_out(caller, id, act).await?;
        let record = resolved.record;
        let budget = match record.mandate() {
            None => None,
            Some((mandate, _)) => match self.catalogue.mandate(caller.org_id, mandate).await? {
                None => None,
                Some(mandate) => Some(self.budget_view(mandate).await?.budget),
            },
        };
        let decision = self.decision_of(&record).await?;
        Ok((Decisive { record, decision, replayed: !resolved.changed }, budget))
    }
}
