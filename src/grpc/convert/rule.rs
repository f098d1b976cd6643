//! Rules, in both directions.
//!
//! Lengths, ranges and patterns are the codec's; whether a rule means something is `RuleSpec`'s.

use super::defined;
use super::spend::{protocol, protocol_message};
use crate::domain::period::Period;
use crate::domain::rule::{CustomEngine, GeoSubject, RuleSpec};
use crate::proto::v1::{self, rule::Kind};

pub(super) const fn period(period: v1::Period) -> Period {
    match period {
        v1::Period::Unspecified | v1::Period::None => Period::None,
        v1::Period::Daily => Period::Daily,
        v1::Period::Weekly => Period::Weekly,
        v1::Period::Monthly => Period::Monthly,
    }
}

pub(super) const fn period_message(period: Period) -> v1::Period {
    match period {
        Period::None => v1::Period::None,
        Period::Daily => v1::Period::Daily,
        Period::Weekly => v1::Period::Weekly,
        Period::Monthly => v1::Period::Monthly,
    }
}

/// The rule of a message; `None` if no kind is set, which the codec has refused before.
pub(super) fn spec(rule: v1::Rule) -> Option<RuleSpec> {
    Some(match rule.kind? {
        Kind::Category(rule) => RuleSpec::Category { allowed: rule.allowed },
        Kind::VendorAllowlist(rule) => RuleSpec::VendorAllowlist { vendors: rule.vendors },
        Kind::VendorBlocklist(rule) => RuleSpec::VendorBlocklist { vendors: rule.vendors },
        Kind::VendorCap(rule) => RuleSpec::VendorCap {
            vendor: rule.vendor,
            amount: rule.amount,
            period: period(defined(rule.period, v1::Period::Unspecified)),
        },
        Kind::CategoryCap(rule) => RuleSpec::CategoryCap {
            category: rule.category,
            amount: rule.amount,
            period: period(defined(rule.period, v1::Period::Unspecified)),
        },
        Kind::MaxAmount(rule) => RuleSpec::MaxAmount { amount: rule.amount },
        Kind::RateLimit(rule) => RuleSpec::RateLimit {
            max_transactions: rule.max_transactions,
            window_minutes: rule.window_minutes.into(),
        },
        Kind::SpendRate(rule) => RuleSpec::SpendRate {
            max_amount: rule.max_amount,
            window_minutes: rule.window_minutes.into(),
        },
        Kind::TimeWindow(rule) => RuleSpec::TimeWindow {
            // A day that is no byte is no weekday either; 255 is refused with the others.
            days: rule.days.into_iter().map(|day| u8::try_from(day).unwrap_or(u8::MAX)).collect(),
            start: rule.start,
            end: rule.end,
            timezone: rule.timezone,
        },
        Kind::Geo(rule) => RuleSpec::Geo {
            subject: match rule.subject() {
                v1::GeoSubject::Unspecified | v1::GeoSubject::Vendor => GeoSubject::Vendor,
                v1::GeoSubject::Caller => GeoSubject::Caller,
            },
            allowed: rule.allowed_countries,
            blocked: rule.blocked_countries,
        },
        Kind::ProtocolRestrict(rule) => {
            RuleSpec::ProtocolRestrict { allowed: rule.allowed().filter_map(protocol).collect() }
        }
        Kind::Approval(rule) => RuleSpec::Approval {
            threshold: rule.threshold,
            approver_roles: rule.approver_roles,
            approvals_required: rule.approvals_required.max(1).into(),
            timeout_minutes: rule.timeout_minutes.into(),
        },
        Kind::Custom(rule) => RuleSpec::Custom {
            engine: match rule.engine() {
                v1::CustomEngine::Unspecified => return None,
                v1::CustomEngine::Cel => CustomEngine::Cel,
                v1::CustomEngine::Jsonlogic => CustomEngine::Jsonlogic,
            },
            expression: rule.expression,
            description: rule.description,
        },
    })
}

fn minutes(minutes: i64) -> i32 {
    i32::try_from(minutes).unwrap_or(i32::MAX)
}

pub(super) fn message(spec: RuleSpec) -> v1::Rule {
    let kind = match spec {
        RuleSpec::Category { allowed } => Kind::Category(v1::CategoryRule { allowed }),
        RuleSpec::VendorAllowlist { vendors } => {
            Kind::VendorAllowlist(v1::VendorAllowlistRule { vendors })
        }
        RuleSpec::VendorBlocklist { vendors } => {
            Kind::VendorBlocklist(v1::VendorBlocklistRule { vendors })
        }
        RuleSpec::VendorCap { vendor, amount, period } => {
            let period = period_message(period).into();
            Kind::VendorCap(v1::VendorCapRule { vendor, amount, period })
        }
        RuleSpec::CategoryCap { category, amount, period } => {
            let period = period_message(period).into();
            Kind::CategoryCap(v1::CategoryCapRule { category, amount, period })
        }
        RuleSpec::MaxAmount { amount } => Kind::MaxAmount(v1::MaxAmountRule { amount }),
        RuleSpec::RateLimit { max_transactions, window_minutes } => {
            let window_minutes = minutes(window_minutes);
            Kind::RateLimit(v1::RateLimitRule { max_transactions, window_minutes })
        }
        RuleSpec::SpendRate { max_amount, window_minutes } => {
            let window_minutes = minutes(window_minutes);
            Kind::SpendRate(v1::SpendRateRule { max_amount, window_minutes })
        }
        RuleSpec::TimeWindow { days, start, end, timezone } => {
            let days = days.into_iter().map(i32::from).collect();
            Kind::TimeWindow(v1::TimeWindowRule { days, start, end, timezone })
        }
        RuleSpec::Geo { allowed, blocked, subject } => Kind::Geo(v1::GeoRule {
            allowed_countries: allowed,
            blocked_countries: blocked,
            subject: match subject {
                GeoSubject::Vendor => v1::GeoSubject::Vendor,
                GeoSubject::Caller => v1::GeoSubject::Caller,
            }
            .into(),
        }),
        RuleSpec::ProtocolRestrict { allowed } => {
            let word = |protocol| protocol_message(Some(protocol)).into();
            let allowed = allowed.into_iter().map(word).collect();
            Kind::ProtocolRestrict(v1::ProtocolRestrictRule { allowed })
        }
        RuleSpec::Approval { threshold, approver_roles, approvals_required, timeout_minutes } => {
            Kind::Approval(v1::ApprovalRule {
                threshold,
                approver_roles,
                timeout_minutes: minutes(timeout_minutes),
                approvals_required: minutes(approvals_required),
            })
        }
        RuleSpec::Custom { engine, expression, description } => Kind::Custom(v1::CustomRule {
            engine: match engine {
                CustomEngine::Cel => v1::CustomEngine::Cel,
                CustomEngine::Jsonlogic => v1::CustomEngine::Jsonlogic,
            }
            .into(),
            expression,
            description,
        }),
    };
    v1::Rule { kind: Some(kind) }
}
