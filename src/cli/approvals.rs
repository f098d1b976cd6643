//! `quetra approvals …`: what waits for a person, and the person's answer.
//!
//! Not here: withdrawing a request, which is voiding its transaction (`transactions`).

use clap::{Args, Subcommand};

use super::agents::find;
use super::args::{PageArgs, word};
use super::client::{Session, collect};
use super::error::CliError;
use super::output::time;
use super::{budget, money, spend};
use crate::forms::Word;
use crate::proto::v1;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum ApprovalsCommand {
    /// List requests: those that wait first, then the answered ones
    List(ListArgs),
    /// Show one request with everything needed to judge it
    Show {
        /// `tx_…`
        id: String,
    },
    /// Say yes: with the last approval the money is spent
    Approve(AnswerArgs),
    /// Say no: the money returns
    Deny(AnswerArgs),
}

/// Which requests.
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
    /// Only in this state, such as `pending_approval`, denied, timeout
    #[arg(long, value_parser = word::<v1::TransactionState>)]
    state: Option<Word<v1::TransactionState>>,
}

/// An answer to a request.
#[derive(Debug, Args)]
pub(super) struct AnswerArgs {
    /// `tx_…`
    id: String,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    comment: String,
    /// What `show` printed as its digest; refused if the request is another one
    #[arg(long, value_name = "DIGEST", default_value = "", hide_default_value = true)]
    request_hash: String,
}

/// Runs one of them.
pub(super) async fn run(
    command: ApprovalsCommand,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    let mut client = session.approvals();
    match command {
        ApprovalsCommand::List(args) => return list(args, session).await,
        ApprovalsCommand::Show { id } => {
            let request = v1::GetApprovalRequest { transaction_id: id };
            let answer = client.get_approval(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.approval, session)?;
            }
        }
        ApprovalsCommand::Approve(args) => {
            let AnswerArgs { id: transaction_id, comment, request_hash } = args;
            let request = v1::ApproveTransactionRequest { transaction_id, comment, request_hash };
            let answer = client.approve_transaction(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.approval, session)?;
            }
        }
        ApprovalsCommand::Deny(args) => {
            let AnswerArgs { id: transaction_id, comment, request_hash } = args;
            let request = v1::DenyTransactionRequest { transaction_id, comment, request_hash };
            let answer = client.deny_transaction(request).await?.into_inner();
            if !session.json(&answer)? {
                show(answer.approval, session)?;
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
    let filter = v1::ListApprovalsRequest {
        agent_id,
        mandate_id: args.mandate.unwrap_or_default(),
        state: args.state.unwrap_or_default().number(),
        page: None,
    };
    let mut client = session.approvals();
    let found = collect(args.page.count(), async |page| {
        let request = v1::ListApprovalsRequest { page: Some(page), ..filter.clone() };
        let answer = client.list_approvals(request).await?.into_inner();
        Ok((answer.approvals, answer.next_page_token))
    })
    .await?;
    let answer = v1::ListApprovalsResponse {
        approvals: found.items,
        next_page_token: found.next_page_token,
    };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.approvals.into_iter().map(|approval| {
        let progress = progress(&approval);
        let transaction = approval.transaction.unwrap_or_default();
        [
            transaction.id,
            Word::<v1::TransactionState>::from_number(transaction.state).to_string(),
            money::show(transaction.amount, &transaction.currency),
            transaction.vendor_canonical,
            approval.agent_name,
            progress,
            time(approval.expires_at.as_ref()),
        ]
    });
    let columns = ["ID", "STATE", "AMOUNT", "VENDOR", "AGENT", "APPROVALS", "UNTIL"];
    session.output.table(columns, rows.collect())?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

fn progress(approval: &v1::Approval) -> String {
    format!("{} of {}", approval.grants.len(), approval.approvals_required)
}

fn show(approval: Option<v1::Approval>, session: &mut Session<'_>) -> Result<(), CliError> {
    let approval = approval.unwrap_or_default();
    let progress = progress(&approval);
    let transaction = approval.transaction.unwrap_or_default();
    let amount = |minor| money::show(minor, &transaction.currency);
    let until = approval.expires_at.as_ref().map(|at| time(Some(at))).unwrap_or_default();
    let approvers = match approval.approvers.is_empty() {
        true => "every administrator".to_owned(),
        false => approval.approvers.join(", "),
    };
    session.output.pairs(&[
        ("id", transaction.id.clone()),
        ("state", Word::<v1::TransactionState>::from_number(transaction.state).to_string()),
        ("agent", format!("{} ({})", approval.agent_name, transaction.agent_id)),
        ("which is for", approval.agent_description),
        ("amount", amount(transaction.amount)),
        ("vendor", transaction.vendor_canonical.clone()),
        ("as written", transaction.vendor.clone()),
        ("category", transaction.category.clone()),
        ("purpose", transaction.description.clone()),
        ("mandate", format!("{} ({})", approval.mandate_name, transaction.mandate_id)),
        ("asked because", format!("above {}", amount(approval.threshold))),
        ("approvers", approvers),
        ("approvals", progress),
        ("until", until),
        ("decided", time(transaction.created_at.as_ref())),
        ("digest", approval.request_hash),
    ])?;
    for (word, statement) in approval
        .grants
        .iter()
        .map(|grant| ("approved", grant))
        .chain(approval.denial.iter().map(|denial| ("denied", denial)))
    {
        let when = time(statement.created_at.as_ref());
        let who = format!("{when} by {}", statement.api_key_id);
        session.output.pairs(&[(word, who), ("comment", statement.comment.clone())])?;
    }
    spend::rules(transaction.rule_results, session.output)?;
    if let Some(budget) = approval.budget_after {
        session.output.line("")?;
        session.output.line("the budget, if it is approved")?;
        session.output.pairs(&budget::budget_pairs(&budget))?;
    }
    Ok(())
}
