//! `quetra budget …`: what is left to spend.
//!
//! Not here: changing a budget (`mandates set-budget`).

use clap::{Args, Subcommand};

use super::agents::{find, find_or_own};
use super::args::AGENT_HELP;
use super::client::Session;
use super::error::CliError;
use super::money;
use super::output::time;
use crate::forms::Word;
use crate::proto::v1;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum BudgetCommand {
    /// Show the budget of an agent's active mandate, or of one mandate
    Get(GetArgs),
}

/// Whose budget.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[arg(help = AGENT_HELP)]
    agent: Option<String>,
    /// A mandate of that agent instead of the active one
    #[arg(long, value_name = "ID")]
    mandate: Option<String>,
}

/// Runs one of them.
pub(super) async fn run(command: BudgetCommand, session: &mut Session<'_>) -> Result<u8, CliError> {
    let BudgetCommand::Get(args) = command;
    let agent_id = match (&args.agent, &args.mandate) {
        (Some(agent), _) => find(agent, session).await?,
        (None, Some(_)) => String::new(),
        (None, None) => find_or_own(None, session).await?,
    };
    let mandate_id = args.mandate.unwrap_or_default();
    let request = v1::GetBudgetRequest { agent_id, mandate_id };
    let answer = session.budget().get_budget(request).await?.into_inner();
    if session.json(&answer)? {
        return Ok(0);
    }
    let status = Word::<v1::MandateStatus>::from_number(answer.status);
    let mandate = format!("{} ({}, {status})", answer.mandate_id, answer.mandate_name);
    session.output.pairs(&[("mandate", mandate)])?;
    let budget = answer.budget.unwrap_or_default();
    session.output.pairs(&budget_pairs(&budget))?;
    let until = answer.valid_until.map(|until| time(Some(&until))).unwrap_or_default();
    session.output.pairs(&[("valid until", until)])?;
    if answer.caps.is_empty() {
        return Ok(0);
    }
    let amount = |minor| money::show(minor, &budget.currency);
    let rows = answer.caps.into_iter().map(|cap| {
        let resets = time(cap.resets_at.as_ref());
        let (total, spent) = (amount(cap.total), amount(cap.spent));
        [cap.rule_type, cap.subject, total, spent, amount(cap.remaining), resets]
    });
    session.output.line("")?;
    let columns = ["CAP", "OF", "TOTAL", "SPENT", "REMAINING", "RESETS"];
    session.output.table(columns, rows.collect())?;
    Ok(0)
}

/// A budget as names and values.
pub(super) fn budget_pairs(budget: &v1::BudgetStatus) -> [(&'static str, String); 7] {
    let amount = |minor| money::show(minor, &budget.currency);
    let held = if budget.held == 0 { String::new() } else { amount(budget.held) };
    let over = if budget.over_committed {
        "the limit is below what is already spent; nothing passes until headroom returns"
    } else {
        ""
    };
    [
        ("total", amount(budget.total)),
        ("spent", amount(budget.spent)),
        ("held", held),
        ("remaining", amount(budget.remaining)),
        ("per transaction", amount(budget.per_transaction)),
        ("resets", budget.resets_at.as_ref().map(|at| time(Some(at))).unwrap_or_default()),
        ("note", over.to_owned()),
    ]
}
