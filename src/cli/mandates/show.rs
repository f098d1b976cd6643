//! How mandates look to people.
//!
//! Not here: files (`mandate_file`) and JSON (`output`).

use crate::cli::client::Session;
use crate::cli::error::CliError;
use crate::cli::money;
use crate::cli::output::{Output, time};
use crate::forms::{RuleForm, Word};
use crate::proto::v1;

/// The answer as JSON, or its mandate for people.
pub(super) fn answered<M: prost::Message + prost::Name>(
    answer: &M,
    mandate: Option<&v1::Mandate>,
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    if session.json(answer)? {
        return Ok(());
    }
    let Some(mandate) = mandate else {
        return Ok(());
    };
    one(mandate, session.output)
}

fn one(mandate: &v1::Mandate, output: &mut Output) -> Result<(), CliError> {
    let budget = mandate.budget.clone().unwrap_or_default();
    let amount = |minor| money::show(minor, &budget.currency);
    let status = mandate.budget_status.as_ref();
    let when = |moment: Option<&prost_types::Timestamp>| {
        moment.map(|moment| time(Some(moment))).unwrap_or_default()
    };
    output.pairs(&[
        ("id", mandate.id.clone()),
        ("name", mandate.name.clone()),
        ("status", Word::<v1::MandateStatus>::from_number(mandate.status).to_string()),
        ("revoked because", mandate.revocation_reason.clone()),
        ("version", mandate.version.to_string()),
        ("agent", mandate.agent_id.clone()),
        ("description", mandate.description.clone()),
        ("budget", format!("{} {}", amount(budget.total), resets(budget.reset))),
        ("per transaction", amount(budget.per_transaction)),
        ("spent", status.map(|status| amount(status.spent)).unwrap_or_default()),
        ("remaining", status.map(|status| amount(status.remaining)).unwrap_or_default()),
        ("resets", when(status.and_then(|status| status.resets_at.as_ref()))),
        ("valid from", when(mandate.valid_from.as_ref())),
        ("valid until", when(mandate.valid_until.as_ref())),
        (
            "durability",
            Word::<v1::Durability>::specified(mandate.durability)
                .map(|it| it.to_string())
                .unwrap_or_default(),
        ),
        ("policy hash", mandate.policy_hash.clone()),
        ("signed by", mandate.signing_key_id.clone()),
    ])?;
    if mandate.rules.is_empty() {
        return Ok(());
    }
    let rows = mandate.rules.iter().map(rule);
    output.line("")?;
    output.table(["RULE", "SETTINGS"], rows.collect())
}

/// One row a mandate.
pub(super) fn many(mandates: &[v1::Mandate], output: &mut Output) -> Result<(), CliError> {
    let rows = mandates.iter().map(|mandate| {
        let budget = mandate.budget.clone().unwrap_or_default();
        let remaining = mandate.budget_status.as_ref().map(|status| status.remaining);
        let remaining = remaining.map(|minor| money::show(minor, &budget.currency));
        [
            mandate.id.clone(),
            mandate.name.clone(),
            Word::<v1::MandateStatus>::from_number(mandate.status).to_string(),
            mandate.version.to_string(),
            format!("{} {}", money::show(budget.total, &budget.currency), resets(budget.reset)),
            remaining.unwrap_or_else(|| "-".to_owned()),
            mandate.agent_id.clone(),
        ]
    });
    let columns = ["ID", "NAME", "STATUS", "VERSION", "BUDGET", "REMAINING", "AGENT"];
    output.table(columns, rows.collect())
}

/// One row a version.
pub(super) fn versions(mandates: &[v1::Mandate], output: &mut Output) -> Result<(), CliError> {
    let rows = mandates.iter().map(|mandate| {
        let budget = mandate.budget.clone().unwrap_or_default();
        [
            mandate.version.to_string(),
            time(mandate.updated_at.as_ref()),
            Word::<v1::MandateStatus>::from_number(mandate.status).to_string(),
            format!("{} {}", money::show(budget.total, &budget.currency), resets(budget.reset)),
            mandate.rules.len().to_string(),
            mandate.policy_hash.chars().take(16).collect(),
        ]
    });
    let columns = ["VERSION", "SINCE", "STATUS", "BUDGET", "RULES", "POLICY HASH"];
    output.table(columns, rows.collect())
}

fn resets(period: i32) -> &'static str {
    match v1::Period::try_from(period) {
        Ok(v1::Period::Daily) => "daily",
        Ok(v1::Period::Weekly) => "weekly",
        Ok(v1::Period::Monthly) => "monthly",
        Ok(v1::Period::None | v1::Period::Unspecified) | Err(_) => "in all",
    }
}

/// A rule's type and its settings as compact JSON; a rule of a newer server is not hidden.
fn rule(rule: &v1::Rule) -> [String; 2] {
    let unknown = || ["(unknown)".to_owned(), "update this program to see it".to_owned()];
    let Ok(form) = RuleForm::try_from(rule.clone()) else {
        return unknown();
    };
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(&form) else {
        return unknown();
    };
    let kind = fields.remove("type").and_then(|kind| kind.as_str().map(str::to_owned));
    let settings: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    [kind.unwrap_or_default(), settings.join(", ")]
}
