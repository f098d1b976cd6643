//! What clients saw, in a form that the checker can judge.
//!
//! Times are places in one order of all events of the test: a call that completed at 5 came before
//! one that was invoked at 6. Ids are bare hexadecimal digits, without a prefix. Not here: what the
//! stores hold (`books`), how calls are made (`crash/load`) and judged.

use std::hash::{DefaultHasher, Hash, Hasher};

use quetra::proto::v1;

/// One call of one client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) invoked: u64,
    pub(crate) completed: u64,
    /// The same two, in milliseconds since the test began: for what has a bound in time.
    pub(crate) ms: (u64, u64),
    pub(crate) request: Request,
    pub(crate) outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Evaluate {
        /// The API key it was asked with.
        by: String,
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
    /// What was settled, wholly or in part.
    Refund {
        id: String,
        amount: Option<i64>,
    },
    /// A person's yes; `by` is the credential.
    Approve {
        id: String,
        by: String,
    },
    /// A person's no.
    Deny {
        id: String,
        by: String,
    },
    /// The end of its time, which nobody has to ask for.
    Expire {
        id: String,
    },
    /// Any change of a mandate: pause, resume, another total, revocation.
    Change {
        mandate: String,
    },
    /// A stop or its end: of an organization, an agent or a credential.
    Switch {
        what: Switch,
        id: String,
        /// Whether it lets spending go on.
        on: bool,
    },
}

/// What can be stopped as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Switch {
    Organization,
    Agent,
    Credential,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A decision.
    Decided(Decided),
    /// A settlement, a void, a refund or a switch took effect, now or before.
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
    pub(crate) verdict: String,
    pub(crate) version: i64,
    pub(crate) decided_at: i64,
    /// Words such as `budget_exhausted`.
    pub(crate) reasons: Vec<String>,
    /// Of everything else that may not differ: results, details, explanation, budget.
    pub(crate) digest: u64,
}

/// The digits of an id, whatever is around them.
pub(crate) fn bare(id: &str) -> String {
    id.rsplit('_').next().unwrap().replace('-', "")
}

/// A word of the contract, as the stores spell it.
fn plain(word: &str, prefix: &str) -> String {
    word.trim_start_matches(prefix).to_lowercase()
}

impl Decided {
    pub(crate) fn new(answer: &v1::EvaluateResponse) -> Self {
        let at = answer.decided_at.unwrap();
        let mut hasher = DefaultHasher::new();
        let rest = (&answer.mandate_id, &answer.rule_results, &answer.reasons);
        format!("{rest:?} {} {:?}", answer.explanation, answer.budget).hash(&mut hasher);
        let word = |reason: &v1::Reason| plain(reason.reason().as_str_name(), "REJECTION_REASON_");
        Self {
            id: bare(&answer.transaction_id),
            verdict: plain(answer.decision().as_str_name(), "DECISION_"),
            version: answer.mandate_version,
            decided_at: at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000,
            reasons: answer.reasons.iter().map(word).collect(),
            digest: hasher.finish(),
        }
    }
}
