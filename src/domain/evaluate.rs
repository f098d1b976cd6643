//! The decision: `screen` tests every stateless rule and states a claim; the ledger rules on it;
//! `conclude` joins both into the decision with every rule's result and a plain explanation.
//!
//! Both are pure and total, so a decision can be computed again from its record and says the same.
//! All rules are always evaluated: built-in ones first, then the mandate's, in its order. Not here:
//! counters (`ledger`), the tests of single rules (`rule::check`).

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::agent::AgentStatus;
use super::decision::{BudgetStatus, Decision, Reason, RejectionReason, RuleResult, Verdict};
use super::hold::Terms;
use super::ledger::{
    Charge, Claim, CounterKey, Level, Standing, Subject, WindowBound, WindowLevel, WindowTest,
};
use super::mandate::{CompiledMandate, MandateStatus};
use super::money::Minor;
use super::period::{Period, PeriodError, Window};
use super::rule::CompiledRule;
use super::rule::check::{self, Bound, Setting};
use super::spend::{Observed, Spend};

/// Everything a decision looks at, beside the ledger's state.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// How organization, agent and mandate stand.
    pub standing: &'a Standing,
    /// The mandate of the standing, ready to be tested.
    pub mandate: Option<&'a CompiledMandate>,
    /// What is asked.
    pub spend: &'a Spend,
    /// What the server saw itself.
    pub observed: &'a Observed,
    /// The organization's time zone.
    pub zone: &'a TimeZone,
    /// When the rules are tested.
    pub now: Timestamp,
}

/// A case with its stateless rules tested.
#[derive(Clone, Debug)]
pub struct Screened {
    standing_reasons: Vec<Reason>,
    slots: Vec<Slot>,
    budget: Option<BudgetFrame>,
    /// What the ledger has to rule on; `None` without a mandate.
    pub claim: Option<Claim>,
}

/// The result of a rule, or the place in the claim that it waits for.
#[derive(Clone, Debug)]
enum Slot {
    Tested(RuleResult),
    Counter { rule_type: &'static str, index: usize, limit: Minor },
    Window { rule_type: &'static str, index: usize },
}

#[derive(Clone, Copy, Debug)]
struct BudgetFrame {
    status: BudgetStatus,
}

/// What the ledger ruled.
#[derive(Clone, Copy, Debug)]
pub struct Ruling<'a> {
    /// What was decided.
    pub verdict: Verdict,
    /// The claim's counters before it.
    pub levels: &'a [Level],
    /// The claim's windows before it.
    pub windows: &'a [WindowLevel],
}

/// Tests every stateless rule.
///
/// # Errors
/// When a calendar window cannot be computed; nothing can be decided then.
pub fn screen(case: &Case<'_>) -> Result<Screened, PeriodError> {
    let standing_reasons = standing_reasons(case);
    let Some(compiled) = case.mandate else {
        return Ok(Screened { standing_reasons, slots: Vec::new(), budget: None, claim: None });
    };
    let budget = &compiled.budget;
    let mut builder = ClaimBuilder::new(case, compiled);
    builder.slots.push(Slot::Tested(check::currency(case.spend, budget)));
    builder.slots.push(Slot::Tested(check::per_transaction(case.spend, budget)));
    let window = builder.counter("budget_total", Subject::Budget, budget.reset, budget.total)?;
    let status = BudgetStatus {
        total: budget.total,
        spent: 0,
        held: 0,
        per_transaction: budget.per_transaction,
        currency: budget.currency,
        resets_at: window.ends_at,
    };
    for rule in compiled.rules.iter() {
        builder.rule(rule)?;
    }
    let ClaimBuilder { slots, mut claim, .. } = builder;
    let tested = |slot: &Slot| match slot {
        Slot::Tested(result) => result.passed(),
        Slot::Counter { .. } | Slot::Window { .. } => true,
    };
    claim.admissible = standing_reasons.is_empty() && slots.iter().all(tested);
    Ok(Screened {
        standing_reasons,
        slots,
        budget: Some(BudgetFrame { status }),
        claim: Some(claim),
    })
}

struct ClaimBuilder<'a> {
    case: &'a Case<'a>,
    setting: Setting<'a>,
    slots: Vec<Slot>,
    claim: Claim,
}

impl<'a> ClaimBuilder<'a> {
    fn new(case: &'a Case<'a>, compiled: &CompiledMandate) -> Self {
        let edges = [Some(compiled.valid_from), compiled.valid_until];
        Self {
            case,
            setting: Setting::new(
                case.spend,
                case.observed,
                (case.zone, case.now),
                compiled.budget.currency,
            ),
            slots: Vec::with_capacity(compiled.rules.len().saturating_add(3)),
            claim: Claim {
                mandate: compiled.id,
                charges: Vec::with_capacity(2),
                windows: Vec::new(),
                admissible: false,
                hold: false,
                terms: Terms {
                    approval: None,
                    hold_seconds: compiled.budget.holds.minutes.map(|time| time.saturating_mul(60)),
                    tolerance: compiled.budget.holds.tolerance_of(case.spend.amount),
                },
                good_until: edges.into_iter().flatten().filter(|edge| *edge > case.now).min(),
            },
        }
    }

    fn rule(&mut self, rule: &CompiledRule) -> Result<(), PeriodError> {
        let spend = self.case.spend;
        match rule {
            CompiledRule::VendorCap { vendor, amount, period } => {
                if vendor.covers(&spend.vendor) {
                    let subject = Subject::Vendor(vendor.clone());
                    self.counter("vendor_cap", subject, *period, *amount)?;
                } else {
                    self.slots.push(Slot::Tested(check::cap_of_another("vendor_cap")));
                }
            }
            CompiledRule::CategoryCap { category, amount, period } => {
                if spend.category.as_ref() == Some(category) {
                    let subject = Subject::Category(category.clone());
                    self.counter("category_cap", subject, *period, *amount)?;
                } else {
                    self.slots.push(Slot::Tested(check::cap_of_another("category_cap")));
                }
            }
            CompiledRule::RateLimit { max_transactions, window } => {
                let bound = WindowBound::Count(*max_transactions);
                self.window("rate_limit", WindowTest { length: *window, bound });
            }
            CompiledRule::SpendRate { max_amount, window } => {
                let bound = WindowBound::Sum(*max_amount);
                self.window("spend_rate", WindowTest { length: *window, bound });
            }
            CompiledRule::Approval { threshold, terms } => {
                if spend.amount > *threshold {
                    self.claim.hold = true;
                    self.claim.terms.approval = Some(terms.clone());
                }
                self.slots.push(Slot::Tested(check::stateless(rule, &self.setting)));
            }
            CompiledRule::TimeWindow { window } => {
                let ends = [self.claim.good_until, window.open_until(self.case.now)];
                self.claim.good_until = ends.into_iter().flatten().min();
                self.slots.push(Slot::Tested(check::stateless(rule, &self.setting)));
            }
            CompiledRule::Custom { .. } => {
                let ends = [self.claim.good_until, minute_end(self.case.now, self.case.zone)];
                self.claim.good_until = ends.into_iter().flatten().min();
                self.slots.push(Slot::Tested(check::stateless(rule, &self.setting)));
            }
            CompiledRule::Category { .. }
            | CompiledRule::VendorAllowlist { .. }
            | CompiledRule::VendorBlocklist { .. }
            | CompiledRule::MaxAmount { .. }
            | CompiledRule::Geo { .. }
            | CompiledRule::ProtocolRestrict { .. } => {
                self.slots.push(Slot::Tested(check::stateless(rule, &self.setting)));
            }
        }
        Ok(())
    }

    fn counter(
        &mut self,
        rule_type: &'static str,
        subject: Subject,
        period: Period,
        limit: Minor,
    ) -> Result<Window, PeriodError> {
        let window = period.window(self.case.now, self.case.zone)?;
        let ends = [self.claim.good_until, window.ends_at];
        self.claim.good_until = ends.into_iter().flatten().min();
        let key = CounterKey {
            mandate: self.claim.mandate,
            subject,
            period,
            starts_at: window.starts_at,
        };
        // Two caps of one vendor and period share a counter: it must be charged once and hold to
        // the lower limit, while each cap is judged and reported by its own.
        let index = match self.claim.charges.iter().position(|charge| charge.key == key) {
            Some(index) => {
                if let Some(charge) = self.claim.charges.get_mut(index) {
                    charge.limit = charge.limit.min(limit);
                }
                index
            }
            None => {
                self.claim.charges.push(Charge { key, limit, ends_at: window.ends_at });
                self.claim.charges.len().saturating_sub(1)
            }
        };
        self.slots.push(Slot::Counter { rule_type, index, limit });
        Ok(window)
    }

    fn window(&mut self, rule_type: &'static str, test: WindowTest) {
        self.slots.push(Slot::Window { rule_type, index: self.claim.windows.len() });
        self.claim.windows.push(test);
    }
}

/// When the wall clock shows another minute, which is the finest that a custom rule can ask for.
///
/// `None` where no timestamp reaches. Clocks are changed at whole minutes since 1972.
fn minute_end(now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let local = zone.to_datetime(now);
    let gone = SignedDuration::new(local.second().into(), local.subsec_nanosecond());
    now.checked_add(SignedDuration::from_mins(1).saturating_sub(gone)).ok()
}

/// Why nothing can be approved as things stand, whatever the rules say.
fn standing_reasons(case: &Case<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |reason, source, detail: String| reasons.push(Reason { reason, source, detail });
    if case.standing.frozen {
        let detail = "the organization is frozen, an administrator must unfreeze it".to_owned();
        add(RejectionReason::OrganizationFrozen, "organization", detail);
    }
    if case.standing.agent != AgentStatus::Active {
        let detail = format!("the agent is {}", case.standing.agent.word());
        add(RejectionReason::AgentNotActive, "agent", detail);
    }
    let (Some(standing), Some(compiled)) = (&case.standing.mandate, case.mandate) else {
        let detail = "the agent has no active mandate, an administrator must activate one";
        add(RejectionReason::NoActiveMandate, "mandate", detail.to_owned());
        return reasons;
    };
    let over = compiled.valid_until.filter(|end| *end <= case.now);
    match (standing.status, over) {
        (MandateStatus::Draft, _) => {
            let detail = "the mandate is a draft, an administrator must activate it".to_owned();
            add(RejectionReason::NoActiveMandate, "mandate", detail);
        }
        (MandateStatus::Revoked, _) => {
            add(RejectionReason::MandateRevoked, "mandate", "the mandate was revoked".to_owned());
        }
        (MandateStatus::Expired, None) => {
            add(RejectionReason::MandateExpired, "mandate", "the mandate has expired".to_owned());
        }
        (MandateStatus::Active | MandateStatus::Paused | MandateStatus::Expired, Some(end)) => {
            let detail = format!("the mandate expired at {end}");
            add(RejectionReason::MandateExpired, "mandate", detail);
        }
        (MandateStatus::Paused, None) => {
            let detail = "the mandate is paused, an administrator must resume it".to_owned();
            add(RejectionReason::MandatePaused, "mandate", detail);
        }
        (MandateStatus::Active, None) => {}
    }
    if case.now < compiled.valid_from {
        let detail = format!("the mandate is valid from {}", compiled.valid_from);
        add(RejectionReason::MandateNotYetValid, "mandate", detail);
    }
    reasons
}

/// Judges a spend of the case's time by the mandate of today: the counters of its own windows with
/// their limits, and what stands against granting it now.
///
/// Rules are tested as of the time it was asked for, so that hours judge when an agent acts and not
/// when a person has time. Sliding windows have counted it then.
///
/// # Errors
/// As [`screen`].
pub fn reconsider(
    case: &Case<'_>,
    now: Timestamp,
) -> Result<(Option<Claim>, Vec<Reason>), PeriodError> {
    let mut screened = screen(case)?;
    let mut reasons = standing_reasons(&Case { now, ..*case });
    reasons.extend(screened.slots.iter().filter_map(|slot| match slot {
        Slot::Tested(result) => reason_of(result),
        Slot::Counter { .. } | Slot::Window { .. } => None,
    }));
    if let Some(claim) = &mut screened.claim {
        claim.windows = Vec::new();
    }
    Ok((screened.claim, reasons))
}

fn reason_of(result: &RuleResult) -> Option<Reason> {
    let reason = result.failure?;
    Some(Reason { reason, source: result.rule_type, detail: result.detail.clone() })
}

/// Joins the stateless results with the ledger's ruling.
#[must_use]
pub fn conclude(screened: &Screened, spend: &Spend, ruling: &Ruling<'_>) -> Decision {
    let charge = |index: usize| {
        let claim = screened.claim.as_ref()?;
        Some((claim.charges.get(index)?, ruling.levels.get(index)?))
    };
    let window = |index: usize| {
        let claim = screened.claim.as_ref()?;
        Some((claim.windows.get(index)?, ruling.windows.get(index)?))
    };
    let currency = screened.budget.map(|frame| frame.status.currency);
    let rule_results = screened.slots.iter().map(|slot| match slot {
        Slot::Tested(result) => result.clone(),
        Slot::Counter { rule_type, index, limit } => match charge(*index) {
            Some((charge, level)) => {
                let bound = Bound { limit: *limit, ends_at: charge.ends_at };
                check::counter(rule_type, spend, currency, bound, *level)
            }
            None => check::unknown(rule_type),
        },
        Slot::Window { rule_type, index } => match window(*index) {
            Some((test, level)) => check::window(rule_type, spend, currency, test, level),
            None => check::unknown(rule_type),
        },
    });
    let rule_results = rule_results.collect::<Vec<_>>();
    let mut reasons = screened.standing_reasons.clone();
    reasons.extend(rule_results.iter().filter_map(reason_of));
    let budget = screened.budget.map(|frame| {
        let mut status = frame.status;
        let before = ruling.levels.first().copied().unwrap_or_default();
        let (spent, held) = match ruling.verdict {
            Verdict::Approved => (spend.amount, 0),
            Verdict::PendingApproval => (0, spend.amount),
            Verdict::Rejected => (0, 0),
        };
        status.spent = before.spent.saturating_add(spent);
        status.held = before.held.saturating_add(held);
        status
    });
    let explanation = explain(spend, ruling.verdict, &reasons, budget.as_ref());
    Decision { verdict: ruling.verdict, rule_results, reasons, explanation, budget }
}

/// What would be decided, given how the ledger stands: for `CanSpend`, which has no effect.
#[must_use]
pub fn would_decide(
    screened: &Screened,
    spend: &Spend,
    levels: &[Level],
    windows: &[WindowLevel],
) -> Decision {
    let ruling = Ruling { verdict: Verdict::Rejected, levels, windows };
    let mut decision = conclude(screened, spend, &ruling);
    if decision.reasons.is_empty() {
        let hold = screened.claim.as_ref().is_some_and(|claim| claim.hold);
        decision.verdict = if hold { Verdict::PendingApproval } else { Verdict::Approved };
        decision.explanation =
            explain(spend, decision.verdict, &decision.reasons, decision.budget.as_ref());
    }
    decision
}

fn explain(
    spend: &Spend,
    verdict: Verdict,
    reasons: &[Reason],
    budget: Option<&BudgetStatus>,
) -> String {
    let what = format!("{} at {}", spend.currency.format(spend.amount), spend.vendor.canonical());
    let mut text = match verdict {
        Verdict::Approved => format!("Approved: {what}."),
        Verdict::PendingApproval => format!("Waiting for approval by a person: {what} is held."),
        Verdict::Rejected => {
            let why = reasons.iter().map(|reason| reason.detail.as_str()).collect::<Vec<_>>();
            format!("Rejected: {what}: {}.", why.join("; "))
        }
    };
    if let Some(budget) = budget {
        let money = |amount| budget.currency.format(amount);
        let left = format!(" {} of {} remains", money(budget.remaining()), money(budget.total));
        text.push_str(&left);
        if let Some(end) = budget.resets_at {
            text.push_str(&format!(" until {end}"));
        }
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests;
