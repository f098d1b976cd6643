//! The test of each rule: one function, one result, one sentence that can be acted on.
//!
//! Total: an error or something unknown is a failed rule, never a passed one. Not here: which rules
//! are tested in which order (`evaluate`).

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{CompiledRule, GeoSubject};
use crate::domain::custom::{CustomRule, Facts};
use crate::domain::decision::{RejectionReason, RuleResult};
use crate::domain::ledger::{Level, WindowBound, WindowLevel, WindowTest};
use crate::domain::mandate::Budget;
use crate::domain::money::{Currency, Minor};
use crate::domain::spend::{Observed, Protocol, Spend};

/// What the stateless rules of one case look at.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    spend: &'a Spend,
    observed: &'a Observed,
    zone: &'a TimeZone,
    now: Timestamp,
    /// What the mandate's limits are in.
    currency: Currency,
}

impl<'a> Setting<'a> {
    /// Gathers it.
    #[must_use]
    pub const fn new(
        spend: &'a Spend,
        observed: &'a Observed,
        (zone, now): (&'a TimeZone, Timestamp),
        currency: Currency,
    ) -> Self {
        Self { spend, observed, zone, now, currency }
    }
}

/// Adds typed fields to a result.
struct Outcome(RuleResult);

impl Outcome {
    fn passed(rule_type: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(RuleResult {
            rule_type,
            failure: None,
            detail: detail.into().into_owned(),
            limit: None,
            actual: None,
            remaining: None,
            resets_at: None,
            retryable: false,
        })
    }

    fn failed(
        rule_type: &'static str,
        reason: RejectionReason,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let Self(result) = Self::passed(rule_type, detail);
        Self(RuleResult { failure: Some(reason), ..result })
    }

    fn numbers(mut self, limit: i64, actual: i64, remaining: i64) -> Self {
        self.0.limit = Some(limit);
        self.0.actual = Some(actual);
        self.0.remaining = Some(remaining);
        self
    }

    fn resets(mut self, at: Option<Timestamp>) -> Self {
        self.0.resets_at = at;
        self
    }

    const fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }
}

/// Built in: the currency is the mandate's.
#[must_use]
pub fn currency(spend: &Spend, budget: &Budget) -> RuleResult {
    const RULE: &str = "currency_mismatch";
    if spend.currency == budget.currency {
        return Outcome::passed(RULE, format!("the currency is {}", budget.currency)).0;
    }
    let detail = format!(
        "the mandate is in {}, not in {}, and there is no conversion",
        budget.currency, spend.currency
    );
    Outcome::failed(RULE, RejectionReason::CurrencyMismatch, detail).0
}

/// Built in: the amount is within the ceiling of one transaction.
#[must_use]
pub fn per_transaction(spend: &Spend, budget: &Budget) -> RuleResult {
    let reason = RejectionReason::BudgetPerTxExceeded;
    ceiling("budget_per_tx", reason, spend, (budget.per_transaction, budget.currency))
}

fn ceiling(
    rule_type: &'static str,
    reason: RejectionReason,
    spend: &Spend,
    (most, currency): (Minor, Currency),
) -> RuleResult {
    let (amount, limit) = (spend.currency.format(spend.amount), currency.format(most));
    if spend.amount <= most {
        let detail = format!("{amount} is within {limit} for one transaction");
        return Outcome::passed(rule_type, detail).numbers(most, spend.amount, most).0;
    }
    let detail = format!("{amount} is above {limit} for one transaction, ask for less");
    Outcome::failed(rule_type, reason, detail).numbers(most, spend.amount, most).retryable(true).0
}

/// The limit of one budget or cap, and when its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// In minor units.
    pub limit: Minor,
    /// `None` for a budget or cap that never resets.
    pub ends_at: Option<Timestamp>,
}

/// A budget or cap of a period.
#[must_use]
pub fn counter(
    rule_type: &'static str,
    spend: &Spend,
    currency: Option<Currency>,
    bound: Bound,
    level: Level,
) -> RuleResult {
    let money = |amount| currency.unwrap_or(spend.currency).format(amount);
    let remaining = bound.limit.saturating_sub(level.committed()).max(0);
    let wanted = level.committed().saturating_add(spend.amount);
    let until = bound.ends_at.map_or_else(String::new, |end| format!(" until {end}"));
    let outcome = if wanted <= bound.limit {
        // Of another currency nothing can be taken away.
        let taken = if currency.is_none_or(|own| own == spend.currency) { spend.amount } else { 0 };
        let (left, limit) = (money(remaining.saturating_sub(taken)), money(bound.limit));
        Outcome::passed(rule_type, format!("{left} of {limit} would remain{until}"))
    } else {
        let reason = match rule_type {
            "vendor_cap" => RejectionReason::VendorCapExceeded,
            "category_cap" => RejectionReason::CategoryCapExceeded,
            _ => RejectionReason::BudgetExhausted,
        };
        let asked = spend.currency.format(spend.amount);
        let (left, limit) = (money(remaining), money(bound.limit));
        let detail = format!("{asked} is more than the {left} that remains of {limit}{until}");
        Outcome::failed(rule_type, reason, detail)
            .retryable(remaining > 0 || bound.ends_at.is_some())
    };
    // Time alone never makes room for more than the whole limit.
    let resets_at = bound.ends_at.filter(|_| spend.amount <= bound.limit);
    outcome.numbers(bound.limit, wanted, remaining).resets(resets_at).0
}

/// A sliding window.
#[must_use]
pub fn window(
    rule_type: &'static str,
    spend: &Spend,
    currency: Option<Currency>,
    test: &WindowTest,
    level: &WindowLevel,
) -> RuleResult {
    let minutes = test.length.as_mins();
    let passed = test.passes(spend.amount, level);
    let frees = level.oldest.and_then(|oldest| oldest.checked_add(test.length).ok());
    let (limit, actual, used, what, reason) = match test.bound {
        WindowBound::Count(most) => {
            let what = format!("{} of {most} transactions", level.count);
            (most, level.count, level.count, what, RejectionReason::RateLimitExceeded)
        }
        WindowBound::Sum(most) => {
            let money = |amount| currency.unwrap_or(spend.currency).format(amount);
            let what = format!("{} of {}", money(level.sum), money(most));
            let actual = level.sum.saturating_add(spend.amount);
            (most, actual, level.sum, what, RejectionReason::SpendRateExceeded)
        }
    };
    let remaining = limit.saturating_sub(used).max(0);
    let outcome = if passed {
        Outcome::passed(rule_type, format!("{what} used in the last {minutes} minutes"))
    } else {
        let next = frees.map_or_else(String::new, |at| format!(", the oldest leaves at {at}"));
        let detail = format!("{what} used in the last {minutes} minutes{next}");
        let helps = match test.bound {
            WindowBound::Count(_) => true,
            WindowBound::Sum(most) => spend.amount <= most,
        };
        Outcome::failed(rule_type, reason, detail).retryable(true).resets(frees.filter(|_| helps))
    };
    outcome.numbers(limit, actual, remaining).0
}

/// A cap of another vendor or category than the request's.
#[must_use]
pub fn cap_of_another(rule_type: &'static str) -> RuleResult {
    Outcome::passed(rule_type, "the cap is for another one").0
}

/// The approval rule never fails; it says whether a person is asked.
#[must_use]
pub fn approval(spend: &Spend, threshold: Minor, currency: Currency) -> RuleResult {
    let limit = currency.format(threshold);
    let detail = if spend.amount > threshold {
        format!("above {limit}: a person has to approve")
    } else {
        format!("not above {limit}: no approval needed")
    };
    Outcome::passed("approval", detail).numbers(threshold, spend.amount, threshold).0
}

/// A result that the ledger gave no answer for: failed, because doubt never approves.
#[must_use]
pub fn unknown(rule_type: &'static str) -> RuleResult {
    Outcome::failed(rule_type, RejectionReason::CustomRuleError, "the rule could not be evaluated")
        .0
}

/// Every rule that needs nothing but the case.
#[must_use]
pub fn stateless(rule: &CompiledRule, setting: &Setting<'_>) -> RuleResult {
    let spend = setting.spend;
    match rule {
        CompiledRule::Category { allowed } => category(spend, allowed),
        CompiledRule::VendorAllowlist { vendors } => {
            const RULE: &str = "vendor_allowlist";
            if vendors.covers(&spend.vendor) {
                Outcome::passed(RULE, "the vendor is in the allowlist").0
            } else if vendors.imitated_by(&spend.vendor) {
                let detail = "the vendor only looks like one of the allowlist, check its spelling";
                Outcome::failed(RULE, RejectionReason::VendorConfusable, detail).0
            } else {
                let detail = "the vendor is not in the allowlist, choose one that is";
                Outcome::failed(RULE, RejectionReason::VendorNotAllowed, detail).0
            }
        }
        CompiledRule::VendorBlocklist { vendors } => {
            const RULE: &str = "vendor_blocklist";
            if vendors.covers(&spend.vendor) {
                let detail = "the vendor is blocked";
                Outcome::failed(RULE, RejectionReason::VendorBlocked, detail).0
            } else if vendors.disguised_as(&spend.vendor) {
                let detail = "the vendor looks like one that is blocked";
                Outcome::failed(RULE, RejectionReason::VendorConfusable, detail).0
            } else {
                Outcome::passed(RULE, "the vendor is not blocked").0
            }
        }
        CompiledRule::MaxAmount { amount } => {
            let most = (*amount, setting.currency);
            ceiling("max_amount", RejectionReason::MaxAmountExceeded, spend, most)
        }
        CompiledRule::TimeWindow { window } => {
            if window.contains(setting.now) {
                return Outcome::passed("time_window", "inside the allowed hours").0;
            }
            let opens = window.next_opening(setting.now);
            let next = opens.map_or_else(String::new, |at| format!(", they begin at {at}"));
            let detail = format!("outside the allowed hours{next}");
            Outcome::failed("time_window", RejectionReason::OutsideTimeWindow, detail)
                .resets(opens)
                .retryable(opens.is_some())
                .0
        }
        CompiledRule::Geo { allowed, blocked, subject } => {
            geo(setting.observed, allowed, blocked, *subject)
        }
        CompiledRule::ProtocolRestrict { allowed } => protocol(spend, allowed),
        CompiledRule::Custom { rule, description } => custom(rule, description, setting),
        CompiledRule::VendorCap { .. } => unknown("vendor_cap"),
        CompiledRule::CategoryCap { .. } => unknown("category_cap"),
        CompiledRule::RateLimit { .. } => unknown("rate_limit"),
        CompiledRule::SpendRate { .. } => unknown("spend_rate"),
        CompiledRule::Approval { threshold, .. } => approval(spend, *threshold, setting.currency),
    }
}

fn category(spend: &Spend, allowed: &std::collections::HashSet<String>) -> RuleResult {
    const RULE: &str = "category";
    match &spend.category {
        Some(category) if allowed.contains(category) => {
            Outcome::passed(RULE, "the category is allowed").0
        }
        Some(_) => {
            let detail = format!("the category is not one of: {}", listed(allowed));
            Outcome::failed(RULE, RejectionReason::CategoryNotAllowed, detail).0
        }
        None => {
            let detail = format!("a category is needed, one of: {}", listed(allowed));
            Outcome::failed(RULE, RejectionReason::CategoryMissing, detail).0
        }
    }
}

/// The first few entries, in a stable order: a sentence must stay readable.
fn listed(entries: &std::collections::HashSet<String>) -> String {
    const SHOWN: usize = 8;
    let mut sorted = entries.iter().map(String::as_str).collect::<Vec<_>>();
    sorted.sort_unstable();
    let more = sorted.len().saturating_sub(SHOWN);
    sorted.truncate(SHOWN);
    let text = sorted.join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}

fn geo(
    observed: &Observed,
    allowed: &std::collections::HashSet<String>,
    blocked: &std::collections::HashSet<String>,
    subject: GeoSubject,
) -> RuleResult {
    const RULE: &str = "geo";
    let (whose, country) = match subject {
        GeoSubject::Vendor => ("the vendor's", &observed.vendor_country),
        GeoSubject::Caller => ("the caller's", &observed.caller_country),
    };
    let Some(country) = country else {
        let detail = format!("{whose} country is not known");
        return Outcome::failed(RULE, RejectionReason::CountryUnknown, detail).0;
    };
    let passes =
        if allowed.is_empty() { !blocked.contains(country) } else { allowed.contains(country) };
    let detail = format!("{whose} country is {country}");
    if passes {
        Outcome::passed(RULE, detail).0
    } else {
        let detail = format!("{detail}, which is not allowed");
        Outcome::failed(RULE, RejectionReason::CountryNotAllowed, detail).0
    }
}

fn protocol(spend: &Spend, allowed: &[Protocol]) -> RuleResult {
    const RULE: &str = "protocol_restrict";
    let words = || allowed.iter().map(|p| p.word()).collect::<Vec<_>>().join(", ");
    match spend.protocol {
        Some(protocol) if allowed.contains(&protocol) => {
            Outcome::passed(RULE, "the protocol is allowed").0
        }
        Some(_) => {
            let detail = format!("the protocol is not one of: {}", words());
            Outcome::failed(RULE, RejectionReason::ProtocolNotAllowed, detail).0
        }
        None => {
            let detail = format!("a protocol is needed, one of: {}", words());
            Outcome::failed(RULE, RejectionReason::ProtocolMissing, detail).0
        }
    }
}

fn custom(rule: &CustomRule, description: &str, setting: &Setting<'_>) -> RuleResult {
    const RULE: &str = "custom";
    let spend = setting.spend;
    let local = setting.now.to_zoned(setting.zone.clone());
    let facts = Facts {
        amount: spend.amount,
        currency: spend.currency.code(),
        vendor: spend.vendor.canonical(),
        category: spend.category.as_deref(),
        protocol: spend.protocol.map(Protocol::word),
        description: spend.description.as_deref(),
        agent_id: &spend.agent_id.to_string(),
        metadata: &spend.metadata,
        hour: i64::from(local.hour()),
        minute: i64::from(local.minute()),
        weekday: i64::from(local.weekday().to_sunday_zero_offset()),
    };
    let meaning = if description.is_empty() { "the custom rule" } else { description };
    match rule.evaluate(&facts) {
        Ok(true) => Outcome::passed(RULE, format!("passed: {meaning}")).0,
        Ok(false) => {
            let detail = format!("does not hold: {meaning}");
            Outcome::failed(RULE, RejectionReason::CustomRuleFalse, detail).0
        }
        Err(failure) => {
            let detail = format!("could not be computed ({failure}): {meaning}");
            Outcome::failed(RULE, RejectionReason::CustomRuleError, detail).0
        }
    }
}
