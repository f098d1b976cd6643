//! Tests of custom rules: what expressions answer, what does not compile, hostile sources, and
//! properties over random expressions.
//!
//! Here are only the facts they share. Not here: speed, which is measured, not asserted.

mod answers;
mod hostile;
mod limits;
mod properties;
mod refusals;

use std::collections::BTreeMap;

use super::{CustomError, CustomFailure, CustomRule, Engine, Facts};

/// An owned set of facts, so that tests can vary it.
#[derive(Debug, Clone)]
struct Sample {
    amount: i64,
    vendor: String,
    category: Option<String>,
    description: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Sample {
    /// 1500 USD cents to openai.com on a Monday at 9:30; no protocol, no description.
    fn new() -> Self {
        let metadata = [("team", "research"), ("limit", "2000"), ("note", ""), ("a-b", "x")];
        Self {
            amount: 1500,
            vendor: "openai.com".into(),
            category: Some("compute".into()),
            description: None,
            metadata: metadata.map(|(key, value)| (key.into(), value.into())).into(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            amount: self.amount,
            currency: "USD",
            vendor: &self.vendor,
            category: self.category.as_deref(),
            protocol: None,
            description: self.description.as_deref(),
            agent_id: "agent-7",
            metadata: &self.metadata,
            hour: 9,
            minute: 30,
            weekday: 1,
        }
    }
}

fn compile(engine: Engine, source: &str) -> CustomRule {
    CustomRule::compile(engine, source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn refusal(engine: Engine, source: &str) -> CustomError {
    match CustomRule::compile(engine, source) {
        Ok(_) => panic!("{source} compiled"),
        Err(error) => error,
    }
}

fn answer(engine: Engine, source: &str) -> Result<bool, CustomFailure> {
    compile(engine, source).evaluate(&Sample::new().facts())
}

fn missing(name: &str) -> Result<bool, CustomFailure> {
    Err(CustomFailure::MissingVariable { name: name.into() })
}
