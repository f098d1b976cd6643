//! The end of a hold, settlements after it, and settlements above what was approved.
//!
//! Not here: requests for approval (`approvals`).

use std::time::Duration;

use jiff::SignedDuration;
use quetra::clock::Clock;
use quetra::proto::v1::{self, TransactionState as State};
use tonic::{Code, Response, Status};

use super::{FAST, STRICT, start};
use crate::harness::{Clients, Engine, ask, budget, on_all, refused};

on_all! {
    an_approval_that_is_not_settled_in_time_returns_by_itself;
    a_late_settlement_is_recorded_marked_and_charged;
    more_is_settled_only_within_the_tolerance_and_the_budget;
}

/// Short names for the calls of these tests.
impl Clients {
    async fn settle_at(
        &mut self,
        id: &str,
        amount: i64,
    ) -> Result<Response<v1::SettleTransactionResponse>, Status> {
        let request =
            v1::SettleTransactionRequest { transaction_id: id.to_owned(), amount: Some(amount) };
        self.transactions.settle_transaction(request).await
    }

    /// Waits until a server has written down that a hold is over.
    pub(super) async fn until_ended(&mut self, id: &str) -> v1::Transaction {
        for _ in 0..200 {
            let found = self.now(id).await;
            if found.state() != State::Approved {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody ended the hold");
    }
}

fn holding(minutes: i32) -> v1::Budget {
    v1::Budget { hold_minutes: Some(minutes), ..budget(1_000, 1_000) }
}

async fn an_approval_that_is_not_settled_in_time_returns_by_itself(engine: Engine) {
    let (server, mut admin, clock) = start(engine).await;
    let (agent_id, _) = admin.agent_with_mandate(holding(30), vec![]).await;
    let begun = clock.now();
    let at = |seconds: i64| begun + SignedDuration::from_secs(seconds);
    let expires = |answer: &v1::EvaluateResponse| {
        let at = answer.expires_at.unwrap();
        at.seconds - answer.decided_at.unwrap().seconds
    };
    let plain = admin.spend(ask(&agent_id, 100)).await;
    assert_eq!(expires(&plain), 1_800);
    let shorter = v1::EvaluateRequest { hold_seconds: Some(60), ..ask(&agent_id, 200) };
    let shorter = admin.spend(shorter).await;
    assert_eq!(expires(&shorter), 60);
    // A request can shorten the mandate's time, never lengthen it.
    let longer = v1::EvaluateRequest { hold_seconds: Some(7_200), ..ask(&agent_id, 400) };
    let longer = admin.spend(longer).await;
    assert_eq!(expires(&longer), 1_800);
    clock.set(at(59));
    admin.settle_at(&plain.transaction_id, 50).await.unwrap();
    clock.set(at(60));
    let void = v1::VoidTransactionRequest { transaction_id: shorter.transaction_id.clone() };
    let void = admin.transactions.void_transaction(void).await;
    assert_eq!(refused(void, "TRANSACTION_WRONG_STATE").says("state"), "expired");
    let ended = admin.until_ended(&shorter.transaction_id).await;
    assert_eq!((ended.state(), ended.expires_at), (State::Expired, None));
    assert_eq!(admin.committed(&agent_id).await, (450, 0));
    clock.set(at(1_800));
    assert_eq!(admin.until_ended(&longer.transaction_id).await.state(), State::Expired);
    assert_eq!(admin.now(&plain.transaction_id).await.state(), State::Settled);
    assert_eq!(admin.committed(&agent_id).await, (50, 0));
    server.stop().await;
}

async fn a_late_settlement_is_recorded_marked_and_charged(engine: Engine) {
    let (server, mut admin, clock) = start(engine).await;
    let (agent_id, _) = admin.agent_with_mandate(holding(1), vec![]).await;
    let swept = admin.spend(ask(&agent_id, 600)).await.transaction_id;
    clock.set(clock.now() + SignedDuration::from_secs(60));
    admin.until_ended(&swept).await;
    let other = admin.spend(ask(&agent_id, 900)).await.transaction_id;
    assert_eq!(admin.committed(&agent_id).await, (900, 0));
    // The money has moved, so it is charged although there is no room for it.
    let late = admin.settle_at(&swept, 500).await.unwrap().into_inner();
    let transaction = late.transaction.clone().unwrap();
    assert_eq!((transaction.state(), transaction.settled_late), (State::Settled, true));
    let status = late.budget.clone().unwrap();
    assert_eq!((status.spent, status.over_committed), (1_400, true));
    assert_eq!(admin.settle_at(&swept, 500).await.unwrap().into_inner(), late);
    refused(admin.settle_at(&swept, 501).await, "TRANSACTION_WRONG_STATE");
    // Late by the clock alone is as late.
    clock.set(clock.now() + SignedDuration::from_secs(60));
    let late = admin.settle_at(&other, 900).await.unwrap().into_inner().transaction.unwrap();
    assert!(late.settled_late);
    let refund = v1::RefundTransactionRequest { transaction_id: other, amount: Some(400) };
    admin.transactions.refund_transaction(refund).await.unwrap();
    assert_eq!(admin.committed(&agent_id).await, (1_000, 0));
    let next = admin.spend(ask(&agent_id, 1)).await;
    assert_eq!(next.decision(), v1::Decision::Rejected);
    server.stop().await;
}

async fn more_is_settled_only_within_the_tolerance_and_the_budget(engine: Engine) {
    let (server, mut admin, _) = start(engine).await;
    let limits = v1::Budget {
        settle_tolerance: Some(50),
        settle_tolerance_bps: Some(1_000),
        ..budget(1_000, 1_000)
    };
    let (agent_id, _) = admin.agent_with_mandate(limits, vec![]).await;
    // Ten percent of 200, as that is less than 50.
    let id = admin.spend(ask(&agent_id, 200)).await.transaction_id;
    let answer = refused(admin.settle_at(&id, 221).await, "AMOUNT_EXCEEDS_TRANSACTION");
    assert_eq!(answer.says("available"), "220");
    let settled = admin.settle_at(&id, 220).await.unwrap().into_inner();
    assert_eq!(settled.budget.as_ref().unwrap().spent, 220);
    assert_eq!(settled.transaction.as_ref().unwrap().settled_amount, Some(220));
    assert_eq!(admin.settle_at(&id, 220).await.unwrap().into_inner(), settled);
    let over = v1::RefundTransactionRequest { transaction_id: id.clone(), amount: Some(221) };
    let over = admin.transactions.refund_transaction(over).await;
    assert_eq!(refused(over, "AMOUNT_EXCEEDS_TRANSACTION").says("available"), "220");
    let all = v1::RefundTransactionRequest { transaction_id: id.clone(), amount: None };
    admin.transactions.refund_transaction(all).await.unwrap();
    let refunded = admin.now(&id).await;
    assert_eq!((refunded.settled_amount, refunded.refunded_amount), (Some(220), Some(220)));
    // What is above the approved amount must fit what is left.
    let first = admin.spend(ask(&agent_id, 600)).await.transaction_id;
    let second = admin.spend(ask(&agent_id, 390)).await.transaction_id;
    let answer = refused(admin.settle_at(&first, 611).await, "STANDING_LIMIT");
    assert_eq!(
        (answer.code, answer.says("reason")),
        (Code::FailedPrecondition, "BUDGET_EXHAUSTED")
    );
    assert_eq!(admin.now(&first).await.state(), State::Approved);
    let void = v1::VoidTransactionRequest { transaction_id: second };
    admin.transactions.void_transaction(void).await.unwrap();
    admin.settle_at(&first, 611).await.unwrap();
    assert_eq!(admin.committed(&agent_id).await, (611, 0));
    server.stop().await;
}
