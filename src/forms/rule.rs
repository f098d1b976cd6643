//! One rule as JSON or YAML, and its message.
//!
//! Written as the published forms. `time_window` is written with `startHour` and `endHour` when
//! both fall on a whole hour, else with `start` and `end`. Not here: how a rule is read, with its
//! synonyms (`rule_fields`), and what a rule means.

use serde::{Deserialize, Serialize};

use super::FormError;
use super::words::Word;
use crate::proto::v1;
use crate::proto::v1::rule::Kind;

/// A rule of a mandate; `type` says which. The fields are those of the message of the same name.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "the fields are documented at the rule messages")]
pub enum RuleForm {
    /// The category must be in the list.
    Category { allowed: Vec<String> },
    /// The vendor must be in the list. Also read from `vendors`.
    VendorAllowlist {
        #[serde(rename = "allowed")]
        vendors: Vec<String>,
    },
    /// The vendor must not be in the list. Also read from `vendors`.
    VendorBlocklist {
        #[serde(rename = "blocked")]
        vendors: Vec<String>,
    },
    /// A budget of one vendor.
    VendorCap { vendor: String, amount: i64, period: Word<v1::Period> },
    /// A budget of one category.
    CategoryCap { category: String, amount: i64, period: Word<v1::Period> },
    /// A ceiling of one transaction.
    MaxAmount { amount: i64 },
    /// How often.
    RateLimit { max_transactions: i64, window_minutes: i32 },
    /// How fast.
    SpendRate { max_amount: i64, window_minutes: i32 },
    /// When; days count from Sunday = 0, times are `HH:MM`.
    #[serde(serialize_with = "write_time_window")]
    TimeWindow { days: Vec<i32>, start: String, end: String, timezone: String },
    /// Where; exactly one of the two lists is given.
    Geo {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        allowed: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        blocked: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<Word<v1::GeoSubject>>,
    },
    /// By which means.
    ProtocolRestrict { allowed: Vec<Word<v1::Protocol>> },
    /// Above which amount a person decides.
    Approval {
        threshold: i64,
        approver_ids: Vec<String>,
        #[serde(skip_serializing_if = "is_one")]
        approvals_required: i32,
        timeout_minutes: i32,
    },
    /// An expression of the operator's own.
    Custom { engine: Word<v1::CustomEngine>, expression: Expression, description: String },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_one(number: &i32) -> bool {
    *number == 1
}

/// The source of a custom rule: text, or for JSONLogic also the object itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a string, or an object for jsonlogic")]
pub enum Expression {
    /// Source text.
    Text(String),
    /// A JSONLogic rule.
    Logic(serde_json::Map<String, serde_json::Value>),
}

impl Expression {
    fn into_source(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Logic(logic) => serde_json::Value::Object(logic).to_string(),
        }
    }

    /// The published form of JSONLogic is the object, so that is how it is shown.
    fn from_source(source: String, engine: v1::CustomEngine) -> Self {
        if engine == v1::CustomEngine::Jsonlogic
            && let Ok(logic) = serde_json::from_str(&source)
        {
            return Self::Logic(logic);
        }
        Self::Text(source)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeWindowWritten<'a> {
    days: &'a [i32],
    #[serde(skip_serializing_if = "Option::is_none")]
    start_hour: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_hour: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'a str>,
    timezone: &'a str,
}

fn write_time_window<S: serde::Serializer>(
    days: &[i32],
    start: &str,
    end: &str,
    timezone: &str,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let hours = whole_hour(start).zip(whole_hour(end));
    let clock = hours.is_none();
    let written = TimeWindowWritten {
        days,
        start_hour: hours.map(|(start, _)| start),
        end_hour: hours.map(|(_, end)| end),
        start: clock.then_some(start),
        end: clock.then_some(end),
        timezone,
    };
    written.serialize(serializer)
}

fn whole_hour(clock: &str) -> Option<i64> {
    clock.strip_suffix(":00")?.parse().ok()
}

impl From<RuleForm> for v1::Rule {
    fn from(form: RuleForm) -> Self {
        let kind = match form {
            RuleForm::Category { allowed } => Kind::Category(v1::CategoryRule { allowed }),
            RuleForm::VendorAllowlist { vendors } => {
                Kind::VendorAllowlist(v1::VendorAllowlistRule { vendors })
            }
            RuleForm::VendorBlocklist { vendors } => {
                Kind::VendorBlocklist(v1::VendorBlocklistRule { vendors })
            }
            RuleForm::VendorCap { vendor, amount, period } => vendor_cap(vendor, amount, period),
            RuleForm::CategoryCap { category, amount, period } => {
                category_cap(category, amount, period)
            }
            RuleForm::MaxAmount { amount } => Kind::MaxAmount(v1::MaxAmountRule { amount }),
            RuleForm::RateLimit { max_transactions, window_minutes } => {
                Kind::RateLimit(v1::RateLimitRule { max_transactions, window_minutes })
            }
            RuleForm::SpendRate { max_amount, window_minutes } => {
                Kind::SpendRate(v1::SpendRateRule { max_amount, window_minutes })
            }
            RuleForm::TimeWindow { days, start, end, timezone } => {
                Kind::TimeWindow(v1::TimeWindowRule { days, start, end, timezone })
            }
            RuleForm::Geo { allowed, blocked, subject } => geo(allowed, blocked, subject),
            RuleForm::ProtocolRestrict { allowed } => {
                let allowed = allowed.into_iter().map(Word::number).collect();
                Kind::ProtocolRestrict(v1::ProtocolRestrictRule { allowed })
            }
            RuleForm::Approval {
                threshold,
                approver_ids: approver_roles,
                approvals_required,
                timeout_minutes,
            } => Kind::Approval(v1::ApprovalRule {
                threshold,
                approver_roles,
                timeout_minutes,
                approvals_required,
            }),
            RuleForm::Custom { engine, expression, description } => {
                custom(engine, expression, description)
            }
        };
        Self { kind: Some(kind) }
    }
}

fn vendor_cap(vendor: String, amount: i64, period: Word<v1::Period>) -> Kind {
    let period = period.number();
    Kind::VendorCap(v1::VendorCapRule { vendor, amount, period })
}

fn category_cap(category: String, amount: i64, period: Word<v1::Period>) -> Kind {
    let period = period.number();
    Kind::CategoryCap(v1::CategoryCapRule { category, amount, period })
}

fn geo(allowed: Vec<String>, blocked: Vec<String>, subject: Option<Word<v1::GeoSubject>>) -> Kind {
    Kind::Geo(v1::GeoRule {
        allowed_countries: allowed,
        blocked_countries: blocked,
        subject: subject.unwrap_or_default().number(),
    })
}

fn custom(engine: Word<v1::CustomEngine>, expression: Expression, description: String) -> Kind {
    Kind::Custom(v1::CustomRule {
        engine: engine.number(),
        expression: expression.into_source(),
        description,
    })
}

impl TryFrom<v1::Rule> for RuleForm {
    type Error = FormError;

    fn try_from(rule: v1::Rule) -> Result<Self, FormError> {
        Ok(match rule.kind.ok_or(FormError::UnknownRule)? {
            Kind::Category(rule) => Self::Category { allowed: rule.allowed },
            Kind::VendorAllowlist(rule) => Self::VendorAllowlist { vendors: rule.vendors },
            Kind::VendorBlocklist(rule) => Self::VendorBlocklist { vendors: rule.vendors },
            Kind::VendorCap(rule) => Self::VendorCap {
                vendor: rule.vendor,
                amount: rule.amount,
                period: period(rule.period),
            },
            Kind::CategoryCap(rule) => Self::CategoryCap {
                category: rule.category,
                amount: rule.amount,
                period: period(rule.period),
            },
            Kind::MaxAmount(rule) => Self::MaxAmount { amount: rule.amount },
            Kind::RateLimit(rule) => Self::RateLimit {
                max_transactions: rule.max_transactions,
                window_minutes: rule.window_minutes,
            },
            Kind::SpendRate(rule) => {
                Self::SpendRate { max_amount: rule.max_amount, window_minutes: rule.window_minutes }
            }
            Kind::TimeWindow(rule) => Self::TimeWindow {
                days: rule.days,
                start: rule.start,
                end: rule.end,
                timezone: rule.timezone,
            },
            Kind::Geo(rule) => Self::Geo {
                allowed: rule.allowed_countries,
                blocked: rule.blocked_countries,
                subject: Word::specified(rule.subject),
            },
            Kind::ProtocolRestrict(rule) => Self::ProtocolRestrict {
                allowed: rule.allowed.into_iter().map(Word::from_number).collect(),
            },
            Kind::Approval(rule) => Self::Approval {
                threshold: rule.threshold,
                approver_ids: rule.approver_roles,
                approvals_required: rule.approvals_required.max(1),
                timeout_minutes: rule.timeout_minutes,
            },
            Kind::Custom(rule) => {
                let engine = Word::<v1::CustomEngine>::from_number(rule.engine);
                let expression = Expression::from_source(rule.expression, engine.0);
                Self::Custom { engine, expression, description: rule.description }
            }
        })
    }
}

/// Unspecified means none, for caps and for budgets.
pub(super) fn period(number: i32) -> Word<v1::Period> {
    Word::specified(number).unwrap_or(Word(v1::Period::None))
}
