//! `quetra evaluate` and `quetra can-spend`: asking for a spend as an agent would.
//!
//! Not here: the record afterwards (`transactions`). The exit code tells the decision, so that a
//! script can act on it.

use clap::Args;

use super::agents::find_or_own;
use super::args::{AGENT_HELP, ClientArgs, pair, word};
use super::budget::budget_pairs;
use super::client::{Actor, Session};
use super::error::CliError;
use super::output::{Output, time};
use super::{Ask, money};
use crate::forms::Word;
use crate::proto::v1;

/// The decision was a rejection.
const EXIT_REJECTED: u8 = 3;
/// A person has to decide.
const EXIT_PENDING: u8 = 4;

/// A spend to decide.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    spend: SpendArgs,
    /// The same key and spend are charged once; made up if not given
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Give the money back by itself if it is not settled within so many seconds
    #[arg(long, value_name = "SECONDS")]
    hold_seconds: Option<i32>,
}

/// A spend to ask about.
#[derive(Debug, Args)]
pub(super) struct CanSpendArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    spend: SpendArgs,
}

/// What would be bought.
#[derive(Debug, Args)]
pub(super) struct SpendArgs {
    /// Minor units: 200 is $2.00
    #[arg(long, value_name = "MINOR", value_parser = money::parse)]
    amount: i64,
    /// A host name or a plain name
    #[arg(long)]
    vendor: String,
    /// ISO 4217 code, or USDC
    #[arg(long, default_value = "USD", value_parser = money::parse_currency)]
    currency: String,
    /// What kind of thing it is
    #[arg(long, default_value = "", hide_default_value = true)]
    category: String,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// How the money would move, such as direct, x402 or acp
    #[arg(long, value_parser = word::<v1::Protocol>)]
    protocol: Option<Word<v1::Protocol>>,
    #[arg(long, help = AGENT_HELP)]
    agent: Option<String>,
    /// The mandate that must judge
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    mandate: String,
    /// A label that custom rules can read; give it again for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

/// A spend, and what belongs to it only when it is decided.
pub(super) struct Decided {
    spend: SpendArgs,
    key: Option<String>,
    hold_seconds: Option<i32>,
}

/// Whose key of the credentials file is used: the agent's own can spend for no other that is named.
const fn actor(spend: &SpendArgs) -> Actor {
    if spend.agent.is_some() { Actor::Operator } else { Actor::Agent }
}

impl From<EvaluateArgs> for Ask<Decided> {
    fn from(args: EvaluateArgs) -> Self {
        let EvaluateArgs { client, spend, idempotency_key: key, hold_seconds } = args;
        let actor = actor(&spend);
        Self { client, actor, command: Decided { spend, key, hold_seconds } }
    }
}

impl From<CanSpendArgs> for Ask<SpendArgs> {
    fn from(args: CanSpendArgs) -> Self {
        Self { client: args.client, actor: actor(&args.spend), command: args.spend }
    }
}

/// Decides, charges and records.
pub(super) async fn evaluate(
    Decided { spend, key, hold_seconds }: Decided,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    let idempotency_key = match key {
        Some(key) => key,
        None => new_key()?,
    };
    let asked = money::show(spend.amount, &spend.currency);
    let asked = format!("{asked} at {}", spend.vendor);
    let request = v1::EvaluateRequest {
        agent_id: find_or_own(spend.agent.as_deref(), session).await?,
        amount: Some(spend.amount),
        currency: spend.currency,
        vendor: spend.vendor,
        category: spend.category,
        description: spend.description,
        protocol: spend.protocol.unwrap_or_default().number(),
        idempotency_key: idempotency_key.clone(),
        metadata: spend.metadata.into_iter().collect(),
        mandate_id: spend.mandate,
        hold_seconds,
    };
    let answer = session.evaluate().evaluate(request).await?.into_inner();
    let decision = Word::<v1::Decision>::from_number(answer.decision);
    if session.json(&answer)? {
        return Ok(exit_code(decision));
    }
    let replayed = if answer.replayed { " (already decided; nothing was charged now)" } else { "" };
    let verdict = decision.as_str().to_uppercase();
    session.output.line(&format!("{verdict}  {asked}{replayed}"))?;
    session.output.line(&answer.explanation)?;
    session.output.line("")?;
    session.output.pairs(&[
        ("transaction", answer.transaction_id),
        ("mandate", answer.mandate_id),
        ("key", idempotency_key),
        ("state", Word::<v1::TransactionState>::from_number(answer.state).to_string()),
        ("until", answer.expires_at.as_ref().map(|at| time(Some(at))).unwrap_or_default()),
    ])?;
    rules(answer.rule_results, session.output)?;
    budget(answer.budget, session.output)?;
    Ok(exit_code(decision))
}

/// Asks without any effect.
pub(super) async fn can_spend(spend: SpendArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let request = v1::CanSpendRequest {
        agent_id: find_or_own(spend.agent.as_deref(), session).await?,
        amount: Some(spend.amount),
        currency: spend.currency,
        vendor: spend.vendor,
        category: spend.category,
        description: spend.description,
        protocol: spend.protocol.unwrap_or_default().number(),
        idempotency_key: String::new(),
        metadata: spend.metadata.into_iter().collect(),
        mandate_id: spend.mandate,
    };
    let answer = session.evaluate().can_spend(request).await?.into_inner();
    let decision = Word::<v1::Decision>::from_number(answer.decision);
    if session.json(&answer)? {
        return Ok(exit_code(decision));
    }
    session.output.line(&format!("would be {decision}"))?;
    session.output.line(&answer.explanation)?;
    rules(answer.rule_results, session.output)?;
    budget(answer.budget, session.output)?;
    Ok(exit_code(decision))
}

/// An answer that says neither approved nor why not approves nothing.
fn exit_code(decision: Word<v1::Decision>) -> u8 {
    match decision.0 {
        v1::Decision::Approved => 0,
        v1::Decision::Rejected => EXIT_REJECTED,
        v1::Decision::PendingApproval => EXIT_PENDING,
        v1::Decision::Unspecified => 1,
    }
}

/// Every rule's result, as a table.
pub(super) fn rules(results: Vec<v1::RuleResult>, output: &mut Output) -> Result<(), CliError> {
    if results.is_empty() {
        return Ok(());
    }
    let rows = results.into_iter().map(|result| {
        let passed = if result.passed { "pass" } else { "FAIL" };
        [result.rule_type, passed.to_owned(), result.detail]
    });
    output.line("")?;
    output.table(["RULE", "RESULT", "DETAIL"], rows.collect())
}

fn budget(budget: Option<v1::BudgetStatus>, output: &mut Output) -> Result<(), CliError> {
    let Some(budget) = budget else { return Ok(()) };
    output.line("")?;
    output.pairs(&budget_pairs(&budget))
}

/// Each run is a new ask, unless the caller says otherwise.
fn new_key() -> Result<String, CliError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| CliError::Refused("the system gives no random numbers".to_owned()))?;
    Ok(format!("cli-{}", hex::encode(bytes)))
}
