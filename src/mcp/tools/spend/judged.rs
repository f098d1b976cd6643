//! A decision, made or foreseen, as text and as data.
//!
//! Not here: what only a made decision has, such as its transaction.

use serde_json::{Value, json};

use crate::mcp::advice::Advice;
use crate::mcp::text::{SENTENCE_MAX, clean};
use crate::mcp::tools::{budget_data, name, present, time};
use crate::proto::v1;

/// What the two answers have in common, and what was asked.
pub(super) struct Judged<'a> {
    asked: &'a v1::EvaluateRequest,
    decision: v1::Decision,
    mandate_id: &'a str,
    results: &'a [v1::RuleResult],
    reasons: &'a [v1::Reason],
    explanation: &'a str,
    budget: Option<&'a v1::BudgetStatus>,
}

impl<'a> Judged<'a> {
    pub(super) fn of_evaluate(
        asked: &'a v1::EvaluateRequest,
        made: &'a v1::EvaluateResponse,
    ) -> Self {
        Self {
            asked,
            decision: made.decision(),
            mandate_id: &made.mandate_id,
            results: &made.rule_results,
            reasons: &made.reasons,
            explanation: &made.explanation,
            budget: made.budget.as_ref(),
        }
    }

    pub(super) fn of_can_spend(
        asked: &'a v1::EvaluateRequest,
        found: &'a v1::CanSpendResponse,
    ) -> Self {
        Self {
            asked,
            decision: found.decision(),
            mandate_id: &found.mandate_id,
            results: &found.rule_results,
            reasons: &found.reasons,
            explanation: &found.explanation,
            budget: found.budget.as_ref(),
        }
    }

    /// Only the one word means yes; one that this version does not know means no.
    pub(super) fn approved(&self) -> bool {
        self.decision == v1::Decision::Approved
    }

    fn word(&self) -> &'static str {
        match self.decision {
            v1::Decision::Approved => "approved",
            v1::Decision::PendingApproval => "pending_approval",
            v1::Decision::Rejected | v1::Decision::Unspecified => "rejected",
        }
    }

    fn advice(&self) -> Option<Advice> {
        match self.decision {
            v1::Decision::Approved | v1::Decision::PendingApproval => None,
            v1::Decision::Rejected | v1::Decision::Unspecified => {
                Some(Advice::of(self.results, self.reasons))
            }
        }
    }

    /// The common fields.
    pub(super) fn data(&self) -> Value {
        let retry = self.advice().map_or(Value::Null, |advice| {
            present(json!({
                "worthwhile": advice.worthwhile,
                "largestAmount": advice.largest_amount,
                "notBefore": advice.not_before.map(|time| time.to_string()),
            }))
        });
        present(json!({
            "decision": self.word(),
            "mandateId": name(self.mandate_id),
            "explanation": clean(self.explanation, SENTENCE_MAX),
            "reasons": self.reasons.iter().map(|reason| self.reason(reason)).collect::<Vec<_>>(),
            "rules": self.results.iter().map(rule).collect::<Vec<_>>(),
            "retry": retry,
            "budget": budget_data(self.budget),
        }))
    }

    /// A reason with the figures of its rule; a standing one, such as a frozen organization, has
    /// none.
    fn reason(&self, reason: &v1::Reason) -> Value {
        let result = self.results.iter().find(|result| {
            !result.passed && result.rule_type == reason.rule_type && result.detail == reason.detail
        });
        let result = result.cloned().unwrap_or_default();
        let word = reason.reason().as_str_name().trim_start_matches("REJECTION_REASON_");
        present(json!({
            "rule": reason.rule_type,
            "reason": word.to_lowercase(),
            "detail": clean(&reason.detail, SENTENCE_MAX),
            "limit": result.limit,
            "actual": result.actual,
            "passesNow": result.remaining,
            "resetsAt": time(result.resets_at.as_ref()),
            "retryable": result.retryable,
        }))
    }

    /// The decision in the server's words, which begin with the verdict, and what to do about it.
    pub(super) fn text(&self) -> String {
        let explanation = clean(self.explanation, SENTENCE_MAX);
        let advice = self.advice().map_or_else(String::new, |advice| {
            format!(" {}", advice.sentence(&self.asked.currency))
        });
        format!("{explanation}{advice}")
    }
}

fn rule(result: &v1::RuleResult) -> Value {
    json!({
        "rule": result.rule_type,
        "passed": result.passed,
        "detail": clean(&result.detail, SENTENCE_MAX),
    })
}
