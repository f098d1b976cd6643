//! `quetra transactions …`: the record of every decision, and what became of it.
//!
//! Not here: new decisions (`spend`).

use clap::{Args, Subcommand};

use super::agents::find;
use super::args::{PageArgs, time as parse_time, word};
use super::client::{Session, collect};
use super::error::CliError;
use super::output::{dash, time};
use super::{budget, money, spend};
use crate::forms::{Time, Word};
use crate::proto::v1;

/// What people are told of a late settlement.
const LATE: &str = "settled after its hold had expired";

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum TransactionsCommand {
    /// List transactions, newest first
    List(Box<ListArgs>),
    /// Show one transaction with every rule's result
    Get {
        /// `tx_…`
        id: String,
        /// If it waits for a person, wait for the answer so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true)]
        #[arg(value_parser = clap::value_parser!(i32).range(0..=30))]
        wait: i32,
    },
    /// State what was really spent; the rest returns to the budget
    Settle {
        /// `tx_…`
        id: String,
        /// Minor units, at most the approved amount and the mandate's tolerance
        #[arg(long, value_parser = money::parse_settled)]
        amount: i64,
    },
    /// Give everything back, or withdraw a request for approval: nothing was bought
    Void {
        /// `tx_…`
        id: String,
    },
    /// Give back what was settled, wholly or in part
    Refund {
        /// `tx_…`
        id: String,
        /// Minor units; all of it if not given
        #[arg(long, value_parser = money::parse_refunded)]
        amount: Option<i64>,
    },
}

/// Which transactions.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
    /// Only this agent's, by id or name
    #[arg(long)]
    agent: Option<String>,
    /// Only under this mandate
    #[arg(long, value_name = "ID")]
    mandate: Option<String>,
    /// Only with this decision, such as approved or rejected
    #[arg(long, value_parser = word::<v1::Decision>)]
    decision: Option<Word<v1::Decision>>,
    /// Only in this state, such as approved, settled, voided
    #[arg(long, value_parser = word::<v1::TransactionState>)]
    state: Option<Word<v1::TransactionState>>,
    /// Only decided at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Time>,
    /// Only decided before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Time>,
}

/// Runs one of them.
pub(super) async fn run(
    command: TransactionsCommand,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    match command {
        TransactionsCommand::List(args) => return list(*args, session).await,
        TransactionsCommand::Get { id, wait } => {
            let request = v1::GetTransactionRequest { transaction_id: id, wait_seconds: wait };
            let answer = session.transactions().get_transaction(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.transaction, None, session)?;
            }
        }
        TransactionsCommand::Settle { id, amount } => {
            let request = v1::SettleTransactionRequest { transaction_id: id, amount: Some(amount) };
            let answer = session.transactions().settle_transaction(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.transaction, answer.budget, session)?;
            }
        }
        TransactionsCommand::Void { id } => {
            let request = v1::VoidTransactionRequest { transaction_id: id };
            let answer = session.transactions().void_transaction(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.transaction, answer.budget, session)?;
            }
        }
        TransactionsCommand::Refund { id, amount } => {
            let request = v1::RefundTransactionRequest { transaction_id: id, amount };
            let answer = session.transactions().refund_transaction(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.transaction, answer.budget, session)?;
            }
        }
    }
    Ok(0)
}

async fn list(args: ListArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let agent_id = match &args.agent {
        Some(agent) => find(agent, session).await?,
        None => String::new(),
    };
    let filter = v1::ListTransactionsRequest {
        agent_id,
        mandate_id: args.mandate.unwrap_or_default(),
        decision: args.decision.unwrap_or_default().number(),
        state: args.state.unwrap_or_default().number(),
        since: args.since.map(Time::to_proto),
        until: args.until.map(Time::to_proto),
        ..Default::default()
    };
    let mut client = session.transactions();
    let found = collect(args.page.count(), async |page| {
        let request = v1::ListTransactionsRequest { page: Some(page), ..filter.clone() };
        let answer = client.list_transactions(request).await?.into_inner();
        Ok((answer.transactions, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListTransactionsResponse {
        transactions: found.items,
        next_page_token: found.next_page_token,
        total: None,
    };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.transactions.into_iter().map(|transaction| {
        [
            transaction.id,
            time(transaction.created_at.as_ref()),
            Word::<v1::Decision>::from_number(transaction.decision).to_string(),
            Word::<v1::TransactionState>::from_number(transaction.state).to_string(),
            money::show(transaction.amount, &transaction.currency),
            transaction.vendor,
            dash(transaction.category),
        ]
    });
    let columns = ["ID", "DECIDED", "DECISION", "STATE", "AMOUNT", "VENDOR", "CATEGORY"];
    session.output.table(columns, rows.collect())?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

fn show(
    transaction: Option<v1::Transaction>,
    budget: Option<v1::BudgetStatus>,
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    let transaction = transaction.unwrap_or_default();
    let amount = |minor| money::show(minor, &transaction.currency);
    let protocol = Word::<v1::Protocol>::specified(transaction.protocol);
    let mandate = if transaction.mandate_id.is_empty() {
        String::new()
    } else {
        format!("{} version {}", transaction.mandate_id, transaction.mandate_version)
    };
    session.output.pairs(&[
        ("id", transaction.id.clone()),
        ("decision", Word::<v1::Decision>::from_number(transaction.decision).to_string()),
        ("state", Word::<v1::TransactionState>::from_number(transaction.state).to_string()),
        ("amount", amount(transaction.amount)),
        ("settled", transaction.settled_amount.map(amount).unwrap_or_default()),
        ("note", if transaction.settled_late { LATE.to_owned() } else { String::new() }),
        ("denied because", transaction.denial_comment.clone()),
        ("until", transaction.expires_at.as_ref().map(|at| time(Some(at))).unwrap_or_default()),
        ("refunded", transaction.refunded_amount.map(amount).unwrap_or_default()),
        ("vendor", transaction.vendor.clone()),
        ("category", transaction.category.clone()),
        ("description", transaction.description.clone()),
        ("protocol", protocol.map(|word| word.to_string()).unwrap_or_default()),
        ("agent", transaction.agent_id.clone()),
        ("mandate", mandate),
        ("decided", time(transaction.created_at.as_ref())),
        ("key", transaction.idempotency_key.clone()),
        ("explanation", transaction.explanation.clone()),
    ])?;
    spend::rules(transaction.rule_results, session.output)?;
    if let Some(budget) = budget {
        session.output.line("")?;
        session.output.pairs(&budget::budget_pairs(&budget))?;
    }
    Ok(())
}
