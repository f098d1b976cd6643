//! Reading a rule: every field any rule can have, then the ones its `type` wants.
//!
//! Two steps instead of serde's tagged enums, because those buffer the value: a wrong number would
//! lose its line in a YAML file, and a misspelt field would be dropped without a word.
//! Not here: the forms themselves and how they are written (`rule`).

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::rule::{Expression, RuleForm};
use super::scalar::{Hour, Whole};
use super::words::{RuleKind, Word};
use crate::proto::v1;

/// How long a person has to decide, if an `approval` rule does not say.
const TIMEOUT_MINUTES_DEFAULT: i32 = 60;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleFields {
    #[serde(rename = "type")]
    kind: Word<RuleKind>,
    allowed: Option<Vec<String>>,
    blocked: Option<Vec<String>>,
    vendors: Option<Vec<String>>,
    vendor: Option<String>,
    category: Option<String>,
    amount: Option<Whole<i64>>,
    period: Option<Word<v1::Period>>,
    max_transactions: Option<Whole<i64>>,
    max_amount: Option<Whole<i64>>,
    window_minutes: Option<Whole<i32>>,
    days: Option<Vec<Whole<i32>>>,
    start_hour: Option<Hour<23>>,
    end_hour: Option<Hour<24>>,
    start: Option<String>,
    end: Option<String>,
    timezone: Option<String>,
    subject: Option<Word<v1::GeoSubject>>,
    threshold: Option<Whole<i64>>,
    #[serde(alias = "approverRoles")]
    approver_ids: Option<Vec<String>>,
    approvals_required: Option<Whole<i32>>,
    timeout_minutes: Option<Whole<i32>>,
    engine: Option<Word<v1::CustomEngine>>,
    expression: Option<Expression>,
    description: Option<String>,
}

impl<'de> Deserialize<'de> for RuleForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = RuleFields::deserialize(deserializer)?;
        fields.refuse_misplaced()?;
        fields.into_form()
    }
}

/// The fields of each kind, beside `type`.
fn fields_of(kind: RuleKind) -> &'static [&'static str] {
    match kind {
        RuleKind::Category | RuleKind::ProtocolRestrict => &["allowed"],
        RuleKind::VendorAllowlist => &["allowed", "vendors"],
        RuleKind::VendorBlocklist => &["blocked", "vendors"],
        RuleKind::VendorCap => &["vendor", "amount", "period"],
        RuleKind::CategoryCap => &["category", "amount", "period"],
        RuleKind::MaxAmount => &["amount"],
        RuleKind::RateLimit => &["maxTransactions", "windowMinutes"],
        RuleKind::SpendRate => &["maxAmount", "windowMinutes"],
        RuleKind::TimeWindow => &["days", "startHour", "endHour", "start", "end", "timezone"],
        RuleKind::Geo => &["allowed", "blocked", "subject"],
        RuleKind::Approval => &["threshold", "approverIds", "approvalsRequired", "timeoutMinutes"],
        RuleKind::Custom => &["engine", "expression", "description"],
    }
}

impl RuleFields {
    fn given(&self) -> [(&'static str, bool); 24] {
        [
            ("allowed", self.allowed.is_some()),
            ("blocked", self.blocked.is_some()),
            ("vendors", self.vendors.is_some()),
            ("vendor", self.vendor.is_some()),
            ("category", self.category.is_some()),
            ("amount", self.amount.is_some()),
            ("period", self.period.is_some()),
            ("maxTransactions", self.max_transactions.is_some()),
            ("maxAmount", self.max_amount.is_some()),
            ("windowMinutes", self.window_minutes.is_some()),
            ("days", self.days.is_some()),
            ("startHour", self.start_hour.is_some()),
            ("endHour", self.end_hour.is_some()),
            ("start", self.start.is_some()),
            ("end", self.end.is_some()),
            ("timezone", self.timezone.is_some()),
            ("subject", self.subject.is_some()),
            ("threshold", self.threshold.is_some()),
            ("approverIds", self.approver_ids.is_some()),
            ("approvalsRequired", self.approvals_required.is_some()),
            ("timeoutMinutes", self.timeout_minutes.is_some()),
            ("engine", self.engine.is_some()),
            ("expression", self.expression.is_some()),
            ("description", self.description.is_some()),
        ]
    }

    fn refuse_misplaced<E: de::Error>(&self) -> Result<(), E> {
        let wanted = fields_of(self.kind.0);
        let misplaced =
            self.given().into_iter().find(|(name, given)| *given && !wanted.contains(name));
        misplaced.map_or(Ok(()), |(name, _)| Err(E::unknown_field(name, wanted)))
    }

    fn into_form<E: de::Error>(self) -> Result<RuleForm, E> {
        match self.kind.0 {
            RuleKind::Category => {
                Ok(RuleForm::Category { allowed: required(self.allowed, "allowed")? })
            }
            RuleKind::VendorAllowlist => Ok(RuleForm::VendorAllowlist {
                vendors: either(("allowed", self.allowed), ("vendors", self.vendors))?,
            }),
            RuleKind::VendorBlocklist => Ok(RuleForm::VendorBlocklist {
                vendors: either(("blocked", self.blocked), ("vendors", self.vendors))?,
            }),
            RuleKind::VendorCap => Ok(RuleForm::VendorCap {
                vendor: required(self.vendor, "vendor")?,
                amount: required(self.amount, "amount")?.0,
                period: required(self.period, "period")?,
            }),
            RuleKind::CategoryCap => Ok(RuleForm::CategoryCap {
                category: required(self.category, "category")?,
                amount: required(self.amount, "amount")?.0,
                period: required(self.period, "period")?,
            }),
            RuleKind::MaxAmount => {
                Ok(RuleForm::MaxAmount { amount: required(self.amount, "amount")?.0 })
            }
            RuleKind::RateLimit => Ok(RuleForm::RateLimit {
                max_transactions: required(self.max_transactions, "maxTransactions")?.0,
                window_minutes: required(self.window_minutes, "windowMinutes")?.0,
            }),
            RuleKind::SpendRate => Ok(RuleForm::SpendRate {
                max_amount: required(self.max_amount, "maxAmount")?.0,
                window_minutes: required(self.window_minutes, "windowMinutes")?.0,
            }),
            RuleKind::TimeWindow => self.into_time_window(),
            RuleKind::Geo => self.into_geo(),
            RuleKind::ProtocolRestrict => self.into_protocol_restrict(),
            RuleKind::Approval => Ok(RuleForm::Approval {
                threshold: required(self.threshold, "threshold")?.0,
                approver_ids: self.approver_ids.unwrap_or_default(),
                approvals_required: self.approvals_required.map_or(1, |Whole(number)| number),
                timeout_minutes: self
                    .timeout_minutes
                    .map_or(TIMEOUT_MINUTES_DEFAULT, |Whole(minutes)| minutes),
            }),
            RuleKind::Custom => self.into_custom(),
        }
    }

    fn into_time_window<E: de::Error>(self) -> Result<RuleForm, E> {
        let days = required(self.days, "days")?;
        let start_hour = self.start_hour.map(Hour::to_clock);
        let end_hour = self.end_hour.map(Hour::to_clock);
        Ok(RuleForm::TimeWindow {
            days: days.into_iter().map(|Whole(day)| day).collect(),
            start: either(("startHour", start_hour), ("start", self.start))?,
            end: either(("endHour", end_hour), ("end", self.end))?,
            timezone: required(self.timezone, "timezone")?,
        })
    }

    fn into_geo<E: de::Error>(self) -> Result<RuleForm, E> {
        if self.allowed.is_some() == self.blocked.is_some() {
            return Err(E::custom("a geo rule takes exactly one of `allowed` and `blocked`"));
        }
        Ok(RuleForm::Geo {
            allowed: self.allowed.unwrap_or_default(),
            blocked: self.blocked.unwrap_or_default(),
            subject: self.subject,
        })
    }

    fn into_protocol_restrict<E: de::Error>(self) -> Result<RuleForm, E> {
        let words = required(self.allowed, "allowed")?;
        let allowed: Option<Vec<_>> = words.iter().map(|word| Word::parse(word)).collect();
        let known = Word::<v1::Protocol>::list();
        let wrong = || E::custom(format_args!("`allowed` takes only these protocols: {known}"));
        Ok(RuleForm::ProtocolRestrict { allowed: allowed.ok_or_else(wrong)? })
    }

    fn into_custom<E: de::Error>(self) -> Result<RuleForm, E> {
        let engine = required(self.engine, "engine")?;
        let expression = required(self.expression, "expression")?;
        if engine.0 == v1::CustomEngine::Cel && matches!(expression, Expression::Logic(_)) {
            return Err(E::custom("`expression` of a cel rule is a string"));
        }
        let description = self.description.unwrap_or_default();
        Ok(RuleForm::Custom { engine, expression, description })
    }
}

fn required<T, E: de::Error>(value: Option<T>, name: &'static str) -> Result<T, E> {
    value.ok_or_else(|| E::missing_field(name))
}

/// The value under its published name or under its other one, but not under both.
fn either<T, E: de::Error>(
    published: (&'static str, Option<T>),
    other: (&'static str, Option<T>),
) -> Result<T, E> {
    match (published.1, other.1) {
        (Some(_), Some(_)) => {
            let (one, two) = (published.0, other.0);
            Err(E::custom(format_args!("give either `{one}` or `{two}`, not both")))
        }
        (Some(value), None) | (None, Some(value)) => Ok(value),
        (None, None) => Err(E::missing_field(published.0)),
    }
}
