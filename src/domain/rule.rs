//! The rules an administrator writes, and their compiled form that the hot path tests.
//!
//! A [`RuleSpec`] is data: stored, signed and shown. A [`CompiledRule`] has its vendors parsed,
//! zones found and expressions type-checked. Not here: the tests themselves (`rule/check`) and the
//! built-in rules (`evaluate`).

use std::collections::HashSet;
use std::fmt::Display;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::custom::{CustomRule, Engine};
use super::hold::{APPROVALS_MAX, APPROVERS_MAX, ApprovalTerms};
use super::id::KeyId;
use super::mandate::PolicyViolation;
use super::money::{AMOUNT_MAX, LIMIT_MAX, Minor};
use super::period::Period;
use super::spend::{Protocol, category_fault};
use super::time_window::TimeWindow;
use super::vendor::Vendor;

pub mod check;
mod vendor_list;

pub use vendor_list::VendorList;

/// The longest sliding window, 31 days; also the longest time a person has to approve.
pub const WINDOW_MINUTES_MAX: i64 = 44_640;

/// Whose country a geo rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeoSubject {
    /// The country of the vendor's host.
    Vendor,
    /// The country of the caller's address.
    Caller,
}

/// A rule as it is written, stored and signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are documented where they are public, in rule.proto")]
pub enum RuleSpec {
    Category {
        allowed: Vec<String>,
    },
    VendorAllowlist {
        vendors: Vec<String>,
    },
    VendorBlocklist {
        vendors: Vec<String>,
    },
    VendorCap {
        vendor: String,
        amount: Minor,
        period: Period,
    },
    CategoryCap {
        category: String,
        amount: Minor,
        period: Period,
    },
    MaxAmount {
        amount: Minor,
    },
    RateLimit {
        max_transactions: i64,
        window_minutes: i64,
    },
    SpendRate {
        max_amount: Minor,
        window_minutes: i64,
    },
    TimeWindow {
        days: Vec<u8>,
        start: String,
        end: String,
        timezone: String,
    },
    Geo {
        allowed: Vec<String>,
        blocked: Vec<String>,
        subject: GeoSubject,
    },
    ProtocolRestrict {
        allowed: Vec<Protocol>,
    },
    Approval {
        threshold: Minor,
        approver_roles: Vec<String>,
        /// How many different approvers; a rule from before has one.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        approvals_required: i64,
        timeout_minutes: i64,
    },
    Custom {
        engine: CustomEngine,
        expression: String,
        description: String,
    },
}

const fn one() -> i64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_one(number: &i64) -> bool {
    *number == 1
}

/// The language of a custom rule, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the languages' own names")]
pub enum CustomEngine {
    Cel,
    Jsonlogic,
}

/// A rule that is ready to be tested.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the same fields as RuleSpec, parsed")]
pub enum CompiledRule {
    Category { allowed: HashSet<String> },
    VendorAllowlist { vendors: VendorList },
    VendorBlocklist { vendors: VendorList },
    VendorCap { vendor: Vendor, amount: Minor, period: Period },
    CategoryCap { category: String, amount: Minor, period: Period },
    MaxAmount { amount: Minor },
    RateLimit { max_transactions: i64, window: SignedDuration },
    SpendRate { max_amount: Minor, window: SignedDuration },
    TimeWindow { window: TimeWindow },
    Geo { allowed: HashSet<String>, blocked: HashSet<String>, subject: GeoSubject },
    ProtocolRestrict { allowed: Vec<Protocol> },
    Approval { threshold: Minor, terms: ApprovalTerms },
    Custom { rule: CustomRule, description: String },
}

/// Collects what is wrong with one rule.
#[derive(Default)]
struct Violations(Vec<PolicyViolation>);

impl Violations {
    fn refuse(&mut self, field: &str, why: impl Display) {
        let violation = PolicyViolation { field: field.to_owned(), why: format!("{why}") };
        self.0.push(violation);
    }

    fn category(&mut self, field: &str, category: &str) {
        if let Some(why) = category_fault(category) {
            self.refuse(field, why);
        }
    }

    fn within(&mut self, field: &str, value: i64, least: i64, most: i64) {
        if !(least..=most).contains(&value) {
            self.refuse(field, format!("must be {least} to {most}"));
        }
    }
}

impl RuleSpec {
    /// The word for people, results and the API.
    #[must_use]
    pub const fn rule_type(&self) -> &'static str {
        match self {
            Self::Category { .. } => "category",
            Self::VendorAllowlist { .. } => "vendor_allowlist",
            Self::VendorBlocklist { .. } => "vendor_blocklist",
            Self::VendorCap { .. } => "vendor_cap",
            Self::CategoryCap { .. } => "category_cap",
            Self::MaxAmount { .. } => "max_amount",
            Self::RateLimit { .. } => "rate_limit",
            Self::SpendRate { .. } => "spend_rate",
            Self::TimeWindow { .. } => "time_window",
            Self::Geo { .. } => "geo",
            Self::ProtocolRestrict { .. } => "protocol_restrict",
            Self::Approval { .. } => "approval",
            Self::Custom { .. } => "custom",
        }
    }

    /// Whether a mandate may have one of it at most.
    pub(super) const fn single(&self) -> bool {
        match self {
            Self::Category { .. }
            | Self::VendorAllowlist { .. }
            | Self::VendorBlocklist { .. }
            | Self::MaxAmount { .. }
            | Self::ProtocolRestrict { .. }
            | Self::Approval { .. } => true,
            Self::VendorCap { .. }
            | Self::CategoryCap { .. }
            | Self::RateLimit { .. }
            | Self::SpendRate { .. }
            | Self::TimeWindow { .. }
            | Self::Geo { .. }
            | Self::Custom { .. } => false,
        }
    }

    /// Parses and checks the rule.
    ///
    /// # Errors
    /// Every violation, with its path below the rule.
    pub fn compile(&self, budget_total: Minor) -> Result<CompiledRule, Vec<PolicyViolation>> {
        let mut wrong = Violations::default();
        let compiled = self.compile_into(budget_total, &mut wrong);
        match compiled {
            Some(compiled) if wrong.0.is_empty() => Ok(compiled),
            Some(_) | None => Err(wrong.0),
        }
    }

    fn compile_into(&self, budget_total: Minor, wrong: &mut Violations) -> Option<CompiledRule> {
        Some(match self {
            Self::Category { allowed } => {
                if allowed.is_empty() {
                    wrong.refuse("category.allowed", "must name at least one category");
                }
                for (index, category) in allowed.iter().enumerate() {
                    wrong.category(&format!("category.allowed[{index}]"), category);
                }
                CompiledRule::Category { allowed: allowed.iter().cloned().collect() }
            }
            Self::VendorAllowlist { vendors } => CompiledRule::VendorAllowlist {
                vendors: vendor_list("vendor_allowlist", vendors, wrong),
            },
            Self::VendorBlocklist { vendors } => CompiledRule::VendorBlocklist {
                vendors: vendor_list("vendor_blocklist", vendors, wrong),
            },
            Self::VendorCap { vendor, amount, period } => {
                wrong.within("vendor_cap.amount", *amount, 1, LIMIT_MAX);
                let vendor = Vendor::parse(vendor)
                    .map_err(|error| wrong.refuse("vendor_cap.vendor", error))
                    .ok()?;
                CompiledRule::VendorCap { vendor, amount: *amount, period: *period }
            }
            Self::CategoryCap { category, amount, period } => {
                wrong.within("category_cap.amount", *amount, 1, LIMIT_MAX);
                wrong.category("category_cap.category", category);
                let (category, amount, period) = (category.clone(), *amount, *period);
                CompiledRule::CategoryCap { category, amount, period }
            }
            Self::MaxAmount { amount } => {
                wrong.within("max_amount.amount", *amount, 0, AMOUNT_MAX);
                CompiledRule::MaxAmount { amount: *amount }
            }
            Self::RateLimit { max_transactions, window_minutes } => {
                wrong.within("rate_limit.max_transactions", *max_transactions, 1, 1_000_000);
                let window = minutes("rate_limit.window_minutes", *window_minutes, wrong);
                CompiledRule::RateLimit { max_transactions: *max_transactions, window }
            }
            Self::SpendRate { max_amount, window_minutes } => {
                wrong.within("spend_rate.max_amount", *max_amount, 1, LIMIT_MAX);
                let window = minutes("spend_rate.window_minutes", *window_minutes, wrong);
                CompiledRule::SpendRate { max_amount: *max_amount, window }
            }
            Self::TimeWindow { .. } => return self.compile_time_window(wrong),
            Self::Geo { .. } => return self.compile_geo(wrong),
            Self::ProtocolRestrict { allowed } => {
                if allowed.is_empty() {
                    wrong.refuse("protocol_restrict.allowed", "must name at least one protocol");
                }
                CompiledRule::ProtocolRestrict { allowed: allowed.clone() }
            }
            Self::Approval { .. } => return self.compile_approval(budget_total, wrong),
            Self::Custom { .. } => return self.compile_custom(wrong),
        })
    }

    fn compile_approval(
        &self,
        budget_total: Minor,
        wrong: &mut Violations,
    ) -> Option<CompiledRule> {
        let Self::Approval { threshold, approver_roles, approvals_required, timeout_minutes } =
            self
        else {
            return None;
        };
        wrong.within("approval.threshold", *threshold, 0, AMOUNT_MAX);
        if *threshold > budget_total {
            wrong.refuse("approval.threshold", "must not be above the budget's total");
        }
        if approver_roles.len() > APPROVERS_MAX {
            let why = format!("must be at most {APPROVERS_MAX}");
            wrong.refuse("approval.approver_roles", why);
        }
        wrong.within("approval.approvals_required", *approvals_required, 1, APPROVALS_MAX);
        // Of named credentials there are only so many; of a role there can be any number.
        let is_key = |approver: &String| approver.parse::<KeyId>().is_ok();
        let keys = i64::try_from(approver_roles.len()).unwrap_or(i64::MAX);
        if keys > 0 && keys < *approvals_required && approver_roles.iter().all(is_key) {
            let why = "must not be more than there are approvers";
            wrong.refuse("approval.approvals_required", why);
        }
        let time = minutes("approval.timeout_minutes", *timeout_minutes, wrong);
        let terms = ApprovalTerms {
            approvers: approver_roles.clone(),
            required: *approvals_required,
            seconds: time.as_secs(),
            asked_by: None,
        };
        Some(CompiledRule::Approval { threshold: *threshold, terms })
    }

    fn compile_time_window(&self, wrong: &mut Violations) -> Option<CompiledRule> {
        let Self::TimeWindow { days, start, end, timezone } = self else {
            return None;
        };
        let window = TimeWindow::try_new(days, start, end, timezone)
            .map_err(|error| wrong.refuse(time_window_field(&error), error))
            .ok()?;
        Some(CompiledRule::TimeWindow { window })
    }

    fn compile_geo(&self, wrong: &mut Violations) -> Option<CompiledRule> {
        let Self::Geo { allowed, blocked, subject } = self else {
            return None;
        };
        if allowed.is_empty() == blocked.is_empty() {
            wrong.refuse("geo", "must have either allowed_countries or blocked_countries");
        }
        for (field, list) in [("allowed_countries", allowed), ("blocked_countries", blocked)] {
            for (index, code) in list.iter().enumerate() {
                if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    let field = format!("geo.{field}[{index}]");
                    wrong.refuse(&field, "must be an ISO 3166-1 code of two capital letters");
                }
            }
        }
        Some(CompiledRule::Geo {
            allowed: allowed.iter().cloned().collect(),
            blocked: blocked.iter().cloned().collect(),
            subject: *subject,
        })
    }

    fn compile_custom(&self, wrong: &mut Violations) -> Option<CompiledRule> {
        let Self::Custom { engine, expression, description } = self else {
            return None;
        };
        let engine = match engine {
            CustomEngine::Cel => Engine::Cel,
            CustomEngine::Jsonlogic => Engine::JsonLogic,
        };
        let rule = CustomRule::compile(engine, expression)
            .map_err(|error| wrong.refuse("custom.expression", error))
            .ok()?;
        Some(CompiledRule::Custom { rule, description: description.clone() })
    }
}

fn minutes(field: &str, minutes: i64, wrong: &mut Violations) -> SignedDuration {
    wrong.within(field, minutes, 1, WINDOW_MINUTES_MAX);
    SignedDuration::from_mins(minutes.clamp(1, WINDOW_MINUTES_MAX))
}

fn vendor_list(rule: &str, vendors: &[String], wrong: &mut Violations) -> VendorList {
    if vendors.is_empty() {
        wrong.refuse(&format!("{rule}.vendors"), "must name at least one vendor");
    }
    let parsed = vendors.iter().enumerate().filter_map(|(index, vendor)| {
        Vendor::parse(vendor)
            .map_err(|error| wrong.refuse(&format!("{rule}.vendors[{index}]"), error))
            .ok()
    });
    VendorList::new(parsed.collect())
}

fn time_window_field(error: &super::time_window::TimeWindowError) -> &'static str {
    use super::time_window::TimeWindowError as E;
    match error {
        E::NoDays | E::BadDay => "time_window.days",
        E::BadStart => "time_window.start",
        E::BadEnd | E::EmptyWindow => "time_window.end",
        E::BadZone => "time_window.timezone",
    }
}

/// Vendors that one rule allows and another blocks: the mandate could never mean both.
pub(super) fn list_conflicts(rules: &[RuleSpec]) -> Vec<PolicyViolation> {
    let mut allowed = HashSet::new();
    for rule in rules {
        if let RuleSpec::VendorAllowlist { vendors } = rule {
            allowed.extend(vendors.iter().filter_map(|vendor| Vendor::parse(vendor).ok()));
        }
    }
    let mut conflicts = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let RuleSpec::VendorBlocklist { vendors } = rule else {
            continue;
        };
        for (entry, vendor) in vendors.iter().enumerate() {
            if Vendor::parse(vendor).is_ok_and(|vendor| allowed.contains(&vendor)) {
                conflicts.push(PolicyViolation {
                    field: format!("rules[{index}].vendor_blocklist.vendors[{entry}]"),
                    why: "is in the allowlist too; remove it from one of them".to_owned(),
                });
            }
        }
    }
    conflicts
}

#[cfg(test)]
mod tests;
