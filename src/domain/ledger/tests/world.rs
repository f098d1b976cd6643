//! A small world around the ledger, and a second opinion that counts the whole history again.
//!
//! The second opinion keeps no counter and no tally: it adds up what each record says, with other
//! code than the ledger's. Not here: which sequences are tried (`laws`).

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::*;
use crate::domain::actor::Actor;
use crate::domain::decision::Decision;
use crate::domain::evaluate::{Ruling, Screened, conclude, would_decide};
use crate::domain::hold::Terms;
use crate::domain::mandate::Mandate;
use crate::domain::period::Window;

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An agent asks; the clock moves and the organization may change before the ledger rules.
    Ask { agent: u8, spend: Spend, key: u8, delay: SignedDuration, overtaken: bool },
    /// Something is done with one of the transactions there are.
    Act { which: usize, act: Act },
    /// Time passes.
    Wait(SignedDuration),
    /// The kill switch.
    Freeze(bool),
    /// An administrator pauses or resumes a mandate.
    Status(u8, MandateStatus),
    /// An administrator changes a mandate.
    Change(u8, Policy),
    /// An administrator moves the organization to another zone.
    Move(String),
}

pub(super) struct World {
    book: Book,
    zone: String,
    calendar: TimeZone,
    now: Timestamp,
    mandates: BTreeMap<u8, Mandate>,
    /// What the ledger told, which must be what it keeps.
    history: BTreeMap<TransactionId, Arc<TransactionRecord>>,
    /// No mandate and no window was changed so far: the limits hold for everything there is.
    unchanged: bool,
}

impl World {
    pub(super) fn new(policies: [Policy; 2], zone: String, now: Timestamp) -> Self {
        let mut world = Self {
            book: Book::default(),
            calendar: parse_zone(&zone).unwrap(),
            zone,
            now,
            mandates: BTreeMap::new(),
            history: BTreeMap::new(),
            unchanged: true,
        };
        world.book.orgs.insert(org(), (1, false));
        for (number, policy) in (1..).zip(policies) {
            let mandate = mandate(number, policy);
            world.book.agents.insert(agent(number), (AgentStatus::Active, Some(mandate.id)));
            world.book.mandates.insert(mandate.id, (mandate.version, mandate.status));
            world.mandates.insert(number, stored(&mandate));
        }
        world
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Ask { agent, spend, key, delay, overtaken } => {
                self.ask(agent, spend, key, (delay, overtaken));
            }
            Step::Act { which, act } => self.act(which, &act),
            Step::Wait(time) => self.now += time,
            Step::Freeze(frozen) => self.freeze(frozen),
            Step::Status(number, status) => self.replace(number, |mandate| mandate.status = status),
            Step::Change(number, policy) => {
                self.unchanged = false;
                self.replace(number, |mandate| mandate.policy = policy);
            }
            Step::Move(zone) => {
                self.unchanged = false;
                self.calendar = parse_zone(&zone).unwrap();
                self.zone = zone;
                self.freeze(self.book.orgs[&org()].1);
            }
        }
        self.check();
    }

    fn freeze(&mut self, frozen: bool) {
        let (version, _) = self.book.orgs[&org()];
        self.book.orgs.insert(org(), (version + 1, frozen));
    }

    fn replace(&mut self, number: u8, change: impl FnOnce(&mut Mandate)) {
        let mut mandate = self.mandates[&number].clone();
        change(&mut mandate);
        mandate.version += 1;
        self.book.mandates.insert(mandate.id, (mandate.version, mandate.status));
        self.mandates.insert(number, stored(&mandate));
    }

    fn standing(&self, number: u8) -> Standing {
        let (org_version, frozen) = self.book.orgs[&org()];
        let Mandate { id, version, status, .. } = self.mandates[&number];
        let mandate = Some(MandateStanding { id, version, status });
        Standing { org_version, frozen, agent: AgentStatus::Active, mandate }
    }

    fn screen(&self, number: u8, spend: &Spend, evidence: &Evidence) -> Screened {
        let compiled = CompiledMandate::try_new(&self.mandates[&number]).unwrap();
        screen(&Case {
            standing: &evidence.standing,
            mandate: Some(&compiled),
            spend,
            observed: &evidence.observed,
            zone: &parse_zone(&evidence.zone).unwrap(),
            now: evidence.screened_at,
        })
        .unwrap()
    }

    fn ask(&mut self, number: u8, spend: Spend, key: u8, late: (SignedDuration, bool)) {
        let spend = Spend { agent_id: agent(number), ..spend };
        let mut id = [key; 16];
        id[0] = number;
        let evidence = Evidence {
            standing: self.standing(number),
            named: key.is_multiple_of(2),
            observed: Observed::default(),
            zone: self.zone.clone(),
            screened_at: self.now,
            levels: Vec::new(),
            windows: Vec::new(),
        };
        let screened = self.screen(number, &spend, &evidence);
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&spend.amount.to_be_bytes());
        let command = Decide {
            id: TransactionId::from_bytes(id),
            org_id: org(),
            spend,
            idempotency_key: format!("key-{key}"),
            request_hash: hash,
            evidence,
            claim: screened.claim.clone(),
            durability: AskedDurability::default(),
            took_micros: 7,
        };
        let (delay, overtaken) = late;
        self.now += delay;
        if overtaken {
            self.freeze(self.book.orgs[&org()].1);
        }
        self.decide(number, &screened, &command, overtaken);
    }

    fn decide(&mut self, number: u8, screened: &Screened, command: &Decide, overtaken: bool) {
        let claim = screened.claim.as_ref().unwrap();
        let (levels, windows) = self.book.peek(claim, self.now);
        let expected = would_decide(screened, &command.spend, &levels, &windows);
        let decided = self.book.decide(command, self.now);
        if let Some(known) = self.history.get(&command.id) {
            let same = known.request_hash == command.request_hash;
            let replayed = Decided::Replayed(Arc::clone(known));
            assert_eq!(decided, if same { replayed } else { Decided::KeyReused });
            return;
        }
        if overtaken || claim.good_until.is_some_and(|end| end <= self.now) {
            assert_eq!(decided, Decided::Stale);
            return;
        }
        let Decided::Ruled(record) = decided else { panic!("{command:?} was {decided:?}") };
        assert_eq!(record.decided_at, self.now);
        let decision = concluded(screened, &record);
        assert_eq!(decision.verdict, expected.verdict);
        assert_eq!(decision.rule_results, expected.rule_results);
        assert_eq!(decision.reasons, expected.reasons);
        self.second_opinion(number, &record, &decision);

        // From what it keeps alone, the record says the same again.
        let again = self.screen(number, &record.spend, &record.evidence);
        assert_eq!(concluded(&again, &record), decision);
        self.history.insert(record.id, record);
    }

    fn act(&mut self, which: usize, act: &Act) {
        let Some(before) = self.history.values().nth(which % self.history.len().max(1)) else {
            return;
        };
        let (before, now) = (before.as_ref().clone(), self.now);
        let (id, actor) = (before.id, Actor::System);
        let act_now = act.clone();
        let command = Resolve { org_id: org(), agent: None, id, act: act_now, actor, ground: None };
        let resolved = self.book.resolve(&command, now);
        let Some((state, settled, refunded)) = allowed(&before, act, now) else {
            assert!(resolved.is_err(), "{act:?} of {before:?}");
            return;
        };
        let resolved = resolved.unwrap();
        let changed = state != before.state;
        let updated_at = if changed { now } else { before.updated_at };
        let due_at = if changed { None } else { before.due_at };
        let after = TransactionRecord { state, settled, refunded, updated_at, due_at, ..before };
        assert_eq!((resolved.changed, &*resolved.record), (changed, &after));
        self.history.insert(after.id, Arc::clone(&resolved.record));
        // The same again is the same answer, and nothing happens.
        let again = self.book.resolve(&command, now).unwrap();
        assert_eq!((again.changed, again.record), (false, resolved.record));
    }

    /// Every rule that counts, counted from the history alone.
    fn second_opinion(&self, number: u8, record: &TransactionRecord, decision: &Decision) {
        let policy = &self.mandates[&number].policy;
        let (amount, now) = (i128::from(record.spend.amount), record.decided_at);
        let fits = |committed: i64, limit: i64| i128::from(committed) + amount <= limit.into();
        let told = |place: usize| decision.rule_results[place].passed();
        let total = self.committed(number, policy.budget.reset, |_| true);
        assert_eq!(told(2), fits(total, policy.budget.total));
        for (place, rule) in (3..).zip(&policy.rules) {
            let expected = match rule {
                RuleSpec::VendorCap { vendor, amount, period } => {
                    let vendor = Vendor::parse(vendor).unwrap();
                    let there = |spend: &Spend| vendor.covers(&spend.vendor);
                    let there_now = there(&record.spend);
                    !there_now || fits(self.committed(number, *period, there), *amount)
                }
                RuleSpec::CategoryCap { category, amount, period } => {
                    let there = |spend: &Spend| spend.category.as_ref() == Some(category);
                    let there_now = there(&record.spend);
                    !there_now || fits(self.committed(number, *period, there), *amount)
                }
                RuleSpec::RateLimit { max_transactions, window_minutes } => {
                    let approved = self.approved_since(number, now, *window_minutes);
                    approved.len() < usize::try_from(*max_transactions).unwrap()
                }
                RuleSpec::SpendRate { max_amount, window_minutes } => {
                    let approved = self.approved_since(number, now, *window_minutes);
                    fits(approved.iter().sum(), *max_amount)
                }
                _ => continue,
            };
            assert_eq!(told(place), expected, "{rule:?} {:?}", decision.rule_results[place]);
        }
        let hold = policy.rules.iter().any(|rule| {
            matches!(rule, RuleSpec::Approval { threshold, .. } if record.spend.amount > *threshold)
        });
        let yes = if hold { Verdict::PendingApproval } else { Verdict::Approved };
        let no = decision.rule_results.iter().any(|result| !result.passed());
        let standing = &record.evidence.standing;
        let active = standing.mandate.as_ref().unwrap().status == MandateStatus::Active;
        let no = no || standing.frozen || !active;
        assert_eq!(record.verdict, if no { Verdict::Rejected } else { yes });
        assert_eq!(record.verdict, decision.verdict);
    }

    /// What is spent and held in the present window of a period.
    fn committed(&self, number: u8, period: Period, there: impl Fn(&Spend) -> bool) -> i64 {
        let window = self.window(period);
        let counted = self
            .of(number)
            .filter(|record| window.contains(record.decided_at) && there(&record.spend));
        counted.map(worth).sum()
    }

    fn window(&self, period: Period) -> Window {
        period.window(self.now, &self.calendar).unwrap()
    }

    fn of(&self, number: u8) -> impl Iterator<Item = &TransactionRecord> {
        self.history
            .values()
            .map(Arc::as_ref)
            .filter(move |record| record.spend.agent_id == agent(number))
    }

    fn approved_since(&self, number: u8, now: Timestamp, minutes: i64) -> Vec<i64> {
        let micros = |at: Timestamp| i128::from(at.as_microsecond());
        let start = micros(now) - i128::from(minutes) * 60_000_000;
        self.of(number)
            .filter(|record| record.verdict != Verdict::Rejected)
            .filter(|record| micros(record.decided_at) > start)
            .map(|record| record.spend.amount)
            .collect()
    }

    /// What the ledger keeps is what it told, and nothing is ever below zero or above its limit.
    fn check(&self) {
        assert_eq!(self.book.transactions.len(), self.history.len());
        for (id, record) in &self.history {
            // Most are the very same value, which need not be compared.
            let kept = &self.book.transactions[id];
            assert!(Arc::ptr_eq(kept, record) || kept == record, "{kept:?} is not {record:?}");
        }
        for (number, mandate) in &self.mandates {
            let budget = &mandate.policy.budget;
            let Window { starts_at, ends_at } = self.window(budget.reset);
            let (subject, period) = (Subject::Budget, budget.reset);
            let key = CounterKey { mandate: mandate.id, subject, period, starts_at };
            let claim = Claim {
                mandate: mandate.id,
                charges: vec![Charge { key, limit: budget.total, ends_at }],
                windows: Vec::new(),
                admissible: false,
                hold: false,
                terms: Terms::default(),
                good_until: None,
            };
            let (levels, _) = self.book.peek(&claim, self.now);
            let level = levels[0];
            assert!(level.spent >= 0 && level.held >= 0, "{level:?}");
            let committed = self.committed(*number, budget.reset, |_| true);
            assert_eq!(level.committed(), committed);
            assert!(!self.unchanged || committed <= budget.total);
        }
    }
}

/// As it would be read back from a store.
fn stored(mandate: &Mandate) -> Mandate {
    let mandate = serde_json::to_string(mandate).unwrap();
    serde_json::from_str(&mandate).unwrap()
}

fn concluded(screened: &Screened, record: &TransactionRecord) -> Decision {
    let ruling = Ruling {
        verdict: record.verdict,
        levels: &record.evidence.levels,
        windows: &record.evidence.windows,
    };
    conclude(screened, &record.spend, &ruling)
}

/// What a record takes from its budget now.
fn worth(record: &TransactionRecord) -> i64 {
    match record.state {
        TransactionState::Approved | TransactionState::PendingApproval => record.spend.amount,
        TransactionState::Settled => record.settled.unwrap(),
        TransactionState::Refunded => record.settled.unwrap() - record.refunded.unwrap(),
        TransactionState::Voided
        | TransactionState::Rejected
        | TransactionState::Denied
        | TransactionState::Timeout
        | TransactionState::Withdrawn
        | TransactionState::Expired => 0,
    }
}

/// State, settled and refunded after an act; `None` when it must be refused.
fn allowed(
    record: &TransactionRecord,
    act: &Act,
    now: Timestamp,
) -> Option<(TransactionState, Option<i64>, Option<i64>)> {
    use TransactionState::{Approved, PendingApproval, Refunded, Settled, Voided, Withdrawn};
    let settled = record.settled;
    if record.due_at.is_some_and(|due| due <= now) {
        // What its time has ended cannot be given back again.
        return None;
    }
    match (record.state, act) {
        (Approved, Act::Settle(amount)) if *amount <= record.spend.amount => {
            Some((Settled, Some(*amount), None))
        }
        (Settled, Act::Settle(amount)) if settled == Some(*amount) => {
            Some((Settled, settled, None))
        }
        (Approved | Voided, Act::Void) => Some((Voided, None, None)),
        (PendingApproval | Withdrawn, Act::Void) => Some((Withdrawn, None, None)),
        (Settled, Act::Refund(amount)) if amount.or(settled) <= settled => {
            Some((Refunded, settled, amount.or(settled)))
        }
        (Refunded, Act::Refund(amount)) if amount.or(settled) == record.refunded => {
            Some((Refunded, settled, record.refunded))
        }
        _ => None,
    }
}
