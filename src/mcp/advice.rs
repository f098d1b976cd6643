//! What a rejection teaches: whether to try again, with how much, and when.
//!
//! Computed from the typed fields of the rules' results, never from their sentences. Not here: the
//! sentences, which the server wrote.

use crate::forms::{Time, money_text};
use crate::proto::v1;

/// Rules whose bounds are minor units of one spend: less can pass where more did not.
const AMOUNT_RULES: [&str; 6] =
    ["budget_per_tx", "budget_total", "max_amount", "vendor_cap", "category_cap", "spend_rate"];

/// What to do about a rejection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Advice {
    /// Whether waiting or asking for less can help at all.
    pub(super) worthwhile: bool,
    /// The largest amount, in minor units, that no amount rule would refuse now. Absent if another
    /// rule failed too, or nothing would pass.
    pub(super) largest_amount: Option<i64>,
    /// From when the same request could pass, if time alone can change every failed rule.
    pub(super) not_before: Option<Time>,
    /// Whether the request lacked an argument that a rule needs.
    pub(super) incomplete: bool,
}

impl Advice {
    /// Of a rejected spend.
    pub(super) fn of(results: &[v1::RuleResult], reasons: &[v1::Reason]) -> Self {
        let failed = || results.iter().filter(|result| !result.passed);
        // Who has no mandate in force, or is frozen, is not helped by another amount.
        let only_rules_refused = failed().next().is_some() && failed().count() == reasons.len();
        if !only_rules_refused {
            return Self::default();
        }
        let is_amount = |result: &v1::RuleResult| AMOUNT_RULES.contains(&&*result.rule_type);
        let bounds = results.iter().filter(|result| is_amount(result));
        let largest = bounds.filter_map(|result| result.remaining).min();
        let times: Option<Vec<_>> =
            failed().map(|result| Time::from_proto(result.resets_at.as_ref())).collect();
        let lacks = |reason: &v1::Reason| {
            use v1::RejectionReason::{CategoryMissing, ProtocolMissing};
            matches!(reason.reason(), CategoryMissing | ProtocolMissing)
        };
        Self {
            worthwhile: failed().all(|result| result.retryable),
            largest_amount: largest.filter(|amount| failed().all(is_amount) && *amount > 0),
            not_before: times.unwrap_or_default().into_iter().max(),
            incomplete: reasons.iter().any(lacks),
        }
    }

    /// The advice in a sentence or two.
    pub(super) fn sentence(&self, currency: &str) -> String {
        let largest = self
            .largest_amount
            .map(|amount| format!("At most {} would pass now.", money_text(amount, currency)));
        let later = self.not_before.map(|time| format!("The same could pass from {time}."));
        match (largest, later) {
            (Some(largest), Some(later)) => format!("{largest} {later}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) if self.incomplete => "Ask again with what is missing.".to_owned(),
            (None, None) if self.worthwhile => "Another time or less may pass.".to_owned(),
            (None, None) => "Asking for the same again will not help.".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(
        rule: &str,
        passed: bool,
        remaining: Option<i64>,
        reset: Option<i64>,
    ) -> v1::RuleResult {
        v1::RuleResult {
            rule_type: rule.to_owned(),
            passed,
            remaining,
            resets_at: reset.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            retryable: remaining.is_some() || reset.is_some(),
            ..Default::default()
        }
    }

    fn advice(results: &[v1::RuleResult]) -> Advice {
        let failed = results.iter().filter(|result| !result.passed);
        let reason = |result: &v1::RuleResult| v1::Reason {
            rule_type: result.rule_type.clone(),
            ..Default::default()
        };
        Advice::of(results, &failed.map(reason).collect::<Vec<_>>())
    }

    fn at(seconds: i64) -> Option<Time> {
        Time::from_proto(Some(&prost_types::Timestamp { seconds, nanos: 0 }))
    }

    #[test]
    fn less_helps_against_bounds_of_amounts_only() {
        let per_tx = result("budget_per_tx", false, Some(2_500), None);
        let total = result("budget_total", true, Some(900), None);
        let found = advice(&[per_tx.clone(), total.clone()]);
        assert!(found.worthwhile);
        assert_eq!(found.largest_amount, Some(900));

        let category = result("category", false, None, None);
        let found = advice(&[per_tx, total, category]);
        assert_eq!((found.worthwhile, found.largest_amount), (false, None));
    }

    #[test]
    fn a_count_is_no_amount() {
        let rate = result("rate_limit", false, Some(0), Some(60));
        let total = result("budget_total", true, Some(900), None);
        let found = advice(&[rate, total]);
        assert_eq!(found.largest_amount, None);
        assert_eq!(found.not_before, at(60));
    }

    #[test]
    fn waiting_helps_until_the_last_rule_lets_go() {
        let early = result("rate_limit", false, Some(0), Some(60));
        let late = result("time_window", false, None, Some(600));
        let never = result("category", false, None, None);
        let found = advice(&[early.clone(), late.clone()]);
        assert_eq!(found.not_before, at(600));
        assert_eq!(advice(&[early, late, never]).not_before, None);
    }

    #[test]
    fn an_exhausted_budget_has_no_amount_that_passes() {
        let total = result("budget_total", false, Some(0), Some(600));
        assert_eq!(advice(&[total]).largest_amount, None);
        assert_eq!(advice(&[]), Advice::default());
    }

    #[test]
    fn who_may_not_spend_at_all_is_not_told_to_ask_for_less() {
        let per_tx = result("budget_per_tx", false, Some(2_500), None);
        let reasons = ["organization", "budget_per_tx"]
            .map(|rule| v1::Reason { rule_type: rule.to_owned(), ..Default::default() });
        assert_eq!(Advice::of(&[per_tx], &reasons), Advice::default());
    }
}
