//! A rule in one short line, for a model that has to choose among agents.
//!
//! Not here: the exact rule, which the result of each decision names where it matters.

use crate::forms::Word;
use crate::mcp::text::{NAME_MAX, clean};
use crate::proto::v1;
use crate::proto::v1::rule::Kind;

/// Entries of a list that are named; the rest is counted.
const NAMED: usize = 8;

/// The line. Amounts are in minor units, as everywhere.
pub(super) fn short(rule: &v1::Rule) -> String {
    match &rule.kind {
        Some(Kind::Category(rule)) => format!("categories: {}", few(&rule.allowed)),
        Some(Kind::VendorAllowlist(rule)) => format!("vendors: {}", few(&rule.vendors)),
        Some(Kind::VendorBlocklist(rule)) => format!("not at: {}", few(&rule.vendors)),
        Some(Kind::VendorCap(rule)) => cap(&rule.vendor, rule.amount, rule.period),
        Some(Kind::CategoryCap(rule)) => cap(&rule.category, rule.amount, rule.period),
        Some(Kind::MaxAmount(rule)) => format!("at most {} at once", rule.amount),
        Some(Kind::RateLimit(rule)) => {
            format!("at most {} in {} minutes", rule.max_transactions, rule.window_minutes)
        }
        Some(Kind::SpendRate(rule)) => {
            format!("at most {} spent in {} minutes", rule.max_amount, rule.window_minutes)
        }
        Some(Kind::TimeWindow(rule)) => {
            let (start, end, zone) = (&rule.start, &rule.end, &rule.timezone);
            format!("only from {start} to {end} ({zone}), on certain days")
        }
        Some(Kind::Geo(_)) => "only in certain countries".to_owned(),
        Some(Kind::ProtocolRestrict(rule)) => {
            let allowed = rule
                .allowed
                .iter()
                .map(|protocol| Word::<v1::Protocol>::from_number(*protocol).as_str().to_owned());
            format!("only by: {}", few(&allowed.collect::<Vec<_>>()))
        }
        Some(Kind::Approval(rule)) => format!("a person decides above {}", rule.threshold),
        Some(Kind::Custom(rule)) if rule.description.is_empty() => "a rule of its own".to_owned(),
        Some(Kind::Custom(rule)) => clean(&rule.description, NAME_MAX),
        None => "a rule that this version does not know".to_owned(),
    }
}

fn few(entries: &[String]) -> String {
    let named: Vec<_> = entries.iter().take(NAMED).map(|entry| clean(entry, NAME_MAX)).collect();
    let more = entries.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

fn cap(subject: &str, amount: i64, period: i32) -> String {
    let period = match v1::Period::try_from(period) {
        Ok(v1::Period::Daily) => " a day",
        Ok(v1::Period::Weekly) => " a week",
        Ok(v1::Period::Monthly) => " a month",
        Ok(v1::Period::None | v1::Period::Unspecified) | Err(_) => "",
    };
    format!("at most {amount}{period} on {}", clean(subject, NAME_MAX))
}
