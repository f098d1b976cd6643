//! Money that is held: acts on it, waiting for what becomes of it, and the end of its time.
//!
//! An act that grants money is tested against the mandate of today; the ledger compares that it is
//! still so. What is due is ended here now and then, some at a time, whichever server comes first:
//! the ledger does it once, and acts as if it were done already when it comes late. Not here: which
//! acts there are (`domain::ledger::resolve`).

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{Instant, timeout_at};

use super::access::Principal;
use super::evaluate::Decisive;
use super::{ATTEMPTS, Engine, EngineError, EngineResult, GrantRefusal};
use crate::domain::actor::Actor;
use crate::domain::decision::{Reason, RejectionReason};
use crate::domain::evaluate::{Case, reconsider};
use crate::domain::id::TransactionId;
use crate::domain::ledger::{Act, Ground, Resolve, ResolveError, Resolved, Subject};
use crate::domain::money::Currency;
use crate::domain::period::parse_zone;
use crate::domain::transaction::{TransactionRecord, TransactionState};

/// Callers that wait at the same time; others are answered at once.
const WAITING_MAX: usize = 256;

/// Answers that a waiting caller may be behind; then it looks for itself.
const ANSWERS_KEPT: usize = 64;

/// How often a waiting caller looks: another server may have had the answer.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// Transactions that are ended in one go: others find the ledger's queue free in between.
const DUE_MAX: u32 = 256;

/// Tells callers that wait what was answered in this process.
#[derive(Debug)]
pub(super) struct Answers {
    told: broadcast::Sender<TransactionId>,
    slots: Semaphore,
}

impl Default for Answers {
    fn default() -> Self {
        Self { told: broadcast::channel(ANSWERS_KEPT).0, slots: Semaphore::new(WAITING_MAX) }
    }
}

impl Engine {
    /// One transaction with its decision: at once, or if it waits for a person, when it does not
    /// any more or this time is over.
    ///
    /// # Errors
    /// When there is none, or it is not the caller's to see.
    pub async fn awaited(
        &self,
        caller: &Principal,
        id: TransactionId,
        wait: Duration,
    ) -> EngineResult<Decisive> {
        let until = Instant::now().checked_add(wait.min(self.wait_max));
        let mut told = self.answers.told.subscribe();
        let mut found = self.transaction(caller, id).await?;
        let is_open = |found: &TransactionRecord| found.state == TransactionState::PendingApproval;
        let (Some(until), Ok(_slot)) = (until, self.answers.slots.try_acquire()) else {
            return Ok(found);
        };
        while is_open(&found.record) && Instant::now() < until {
            let look = Instant::now().checked_add(LOOK_TIME).map_or(until, |look| look.min(until));
            // Everything else that is answered meanwhile is not worth a look.
            let answered = async { while told.recv().await.is_ok_and(|other| other != id) {} };
            let _ = timeout_at(look, answered).await;
            let record = self.catalogue.transaction(caller.org_id, id).await?;
            if record.as_ref().is_none_or(|record| !is_open(record)) {
                found = self.seen(caller, record).await?;
            }
        }
        Ok(found)
    }

    /// Does an act for a caller.
    pub(super) async fn carry_out(
        &self,
        caller: &Principal,
        id: TransactionId,
        act: Act,
    ) -> EngineResult<Resolved> {
        let (org_id, agent) = (caller.org_id, caller.agent_id);
        let actor = caller.actor();
        let mut command = Resolve { org_id, agent, id, act, actor, ground: None };
        let mut currency = Currency::Usdc;
        for _ in 0..ATTEMPTS {
            match self.ledger.resolve(command.clone()).await? {
                Ok(resolved) => {
                    if resolved.changed {
                        // Nobody may be waiting.
                        let _ = self.answers.told.send(id);
                    }
                    return Ok(resolved);
                }
                Err(ResolveError::Stale) => {
                    let record = self.catalogue.transaction(org_id, id).await?;
                    let record = record.ok_or(EngineError::NotFound("transaction"))?;
                    currency = record.spend.currency;
                    command.ground = Some(Box::new(self.ground(&record, &command.act).await?));
                }
                Err(error) => return Err(refused(error, currency)),
            }
        }
        Err(EngineError::ConcurrentChange)
    }

    /// What granting money to a transaction is tested against now.
    ///
    /// # Errors
    /// When the mandate of today does not let a person grant it.
    pub(super) async fn ground(
        &self,
        record: &TransactionRecord,
        act: &Act,
    ) -> EngineResult<Ground> {
        let (org_id, agent) = (record.org_id, record.spend.agent_id);
        let (mandate, _) =
            record.mandate().ok_or(EngineError::Corrupt("a hold without mandate"))?;
        let frame = self.fresh_frame(org_id, agent, Some(mandate)).await?;
        let case = Case {
            standing: &frame.standing,
            mandate: frame.mandate.as_ref(),
            spend: &record.spend,
            observed: &record.evidence.observed,
            zone: &parse_zone(&record.evidence.zone)?,
            now: record.evidence.screened_at,
        };
        let (claim, reasons) = reconsider(&case, self.clock.now())?;
        let claim = claim.ok_or(EngineError::NotFound("mandate"))?;
        // A settlement tells what has happened: only the room for it counts.
        let is_grant = matches!(act, Act::Approve(..));
        if let Some(reason) = reasons.into_iter().next().filter(|_| is_grant) {
            return Err(GrantRefusal::StandingLimit(reason).into());
        }
        let valid_until = frame.mandate.as_ref().and_then(|mandate| mandate.valid_until);
        let good_until = valid_until.filter(|_| is_grant);
        Ok(Ground { org_id, agent, standing: frame.standing.clone(), claim, good_until })
    }

    /// Ends some of what is due; how many it tried.
    ///
    /// # Errors
    /// When the store cannot say what is due.
    pub async fn end_due(&self) -> EngineResult<usize> {
        let due = self.catalogue.due_transactions(self.clock.now(), DUE_MAX).await?;
        let ended = join_all(due.into_iter().map(|(org_id, id)| async move {
            let (act, actor) = (Act::Expire, Actor::System);
            let command = Resolve { org_id, agent: None, id, act, actor, ground: None };
            match self.ledger.resolve(command).await {
                Ok(Ok(resolved)) if resolved.changed => {
                    let state = resolved.record.state.word();
                    metrics::counter!("quetra_holds_ended_total", "state" => state).increment(1);
                    let _ = self.answers.told.send(id);
                }
                // Another server was first, or somebody acted on it.
                Ok(Ok(_) | Err(_)) => {}
                Err(error) => tracing::warn!(%error, "a hold could not be ended in time"),
            }
        }));
        Ok(ended.await.len())
    }
}

fn refused(error: ResolveError, currency: Currency) -> EngineError {
    match error {
        ResolveError::NotFound => EngineError::NotFound("transaction"),
        ResolveError::WrongState { from, wanted } => EngineError::TransactionState { from, wanted },
        ResolveError::Exceeds { available } => EngineError::AmountExceeds { available },
        ResolveError::NotApprover => GrantRefusal::NotApprover.into(),
        ResolveError::OwnRequest => GrantRefusal::OwnRequest.into(),
        ResolveError::Stale => EngineError::ConcurrentChange,
        ResolveError::OverLimit { subject, limit, committed } => {
            let (reason, source) = match subject {
                Subject::Budget => (RejectionReason::BudgetExhausted, "budget_total"),
                Subject::Vendor(_) => (RejectionReason::VendorCapExceeded, "vendor_cap"),
                Subject::Category(_) => (RejectionReason::CategoryCapExceeded, "category_cap"),
            };
            let (committed, limit) = (currency.format(committed), currency.format(limit));
            let detail =
                format!("{committed} would be spent and held together, the limit is {limit}");
            GrantRefusal::StandingLimit(Reason { reason, source, detail }).into()
        }
    }
}
