//! `TransactionsService`: what becomes of a decision, and the record of it.
//!
//! `transactions/resolve.rs` has settling, voiding and refunding, `counters.rs` where money goes
//! back to, `lists.rs` reading the record. Not here: making decisions (`evaluate`).

mod counters;
mod lists;
mod resolve;

use quetra::proto::v1;
use tonic::{Response, Status};

use crate::harness::{Clients, Server, ask, budget};

async fn start() -> (Server, Clients) {
    let server = Server::start().await;
    let admin = server.admin().await;
    (server, admin)
}

/// Every spend above 500 waits for a person.
fn approval() -> v1::Rule {
    let rule = v1::ApprovalRule {
        threshold: 500,
        approver_roles: vec![],
        timeout_minutes: 60,
        approvals_required: 1,
    };
    v1::Rule { kind: Some(v1::rule::Kind::Approval(rule)) }
}

/// Short names for the calls of these tests: a transaction and its mandate's budget.
impl Clients {
    async fn settle(
        &mut self,
        id: &str,
        amount: i64,
    ) -> Result<Response<v1::SettleTransactionResponse>, Status> {
        let request =
            v1::SettleTransactionRequest { transaction_id: id.to_owned(), amount: Some(amount) };
        self.transactions.settle_transaction(request).await
    }

    async fn void(&mut self, id: &str) -> Result<Response<v1::VoidTransactionResponse>, Status> {
        let request = v1::VoidTransactionRequest { transaction_id: id.to_owned() };
        self.transactions.void_transaction(request).await
    }

    async fn refund(
        &mut self,
        id: &str,
        amount: Option<i64>,
    ) -> Result<Response<v1::RefundTransactionResponse>, Status> {
        let request = v1::RefundTransactionRequest { transaction_id: id.to_owned(), amount };
        self.transactions.refund_transaction(request).await
    }

    async fn read(&mut self, id: &str) -> v1::Transaction {
        let request =
            v1::GetTransactionRequest { transaction_id: id.to_owned(), ..Default::default() };
        let found = self.transactions.get_transaction(request).await.unwrap().into_inner();
        found.transaction.unwrap()
    }

    /// Spent and held of an agent's budget.
    async fn gone(&mut self, agent_id: &str) -> (i64, i64) {
        let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
        let status = self.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
        assert_eq!(status.remaining, status.total - status.spent - status.held);
        (status.spent, status.held)
    }

    /// A transaction of this amount, in whatever state it is decided.
    async fn transaction(&mut self, agent_id: &str, amount: i64) -> String {
        self.spend(ask(agent_id, amount)).await.transaction_id
    }
}

/// An agent with 1,000, where more than 500 at once waits for a person.
async fn spender(admin: &mut Clients) -> String {
    admin.agent_with_mandate(budget(1_000, 600), vec![approval()]).await.0
}
