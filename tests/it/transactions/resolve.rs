//! Settle, void and refund: each once, each safe to repeat, each only where it belongs.
//!
//! Not here: counters other than the budget, and other periods (`counters`).

use quetra::proto::v1::TransactionState as State;
use tonic::Code;

use super::{spender, start};
use crate::harness::{Clients, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_gives_back_what_was_not_spent() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    for (approved, settled) in [(100, 60), (100, 100), (100, 1)] {
        let before = admin.gone(&agent).await.0;
        let id = admin.transaction(&agent, approved).await;
        let first = admin.settle(&id, settled).await.unwrap().into_inner();
        let transaction = first.transaction.clone().unwrap();
        assert_eq!(transaction.state(), State::Settled);
        assert_eq!(transaction.settled_amount, Some(settled));
        assert_eq!((transaction.amount, transaction.refunded_amount), (approved, None));
        assert_eq!(first.budget.unwrap().spent, before + settled);
        assert_eq!(admin.gone(&agent).await, (before + settled, 0));
        // The decision stays what it was.
        assert_eq!(transaction.decision(), quetra::proto::v1::Decision::Approved);
        assert_eq!((transaction.budget_before, transaction.budget_after), (before, before + 100));
        assert_eq!(admin.read(&id).await, transaction);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_can_be_settled_than_was_approved() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    let id = admin.transaction(&agent, 100).await;
    let answer = refused(admin.settle(&id, 101).await, "AMOUNT_EXCEEDS_TRANSACTION");
    assert_eq!((answer.code, answer.says("available")), (Code::FailedPrecondition, "100"));
    for amount in [0, -1, 1_000_000_000_001] {
        let answer = refused(admin.settle(&id, amount).await, "INVALID_FIELDS");
        assert_eq!(answer.fields, ["amount"], "{amount}");
    }
    let request =
        quetra::proto::v1::SettleTransactionRequest { transaction_id: id.clone(), amount: None };
    let absent = admin.transactions.settle_transaction(request).await;
    assert_eq!(refused(absent, "INVALID_FIELDS").fields, ["amount"]);
    assert_eq!(admin.read(&id).await.state(), State::Approved);
    assert_eq!(admin.gone(&agent).await, (100, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_settlement_again_answers_the_same_and_another_is_refused() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    let id = admin.transaction(&agent, 100).await;
    let first = admin.settle(&id, 60).await.unwrap().into_inner();
    let again = admin.settle(&id, 60).await.unwrap().into_inner();
    assert_eq!(again, first);
    for amount in [59, 61, 100] {
        let answer = refused(admin.settle(&id, amount).await, "TRANSACTION_WRONG_STATE");
        assert_eq!((answer.says("state"), answer.says("wanted")), ("settled", "settled"));
    }
    assert_eq!(admin.gone(&agent).await, (60, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_gives_everything_back_once() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    let id = admin.transaction(&agent, 100).await;
    let kept = admin.transaction(&agent, 30).await;
    let first = admin.void(&id).await.unwrap().into_inner();
    assert_eq!(first.transaction.as_ref().unwrap().state(), State::Voided);
    assert_eq!(first.budget.as_ref().unwrap().spent, 30);
    assert_eq!(admin.void(&id).await.unwrap().into_inner(), first);
    assert_eq!(admin.gone(&agent).await, (30, 0));
    assert_eq!(admin.read(&kept).await.state(), State::Approved);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_gives_back_all_of_it_or_a_part_once() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    for (amount, refunded) in [(None, 60), (Some(60), 60), (Some(20), 20), (Some(1), 1)] {
        let before = admin.gone(&agent).await.0;
        let id = admin.transaction(&agent, 100).await;
        admin.settle(&id, 60).await.unwrap();
        let answer = refused(admin.refund(&id, Some(61)).await, "AMOUNT_EXCEEDS_TRANSACTION");
        assert_eq!(answer.says("available"), "60");
        for wrong in [0, -1] {
            let answer = refused(admin.refund(&id, Some(wrong)).await, "INVALID_FIELDS");
            assert_eq!(answer.fields, ["amount"]);
        }
        let first = admin.refund(&id, amount).await.unwrap().into_inner();
        let transaction = first.transaction.clone().unwrap();
        assert_eq!(transaction.state(), State::Refunded);
        assert_eq!(transaction.settled_amount, Some(60));
        assert_eq!(transaction.refunded_amount, Some(refunded));
        assert_eq!(admin.refund(&id, amount).await.unwrap().into_inner(), first);
        let answer = refused(admin.refund(&id, Some(2)).await, "TRANSACTION_WRONG_STATE");
        assert_eq!(answer.says("state"), "refunded");
        assert_eq!(admin.gone(&agent).await, (before + 60 - refunded, 0));
    }
    server.stop().await;
}

/// A transaction in this state.
async fn in_state(admin: &mut Clients, agent: &str, state: State) -> String {
    let amounts = [(State::PendingApproval, 501), (State::Rejected, 601)];
    let amount = amounts.iter().find(|(known, _)| *known == state).map_or(10, |known| known.1);
    let id = admin.transaction(agent, amount).await;
    if state == State::Voided {
        admin.void(&id).await.unwrap();
    }
    if [State::Settled, State::Refunded].contains(&state) {
        admin.settle(&id, 10).await.unwrap();
    }
    if state == State::Refunded {
        admin.refund(&id, None).await.unwrap();
    }
    assert_eq!(admin.read(&id).await.state(), state);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_from_a_wrong_state_is_refused_and_changes_nothing() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    let ways = [
        (State::Approved, "approved", &["refunded"][..]),
        (State::Settled, "settled", &["voided"][..]),
        (State::Voided, "voided", &["settled", "refunded"][..]),
        (State::Refunded, "refunded", &["settled", "voided"][..]),
        (State::Rejected, "rejected", &["settled", "voided", "refunded"][..]),
        (State::PendingApproval, "pending_approval", &["settled", "refunded"][..]),
    ];
    for (state, word, wrong) in ways {
        for step in wrong {
            let id = in_state(&mut admin, &agent, state).await;
            let (before, gone) = (admin.read(&id).await, admin.gone(&agent).await);
            let answer = match *step {
                "settled" => refused(admin.settle(&id, 5).await, "TRANSACTION_WRONG_STATE"),
                "voided" => refused(admin.void(&id).await, "TRANSACTION_WRONG_STATE"),
                _ => refused(admin.refund(&id, None).await, "TRANSACTION_WRONG_STATE"),
            };
            assert_eq!(answer.code, Code::FailedPrecondition);
            assert_eq!((answer.says("state"), answer.says("wanted")), (word, *step));
            assert_eq!(admin.read(&id).await, before);
            assert_eq!(admin.gone(&agent).await, gone);
            if state == State::PendingApproval {
                admin.void(&id).await.unwrap();
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_waits_for_approval_is_held_and_a_void_returns_it() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    let held = admin.spend(crate::harness::ask(&agent, 600)).await;
    assert_eq!(held.decision(), quetra::proto::v1::Decision::PendingApproval);
    let status = held.budget.unwrap();
    assert_eq!((status.spent, status.held, status.remaining), (0, 600, 400));
    assert!(held.reasons.is_empty());
    // What is held cannot be spent.
    let rejected = admin.spend(crate::harness::ask(&agent, 401)).await;
    assert_eq!(rejected.decision(), quetra::proto::v1::Decision::Rejected);
    let id = admin.transaction(&agent, 400).await;
    assert_eq!(admin.gone(&agent).await, (400, 600));
    let voided = admin.void(&held.transaction_id).await.unwrap().into_inner();
    assert_eq!(voided.transaction.unwrap().state(), State::Withdrawn);
    assert_eq!(admin.gone(&agent).await, (400, 0));
    admin.void(&id).await.unwrap();
    assert_eq!(admin.gone(&agent).await, (0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_different_resolutions_at_once_one_wins() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    for _ in 0..8 {
        let id = admin.transaction(&agent, 100).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..12 {
            let (mut admin, id) = (admin.clone(), id.clone());
            calls.spawn(async move {
                match n % 4 {
                    0 => admin.void(&id).await.map(|_| 0),
                    step => admin.settle(&id, step * 10).await.map(|_| step * 10),
                }
            });
        }
        let answers = calls.join_all().await;
        let mut won = answers.iter().flatten().copied().collect::<Vec<_>>();
        won.dedup();
        assert_eq!(won.len(), 1, "two of them were done: {answers:?}");
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer.map(tonic::Response::new), "TRANSACTION_WRONG_STATE");
        }
        assert_eq!(admin.gone(&agent).await, (won[0], 0));
        let state = admin.read(&id).await.state();
        if won[0] > 0 {
            assert_eq!(state, State::Settled);
            admin.refund(&id, None).await.unwrap();
        } else {
            assert_eq!(state, State::Voided);
        }
        assert_eq!(admin.gone(&agent).await, (0, 0));
    }
    server.stop().await;
}
