//! One decision vector: how it is read, and how an answer differs from what it expects.
//!
//! The bodies of mandates and spends are kept as they were written, so that they can be sent as
//! they are, and are read as forms, so that nothing unknown slips through. Not here: running it.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use quetra::forms::{BudgetPatch, MandateForm, SpendForm};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Vector {
    pub(super) name: String,
    #[serde(default)]
    pub(super) organization: Organization,
    #[serde(default)]
    pub(super) agent_status: AgentWord,
    pub(super) mandate: Option<Value>,
    #[serde(default)]
    pub(super) mandate_status: MandateWord,
    created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) history: Vec<Past>,
    pub(super) budget_change: Option<Value>,
    #[serde(default)]
    pub(super) observed: Observed,
    pub(super) at: Timestamp,
    #[serde(default)]
    pub(super) named: bool,
    pub(super) spend: Value,
    pub(super) expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Organization {
    pub(super) timezone: String,
    pub(super) frozen: bool,
}

impl Default for Organization {
    fn default() -> Self {
        Self { timezone: "UTC".to_owned(), frozen: false }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AgentWord {
    #[default]
    Active,
    Suspended,
    Decommissioned,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MandateWord {
    Draft,
    #[default]
    Active,
    Paused,
    Revoked,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Observed {
    pub(super) vendor_country: Option<String>,
    pub(super) caller_country: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Past {
    pub(super) at: Timestamp,
    pub(super) spend: Value,
    pub(super) decision: String,
    #[serde(default)]
    pub(super) then: Vec<Then>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Then {
    Settle { amount: i64 },
    Void {},
    Refund { amount: Option<i64> },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) decision: String,
    pub(super) evaluations: Vec<ExpectedResult>,
    pub(super) reasons: Vec<String>,
    pub(super) remaining_budget: Option<i64>,
    pub(super) resets_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) over_committed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExpectedResult {
    pub(super) rule_type: String,
    pub(super) passed: bool,
    reason: Option<String>,
    limit: Option<i64>,
    actual: Option<i64>,
    remaining: Option<i64>,
    resets_at: Option<Timestamp>,
    retryable: Option<bool>,
}

/// What was answered, by whatever way: the parts that a vector can expect.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) decision: String,
    pub(super) evaluations: Vec<RuleAnswer>,
    pub(super) reasons: Vec<ReasonAnswer>,
    pub(super) remaining_budget: Option<i64>,
    pub(super) budget: Option<BudgetAnswer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuleAnswer {
    pub(super) rule_type: String,
    pub(super) passed: bool,
    pub(super) reason: Option<String>,
    pub(super) limit: Option<i64>,
    pub(super) actual: Option<i64>,
    pub(super) remaining: Option<i64>,
    pub(super) resets_at: Option<Timestamp>,
    pub(super) retryable: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReasonAnswer {
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BudgetAnswer {
    pub(super) resets_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) over_committed: bool,
}

impl Vector {
    /// When the mandate is made: before everything else.
    pub(super) fn starts_at(&self) -> Timestamp {
        let first = self.history.first().map_or(self.at, |past| past.at);
        self.created_at.unwrap_or(first)
    }

    pub(super) fn mandate_form(&self) -> Option<MandateForm> {
        let body = self.mandate.clone()?;
        Some(serde_json::from_value(body).unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }

    pub(super) fn budget_patch(&self) -> Option<BudgetPatch> {
        Some(serde_json::from_value(self.budget_change.clone()?).unwrap())
    }

    fn check(&self) -> Result<(), serde_json::Error> {
        if let Some(mandate) = &self.mandate {
            MandateForm::deserialize(mandate)?;
        }
        if let Some(change) = &self.budget_change {
            BudgetPatch::deserialize(change)?;
        }
        for spend in self.history.iter().map(|past| &past.spend).chain([&self.spend]) {
            SpendForm::deserialize(spend)?;
        }
        Ok(())
    }
}

impl Expect {
    /// Says how an answer differs from what is expected; `who` names the vector and the way.
    pub(super) fn compare(&self, who: &str, answer: &Answer, wrong: &mut Vec<String>) {
        self.compare_rules(who, answer, wrong);
        let budget = answer.budget.as_ref();
        let told = (
            answer.remaining_budget,
            budget.and_then(|budget| budget.resets_at),
            budget.is_some_and(|budget| budget.over_committed),
        );
        let expected = (self.remaining_budget, self.resets_at, self.over_committed);
        if told != expected {
            wrong.push(format!("{who}: budget {told:?} instead of {expected:?}"));
        }
    }

    /// The same without the budget, which `can-spend` tells as it is before the spend.
    pub(super) fn compare_rules(&self, who: &str, answer: &Answer, wrong: &mut Vec<String>) {
        if answer.decision != self.decision {
            wrong.push(format!("{who}: {} instead of {}", answer.decision, self.decision));
        }
        let reasons = answer.reasons.iter().map(|reason| &reason.reason).collect::<Vec<_>>();
        if reasons != self.reasons.iter().collect::<Vec<_>>() {
            wrong.push(format!("{who}: reasons {reasons:?} instead of {:?}", self.reasons));
        }
        if answer.evaluations.len() != self.evaluations.len() {
            wrong.push(format!("{who}: {} results", answer.evaluations.len()));
        }
        for (told, expected) in answer.evaluations.iter().zip(&self.evaluations) {
            if !expected.allows(told) {
                wrong.push(format!("{who}: {told:?} instead of {expected:?}"));
            }
        }
    }
}

impl ExpectedResult {
    fn allows(&self, told: &RuleAnswer) -> bool {
        fn same<T: PartialEq>(expected: Option<&T>, told: Option<&T>) -> bool {
            expected.is_none() || expected == told
        }
        self.rule_type == told.rule_type
            && self.passed == told.passed
            && told.passed == told.reason.is_none()
            && same(self.reason.as_ref(), told.reason.as_ref())
            && same(self.limit.as_ref(), told.limit.as_ref())
            && same(self.actual.as_ref(), told.actual.as_ref())
            && same(self.remaining.as_ref(), told.remaining.as_ref())
            && same(self.resets_at.as_ref(), told.resets_at.as_ref())
            && same(self.retryable.as_ref(), Some(&told.retryable))
    }
}

/// The vectors of one file.
pub(super) fn read(text: &str) -> Result<Vec<Vector>, serde_json::Error> {
    let file: File = serde_json::from_str(text)?;
    for vector in &file.vectors {
        vector.check()?;
    }
    Ok(file.vectors)
}

/// The vectors of all files, in the order of their names.
pub(super) fn load() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/decisions");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.collect::<Vec<_>>();
    files.sort();
    let mut vectors = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let read = read(&text);
        vectors.extend(read.unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    }
    vectors
}
