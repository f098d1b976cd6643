//! What becomes of a decision: approve, deny, settle, void, refund, or the end of its time.
//!
//! Each is done at most once and is safe to repeat. Money returns to every counter that counts it,
//! those of its own window, and to no others. Approvals stay in the tally: giving money back never
//! restores a rate limit. What is due has ended, whether or not anybody has written that down. Not
//! here: which credentials are a person's (`engine`).

use std::sync::Arc;

use jiff::Timestamp;

use super::{Book, Claim, CounterKey, Level, Standing, Subject};
use crate::domain::act::{ActKind, ActRecord};
use crate::domain::actor::Actor;
use crate::domain::hold::{Person, Statement};
use crate::domain::id::{AgentId, OrgId, TransactionId};
use crate::domain::money::Minor;
use crate::domain::transaction::{TransactionRecord, TransactionState};

/// What to do with a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The amount really spent is known; the rest returns.
    Settle(Minor),
    /// Nothing was bought; everything returns. A request that waits for a person is withdrawn.
    Void,
    /// What was settled returns, all of it or this much.
    Refund(Option<Minor>),
    /// A person says yes, and why.
    Approve(Person, String),
    /// A person says no, and why.
    Deny(Person, String),
    /// Its time has passed. Before that it does nothing.
    Expire,
}

impl Act {
    /// What it is recorded as, if it led to this state.
    #[must_use]
    pub const fn kind(&self, state: TransactionState) -> ActKind {
        match (self, state) {
            (Self::Settle(_), _) => ActKind::TransactionSettled,
            (Self::Void, TransactionState::Withdrawn) => ActKind::TransactionWithdrawn,
            (Self::Void, _) => ActKind::TransactionVoided,
            (Self::Refund(_), _) => ActKind::TransactionRefunded,
            (Self::Approve(..), TransactionState::PendingApproval) => ActKind::TransactionSeconded,
            (Self::Approve(..), _) => ActKind::TransactionApproved,
            (Self::Deny(..), _) => ActKind::TransactionDenied,
            (Self::Expire, TransactionState::Timeout) => ActKind::TransactionTimedOut,
            (Self::Expire, _) => ActKind::TransactionExpired,
        }
    }
}

/// Asks for an act on a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// For acts that grant money: what it was tested against.
    pub ground: Option<Box<Ground>>,
}

/// What the present limits of a mandate are, for money that was asked for before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The organization.
    pub org_id: OrgId,
    /// Whose transaction it is.
    pub agent: AgentId,
    /// How organization, agent and mandate stood when this was made.
    pub standing: Standing,
    /// The counters of the transaction's own windows, with the limits of today.
    pub claim: Claim,
    /// From this instant on it must be made again.
    pub good_until: Option<Timestamp>,
}

/// Why an act was refused; nothing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The mandate names others.
    NotApprover,
    /// The person asked for it.
    OwnRequest,
    /// It grants money, and its ground is missing or outdated.
    Stale,
    /// It does not fit a limit of today.
    OverLimit {
        /// Of what.
        subject: Subject,
        /// The limit.
        limit: Minor,
        /// What would be committed.
        committed: Minor,
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

/// What an act came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Exactly this was done before, or there was nothing to do.
    Nothing,
    /// Done, and no money is granted by it.
    Done,
    /// Done, if there is room for so much more.
    Grants(Minor),
}

impl Book {
    /// Does an act. A partial book must have the transaction, every kept counter that counts it,
    /// and what the ground names.
    ///
    /// # Errors
    /// When it is not found, or its state, its amount, the person or a limit does not allow it.
    pub fn resolve(&mut self, command: &Resolve, now: Timestamp) -> Result<Resolved, ResolveError> {
        let record = self
            .transactions
            .get(&command.id)
            .filter(|record| record.org_id == command.org_id)
            .filter(|record| command.agent.is_none_or(|agent| record.spend.agent_id == agent))
            .ok_or(ResolveError::NotFound)?;
        let before = Arc::clone(record);
        let mut after = before.as_ref().clone();
        match after.perform(&command.act, now)? {
            Step::Nothing => return Ok(Resolved { record: before, changed: false, act: None }),
            Step::Done => {}
            Step::Grants(more) => self.has_room(command.ground.as_deref(), more, now)?,
        }
        after.updated_at = now;
        let after = Arc::new(after);
        self.replace(before.load(), &after);
        self.transactions.insert(command.id, Arc::clone(&after));
        let author = (command.act.kind(after.state), command.actor);
        let act = ActRecord::of_money(author, &before, &after, self.budget_of(&after));
        Ok(Resolved { record: after, changed: true, act: Some(Box::new(act)) })
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

    /// Whether the limits of today leave room for so much more; the rest is committed already.
    fn has_room(
        &self,
        ground: Option<&Ground>,
        more: Minor,
        now: Timestamp,
    ) -> Result<(), ResolveError> {
        let ground = ground.ok_or(ResolveError::Stale)?;
        let (whose, standing) = ((ground.org_id, ground.agent), &ground.standing);
        if self.standing(whose, standing, true).as_ref() != Some(standing)
            || ground.good_until.is_some_and(|end| end <= now)
        {
            return Err(ResolveError::Stale);
        }
        for charge in &ground.claim.charges {
            // What is lent may be spent yet; what is committed does not grow by a mere approval.
            let lent = self.leased.get(&charge.key).copied().filter(|_| more > 0);
            let taken = self.level(charge).committed().saturating_add(lent.unwrap_or_default());
            let committed = taken.saturating_add(more);
            if committed > charge.limit {
                let (subject, limit) = (charge.key.subject.clone(), charge.limit);
                return Err(ResolveError::OverLimit { subject, limit, committed });
            }
        }
        Ok(())
    }

    /// Takes what a record took before from its counters, and adds what it takes now.
    fn replace(&mut self, before: Level, after: &TransactionRecord) {
        let load = after.load();
        let counting = self.counting(after).cloned().collect::<Vec<_>>();
        for key in counting {
            if let Some(level) = self.counters.get_mut(&key) {
                let kept = |now: Minor, old: Minor| now.saturating_sub(old).max(0);
                level.spent = kept(level.spent, before.spent).saturating_add(load.spent);
                level.held = kept(level.held, before.held).saturating_add(load.held);
            }
        }
    }
}

impl TransactionRecord {
    /// Ends what is due.
    fn run_out(&mut self, now: Timestamp) -> bool {
        let ended = match self.state {
            TransactionState::PendingApproval => TransactionState::Timeout,
            TransactionState::Approved => TransactionState::Expired,
            TransactionState::Settled
            | TransactionState::Voided
            | TransactionState::Refunded
            | TransactionState::Rejected
            | TransactionState::Denied
            | TransactionState::Timeout
            | TransactionState::Withdrawn
            | TransactionState::Expired => return false,
        };
        if self.due_at.is_none_or(|due| now < due) {
            return false;
        }
        self.enter(ended, now);
        true
    }

    fn enter(&mut self, state: TransactionState, now: Timestamp) {
        self.state = state;
        self.due_at = self.terms.due_at(state, now);
    }

    fn perform(&mut self, act: &Act, now: Timestamp) -> Result<Step, ResolveError> {
        let ran_out = self.run_out(now);
        match act {
            Act::Settle(amount) => self.settle(*amount, now),
            Act::Void => self.void(now),
            Act::Refund(amount) => self.refund(*amount, now),
            Act::Approve(person, comment) => self.approve(person, comment, now),
            Act::Deny(person, comment) => self.deny(person, comment, now),
            Act::Expire => Ok(if ran_out { Step::Done } else { Step::Nothing }),
        }
    }

    fn settle(&mut self, amount: Minor, now: Timestamp) -> Result<Step, ResolveError> {
        let from = self.state;
        let is_late = match from {
            TransactionState::Approved => false,
            // The money has moved all the same.
            TransactionState::Expired => true,
            TransactionState::Settled if self.settled == Some(amount) => return Ok(Step::Nothing),
            TransactionState::Settled
            | TransactionState::Voided
            | TransactionState::Refunded
            | TransactionState::Rejected
            | TransactionState::PendingApproval
            | TransactionState::Denied
            | TransactionState::Timeout
            | TransactionState::Withdrawn => {
                return Err(ResolveError::WrongState { from, wanted: "settled" });
            }
        };
        within(amount, self.spend.amount.saturating_add(self.terms.tolerance))?;
        self.settled = Some(amount);
        self.followup.late = is_late;
        self.enter(TransactionState::Settled, now);
        let more = amount.saturating_sub(self.spend.amount);
        Ok(if more > 0 && !is_late { Step::Grants(more) } else { Step::Done })
    }

    fn void(&mut self, now: Timestamp) -> Result<Step, ResolveError> {
        let from = self.state;
        match from {
            TransactionState::Approved => self.enter(TransactionState::Voided, now),
            TransactionState::PendingApproval => self.enter(TransactionState::Withdrawn, now),
            TransactionState::Voided | TransactionState::Withdrawn => return Ok(Step::Nothing),
            TransactionState::Settled
            | TransactionState::Refunded
            | TransactionState::Rejected
            | TransactionState::Denied
            | TransactionState::Timeout
            | TransactionState::Expired => {
                return Err(ResolveError::WrongState { from, wanted: "voided" });
            }
        }
        Ok(Step::Done)
    }

    fn refund(&mut self, amount: Option<Minor>, now: Timestamp) -> Result<Step, ResolveError> {
        let settled = self.settled.unwrap_or(self.spend.amount);
        if self.state == TransactionState::Refunded && self.refunded == amount.or(self.settled) {
            return Ok(Step::Nothing);
        }
        if self.state != TransactionState::Settled {
            return Err(ResolveError::WrongState { from: self.state, wanted: "refunded" });
        }
        let amount = amount.unwrap_or(settled);
        within(amount, settled)?;
        self.refunded = Some(amount);
        self.enter(TransactionState::Refunded, now);
        Ok(Step::Done)
    }

    fn approve(
        &mut self,
        person: &Person,
        comment: &str,
        now: Timestamp,
    ) -> Result<Step, ResolveError> {
        // One credential counts once, and its repetition answers the same.
        if self.followup.grants.iter().any(|grant| grant.by == person.key) {
            return Ok(Step::Nothing);
        }
        let required = self.asks(person, "approved")?;
        let grant = Statement { by: person.key, at: now, comment: comment.to_owned() };
        self.followup.grants.push(grant);
        if i64::try_from(self.followup.grants.len()).is_ok_and(|grants| grants >= required) {
            self.enter(TransactionState::Approved, now);
        }
        Ok(Step::Grants(0))
    }

    fn deny(
        &mut self,
        person: &Person,
        comment: &str,
        now: Timestamp,
    ) -> Result<Step, ResolveError> {
        if self.followup.denial.as_ref().is_some_and(|denial| denial.by == person.key) {
            return Ok(Step::Nothing);
        }
        self.asks(person, "denied")?;
        let denial = Statement { by: person.key, at: now, comment: comment.to_owned() };
        self.followup.denial = Some(denial);
        self.enter(TransactionState::Denied, now);
        Ok(Step::Done)
    }

    /// How many approvals it waits for, if this person may answer it.
    fn asks(&self, person: &Person, wanted: &'static str) -> Result<i64, ResolveError> {
        let wrong = ResolveError::WrongState { from: self.state, wanted };
        // Requests from before there were terms can only be withdrawn.
        let terms = self.terms.approval.as_ref().ok_or_else(|| wrong.clone())?;
        if !terms.names(person) {
            return Err(ResolveError::NotApprover);
        }
        if terms.asked_by == Some(person.key) {
            return Err(ResolveError::OwnRequest);
        }
        if self.state != TransactionState::PendingApproval {
            return Err(wrong);
        }
        Ok(terms.required)
    }
}

const fn within(amount: Minor, available: Minor) -> Result<(), ResolveError> {
    if amount > available { Err(ResolveError::Exceeds { available }) } else { Ok(()) }
}
