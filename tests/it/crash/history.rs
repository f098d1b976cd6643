//! What clients saw, in a form that the checker can judge.
//!
//! Times are places in one order of all events of the test: a call that completed at 5 came before
//! one that was invoked at 6. Not here: what the database has (`books`),
//! how calls are made (`load`) and judged (`checker`).

use std::hash::{DefaultHasher, Hash, Hasher};

use quetra::proto::v1;

/// One call of one client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) invoked: u64,
    pub(crate) completed: u64,
    pub(crate) request: Request,
    pub(crate) outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Evaluate {
        agent: String,
        key: String,
        amount: i64,
        vendor: String,
    },
    Settle {
        id: String,
        amount: i64,
    },
    Void {
        id: String,
    },
    /// Any change of a mandate: pause, resume, another total.
    Change {
        mandate: String,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A decision.
    Decided(Decided),
    /// A settlement or void took effect, now or before.
    Resolved,
    /// A mandate stands at this version.
    Changed { version: i64 },
    /// An error that says that nothing happened.
    Failed(String),
    /// No answer, or an error that says nothing about the effect.
    Unknown,
}

/// A decision, as far as every answer for its key must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) id: String,
    pub(crate) approved: bool,
    pub(crate) version: i64,
    pub(crate) decided_at: i64,
    /// Of everything else that may not differ: results, reasons, explanation, budget.
    pub(crate) digest: u64,
}

impl Decided {
    pub(crate) fn new(answer: &v1::EvaluateResponse) -> Self {
        let at = answer.decided_at.unwrap();
        let mut hasher = DefaultHasher::new();
        let rest = (&answer.mandate_id, &answer.rule_results, &answer.reasons);
        format!("{rest:?} {} {:?}", answer.explanation, answer.budget).hash(&mut hasher);
        Self {
            id: answer.transaction_id.clone(),
            approved: answer.decision() == v1::Decision::Approved,
            version: answer.mandate_version,
            decided_at: at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000,
            digest: hasher.finish(),
        }
    }
}
