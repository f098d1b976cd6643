//! What becomes of a decision: settle, void, refund; each at most once, each safe to repeat.
//!
//! Money returns to every counter that counts it, those of its own window, and to no others.
//! Approvals stay in the tally: giving money back never restores a rate limit. Not here: who may
//! do it (`engine`).

use std::sync::Arc;

use jiff::Timestamp;

use super::{Book, CounterKey, Level, Subject};
use crate::domain::act::{ActKind, ActRecord};
use crate::domain::actor::Actor;
use crate::domain::id::{AgentId, OrgId, TransactionId};
use crate::domain::money::Minor;
use crate::domain::transaction::{TransactionRecord, TransactionState};

/// What to do with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The amount really spent is known; the rest returns.
    Settle(Minor),
    /// Nothing was bought; everything returns.
    Void,
    /// What was settled returns, all of it or this much.
    Refund(Option<Minor>),
}

impl Act {
    /// What it is recorded as.
    #[must_use]
    pub const fn kind(self) -> ActKind {
        match self {
            Self::Settle(_) => ActKind::TransactionSettled,
            Self::Void => ActKind::TransactionVoided,
            Self::Refund(_) => ActKind::TransactionRefunded,
        }
    }
}

/// Asks for an act on a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The organization; another one's transaction is not found.
    pub org_id: OrgId,
    /// If given, another agent's transaction is not found.
    pub agent: Option<AgentId>,
    /// Which transaction.
    pub id: TransactionId,
    /// What to do.
    pub act: Act,
    /// Who does it.
    pub actor: Actor,
}

/// Why an act was refused; nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// There is no such transaction here.
    NotFound,
    /// Its state does not allow it.
    WrongState {
        /// The state.
        from: TransactionState,
        /// What was wanted.
        wanted: &'static str,
    },
    /// More than there is.
    Exceeds {
        /// What there is.
        available: Minor,
    },
}

/// The transaction after the act, and whether it changed now.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The transaction.
    pub record: Arc<TransactionRecord>,
    /// `false` when the same act was done before.
    pub changed: bool,
    /// What is recorded of it, when it changed.
    pub act: Option<Box<ActRecord>>,
}

impl Book {
    /// Settles, voids or refunds. A partial book must have the transaction and every kept counter
    /// that counts it.
    ///
    /// # Errors
    /// When it is not found, or its state or amount does not allow it.
    pub fn resolve(&mut self, command: &Resolve, now: Timestamp) -> Result<Resolved, ResolveError> {
        let record = self
            .transactions
            .get(&command.id)
            .filter(|record| record.org_id == command.org_id)
            .filter(|record| command.agent.is_none_or(|agent| record.spend.agent_id == agent))
            .ok_or(ResolveError::NotFound)?;
        let before = Arc::clone(record);
        let mut after = before.as_ref().clone();
        let changed = after.perform(command.act)?;
        if changed {
            after.updated_at = now;
        }
        let after = Arc::new(after);
        if !changed {
            return Ok(Resolved { record: after, changed, act: None });
        }
        self.release(before.load(), &after);
        self.transactions.insert(command.id, Arc::clone(&after));
        let author = (command.act.kind(), command.actor);
        let act = ActRecord::of_money(author, &before, &after, self.budget_of(&after));
        Ok(Resolved { record: after, changed, act: Some(Box::new(act)) })
    }

    /// Where the budget stands that a record was charged to, if this book keeps it.
    fn budget_of(&self, record: &TransactionRecord) -> Option<Level> {
        let budget = record.charged.iter().find(|key| key.subject == Subject::Budget)?;
        self.counters.get(budget).copied()
    }

    /// The counters of this book that count a record.
    pub fn counting(&self, record: &TransactionRecord) -> impl Iterator<Item = &CounterKey> {
        let keys = self.counters.keys();
        keys.filter(|key| key.covers(self.ends.get(*key).copied(), record))
    }

    fn release(&mut self, before: Level, after: &TransactionRecord) {
        let load = after.load();
        let (spent, held) =
            (before.spent.saturating_sub(load.spent), before.held.saturating_sub(load.held));
        let counting = self.counting(after).cloned().collect::<Vec<_>>();
        for key in counting {
            if let Some(level) = self.counters.get_mut(&key) {
                level.spent = level.spent.saturating_sub(spent);
                level.held = level.held.saturating_sub(held);
            }
        }
    }
}

impl TransactionRecord {
    /// Whether it changed; `false` when exactly this was done before.
    fn perform(&mut self, act: Act) -> Result<bool, ResolveError> {
        use TransactionState::{Approved, PendingApproval, Refunded, Settled, Voided};
        let from = self.state;
        match (act, from) {
            (Act::Settle(amount), Approved) => {
                within(amount, self.spend.amount)?;
                self.settled = Some(amount);
                self.state = Settled;
            }
            (Act::Settle(amount), Settled) if self.settled == Some(amount) => return Ok(false),
            (Act::Void, Approved | PendingApproval) => self.state = Voided,
            (Act::Void, Voided) => return Ok(false),
            (Act::Refund(amount), Settled) => {
                let settled = self.settled.unwrap_or(self.spend.amount);
                let amount = amount.unwrap_or(settled);
                within(amount, settled)?;
                self.refunded = Some(amount);
                self.state = Refunded;
            }
            (Act::Refund(amount), Refunded) if self.refunded == amount.or(self.settled) => {
                return Ok(false);
            }
            (Act::Settle(_), _) => {
                return Err(ResolveError::WrongState { from, wanted: "settled" });
            }
            (Act::Void, _) => {
                return Err(ResolveError::WrongState { from, wanted: "voided" });
            }
            (Act::Refund(_), _) => {
                return Err(ResolveError::WrongState { from, wanted: "refunded" });
            }
        }
        Ok(true)
    }
}

const fn within(amount: Minor, available: Minor) -> Result<(), ResolveError> {
    if amount > available { Err(ResolveError::Exceeds { available }) } else { Ok(()) }
}
