//! The ledger's specification: `apply(book, command, now) → outcome`, a pure function.
//!
//! Every home of the ledger agrees with it on any sequence of commands. A home may hand over a
//! partial [`Book`] that has just what the commands name; what that is, each field says. Not here:
//! durability, batching, locks (`ledger/…`), and rules that need no state (`evaluate`).

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::agent::AgentStatus;
use super::decision::Verdict;
use super::durability::AskedDurability;
use super::hold::{Followup, Terms};
use super::id::{AgentId, MandateId, OrgId, TransactionId};
use super::mandate::MandateStatus;
use super::money::Minor;
use super::period::Period;
use super::spend::Spend;
use super::transaction::{Evidence, TransactionRecord, TransactionState};
use super::vendor::Vendor;

mod resolve;

pub use resolve::{Act, Ground, Resolve, ResolveError, Resolved};

/// What a counter sums.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Everything under the mandate.
    Budget,
    /// What is spent at a vendor and its subdomains.
    Vendor(Vendor),
    /// What is spent in a category.
    Category(String),
}

/// One counter: a subject in one window of a period.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterKey {
    /// Whose budget it is.
    pub mandate: MandateId,
    /// What it sums.
    pub subject: Subject,
    /// The rhythm; a day and a week can start together and are still two windows.
    pub period: Period,
    /// When the window starts.
    pub starts_at: Timestamp,
}

/// What a counter stands at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Approved and not given back.
    pub spent: Minor,
    /// Held for pending approvals.
    pub held: Minor,
}

impl Level {
    /// Both together: what a limit is compared with.
    #[must_use]
    pub const fn committed(self) -> Minor {
        self.spent.saturating_add(self.held)
    }
}

/// All approvals ever made under a mandate. It only grows, so that the difference of two tallies
/// is exactly what was approved between them; sums wrap, differences stay exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: i64,
    /// Their amounts, modulo 2^64.
    pub sum: i64,
}

impl Tally {
    /// The tally after one more approval.
    #[must_use]
    pub const fn and(self, amount: Minor) -> Self {
        Self { count: self.count.wrapping_add(1), sum: self.sum.wrapping_add(amount) }
    }
}

/// One approval in the history of a mandate: when, and the tally before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// When.
    pub at: Timestamp,
    /// All approvals before it.
    pub before: Tally,
}

/// The state of one sliding window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowLevel {
    /// Approvals in it.
    pub count: i64,
    /// Their amounts.
    pub sum: Minor,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
}

/// Organization, agent and mandate as they stand. A decision is only made if they still stand as
/// they did when the rules were tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The organization's version.
    pub org_version: i64,
    /// Nothing is approved.
    pub frozen: bool,
    /// The agent's status.
    pub agent: AgentStatus,
    /// The mandate that judges, if there is one.
    pub mandate: Option<MandateStanding>,
}

/// The mandate part of a [`Standing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MandateStanding {
    /// Which mandate.
    pub id: MandateId,
    /// Its version.
    pub version: i64,
    /// Its stored status; the end of validity is tested with the rules.
    pub status: MandateStatus,
}

/// A counter to charge, and its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The counter.
    pub key: CounterKey,
    /// Spent, held and the amount together must not exceed it.
    pub limit: Minor,
    /// When the window ends; a ruling at or after it would be about another window.
    pub ends_at: Option<Timestamp>,
}

/// The bound of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowBound {
    /// Fewer approvals than this.
    Count(i64),
    /// Approved amounts plus this one at most this.
    Sum(Minor),
}

/// A sliding window to test; it ends now and is open at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTest {
    /// How long.
    pub length: SignedDuration,
    /// What must hold.
    pub bound: WindowBound,
}

/// What a decision needs from the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The mandate.
    pub mandate: MandateId,
    /// The budget first, then the caps in the order of the rules.
    pub charges: Vec<Charge>,
    /// The windows in the order of the rules.
    pub windows: Vec<WindowTest>,
    /// Whether every stateless rule passed.
    pub admissible: bool,
    /// Whether a person has to decide: hold instead of spend.
    pub hold: bool,
    /// What may follow, if it is not rejected.
    pub terms: Terms,
    /// From this instant on the stateless rules must be tested again.
    pub good_until: Option<Timestamp>,
}

/// Asks for a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// The record to make.
    pub id: TransactionId,
    /// The organization.
    pub org_id: OrgId,
    /// What is asked.
    pub spend: Spend,
    /// With which key.
    pub idempotency_key: String,
    /// The digest of the request.
    pub request_hash: [u8; 16],
    /// What the rules were tested with; levels and windows are filled in by the ledger.
    pub evidence: Evidence,
    /// What is needed; `None` without a mandate.
    pub claim: Option<Claim>,
    /// What the answer must survive. It says when there may be one, and never what it is.
    pub durability: AskedDurability,
    /// How long it took so far, in microseconds.
    pub took_micros: i64,
}

/// What became of a [`Decide`].
#[derive(Clone, Debug, PartialEq)]
pub enum Decided {
    /// A new decision; it is recorded.
    Ruled(Arc<TransactionRecord>),
    /// The key was used for the same request; nothing happened.
    Replayed(Arc<TransactionRecord>),
    /// The key was used for another request; nothing happened.
    KeyReused,
    /// Something changed since the rules were tested; nothing happened, test them again.
    Stale,
    /// It cannot be approved, and a book that only approves may not say more; nothing happened.
    Undecided,
}

/// Everything the ledger knows, or the part of it that a batch of commands names.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Version and kill switch of each organization.
    pub orgs: HashMap<OrgId, (i64, bool)>,
    /// Status and current mandate of each agent.
    pub agents: HashMap<AgentId, (AgentStatus, Option<MandateId>)>,
    /// Version and status of each mandate.
    pub mandates: HashMap<MandateId, (i64, MandateStatus)>,
    /// Counters. A whole book needs none: they are summed up from its transactions. A partial book
    /// must have every counter its commands name, and every kept one that counts a transaction
    /// they resolve.
    pub counters: HashMap<CounterKey, Level>,
    /// When the windows of these counters end, if they do.
    pub ends: HashMap<CounterKey, Timestamp>,
    /// The tally of each mandate.
    pub tallies: HashMap<MandateId, Tally>,
    /// Approvals of each mandate, oldest first. A partial book needs, for each window start, the
    /// first approval after it.
    pub approvals: HashMap<MandateId, Vec<Approval>>,
    /// What of these counters is lent to another home to spend from; nobody else may.
    pub leased: HashMap<CounterKey, Minor>,
    /// Another home may have decided what this book does not know: it approves from what is there,
    /// and says nothing else.
    pub approves_only: bool,
    /// Records.
    pub transactions: HashMap<TransactionId, Arc<TransactionRecord>>,
    /// The first record of each key, by the part of its id that is made of the key.
    pub used: HashMap<[u8; 8], TransactionId>,
}

impl Book {
    /// Decides and records, or says why not. The one atomic effect.
    pub fn decide(&mut self, command: &Decide, now: Timestamp) -> Decided {
        if let Some(record) = self.known(command) {
            return if record.request_hash == command.request_hash {
                Decided::Replayed(Arc::clone(record))
            } else if self.approves_only {
                // The other home may have this request as well.
                Decided::Undecided
            } else {
                Decided::KeyReused
            };
        }
        let (standing, named) = (&command.evidence.standing, command.evidence.named);
        let whose = (command.org_id, command.spend.agent_id);
        if self.standing(whose, standing, named).as_ref() != Some(standing)
            || command.claim.as_ref().is_some_and(|claim| !claim.is_good_at(now))
        {
            return Decided::Stale;
        }
        if self.approves_only && !self.would_approve(command) {
            return Decided::Undecided;
        }
        let record = Arc::new(self.rule(command, now));
        self.used.entry(record.id.key_part()).or_insert(record.id);
        self.transactions.insert(record.id, Arc::clone(&record));
        Decided::Ruled(record)
    }

    /// What the key was used for: this request, else another one.
    fn known(&self, command: &Decide) -> Option<&Arc<TransactionRecord>> {
        self.transactions.get(&command.id).or_else(|| {
            let first = self.transactions.get(self.used.get(&command.id.key_part())?)?;
            // Parts of digests may be the same, keys are not.
            let is_same = first.idempotency_key == command.idempotency_key
                && first.spend.agent_id == command.spend.agent_id;
            is_same.then_some(first)
        })
    }

    /// How things stand now that stood so before; `None` when organization or agent is gone.
    fn standing(
        &self,
        (org, agent): (OrgId, AgentId),
        before: &Standing,
        named: bool,
    ) -> Option<Standing> {
        let (org_version, frozen) = *self.orgs.get(&org)?;
        let (agent, current) = *self.agents.get(&agent)?;
        let wanted = before.mandate.as_ref().map(|mandate| mandate.id);
        let id = if named { wanted } else { current };
        let mandate = match id {
            None => None,
            Some(id) => {
                let (version, status) = *self.mandates.get(&id)?;
                Some(MandateStanding { id, version, status })
            }
        };
        Some(Standing { org_version, frozen, agent, mandate })
    }

    /// Whether a claim can be approved from what is neither committed nor lent. Its windows cannot
    /// be known here.
    fn would_approve(&self, command: &Decide) -> bool {
        let Some(claim) = &command.claim else { return false };
        let fits = |charge: &Charge| {
            let lent = self.leased.get(&charge.key).copied().unwrap_or_default();
            let taken = self.level(charge).committed().saturating_add(lent);
            taken.saturating_add(command.spend.amount) <= charge.limit
        };
        let is_plain = claim.admissible && !claim.hold && claim.windows.is_empty();
        is_plain && claim.charges.iter().all(fits)
    }

    fn rule(&mut self, command: &Decide, now: Timestamp) -> TransactionRecord {
        let amount = command.spend.amount;
        let mut evidence = command.evidence.clone();
        let mut verdict = Verdict::Rejected;
        let mut charged = Vec::new();
        let mut tally_before = Tally::default();
        if let Some(claim) = &command.claim {
            (evidence.levels, evidence.windows) = self.peek(claim, now);
            tally_before = self.tallies.get(&claim.mandate).copied().unwrap_or_default();
            if claim.passes(amount, &evidence.levels, &evidence.windows) {
                verdict = if claim.hold { Verdict::PendingApproval } else { Verdict::Approved };
                charged = claim.charges.iter().map(|charge| charge.key.clone()).collect();
                self.charge(claim, amount, tally_before, now);
            }
        }
        let terms = command.claim.as_ref().map(|claim| claim.terms.clone());
        let mut record = TransactionRecord {
            id: command.id,
            org_id: command.org_id,
            spend: command.spend.clone(),
            idempotency_key: command.idempotency_key.clone(),
            request_hash: command.request_hash,
            verdict,
            state: TransactionState::from(verdict),
            evidence,
            charged,
            tally_before,
            terms: terms.unwrap_or_default(),
            due_at: None,
            followup: Followup::default(),
            settled: None,
            refunded: None,
            decided_at: now,
            updated_at: now,
            took_micros: command.took_micros,
        };
        record.begin(verdict, now);
        record
    }

    /// The counters and windows of a claim as they stand.
    #[must_use]
    pub fn peek(&self, claim: &Claim, now: Timestamp) -> (Vec<Level>, Vec<WindowLevel>) {
        let levels = claim.charges.iter().map(|charge| self.level(charge)).collect();
        let windows =
            claim.windows.iter().map(|test| self.window(claim.mandate, test.start(now))).collect();
        (levels, windows)
    }

    /// The level of a counter: everything of its window that the record says, whether or not there
    /// was a limit on it at the time.
    fn level(&self, charge: &Charge) -> Level {
        if let Some(level) = self.counters.get(&charge.key) {
            return *level;
        }
        let mut level = Level::default();
        for record in self.transactions.values() {
            if charge.key.covers(charge.ends_at, record) {
                let load = record.load();
                level.spent = level.spent.saturating_add(load.spent);
                level.held = level.held.saturating_add(load.held);
            }
        }
        level
    }

    fn window(&self, mandate: MandateId, start: Timestamp) -> WindowLevel {
        let total = self.tallies.get(&mandate).copied().unwrap_or_default();
        let approvals = self.approvals.get(&mandate).map_or(&[][..], Vec::as_slice);
        let first = approvals.partition_point(|approval| approval.at <= start);
        match approvals.get(first) {
            None => WindowLevel::default(),
            Some(oldest) => WindowLevel {
                count: total.count.wrapping_sub(oldest.before.count),
                sum: total.sum.wrapping_sub(oldest.before.sum),
                oldest: Some(oldest.at),
            },
        }
    }

    fn charge(&mut self, claim: &Claim, amount: Minor, before: Tally, now: Timestamp) {
        for charge in &claim.charges {
            if let Some(level) = self.counters.get_mut(&charge.key) {
                let side = if claim.hold { &mut level.held } else { &mut level.spent };
                *side = side.saturating_add(amount);
            }
        }
        self.tallies.insert(claim.mandate, before.and(amount));
        self.approvals.entry(claim.mandate).or_default().push(Approval { at: now, before });
    }
}

impl CounterKey {
    /// Whether a record was decided in this window, which ends then, on what this counter sums.
    #[must_use]
    pub fn covers(&self, ends_at: Option<Timestamp>, record: &TransactionRecord) -> bool {
        let subject = match &self.subject {
            Subject::Budget => true,
            Subject::Vendor(vendor) => vendor.covers(&record.spend.vendor),
            Subject::Category(category) => record.spend.category.as_ref() == Some(category),
        };
        subject
            && record.mandate().is_some_and(|(id, _)| id == self.mandate)
            && self.starts_at <= record.decided_at
            && ends_at.is_none_or(|end| record.decided_at < end)
    }
}

impl WindowTest {
    /// When the window starts, if it ends now.
    #[must_use]
    pub fn start(&self, now: Timestamp) -> Timestamp {
        let length = i64::try_from(self.length.as_micros()).unwrap_or(i64::MAX);
        let start = now.as_microsecond().saturating_sub(length);
        Timestamp::from_microsecond(start).unwrap_or(Timestamp::MIN)
    }

    /// Whether another approval of this amount fits.
    #[must_use]
    pub const fn passes(&self, amount: Minor, level: &WindowLevel) -> bool {
        match self.bound {
            WindowBound::Count(most) => level.count < most,
            WindowBound::Sum(most) => level.sum.saturating_add(amount) <= most,
        }
    }
}

impl Claim {
    /// Whether the rules would say the same at this time. It can be before the time they were
    /// tested: clocks are set back.
    fn is_good_at(&self, now: Timestamp) -> bool {
        self.good_until.is_none_or(|end| now < end)
            && self.charges.iter().all(|charge| charge.key.starts_at <= now)
    }

    fn passes(&self, amount: Minor, levels: &[Level], windows: &[WindowLevel]) -> bool {
        let fits = |(charge, level): (&Charge, &Level)| {
            level.committed().saturating_add(amount) <= charge.limit
        };
        self.admissible
            && self.charges.iter().zip(levels).all(fits)
            && self.windows.iter().zip(windows).all(|(test, level)| test.passes(amount, level))
    }
}

#[cfg(test)]
mod tests;
