//! `TransactionsService`: translation only.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::access::caller;
use super::convert::{decision, event, id, transaction};
use super::status::status_of;
use super::{Replies, replies};
use crate::domain::ledger::Act;
use crate::engine::access::Principal;
use crate::engine::watch::TransactionWatch;
use crate::engine::{Engine, EngineError};
use crate::proto::v1;
use crate::proto::v1::transactions_service_server::TransactionsService;

/// Serves `TransactionsService`.
#[derive(Clone, Debug)]
pub struct TransactionsApi {
    engine: Arc<Engine>,
}

impl TransactionsApi {
    /// On an engine.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn resolve(
        &self,
        caller: &Principal,
        transaction_id: &str,
        act: Act,
    ) -> Result<(Option<v1::Transaction>, Option<v1::BudgetStatus>), EngineError> {
        let id = id("transaction_id", transaction_id)?;
        let (decisive, budget) = self.engine.resolve(caller, id, act).await?;
        Ok((Some(transaction::transaction(decisive)), budget.map(decision::budget)))
    }
}

#[tonic::async_trait]
impl TransactionsService for TransactionsApi {
    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        let caller = caller(&request)?;
        let ask = transaction::list(request.into_inner()).map_err(status_of)?;
        let (page, total) = self.engine.transactions(&caller, &ask).await.map_err(status_of)?;
        Ok(Response::new(v1::ListTransactionsResponse {
            transactions: page.items.into_iter().map(transaction::transaction).collect(),
            next_page_token: page.next,
            total,
        }))
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        let caller = caller(&request)?;
        let id = id("transaction_id", &request.get_ref().transaction_id).map_err(status_of)?;
        let wait = u64::try_from(request.get_ref().wait_seconds).unwrap_or(0);
        let found = self.engine.awaited(&caller, id, Duration::from_secs(wait)).await;
        let found = found.map_err(status_of)?;
        let transaction = Some(transaction::transaction(found));
        Ok(Response::new(v1::GetTransactionResponse { transaction }))
    }

    type WatchTransactionsStream = Replies<v1::WatchTransactionsResponse>;

    async fn watch_transactions(
        &self,
        request: Request<v1::WatchTransactionsRequest>,
    ) -> Result<Response<Self::WatchTransactionsStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let about = event::about(&request).map_err(status_of)?;
        let watch = self.engine.watch_transactions(&caller, about, &request.resume_token);
        let watch = watch.await.map_err(status_of)?;
        Ok(Response::new(replies(watch, |mut watch: TransactionWatch| async move {
            let next = watch.next().await.map(|next| Some(event::told(next)));
            (watch, next)
        })))
    }

    async fn settle_transaction(
        &self,
        request: Request<v1::SettleTransactionRequest>,
    ) -> Result<Response<v1::SettleTransactionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let act = Act::Settle(request.amount.unwrap_or(0));
        let (transaction, budget) =
            self.resolve(&caller, &request.transaction_id, act).await.map_err(status_of)?;
        Ok(Response::new(v1::SettleTransactionResponse { transaction, budget }))
    }

    async fn void_transaction(
        &self,
        request: Request<v1::VoidTransactionRequest>,
    ) -> Result<Response<v1::VoidTransactionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let (transaction, budget) =
            self.resolve(&caller, &request.transaction_id, Act::Void).await.map_err(status_of)?;
        Ok(Response::new(v1::VoidTransactionResponse { transaction, budget }))
    }

    async fn refund_transaction(
        &self,
        request: Request<v1::RefundTransactionRequest>,
    ) -> Result<Response<v1::RefundTransactionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let act = Act::Refund(request.amount);
        let (transaction, budget) =
            self.resolve(&caller, &request.transaction_id, act).await.map_err(status_of)?;
        Ok(Response::new(v1::RefundTransactionResponse { transaction, budget }))
    }
}
